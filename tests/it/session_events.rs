//! Events that go to sessions: in order, and none of them twice.

mod cuts;
mod decisions;
mod sql;

use std::time::Duration;

use restante::api::{self, Accounts};
use restante::{handlers, worker};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::support::sender::client;
use crate::support::{SimulatedApi, World, eventually};

fn registry() -> restante::Registry {
    handlers::registry(handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: false,
    })
}

fn api_at(url: &str) -> Accounts {
    let mut settings = api::Settings::new(url.parse().unwrap(), "sk-test-key".into());
    settings.idle_timeout = Duration::from_secs(2);
    api::Client::new(settings).unwrap().into()
}

/// Works until nothing is left that may run now.
async fn work(world: &World, api: &Accounts) {
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), api.clone())
        .await
        .unwrap();
}

/// Works until no send waits for the API any more; time passes, but for what a person decides and for how long a worker leaves
/// an API in trouble alone. What runs is that of a worker that was killed.
async fn work_to_rest(world: &World, api: &Accounts) {
    eventually("every send has come to rest", async || {
        work(world, api).await;
        let open = "select count(*) from restante.session_send as s where status in ('waiting', 'sending')
                       and not exists (select from restante.session_send as u
                                        where u.session = s.session and u.id < s.id and u.status = 'uncertain')";
        if world.value(open).await == "0" {
            return Some(());
        }
        world.let_leases_run_out().await;
        time_passes(world).await;
        None
    })
    .await;
}

/// A minute passes for what waits.
async fn time_passes(world: &World) {
    world.wait_for_retries().await;
    world.sql("update restante.session_send set unclear_since = unclear_since - interval '1 minute'").await;
}

/// Asks the simulated API.
async fn ask(api: &SimulatedApi, path: &str, body: Option<Value>) -> Value {
    let url = format!("{}{path}", api.url);
    let request = match &body {
        Some(body) => client().post(url).json(body),
        None => client().get(url),
    };
    let request = request.header("x-api-key", "sk-test-key").header("anthropic-version", "2023-06-01");
    let answer = request.header("anthropic-beta", "managed-agents-2026-04-01").send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    answer.json().await.unwrap()
}

/// Makes a session at the API.
async fn session(api: &SimulatedApi) -> String {
    let asked = json!({ "agent": "agent_1", "environment_id": "env_1" });
    ask(api, "/v1/sessions", Some(asked)).await["id"].as_str().unwrap().to_owned()
}

/// The texts of the messages that a session has, in its order.
async fn messages(api: &SimulatedApi, session: &str) -> Vec<String> {
    let list = ask(api, &format!("/v1/sessions/{session}/events?types[]=user.message"), None).await;
    let text = |event: &Value| event["content"][0]["text"].as_str().unwrap().to_owned();
    list["data"].as_array().unwrap().iter().map(text).collect()
}

fn message(text: &str) -> Value {
    json!({ "type": "user.message", "content": [{ "type": "text", "text": text }] })
}

/// Sends messages with these texts to a session.
async fn send(world: &World, session: &str, texts: &[&str]) -> i64 {
    let events: Vec<Value> = texts.iter().map(|text| message(text)).collect();
    sqlx::query_scalar("select restante.send_session_events($1, $2::json)")
        .bind(session)
        .bind(Value::from(events).to_string())
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

/// The statuses of all sends, in the order of the calls.
async fn statuses(world: &World) -> String {
    world.value("select string_agg(status::text, ' ' order by id) from restante.session_send").await
}

/// What a statement is answered, as the text of its error.
async fn refused(world: &World, statement: &str) -> String {
    let error = sqlx::query(AssertSqlSafe(statement)).execute(&world.pool).await.unwrap_err();
    error.into_database_error().unwrap().message().to_owned()
}
