//! Exchanges that break off, and workers that are killed: one batch comes of each part, whatever happens.

use std::sync::Arc;

use super::{api_at, batches_of, requests, submit, work_to_rest};
use crate::support::cutter::{Cut, Cutter};
use crate::support::{Process, SimulatedApi, World, eventually};

/// Where an exchange of some 1,000 bytes breaks off: within its head, within its body, at its last byte, before, within and at the
/// end of its answer.
const CUTS: [Cut; 14] = [
    Cut::Request(1),
    Cut::Request(60),
    Cut::Request(300),
    Cut::Request(400),
    Cut::Request(450),
    Cut::Request(600),
    Cut::Request(900),
    Cut::Request(1_000),
    Cut::Answer(1),
    Cut::Answer(16),
    Cut::Answer(200),
    Cut::Answer(400),
    Cut::Answer(500),
    Cut::Answer(600),
];

/// The cuts, as often as a long run wants them.
fn cuts() -> impl Iterator<Item = (usize, Cut)> {
    let rounds =
        std::env::var("RESTANTE_CUT_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    std::iter::repeat_n(CUTS, rounds).flatten().enumerate()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_breaks_off_anywhere_leaves_one_batch() {
    let simulated = SimulatedApi::start().await;
    let cutter = Cutter::before(&simulated.url, false).await;
    let api = api_at(&cutter.url);
    let world = World::new().await;

    for (nth, cut) in cuts() {
        cutter.cut([cut]);
        submit(&world, &format!("s{nth}"), &requests(1, 5)).await;
        work_to_rest(&world, &api).await;

        assert_eq!(batches_of(&simulated.url).await, vec![5; nth + 1], "{cut:?}");
    }
    let statuses = "select string_agg(distinct status::text, ' ') from restante.submission";
    assert_eq!(world.value(statuses).await, "complete");
    let once = "select count(*) = count(distinct batch_id) and bool_and(status = 'complete') from restante.submission_part";
    assert_eq!(world.value(once).await, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_anywhere_in_an_exchange_leaves_one_batch() {
    let simulated = SimulatedApi::start().await;
    let cutter = Cutter::before(&simulated.url, true).await;
    let world = World::new().await;
    world.may_leave_running();

    for (nth, cut) in cuts().step_by(2) {
        cutter.cut([cut]);
        submit(&world, &format!("s{nth}"), &requests(1, 5)).await;
        let mut worker =
            Process::worker(&world.url, &cutter.url, &[("RESTANTE_RECONCILE_SECONDS", "0")]).await;
        cutter.reached.notified().await;
        worker.kill_hard();
        cutter.go_on.notify_one();
        world.let_leases_run_out().await;
        work_to_rest(&world, &api_at(&simulated.url)).await;

        assert_eq!(batches_of(&simulated.url).await, vec![5; nth / 2 + 1], "{cut:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_two_batches_may_be_the_one_a_person_decides() {
    let simulated = SimulatedApi::start().await;
    let cutter = Arc::new(Cutter::before(&simulated.url, false).await);
    for adopts in [true, false] {
        let api = api_at(&cutter.url);
        let world = World::new().await;
        let before = batches_of(&simulated.url).await.len();
        cutter.cut([Cut::Answer(1)]);
        submit(&world, "mine", &requests(1, 5)).await;
        super::work(&world, &api).await;
        // Another program submits as many at the same time.
        let other = simulated.batch(5).await;
        work_to_rest(&world, &api).await;

        assert_eq!(batches_of(&simulated.url).await.len(), before + 2);
        let look = "select concat_ws(' ', s.status, p.status, p.reason like '%' || 'msgbatch' || '%')
                      from restante.submission as s join restante.submission_part as p on p.submission = s.name";
        assert_eq!(world.value(look).await, "uncertain uncertain t");
        assert_eq!(
            world.value("select count(*) from restante.outbox where type = 'batch.uncertain'").await,
            "1"
        );

        let decision = if adopts {
            format!("update restante.submission_part set batch_id = '{other}'")
        } else {
            "update restante.submission set status = 'waiting'".to_owned()
        };
        world.sql(&decision).await;
        eventually("the decision is carried out", async || {
            work_to_rest(&world, &api).await;
            (world.value("select status from restante.submission").await == "complete").then_some(())
        })
        .await;
        assert_eq!(batches_of(&simulated.url).await.len(), before + if adopts { 2 } else { 3 });
    }
}
