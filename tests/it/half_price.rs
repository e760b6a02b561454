//! Messages with time go out with a batch, at half the price, and every one has its answer before its deadline.
//!
//! Time is simulated: what is stored is moved back. A batch ends when a test ends it.

mod answers;
mod cost;
mod hour;
mod packing;
mod races;

use std::time::Duration;

use restante::api::{self, Accounts};
use restante::{handlers, worker};
use restante_simulator::{Settings, Shares};
use serde_json::{Value, json};

use crate::support::sender::client;
use crate::support::{SimulatedApi, World};

/// The handlers of a worker that does not search for batches.
fn registry() -> restante::Registry {
    handlers::registry(handlers::Settings {
        batch_poll: Duration::from_secs(30),
        reconcile: None,
        allow_private_endpoints: false,
    })
}

/// A simulated API at which all requests succeed. Every second batch ends only when a test ends it.
async fn api_with_slow_batches() -> SimulatedApi {
    let api = quick_api().await;
    api.faults(json!({ "slow_batch_every": 2, "slow_batch_seconds": 1_000_000 })).await;
    api
}

/// A simulated API at which all requests succeed, and batches end at once.
async fn quick_api() -> SimulatedApi {
    let mut settings =
        Settings { batch_seconds: 0.0, shares: Shares::FLAWLESS, seed: Some(7), ..Settings::default() };
    settings.faults.stream_pause_milliseconds = 0;
    SimulatedApi::start_with(settings).await
}

/// Works until nothing is left that may run now.
async fn work(world: &World, api: &SimulatedApi) {
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), client_of(api))
        .await
        .unwrap();
}

fn client_of(api: &SimulatedApi) -> Accounts {
    api::Client::new(api::Settings::new(api.url.parse().unwrap(), "any".into())).unwrap().into()
}

/// Lets this many minutes pass: all times that are stored move back by as much.
async fn pass(world: &World, minutes: u32) {
    let ago = format!("- interval '{minutes} minutes'");
    for statement in [
        format!(
            "update restante.message set created_at = created_at {ago}, deliver_by = deliver_by {ago}, packed_at = packed_at {ago},
                                         sent_at = sent_at {ago}, done_at = done_at {ago}"
        ),
        format!("update restante.message_attempt set sent_at = sent_at {ago}, ended_at = ended_at {ago}"),
        format!(
            "update restante.batch set created_at = created_at {ago}, ended_at = ended_at {ago}, complete_at = complete_at {ago},
                                       first_seen_at = first_seen_at {ago}"
        ),
        format!("update restante.outbox set run_at = run_at {ago} where finished_at = 'infinity' and isfinite(run_at)"),
    ] {
        world.sql(&statement).await;
    }
}

/// Stores messages `first` to `last`, in one transaction. `arguments` are further ones of `send_message`.
async fn send(world: &World, first: usize, last: usize, arguments: &str) {
    let request = r#"json_build_object('model', 'claude-opus-5-5', 'max_tokens', 1000,
        'messages', json_build_array(json_build_object('role', 'user', 'content', 'What is the answer to number ' || n || '?')))"#;
    let call = format!(
        "select restante.send_message({request}, {arguments}) from generate_series({first}, {last}) as n"
    );
    world.sql(&call).await;
}

/// An hour from now, as an argument.
const IN_AN_HOUR: &str = "deliver_by => clock_timestamp() + interval '1 hour'";

/// How many messages there are of each state of a column or an expression, such as `done 5, waiting 2`.
async fn count_by(world: &World, expression: &str) -> String {
    let query = format!(
        "select string_agg(what || ' ' || count, ', ' order by what)
           from (select {expression} as what, count(*) as count from restante.message group by 1) as c"
    );
    world.value(&query).await
}

/// How many attempts there are of each way and outcome.
async fn attempts(world: &World) -> String {
    let query = "select string_agg(concat_ws(' ', sent_as, outcome, case when may_be_paid then 'paid' end, count), ', ' order by sent_as, outcome)
                   from (select sent_as, coalesce(outcome, 'open') as outcome, may_be_paid, count(*) as count
                           from restante.message_attempt group by 1, 2, 3) as c";
    world.value(query).await
}

/// The events that tell an application what became of messages and submissions, with how many there are of each.
async fn told(world: &World) -> String {
    let query = "select string_agg(type || ' ' || count, ', ' order by type)
                   from (select type, count(*) as count from restante.outbox
                          where type in ('message.completed', 'message.failed', 'message.cancelled', 'batch.submitted', 'batch.results_ready')
                          group by 1) as c";
    world.value(query).await
}

/// Has each completed message been told once, before its deadline?
async fn each_is_answered_once_and_in_time(world: &World) -> String {
    let query = "select concat_ws(' ', bool_and(status = 'done' and done_at <= deliver_by),
                          (select count(*) = count(distinct message) and count(*) = (select count(*) from restante.message)
                             from restante.message_attempt where outcome = 'answered'),
                          (select count(*) = count(distinct payload->>'id') and count(*) = (select count(*) from restante.message)
                             from restante.outbox where type = 'message.completed'))
                   from restante.message";
    world.value(query).await
}

/// The batches that the API has: their identifiers, and how many requests each has.
async fn batches_of(api: &SimulatedApi) -> Vec<(String, i64)> {
    let request = client().get(format!("{}/v1/messages/batches?limit=1000", api.url));
    let answer = request.header("x-api-key", "any").header("anthropic-version", "2023-06-01").send();
    let list: Value = answer.await.unwrap().json().await.unwrap();
    let count = |batch: &Value| {
        batch["request_counts"].as_object().unwrap().values().map(|n| n.as_i64().unwrap()).sum()
    };
    let one = |batch: &Value| (batch["id"].as_str().unwrap().to_owned(), count(batch));
    list["data"].as_array().unwrap().iter().map(one).collect()
}

/// Ends every batch that runs.
async fn end_batches(api: &SimulatedApi) {
    for (id, _) in batches_of(api).await {
        client()
            .post(format!("{}/_simulator/batches/{id}/end", api.url))
            .header("x-api-key", "any")
            .send()
            .await
            .unwrap();
    }
}

/// The requests that the API has seen.
async fn seen(api: &SimulatedApi) -> Vec<Value> {
    let request =
        client().get(format!("{}/_simulator/requests?limit=1000000", api.url)).header("x-api-key", "any");
    let mut seen: Value = request.send().await.unwrap().json().await.unwrap();
    seen["data"].as_array_mut().map(std::mem::take).unwrap()
}

/// How many messages the API was asked for one by one.
async fn asked_directly(api: &SimulatedApi) -> usize {
    seen(api).await.iter().filter(|request| request["path"] == "/v1/messages").count()
}

/// Packs what waits and is due, without a worker: how many, how many are sent by themselves instead, and whether to look again.
async fn pack(world: &World) -> String {
    let lanes = "select string_agg(concat_ws(' ', p.packed, p.sent_directly, p.look_again_in is not null), ', ' order by l.account, l.packs_with)
                   from (select distinct account, packs_with from restante.message where packs_with is not null) as l,
                        lateral restante.pack_messages(l.account, l.packs_with) as p";
    world.value(lanes).await
}

/// Gives the messages of all parts their answers, without a worker: how many, and how many are left over.
async fn unpack(world: &World) -> String {
    world
        .value("select concat_ws(' ', sum(u.unpacked), sum(u.left_over)) from restante.submission_part as p, lateral restante.unpack_messages(p.id, 1000) as u")
        .await
}
