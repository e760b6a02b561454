//! Events of one key run one at a time, oldest first. Events of different keys run side by side.

use std::sync::Arc;
use std::time::Duration;

use expect_test::expect;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use restante::internals::outbox::outcome::{Failure, Fault, Finish, Verdict};
use restante::internals::outbox::settle::{Finished, Next, fail, finish};
use restante::internals::outbox::{self, Claimed, Source};
use restante::registry::Registry;
use restante::worker;
use serde_json::json;
use tokio::sync::Barrier;
use tokio_util::sync::CancellationToken;

use crate::support::world::no_api;
use crate::support::{Ledger, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn shuffled_deliveries_are_handled_in_order_within_each_key() {
    let world = World::new().await;
    let mut deliveries: Vec<(usize, u32)> =
        (0..30).flat_map(|key| (0..40).map(move |second| (key, second))).collect();
    deliveries.shuffle(&mut StdRng::seed_from_u64(7));
    // Half of them are stored one by one, half of them together.
    let (alone, together) = deliveries.split_at(deliveries.len() / 2);
    for deliveries in alone.chunks(1).chain(together.chunks(20)) {
        let event = |&(key, second): &(usize, u32)| {
            world.new_event(&format!("{key}-{second:02}"), &format!("key-{key}"), second, json!({}))
        };
        world.receive_all(&deliveries.iter().map(event).collect::<Vec<_>>()).await;
    }

    world.work().await;

    let ledger = world.ledger().await;
    assert_eq!(ledger.len(), 30 * 40);
    for key in 0..30 {
        let of_key: Vec<&String> =
            ledger.iter().filter(|event| event.starts_with(&format!("{key}-"))).collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
    let first_of_each = ledger.iter().take(60).filter(|event| event.ends_with("-00")).count();
    assert!(first_of_each > 4, "keys run side by side: {first_of_each} of them began early");
}

#[tokio::test]
async fn of_several_events_with_one_identifier_in_one_commit_the_first_is_stored() {
    let world = World::new().await;
    let [first, second, other] = [("e", "k1", 2), ("e", "k2", 1), ("f", "k1", 1)]
        .map(|(id, key, second)| world.new_event(id, key, second, json!({})));

    assert_eq!(world.receive_all(&[first, second, other]).await, 2);

    assert_eq!(
        world.value("select string_agg(event_id || key, ' ' order by event_id) from restante.outbox").await,
        "ek1 fk1"
    );
    expect![["f pending, attempt 0\ne blocked, attempt 0\n"]].assert_eq(&world.outbox().await);
    let twice = "select restante.insert_events(array['g', 'g'], array['t', 't'], array['k1', 'k2'], array[null, null], \
                 array[now(), now()], array['{}', '{}'], array[null, null]::bytea[], null, 'sql')";
    let error = sqlx::query(twice).execute(&world.pool).await.unwrap_err();
    assert!(error.to_string().contains("an identifier is there twice"), "{error}");
}

#[tokio::test]
async fn a_claim_takes_one_event_of_a_key_and_the_oldest_first() {
    let world = World::new().await;
    world.receive("k2", "k", 2, json!({})).await;
    world.receive("k1", "k", 1, json!({})).await;
    world.receive("m3", "m", 3, json!({})).await;
    world.receive("none0", "", 0, json!({})).await;

    let claimed: Vec<String> =
        world.claim(10).await.into_iter().map(|claimed| claimed.event.event_id).collect();

    assert_eq!(claimed, ["none0", "k1", "m3"]);
    assert!(world.claim(10).await.is_empty());
}

#[tokio::test]
async fn an_event_that_arrives_late_goes_before_any_that_was_not_claimed_yet() {
    let world = World::new().await;
    world.receive("k5", "k", 5, json!({})).await;
    world.receive("k6", "k", 6, json!({})).await;

    world.receive("k4", "k", 4, json!({})).await;
    world.work().await;

    assert_eq!(world.ledger().await, ["k4", "k5", "k6"]);
}

#[tokio::test]
async fn an_event_that_arrives_after_a_younger_one_began_runs_next_and_is_told_that_it_is_late() {
    let world = World::new().await;
    world.receive("k5", "k", 5, json!({})).await;
    world.receive("k6", "k", 6, json!({})).await;
    let claimed = world.claim(1).await;
    assert_eq!(claimed[0].event.event_id, "k5");

    world.receive("k4", "k", 4, json!({})).await;
    assert!(world.claim(10).await.is_empty(), "one at a time, also for the late one");
    world.let_leases_run_out().await;
    world.work().await;

    assert_eq!(world.ledger().await, ["k5", "k4", "k6"]);
    assert!(outbox::claim::is_late(&world.pool, &world.event("k4").await).await.unwrap());
    assert!(!outbox::claim::is_late(&world.pool, &world.event("k6").await).await.unwrap());
}

#[tokio::test]
async fn a_retry_holds_its_key_and_a_dead_letter_lets_it_pass() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({ "fail_until_attempt": 99 })).await;
    world.receive("k2", "k", 2, json!({})).await;

    world.work().await;
    expect![["k1 retry, attempt 1\nk2 blocked, attempt 0\n"]].assert_eq(&world.outbox().await);

    for _ in 0..2 {
        world.wait_for_retries().await;
        world.work().await;
    }
    expect![["k1 dead, attempt 3\nk2 done, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn a_dead_letter_holds_its_key_where_its_handler_wants_that() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({})).await;
    world.receive("k2", "k", 2, json!({})).await;
    let claimed = world.claim(1).await;
    let failure = Failure { fault: Fault::Permanent, kind: "handler", reason: "no".to_owned() };
    let verdict = Verdict::Dead { failure, holds_key: true };
    assert!(fail(&world.pool, claimed[0].lease, &verdict).await.unwrap());

    world.work().await;
    expect![["k1 dead, attempt 1\nk2 blocked, attempt 0\n"]].assert_eq(&world.outbox().await);

    world.sql("update restante.outbox set status = 'cancelled' where event_id = 'k1'").await;
    world.work().await;
    expect![["k1 cancelled, attempt 1\nk2 done, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_to_one_key_at_the_same_time_make_one_head() {
    let world = Arc::new(World::new().await);
    let deliveries = (0..50).map(|n| {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.receive(&format!("e{n:02}"), "k", n, json!({})).await })
    });
    for delivery in deliveries.collect::<Vec<_>>() {
        assert_eq!(delivery.await.unwrap(), 1);
    }

    assert_eq!(world.value("select count(*) from restante.outbox where status = 'pending'").await, "1");
    world.work().await;
    assert_eq!(world.ledger().await.len(), 50);
}

#[tokio::test]
async fn an_event_that_arrives_while_the_head_of_its_key_is_stored_waits_behind_it_and_holds_up_nobody() {
    for others in [0, 1] {
        let world = World::new().await;
        let mut storing = world.pool.begin().await.unwrap();
        let first = world.new_event("k1", "k", 1, json!({}));
        outbox::insert_events(&mut *storing, Source::Webhook, &[first]).await.unwrap();

        assert_eq!(arrive(&world, others).await, 1 + others);
        assert_eq!(world.settle_keys().await, (0, 1), "the key is left while somebody holds it");
        storing.commit().await.unwrap();

        assert_eq!(world.settle_keys().await, (1, 0));
        expect![["k1 pending, attempt 0\nk2 blocked, attempt 0\n"]].assert_eq(&outbox_of_k(&world).await);
    }
}

#[tokio::test]
async fn an_event_that_arrives_while_the_head_of_its_key_is_finished_is_not_left_behind() {
    for others in [0, 1] {
        let world = World::new().await;
        world.receive("k1", "k", 1, json!({})).await;
        for n in 0..others {
            world.receive(&format!("l{n}"), &format!("l{n}"), 1, json!({})).await;
        }
        let done = |claimed: Claimed| Finished {
            lease: claimed.lease,
            finish: Finish::Done,
            result: None,
            delivered: None,
        };
        let attempts: Vec<_> = world.claim(9).await.into_iter().map(done).collect();
        let mut finishing = world.pool.begin().await.unwrap();
        finish(&mut *finishing, &attempts, None).await.unwrap();

        assert_eq!(arrive(&world, others).await, 1 + others);
        finishing.commit().await.unwrap();

        assert_eq!(world.settle_keys().await, (1, 0));
        expect![["k1 done, attempt 1\nk2 pending, attempt 0\n"]].assert_eq(&outbox_of_k(&world).await);
    }
}

/// Stores the second event of key k, in one commit with `others` events of other keys.
async fn arrive(world: &World, others: u64) -> u64 {
    let others = (0..others).map(|n| world.new_event(&format!("m{n}"), &format!("m{n}"), 1, json!({})));
    let events: Vec<_> = others.chain([world.new_event("k2", "k", 2, json!({}))]).collect();
    world.receive_all(&events).await
}

async fn outbox_of_k(world: &World) -> String {
    world
        .outbox()
        .await
        .lines()
        .filter(|line| line.starts_with('k'))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_event_of_a_key_is_leased_with_the_completion_of_the_one_before() {
    let writing = Registry::new().register(Ledger);
    let quick = Registry::new().register(nothing::Nothing);
    for registry in [writing, quick] {
        let world = World::new().await;
        for second in 1..=20 {
            world.receive(&format!("k{second:02}"), "k", second, json!({})).await;
        }

        assert_eq!(world.work_with(registry).await, 20);

        // Each change of state gives a new token: the event was leased and done, and never pending in between.
        let tokens =
            "select string_agg(distinct status || lease_token, ', ') from restante.outbox where key = 'k'";
        assert_eq!(world.value(tokens).await, "done2");
        let order =
            "select array_agg(event_id order by finished_at) = array_agg(event_id order by created_at)
                       from restante.outbox";
        assert_eq!(world.value(order).await, "true");
    }
}

mod nothing {
    use restante::handler::{self, Context, Handler};
    use serde::de::IgnoredAny;

    /// Opens no transaction.
    pub struct Nothing;

    impl Handler for Nothing {
        const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
        type Payload = IgnoredAny;

        async fn handle(&self, _: &mut Context<'_>, _: IgnoredAny) -> handler::Result {
            Ok(())
        }
    }
}

#[tokio::test]
async fn the_next_event_of_a_key_is_leased_only_where_it_is_its_turn() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({})).await;
    world.receive("k3", "k", 3, json!({})).await;
    world.receive("k5", "k", 5, json!({})).await;
    world.receive("m1", "m", 1, json!({})).await;
    world.receive("m5", "m", 5, json!({})).await;
    let lease = Duration::from_secs(30);
    let second_3 = world.event("k3").await.created_at;
    let next = Some(Next { owner: "me", lease, until: second_3 });
    let done = |claimed: &Claimed| Finished {
        lease: claimed.lease,
        finish: Finish::Done,
        result: None,
        delivered: None,
    };

    let first = world.claim(2).await;
    let settled = finish(&world.pool, &[done(&first[0]), done(&first[1])], next).await.unwrap();
    assert_eq!((settled.unblocked, settled.next.len()), (1, 1));
    assert_eq!(settled.next[0].event.event_id, "k3");
    expect![[r#"
        k1 done, attempt 1
        k3 running, attempt 1
        k5 blocked, attempt 0
        m1 done, attempt 1
        m5 pending, attempt 0
    "#]]
    .assert_eq(&world.outbox().await);

    let settled = finish(&world.pool, &[done(&settled.next[0])], next).await.unwrap();
    assert_eq!((settled.unblocked, settled.next.len()), (1, 0));
    expect![["k1 done, attempt 1\nk3 done, attempt 1\nk5 pending, attempt 0\n"]]
        .assert_eq(&outbox_of_k(&world).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_while_long_keys_run_through_does_not_wait_for_their_end() {
    let world = World::new().await;
    for (key, turn) in (0..1000).flat_map(|turn| [("j", turn), ("k", turn)]) {
        world.receive(&format!("{key}{turn:04}"), key, 59, json!({})).await;
    }
    let stop = CancellationToken::new();
    let settings = worker::Settings { concurrency: 1, ..world.worker_settings() };
    let registry = Registry::new().register(Ledger);
    let working = tokio::spawn(worker::run(settings, world.pool.clone(), registry, no_api(), stop.clone()));

    eventually("both keys running through", async || (world.ledger().await.len() > 50).then_some(())).await;
    world.receive("older", "m", 1, json!({})).await;
    eventually("all of it done", async || (world.ledger().await.len() == 2001).then_some(())).await;
    stop.cancel();
    working.await.unwrap().unwrap();

    let place = world.ledger().await.iter().position(|event| event == "older").unwrap();
    assert!(place < 1500, "it was the {place}th");
}

#[tokio::test]
async fn a_key_with_many_events_does_not_pass_older_events_of_other_keys() {
    let world = World::new().await;
    for second in 0..10 {
        world
            .receive(&format!("{second:02}"), if second % 2 == 0 { "k" } else { "m" }, second, json!({}))
            .await;
    }

    let settings = worker::Settings { concurrency: 1, ..world.worker_settings() };
    world.work_as(settings, Registry::new().register(Ledger)).await;

    assert!(world.ledger().await.is_sorted(), "{:?}", world.ledger().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_enqueue_into_each_others_keys_are_both_done_in_one_attempt_each() {
    let world = World::new().await;
    world.receive("j1", "j", 1, json!({ "enqueue": "k" })).await;
    world.receive("k1", "k", 1, json!({ "enqueue": "j" })).await;
    let both_have_enqueued = Arc::new(Barrier::new(2));
    let crossing = |both_have_enqueued| Registry::new().register(crossing::Crossing { both_have_enqueued });

    world.work_with(crossing(both_have_enqueued)).await;

    let outbox = world.outbox().await;
    let mut events: Vec<_> = outbox.lines().collect();
    events.sort_unstable();
    assert_eq!(
        events,
        ["j1 done, attempt 1", "j2 done, attempt 1", "k1 done, attempt 1", "k2 done, attempt 1"]
    );
}

mod crossing {
    use std::sync::Arc;

    use restante::handler::{self, Classify, Context, Handler};
    use restante::internals::envelope;
    use restante::internals::outbox::Source;
    use serde_json::json;
    use tokio::sync::Barrier;

    /// Enqueues the second event of the key that its event names, and waits until another attempt has done the same.
    pub struct Crossing {
        pub both_have_enqueued: Arc<Barrier>,
    }

    impl Handler for Crossing {
        const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
        type Payload = serde_json::Value;

        async fn handle(&self, cx: &mut Context<'_>, payload: Self::Payload) -> handler::Result {
            let Some(key) = payload["enqueue"].as_str() else { return Ok(()) };
            let second = json!({ "type": "event", "id": format!("{key}2"), "created_at": "2026-11-01T12:00:02Z",
                                 "data": { "type": "test.ledger", "id": key } });
            let second = envelope::read(second.to_string().as_bytes(), None, 0).permanent()?;
            cx.enqueue(Source::Worker, second).await?;
            self.both_have_enqueued.wait().await;
            Ok(())
        }
    }
}
