//! What the API holds is deleted there, where it can be.

use std::time::Duration;

use restante::{api, handlers, worker};
use restante_simulator::Settings;
use serde_json::json;

use super::{erase, erase_all, forget};
use crate::support::{SimulatedApi, World, eventually};

async fn work(world: &World, url: &str) {
    let registry = handlers::registry(handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: false,
    });
    let api = api::Client::new(api::Settings::new(url.parse().unwrap(), "sk-test-key".into())).unwrap();
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry, api).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_deleted_at_the_api_and_what_came_of_it_meanwhile_goes_too() {
    let simulated = SimulatedApi::start().await;
    let world = World::new().await;
    simulated.resource(json!({ "type": "session", "id": "sesn_7", "title": "CANARY" })).await;
    let hear = json!({ "type": "event", "id": "whe_1", "created_at": "2026-11-01T12:00:00Z",
                       "data": { "type": "session.status_idled", "id": "sesn_7" } });
    world.receive_body(&hear).await;
    work(&world, &simulated.url).await;
    assert_eq!(world.value("select body->>'title' from restante.resource").await, "CANARY");

    forget(&world, "key => 'sesn_7'").await;
    erase(&world).await;
    let waits = "select waits_for from restante.forget_overview";
    assert_eq!(world.value(waits).await, "the API, to delete session");
    // A fetch that came in between brings it back, until the API has deleted it.
    world.sql("insert into restante.resource (type, id, observed_at, body) values ('session', 'sesn_7', now(), '{\"title\": \"CANARY\"}')").await;
    work(&world, &simulated.url).await;
    erase_all(&world).await;

    assert_eq!(world.value("select count(*) from restante.resource").await, "0");
    assert_eq!(world.outbox().await, "");
    let receipt = "select concat_ws(' ', status, at_the_api, erased->>'resource') from restante.forgetting";
    assert_eq!(world.value(receipt).await, "done {\"deleted: session\": 1} 2");
    assert_eq!(simulated.get("/v1/sessions").await["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_of_a_tag_goes_with_its_batch_once_that_has_ended() {
    let simulated = SimulatedApi::start_with(Settings {
        batch_seconds: 3600.0,
        cancel_seconds: 0.0,
        ..Settings::default()
    })
    .await;
    let world = World::new().await;
    world.sql("select restante.submit_batch('[{\"custom_id\":\"r\",\"params\":{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"CANARY\"}]}}]', name => 'n', tag => 'letters')").await;
    work(&world, &simulated.url).await;
    let batch = world.value("select batch_id from restante.submission_part").await;
    assert!(batch.starts_with("msgbatch_"), "{batch}");

    forget(&world, "tag => 'letters'").await;
    erase(&world).await;
    let waits = world.value("select waits_for from restante.forget_overview").await;
    assert_eq!(waits, format!("the end of the batch {batch}"));
    let settled = "select count(*) from restante.batch where complete_at is null";
    eventually("every result of the batch is here", async || {
        world.wait_for_retries().await;
        work(&world, &simulated.url).await;
        (world.value(settled).await == "0").then_some(())
    })
    .await;
    world.sql("update restante.forgetting set due_at = now()").await;
    erase(&world).await;
    world.wait_for_retries().await;
    work(&world, &simulated.url).await;
    erase_all(&world).await;

    let left = "select (select count(*) from restante.batch_request) || ' ' || (select count(*) from restante.batch_result)";
    assert_eq!(world.value(left).await, "0 0");
    assert_eq!(world.value("select concat(tag) from restante.submission where name = 'n'").await, "");
    assert_eq!(world.value("select (deleted_at is not null)::text from restante.batch").await, "true");
    let again = sqlx::query("select restante.submit_batch('[]', name => 'n')")
        .execute(&world.pool)
        .await
        .unwrap_err();
    assert!(again.to_string().contains("there is a submission named n already"), "{again}");
}

#[tokio::test]
async fn only_a_call_of_forget_deletes_at_the_api() {
    let simulated = SimulatedApi::start().await;
    let world = World::new().await;
    simulated.resource(json!({ "type": "session", "id": "sesn_8" })).await;
    world
        .sql("select restante.enqueue('resource.forget', '{\"type\": \"session\", \"id\": \"sesn_8\"}')")
        .await;

    work(&world, &simulated.url).await;

    assert_eq!(
        world.value("select result->>'skipped' from restante.outbox").await,
        "only restante.forget() deletes at the API"
    );
    assert_eq!(simulated.get("/v1/sessions/sesn_8").await["id"], "sesn_8");
}
