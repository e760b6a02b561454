//! An endpoint that the API has disabled, after which it sends nothing and replays nothing: what tells of it, and what makes up for it.

use super::*;
use crate::health::{came, look, state};
use crate::support::forwarder::Forwarder;
use crate::support::sender::signing_key;
use crate::support::{Process, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_the_api_disabled_is_an_alarm_by_its_silence_and_what_was_lost_is_handled_once() {
    let world = World::new().await;
    world.sql("create table heard (event_id text, type text, subject text, source text)").await;
    let mut ingest = Process::ingest(&world.url, &[]).await;
    let door = Forwarder::to(ingest.address().port()).await;
    let api = SimulatedApi::start_with(Settings {
        session_seconds: 0.0,
        seed: Some(7),
        webhook_url: Some(format!("http://127.0.0.1:{}/webhooks/anthropic", door.port)),
        signing_key: Some(signing_key().into()),
        webhook_backoff: 0.0,
        webhook_failures: 20,
        ..Settings::default()
    })
    .await;
    // It has sent every hour, until ten hours ago.
    came(&world, "anthropic", "select h * interval '1 hour' from generate_series(60, 10, -1) as h").await;
    interval(&world, &api).await;
    assert_eq!(ingest.stopped().await, Some(0));

    // Ten events, each tried three times.
    for _ in 0..10 {
        made(&api, "/v1/vaults").await;
    }
    let endpoint = async || api.get("/_simulator/endpoint").await;
    eventually("the API disables the endpoint", async || {
        (endpoint().await["state"] == "disabled").then_some(())
    })
    .await;
    assert_eq!(endpoint().await["disabled_reason"], "auto-disabled after sustained delivery failures");
    let ingest = Process::ingest(&world.url, &[]).await;
    door.moved_to(ingest.address().port());
    made(&api, "/v1/vaults").await;
    eventually("all eleven events are lost", async || (endpoint().await["lost"] == 11).then_some(())).await;

    look(&world).await;
    assert_eq!(state(&world, "silence").await, "act", "ingest runs, and nothing comes");
    let raised = "select payload->>'sentence' from restante.outbox where type = 'health.raised'";
    let said = world.value(raised).await;
    assert!(said.starts_with("The sender anthropic has sent nothing for 10 h"), "{said}");
    // The first look notices, and a webhook may still come; the second one makes up for it.
    interval(&world, &api).await;
    interval(&world, &api).await;
    assert_eq!(world.value("select count(*) from restante.resource where type = 'vault'").await, "11");
    let told = "select count(*) || ' ' || count(distinct subject) || ' ' || string_agg(distinct type || ' ' || source, ', ') from heard";
    assert_eq!(world.value(told).await, "11 11 vault.created poll");

    api.post("/_simulator/endpoint", json!({})).await;
    made(&api, "/v1/vaults").await;
    let came_by_webhook = "select count(*) from restante.outbox where type = 'vault.created' and source = 'webhook' and subscriber = ''";
    eventually("the next event comes by a webhook", async || {
        (world.value(came_by_webhook).await == "1").then_some(())
    })
    .await;
    interval(&world, &api).await;
    assert_eq!(world.value(told).await, "12 12 vault.created poll, vault.created webhook");
    look(&world).await;
    look(&world).await;
    assert_eq!(state(&world, "silence").await, "ok");
    let cleared = "select count(*) from restante.outbox where type = 'health.cleared'";
    assert_eq!(world.value(cleared).await, "1");
}
