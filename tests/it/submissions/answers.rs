//! The answers of a submission: the best one of each request, and what is sent again.

use restante_simulator::{Settings, Shares};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{api_at, batches_of, requests, submit, work, work_to_rest};
use crate::support::cutter::{Cut, Cutter};
use crate::support::{Process, SimulatedApi, World, eventually};

/// An API whose batches end at once, with every outcome among a hundred requests.
async fn mixed() -> SimulatedApi {
    api_with(7, Shares { errored: 0.3, canceled: 0.1, expired: 0.1 }).await
}

/// One that answers everything.
async fn flawless() -> SimulatedApi {
    api_with(8, Shares::FLAWLESS).await
}

async fn api_with(seed: u64, shares: Shares) -> SimulatedApi {
    let settings =
        Settings { batch_seconds: 0.0, text_bytes: 100, seed: Some(seed), shares, ..Settings::default() };
    SimulatedApi::start_with(settings).await
}

/// How many results of the first batches are as the condition says.
async fn results(world: &World, condition: &str) -> String {
    world.value(&format!("select count(*) from restante.batch_result where {condition}")).await
}

async fn resubmit(world: &World, arguments: &str) -> String {
    world.value(&format!("select restante.resubmit({arguments})")).await
}

const RETRIABLE: &str =
    "(outcome = 'expired' or outcome = 'errored' and error_type <> 'invalid_request_error')";

#[tokio::test(flavor = "multi_thread")]
async fn a_resubmission_touches_only_what_it_may_and_every_request_has_its_best_answer() {
    let (first, second) = (mixed().await, flawless().await);
    let world = World::new().await;
    submit(&world, "s", &requests(1, 100)).await;
    work_to_rest(&world, &api_at(&first.url)).await;
    for outcome in ["succeeded", "errored", "canceled", "expired"] {
        assert_ne!(results(&world, &format!("outcome = '{outcome}'")).await, "0", "{outcome}");
    }
    assert_ne!(results(&world, "error_type = 'invalid_request_error'").await, "0");
    let retriable = results(&world, RETRIABLE).await;
    let untouched = |from: &str, which: &str| {
        format!(
            "select string_agg(concat_ws(' ', custom_id, outcome, batch_id, attempts), ',' order by custom_id) from {from} where {which}"
        )
    };
    world.sql("create table public.before as select * from restante.batch_answer").await;

    for (what, condition) in [
        ("retriable", RETRIABLE),
        ("expired", "outcome = 'expired'"),
        ("errored", "outcome = 'errored' and error_type <> 'invalid_request_error'"),
        ("canceled", "outcome = 'canceled'"),
    ] {
        let expected = results(&world, condition).await;
        assert_eq!(resubmit(&world, &format!("'s', '{what}', dry_run => true")).await, expected, "{what}");
    }
    assert_eq!(world.value("select count(*) from restante.submission_part").await, "1");
    assert_eq!(resubmit(&world, "'s'").await, retriable);
    assert_eq!(world.value("select status from restante.submission").await, "waiting");
    // They are under way now, and those that were cancelled are not.
    assert_eq!(resubmit(&world, "'s'").await, "0");
    assert_eq!(
        resubmit(&world, "'s', 'canceled', true").await,
        results(&world, "outcome = 'canceled'").await
    );
    work_to_rest(&world, &api_at(&second.url)).await;

    assert_eq!(batches_of(&second.url).await, [retriable.parse::<i64>().unwrap()]);
    let before = world.value(&untouched("public.before", &format!("not {RETRIABLE}"))).await;
    assert_eq!(world.value(&untouched("restante.batch_answer", "attempts = 1")).await, before);
    let better = format!(
        "select bool_and(a.outcome = 'succeeded' and a.attempts = 2 and a.text <> '' and a.output_tokens > 0
                         and a.batch_id <> b.batch_id) and count(*) = {retriable}
           from restante.batch_answer as a join public.before as b using (submission, custom_id)
          where {}",
        RETRIABLE.replace("outcome", "b.outcome").replace("error_type", "b.error_type")
    );
    assert_eq!(world.value(&better).await, "true");
    assert_eq!(
        world.value("select count(*) from restante.batch_answer where outcome is not null").await,
        "100"
    );
    assert_eq!(
        world.value("select concat_ws(' ', status, complete_at is null) from restante.submission").await,
        "complete f"
    );
}

