//! The programs of the release before beside those of this one, through an upgrade and a rollback under load: nothing is refused, and
//! everything is handled once. `make upgrade-test` runs this, because it needs the programs of the release before.

#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test, to panic is to fail, and nothing is public"
)]

#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests beside these use more of it")]
mod support;

mod load;
mod release;

use restante::database;
use secrecy::SecretString;
use serde_json::json;

use load::Load;
use release::{Release, logins};
use support::{Sender, SimulatedApi, World, cluster, eventually};

/// What is not finished, without the jobs that look again and again.
const UNFINISHED: &str = "select coalesce(sum(events), 0) from restante.outbox_overview";

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_and_a_rollback_under_load_refuse_nothing_and_everything_is_handled_once() {
    let (old, new) = (Release::before(), Release::this());
    let owner = cluster::empty_database().await;
    old.migrate(&owner).await;
    let schema_of_then = version(&owner).await;
    let url = logins(&owner).await;
    let api = SimulatedApi::start().await;
    for session in 0..load::SESSIONS {
        api.resource(json!({ "type": "session", "id": load::session(session) })).await;
    }

    // Two workers, because there are several at most installations.
    let mut ingest = old.ingest(&url.ingest).await;
    let mut workers = vec![old.worker(&url.worker, &api.url).await, old.worker(&url.worker, &api.url).await];
    let sender = Sender::without_kept_connections(ingest.address());
    let load = Load::start(&sender, &url.application);
    load.goes_on("the release before, on its own schema").await;

    new.migrate(&owner).await;
    assert_eq!(version(&owner).await, database::schema_version_known(), "of {schema_of_then} before");
    load.goes_on("the release before, on the schema of this one").await;

    workers.push(new.worker(&url.worker, &api.url).await);
    let newer = new.ingest(&url.ingest).await;
    sender.moved_to(newer.address());
    load.goes_on("both releases side by side").await;

    for mut process in std::iter::once(ingest).chain(workers.drain(..2)) {
        assert_eq!(process.stopped().await, Some(0), "{}", process.log());
    }
    load.goes_on("this release alone").await;

    // Back: programs of the release before start on a schema that they do not know.
    ingest = old.ingest(&url.ingest).await;
    sender.moved_to(ingest.address());
    workers.push(old.worker(&url.worker, &api.url).await);
    for mut process in [newer, workers.remove(0)] {
        assert_eq!(process.stopped().await, Some(0), "{}", process.log());
    }
    load.goes_on("the release before again, rolled back to").await;

    let told = load.ended().await;
    assert_eq!(told.refused, Vec::<String>::new());
    let world = World::on(owner).await;
    world.may_leave_running();
    eventually("everything is finished", async || (world.value(UNFINISHED).await == "0").then_some(())).await;
    handled_once(&world, &told).await;
    println!("{} deliveries, {} messages, {} batches", told.deliveries.len(), told.messages, told.batches);
}

/// Each delivery is one event that no attempt failed at; each message was sent once; each result of a batch is stored.
async fn handled_once(world: &World, told: &load::Told) {
    let stored: Vec<String> =
        sqlx::query_scalar("select event_id from restante.outbox where source = 'webhook' order by event_id")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    let mut accepted = told.deliveries.clone();
    accepted.sort();
    assert!(stored == accepted, "{} stored, {} accepted", stored.len(), accepted.len());
    for (query, expected) in [
        ("select coalesce(string_agg(error, '; '), 'none') from restante.failure", "none".to_owned()),
        (
            "select count(*) from restante.outbox where status not in ('done', 'ignored') and finished_at < 'infinity'",
            "0".to_owned(),
        ),
        ("select count(*) from restante.outbox where type = 'order.placed'", told.messages.to_string()),
        ("select count(*) from restante.message where status = 'done'", told.messages.to_string()),
        ("select count(*) from restante.message_attempt", told.messages.to_string()),
        ("select count(*) from restante.batch where complete_at is not null", told.batches.to_string()),
        ("select count(*) from restante.batch_result", (told.batches * load::REQUESTS).to_string()),
    ] {
        assert_eq!(world.value(query).await, expected, "{query}");
    }
}

async fn version(url: &SecretString) -> i64 {
    let mut connection = database::connect(url, "test").await.unwrap();
    sqlx::query_scalar("select max(version) from restante.schema_migration where success")
        .fetch_one(&mut connection)
        .await
        .unwrap()
}
