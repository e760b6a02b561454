//! A crash is counted only if a worker vanished, and an event that kills its workers does not harm other events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use expect_test::expect;
use restante::internals::outbox::lease::give_sign;
use restante::registry::Registry;
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::World;

const LEASE: Duration = Duration::from_secs(30);

async fn has_been_away_for(world: &World, owner: &str, connected: &str, alive: &str) {
    let row = format!(
        "insert into restante.worker values ('{owner}', clock_timestamp() + '{connected}', clock_timestamp() + '{alive}')"
    );
    sqlx::query(AssertSqlSafe(row)).execute(&world.pool).await.unwrap();
}

#[tokio::test]
async fn a_lease_of_a_worker_that_lives_runs_out_without_a_crash() {
    let world = World::new().await;
    world.receive("a", "k", 1, json!({})).await;
    give_sign(&world.pool, "somebody", LEASE).await.unwrap();
    assert_eq!(world.claim(1).await.len(), 1);
    world.let_leases_run_out().await;

    let claimed = world.claim_as("somebody else", 1).await;

    assert_eq!((claimed[0].crashes, claimed[0].event.attempt), (0, 2));
    assert_eq!(world.value("select outcome || ' ' || kind from restante.failure").await, "timed_out lease");
}

#[tokio::test]
async fn a_worker_that_claims_its_own_event_again_has_not_vanished() {
    let world = World::new().await;
    world.receive("a", "k", 1, json!({})).await;
    assert_eq!(world.claim(1).await.len(), 1);
    world.let_leases_run_out().await;

    assert_eq!(world.claim(1).await[0].crashes, 0);
}

#[tokio::test]
async fn a_worker_that_was_away_itself_gives_the_others_time_to_come_back() {
    let world = World::new().await;
    world.receive("a", "k", 1, json!({})).await;
    has_been_away_for(&world, "somebody", "-1 hour", "-1 second").await;
    has_been_away_for(&world, "back", "-1 second", "29 seconds").await;
    has_been_away_for(&world, "there", "-16 seconds", "29 seconds").await;
    assert_eq!(world.claim(1).await.len(), 1);
    world.let_leases_run_out().await;

    assert!(world.claim_as("back", 1).await.is_empty());
    assert_eq!(world.claim_as("there", 1).await[0].crashes, 1);
}

#[tokio::test]
async fn what_a_worker_has_claimed_and_does_not_know_of_is_handed_back_and_does_not_count() {
    let world = World::new().await;
    for name in ["known", "stray", "young"] {
        world.receive(name, name, 1, json!({})).await;
    }
    let claimed = world.claim(3).await;
    let known = claimed.iter().find(|claimed| claimed.event.event_id == "known").unwrap().lease.id;
    world.sql("update restante.outbox_live set started_at = started_at - interval '1 minute' where event_id <> 'young'").await;

    let strays = format!("select restante.hand_back_strays('somebody', array[{known}], '10 seconds')");
    assert_eq!(world.value(&strays).await, "1");

    let outbox = world.outbox().await;
    assert!(outbox.contains("stray pending, attempt 0\n"), "{outbox}");
    assert!(
        outbox.contains("known running, attempt 1\n") && outbox.contains("young running, attempt 1\n"),
        "{outbox}"
    );
}

#[tokio::test]
async fn an_event_whose_next_crash_would_be_its_last_runs_alone() {
    let world = World::new().await;
    for n in 0..8 {
        world.receive(&format!("e{n}"), &format!("k{n}"), 1, json!({})).await;
    }
    world.sql("update restante.outbox set crashes = 2 where event_id in ('e2', 'e5')").await;
    let running = Arc::new(AtomicUsize::new(0));

    world.work_with(Registry::new().register(alone::Alone { running })).await;

    assert_eq!(world.value("select count(*) from restante.outbox where status = 'done'").await, "8");
    let company = "select string_agg(event_id || ' ' || result, ', ' order by event_id) from restante.outbox where crashes = 2";
    assert_eq!(world.value(company).await, "e2 1, e5 1");
    let most = "select max(result::text::int) from restante.outbox where crashes = 0";
    assert_ne!(world.value(most).await, "1", "the others run side by side");
}

mod alone {
    use super::*;
    use restante::handler::{self, Context, Handler};

    /// Records how many handlers ran at its beginning and end.
    pub struct Alone {
        pub running: Arc<AtomicUsize>,
    }

    impl Handler for Alone {
        const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
        type Payload = serde_json::Value;

        async fn handle(&self, cx: &mut Context<'_>, _: Self::Payload) -> handler::Result {
            let beside = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            sqlx::query("select pg_sleep(0.1)").execute(cx.pool()).await?;
            let beside = beside.max(self.running.fetch_sub(1, Ordering::SeqCst));
            cx.set_result(&json!(beside));
            Ok(())
        }
    }
}

#[tokio::test]
async fn claims_of_large_bodies_are_bounded_by_their_bytes() {
    let world = World::new().await;
    let large = "select count(restante.enqueue('test.large', json_build_object('x', (
                   select string_agg(md5(n::text || m::text), '') from generate_series(1, 32768) as n))))
                   from generate_series(1, 40) as m";
    assert_eq!(world.value(large).await, "40");

    let first = world.claim(100).await.len();

    assert!((1..=20).contains(&first), "{first} bodies of one megabyte at once");
    let mut claimed = first;
    while claimed < 40 {
        let next = world.claim(100).await.len();
        assert!(next > 0);
        claimed += next;
    }
}

#[tokio::test]
async fn a_row_that_no_client_can_read_breaks_no_claim() {
    let world = World::new().await;
    world.receive("before", "", 1, json!({})).await;
    world.receive("fine", "", 1, json!({})).await;
    world.receive("old", "", 1, json!({})).await;
    world.receive("spent", "", 1, json!({})).await;
    world.sql("update restante.outbox_live set created_at = '290000-01-01Z' where event_id = 'fine'").await;
    world.sql("update restante.outbox_live set created_at = '4000-01-01Z BC', received_at = '-infinity' where event_id = 'old'").await;
    world.sql("update restante.outbox_live set attempt = 2147483647, max_attempts = 2147483647 where event_id = 'spent'").await;

    world.work().await;

    expect![[
        "before done, attempt 1\nfine done, attempt 1\nold done, attempt 1\nspent done, attempt 2147483647\n"
    ]]
    .assert_eq(&world.outbox().await);
}
