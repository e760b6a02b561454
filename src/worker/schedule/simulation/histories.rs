//! Histories of two workers: thousands of random ones, and some written by hand.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::world::{MS, World};
use super::{Faults, Handlers, Plan};

/// Runs the same histories each time, because a test that fails only sometimes is of no help.
fn for_each<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let tested = TestRunner::new_with_rng(config, rng).run(&strategy, |value| {
        test(value);
        Ok(())
    });
    if let Err(error) = tested {
        panic!("{error}");
    }
}

fn handlers() -> impl Strategy<Value = Handlers> {
    prop_oneof![
        Just(Handlers::Quick),
        Just(Handlers::Mixed),
        Just(Handlers::Within(3000 * MS)),
        Just(Handlers::BecomingSlow)
    ]
}

fn plans(faults: impl Strategy<Value = Faults>) -> impl Strategy<Value = Plan> {
    let concurrency = proptest::collection::vec(1..8usize, 2);
    (
        any::<u64>(),
        concurrency,
        prop_oneof![Just(3), Just(30)],
        0..120usize,
        0..6u32,
        any::<bool>(),
        handlers(),
        faults,
    )
        .prop_map(|(seed, concurrency, lease, events, keys, is_flood, handlers, faults)| Plan {
            seed,
            concurrency,
            lease: Duration::from_secs(lease),
            events,
            keys,
            is_flood,
            handlers,
            faults,
        })
}

fn faults() -> impl Strategy<Value = Faults> {
    any::<[bool; 7]>().prop_map(
        |[late_answers, lost_answers, outages, crashes, poison, failures, no_hints]| Faults {
            late_answers,
            lost_answers,
            outages,
            crashes,
            poison,
            failures,
            no_hints,
        },
    )
}

#[test]
fn whatever_happens_every_invariant_holds_and_everything_gets_done() {
    for_each(1500, plans(faults()), |plan| World::with_events(plan).run_until_all_is_done());
}

#[test]
fn without_faults_every_invariant_holds_and_everything_gets_done() {
    let faults = any::<bool>().prop_map(|no_hints| Faults { no_hints, ..Faults::default() });
    for_each(1500, plans(faults), |plan| World::with_events(plan).run_until_all_is_done());
}

/// Two workers with `places` places each, handlers that take up to `handler`, and no faults.
fn quiet(seed: u64, places: usize, handler: Duration) -> Plan {
    Plan {
        seed,
        concurrency: vec![places; 2],
        lease: Duration::from_secs(30),
        events: 0,
        keys: 0,
        is_flood: false,
        handlers: Handlers::Within(handler),
        faults: Faults { no_hints: true, ..Faults::default() },
    }
}

#[test]
fn an_older_event_never_waits_for_the_end_of_long_keys() {
    let plans = (any::<u64>(), 1..4usize, 1..200u32);
    for_each(100, plans, |(seed, places, handler)| {
        let mut world = World::new(quiet(seed, places, handler * MS));
        // More long keys than places, and all of their events have the same age.
        let (keys, created_at) = (2 * places as u32 + 1, world.time_of_day(1000 * MS));
        for key in (0..keys).flat_map(|key| [key; 300]) {
            world.arrives(Duration::ZERO, created_at, Some(key));
        }
        let before = world.time_of_day(Duration::ZERO);
        world.arrives(2000 * MS, before, None);
        let older = keys as usize * 300;

        world.run_until(|world| world.outbox.events.len() > older);
        let arrived = world.now;
        let started = world.started_within(older, 20_000 * MS);
        // A poll, the wait for a free place, and the attempts that are under way.
        assert!(started - arrived < 3500 * MS, "after {:?}", started - arrived);
        assert!(world.outbox.done < older / 2 || handler < 20, "the keys were at their end");
    });
}

#[test]
fn other_events_go_on_beside_a_key_with_100_000_events() {
    let mut world = World::new(quiet(1, 2, MS));
    let created_at = world.time_of_day(Duration::ZERO);
    for _ in 0..100_000 {
        world.arrives(Duration::ZERO, created_at, Some(0));
    }
    for second in 1..=60 {
        let (after, created_at) = (second * 1000 * MS, world.time_of_day(second * 1000 * MS));
        world.arrives(after, created_at, None);
    }
    for event in 100_000..100_060 {
        world.run_until(|world| world.outbox.events.len() > event);
        let arrived = world.now;
        assert!(world.started_within(event, 5000 * MS) - arrived < 1500 * MS);
    }
    assert!(world.outbox.done < 90_000, "the key was at its end");
    world.run_until_all_is_done();
}

#[test]
fn what_was_read_ahead_is_handed_back_when_handlers_become_slow() {
    let mut world = World::new(Plan { handlers: Handlers::BecomingSlow, ..quiet(1, 4, MS) });
    for after in [4000, 5100].into_iter().flat_map(|after| [after; 200]) {
        let created_at = world.time_of_day(after * MS);
        world.arrives(after * MS, created_at, None);
    }
    world.run_until_all_is_done();
    // Each worker had claimed 20 ms of work ahead, which is dozens of events for four places.
    assert!(world.handed_back > 50, "{} were handed back", world.handed_back);
}

#[test]
fn an_event_that_kills_its_workers_runs_alone_the_last_time_and_is_given_up() {
    let poison = Faults { poison: true, ..Faults::default() };
    for_each(50, plans(Just(poison)), |plan| {
        let has_events = plan.events > 0;
        let mut world = World::with_events(plan);
        world.run_until_all_is_done();
        if has_events {
            assert_eq!((world.outbox.events[0].crashes, world.workers.len()), (3, 2 + 3));
        }
    });
}