#[tokio::test]
async fn a_success_is_never_replaced_by_what_came_later() {
    let world = World::new().await;
    submit(&world, "s", &requests(1, 2)).await;
    for (attempt, outcomes) in [(1, ["succeeded", "expired"]), (2, ["expired", "errored"])] {
        world
            .sql(&format!("insert into restante.batch (id, complete_at) values ('b{attempt}', now())"))
            .await;
        for (nth, outcome) in outcomes.iter().enumerate() {
            let number = nth + 1;
            world
                .sql(&format!(
                    "insert into restante.batch_result (batch_id, custom_id, outcome, line) values ('b{attempt}', 'r-{number}', '{outcome}', '{{}}')"
                ))
                .await;
        }
        if attempt == 2 {
            world.value("select restante.make_parts('s', 'anthropic', 2, null)").await;
        }
        world
            .sql(&format!(
                "update restante.submission_part set batch_id = 'b{attempt}' where number = {attempt}"
            ))
            .await;
    }

    let answers = "select string_agg(concat_ws(' ', custom_id, outcome, batch_id, attempts), ', ' order by custom_id) from restante.batch_answer";
    assert_eq!(world.value(answers).await, "r-1 succeeded b1 2, r-2 errored b2 2");
    // Only the second has something to gain.
    assert_eq!(resubmit(&world, "'s', 'retriable', true").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_by_itself_stops_at_its_cap_and_so_does_a_person() {
    let api = mixed().await;
    let world = World::new().await;
    submit_with(&world, "s", &requests(1, 100), "resubmit => '{retriable}', attempts_max => 3").await;

    work_to_rest(&world, &api_at(&api.url)).await;

    let parts = "select string_agg(concat_ws(' ', attempt, status, requests), ', ' order by number) from restante.submission_part";
    let retriable = results(
        &world,
        &format!(
            "{RETRIABLE} and batch_id = (select min(batch_id) from restante.submission_part where number = 1)"
        ),
    )
    .await;
    let expected = format!("1 complete 100, 2 complete {retriable}, 3 complete {retriable}");
    assert_eq!(world.value(parts).await, expected);
    assert_eq!(resubmit(&world, "'s'").await, "0");
    assert_eq!(world.value("select status from restante.submission").await, "complete");
    let told = "select count(*) from restante.outbox where type = 'batch.results_ready'";
    assert_eq!(world.value(told).await, "3");

    // Whatever is delivered once more changes nothing.
    world.sql("update restante.outbox set status = 'pending' where status in ('done', 'ignored')").await;
    work_to_rest(&world, &api_at(&api.url)).await;
    assert_eq!(world.value(parts).await, expected);
    assert_eq!(batches_of(&api.url).await.len(), 3);

    // A person may raise the cap.
    world.sql("update restante.submission set attempts_max = 4").await;
    assert_eq!(resubmit(&world, "'s'").await, retriable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_sends_nothing_again_twice() {
    let api = mixed().await;
    let cutter = Cutter::before(&api.url, true).await;
    let world = World::new().await;
    world.may_leave_running();
    submit_with(&world, "s", &requests(1, 100), "resubmit => '{retriable,canceled}', attempts_max => 2")
        .await;
    world.sql("select restante.pause('batch.poll')").await;
    work_to_rest(&world, &api_at(&api.url)).await;
    world.sql("select restante.resume('batch.poll')").await;
    cutter.cut([Cut::Answer(1)]);

    let mut worker = Process::worker(&world.url, &cutter.url, &[("RESTANTE_RECONCILE_SECONDS", "0")]).await;
    cutter.reached.notified().await;
    worker.kill_hard();
    cutter.go_on.notify_one();
    world.let_leases_run_out().await;
    work_to_rest(&world, &api_at(&api.url)).await;

    let status = "select status from restante.submission";
    eventually("every answer is here", async || {
        // As workers do every ten seconds: a batch that had ended before it was found has no event yet.
        world.value("select restante.ensure_standing_jobs(array['batch.ended'])").await;
        world.wait_for_retries().await;
        work(&world, &api_at(&api.url)).await;
        (world.value(status).await == "complete").then_some(())
    })
    .await;

    let again = results(&world, &format!("({RETRIABLE} or outcome = 'canceled') and batch_id = (select batch_id from restante.submission_part where number = 1)")).await;
    assert_eq!(batches_of(&api.url).await, [again.parse::<i64>().unwrap(), 100]);
    let parts = "select string_agg(concat_ws(' ', attempt, status), ', ' order by number) from restante.submission_part";
    assert_eq!(world.value(parts).await, "1 complete, 2 complete");
}

#[tokio::test]
async fn a_mistake_is_a_clear_error_and_nothing_is_sent() {
    let world = World::new().await;
    submit(&world, "s", &requests(1, 2)).await;
    for (call, expected) in [
        ("resubmit('t')", "resubmit: there is no submission named t"),
        ("resubmit(null)", "resubmit: there is no submission named null"),
        ("resubmit('s', 'succeeded')", "resubmit: 'succeeded' is nothing that is sent again"),
        ("resubmit('s', null)", "resubmit: null is nothing that is sent again"),
        ("resubmit('s', dry_run => null)", "resubmit: dry_run is null"),
        (
            "submit_batch('[]', resubmit => '{all}')",
            "submit_batch: resubmit: 'all' is nothing that is sent again",
        ),
        ("submit_batch('[]', attempts_max => 0)", "submit_batch: attempts_max must be 1 to 100"),
    ] {
        let error = sqlx::query(AssertSqlSafe(format!("select restante.{call}"))).execute(&world.pool).await;
        let error = error.unwrap_err().into_database_error().unwrap().message().to_owned();
        assert_eq!(error, format!("restante.{expected}"), "{call}");
    }
    // Nothing of it has an answer yet.
    assert_eq!(resubmit(&world, "'s'").await, "0");
    let without = "select string_agg(concat_ws(' ', custom_id, outcome, attempts), ', ' order by custom_id) from restante.batch_answer";
    assert_eq!(world.value(without).await, "r-1 1, r-2 1");
}

/// Submits requests with further arguments.
async fn submit_with(world: &World, name: &str, requests: &Value, arguments: &str) {
    let call = format!("select restante.submit_batch($1::json, name => $2, {arguments})");
    let query = sqlx::query(AssertSqlSafe(call)).bind(json!(requests).to_string()).bind(name);
    query.execute(&world.pool).await.unwrap();
}
