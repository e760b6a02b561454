//! One reconciler at a time, and none that can be lost.

use super::*;
use crate::support::{Process, eventually};

/// How often a list was asked for.
async fn times_asked(api: &SimulatedApi, path: &str) -> usize {
    let journal = api.get("/_simulator/requests?limit=100000").await;
    let is_it = |request: &&Value| {
        request["method"] == "GET" && request["path"].as_str().unwrap().split('?').next() == Some(path)
    };
    journal["data"].as_array().unwrap().iter().filter(is_it).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_goes_on_at_its_page_after_its_worker_was_killed() {
    let (world, api) = start().await;
    for _ in 0..500 {
        made(&api, "/v1/vaults").await;
    }
    api.faults(json!({ "latency_milliseconds": 100 })).await;
    let worker = async || {
        let reconciling = [("RESTANTE_RECONCILE_SECONDS", "3600"), ("RESTANTE_LEASE_SECONDS", "2")];
        Process::worker(&world.url, &api.url, &reconciling).await
    };
    let mut first = worker().await;
    let is_amid = "select coalesce(bool_or(cursor is not null), false) from restante.reconcile_state where kind = 'vault'";
    eventually("a look amid its pages", async || (world.value(is_amid).await == "true").then_some(())).await;
    first.kill_hard();

    let second = worker().await;

    let complete =
        "select count(*) from restante.reconcile_state where kind = 'vault' and complete_at is not null";
    eventually("a complete look", async || (world.value(complete).await == "1").then_some(())).await;
    assert_eq!(world.value("select count(*) from restante.reconciled where kind = 'vault'").await, "500");
    let asked = times_asked(&api, "/v1/vaults").await;
    assert!(asked <= 7, "five pages, and one or two that were being read: {asked}");
    drop(second);
    world.may_leave_running();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_one_looks() {
    let (world, api) = start().await;
    world.value("select restante.ensure_account_jobs('resource.reconcile', array['anthropic'])").await;

    tokio::join!(work(&world, &api), work(&world, &api));

    assert_eq!(times_asked(&api, "/v1/vaults").await, 1);
    assert_eq!(
        world
            .value(
                "select count(*) from restante.outbox where type = 'resource.reconcile' and subscriber = ''"
            )
            .await,
        "1"
    );
}

#[tokio::test]
async fn a_reconciler_that_somebody_called_off_comes_back() {
    let (world, api) = start().await;
    interval(&world, &api).await;
    world.sql("update restante.outbox set status = 'cancelled' where type = 'resource.reconcile'").await;

    made(&api, "/v1/vaults").await;
    interval(&world, &api).await;
    interval(&world, &api).await;

    assert_eq!(world.value("select string_agg(type, ' ') from heard").await, "vault.created");
}
