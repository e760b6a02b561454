//! What no webhook brought: the reconciler finds it, and each change is handled once, whichever of the two comes first.

use std::time::Duration;

use restante::handler::{self, Context, Handler};
use restante::{Registry, api, handlers, worker};
use restante_simulator::Settings;
use serde_json::{Value, json};

use crate::support::{SimulatedApi, World};

mod between;
mod disabled;
mod histories;
mod lists;
mod lost;
mod restarts;
mod twins;

/// An application that hears of all changes.
struct Heard;

impl Handler for Heard {
    const EVENT_TYPES: &'static [&'static str] = &[
        "session.*",
        "vault.*",
        "vault_credential.*",
        "agent.*",
        "deployment.*",
        "deployment_run.*",
        "environment.*",
        "memory_store.*",
    ];
    type Payload = Value;

    async fn handle(&self, cx: &mut Context<'_>, data: Value) -> handler::Result {
        let event = cx.event;
        assert_eq!(data["type"], event.event_type);
        sqlx::query("insert into heard (event_id, type, subject, source) values ($1, $2, $3, $4)")
            .bind(&event.event_id)
            .bind(&event.event_type)
            .bind(data["session_thread_id"].as_str().or(event.key.as_deref()))
            .bind(&event.source)
            .execute(cx.tx().await?)
            .await?;
        Ok(())
    }
}

/// A database whose first look at the API is done, and the API, which sends no webhooks.
async fn start() -> (World, SimulatedApi) {
    let settings =
        Settings { session_seconds: 0.0, batch_seconds: 0.0, seed: Some(7), ..Settings::default() };
    let (world, api) = (World::new().await, SimulatedApi::start_with(settings).await);
    world.sql("create table heard (event_id text, type text, subject text, source text)").await;
    (world, api)
}

fn registry() -> Registry {
    let every = Duration::from_secs(60);
    handlers::registry(handlers::Settings {
        batch_poll: every,
        reconcile: Some(every),
        allow_private_endpoints: false,
    })
    .subscribe("app", Heard)
}

fn client(api: &SimulatedApi) -> api::Client {
    api::Client::new(api::Settings::new(api.url.parse().unwrap(), "any".into())).unwrap()
}

async fn work(world: &World, api: &SimulatedApi) {
    let settings = worker::Settings { concurrency: 16, ..world.worker_settings() };
    worker::run_until_idle(settings, world.pool.clone(), registry(), client(api)).await.unwrap();
}

/// What happens within one interval: every look is due once.
async fn interval(world: &World, api: &SimulatedApi) {
    world.value("select restante.ensure_account_jobs('resource.reconcile', array['anthropic'])").await;
    world
        .value("select restante.ensure_standing_jobs(array['batch.poll', 'batch.ended', 'batch.reconcile'])")
        .await;
    world.sql("update restante.reconcile_state set tried_at = tried_at - every").await;
    world.sql("update restante.missed_change set noticed_at = noticed_at - interval '1 minute'").await;
    world.wait_for_retries().await;
    work(world, api).await;
}

/// The events of the API that came by a poll, by type and key, with their status.
async fn polled(world: &World) -> String {
    world
        .value(
            "select string_agg(concat_ws(' ', type, key, status), ', ' order by created_at, id)
               from restante.outbox where source = 'poll' and subscriber = '' and type not like 'batch.%'",
        )
        .await
}

/// What the application heard, and how often.
async fn heard(world: &World) -> String {
    world
        .value(
            "select string_agg(concat_ws(' ', type, subject, n), ', ' order by type, subject)
               from (select type, subject, count(*) as n from heard group by type, subject) as h",
        )
        .await
}

/// The webhook of a change, as ingest would store it.
fn webhook(event_id: &str, created_at: &str, data: Value) -> Value {
    json!({ "type": "event", "id": event_id, "created_at": created_at, "data": data })
}

async fn made(api: &SimulatedApi, path: &str) -> String {
    api.post(path, json!({})).await["id"].as_str().unwrap().to_owned()
}
