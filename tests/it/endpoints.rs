//! Notifications: events that are sent on to endpoints, signed, in order, and never inside.

mod commands;
mod delivery;
mod failing;
mod inside;
mod limits;
mod parked;
pub mod receiver;
mod shared;
mod stored;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use restante::handlers;
use restante::worker;
use sha2::Sha256;

use crate::support::world::no_api;
use crate::support::{World, eventually};
use receiver::Arrived;

/// The secret of the endpoints here, and what is in it.
pub const SECRET: &str = "whsec_Y2FuYXJ5IG9mIHRoZSBlbmRwb2ludCwgMzIgYnl0ZXM=";

/// The handlers of a worker that may reach this machine.
fn registry() -> restante::Registry {
    handlers::registry(handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: true,
    })
}

/// Works until nothing is left that may run now.
async fn work(world: &World) {
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), no_api()).await.unwrap();
}

/// Lets time pass and works, until no notification waits for its turn or its next attempt.
async fn work_to_rest(world: &World) {
    eventually("every notification has come to rest", async || {
        world.wait_for_retries().await;
        work(world).await;
        let waiting = "select count(*) from restante.outbox
                        where type like 'notify.%' and status in ('pending', 'blocked', 'running', 'retry')";
        (world.value(waiting).await == "0").then_some(())
    })
    .await;
}

/// Adds an endpoint with this URL and further columns, such as `body = 'full'`.
async fn add(world: &World, name: &str, url: &str, columns: &[&str]) {
    let insert = "insert into restante.endpoint (name, url, secret) values ($1, $2, $3)";
    sqlx::query(insert).bind(name).bind(url).bind(SECRET).execute(&world.pool).await.unwrap();
    for column in columns {
        world.sql(&format!("update restante.endpoint set {column} where name = '{name}'")).await;
    }
}

/// Stores an event as an application does.
async fn enqueue(world: &World, event_type: &str, key: Option<&str>, payload: &str) {
    sqlx::query("select restante.enqueue($1, $2::json, key => $3)")
        .bind(event_type)
        .bind(payload)
        .bind(key)
        .execute(&world.pool)
        .await
        .unwrap();
}

/// The signature of what arrived, by one secret, as Standard Webhooks says.
fn signature(arrived: &Arrived, secret: &str) -> String {
    let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(
        format!("{}.{}.", arrived.header("webhook-id"), arrived.header("webhook-timestamp")).as_bytes(),
    );
    mac.update(&arrived.body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// Would a receiver that knows this secret take it?
fn is_signed(arrived: &Arrived, secret: &str) -> bool {
    let sent_at: i64 = arrived.header("webhook-timestamp").parse().unwrap();
    let is_fresh = (chrono::Utc::now().timestamp() - sent_at).abs() < 300;
    is_fresh && arrived.header("webhook-signature").split(' ').any(|one| one == signature(arrived, secret))
}
