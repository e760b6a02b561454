//! No service waits for the lock of a key or for a row: a transaction left open holds up the rows that it changed, and nothing
//! else.

use std::time::Duration;

use expect_test::expect;
use restante::database;
use restante::internals::outbox::lease::renew;
use restante::internals::outbox::outcome::{Failure, Fault, Finish, Verdict};
use restante::internals::outbox::settle::{Finished, fail, finish, hand_back};
use restante::internals::outbox::upkeep::let_held_go;
use restante::internals::outbox::{self, Source};
use serde_json::json;
use sqlx::{AssertSqlSafe, Postgres, Transaction};

use crate::support::World;

/// A transaction that stays open after this statement.
async fn left_open(world: &World, statement: &str) -> Transaction<'static, Postgres> {
    let mut open = world.pool.begin().await.unwrap();
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut *open).await.unwrap();
    open
}

#[tokio::test]
async fn deliveries_are_stored_and_handled_while_a_person_has_their_keys_in_an_open_transaction() {
    let world = World::new().await;
    for n in 0..20 {
        world.receive(&format!("a{n}"), &format!("k{n}"), 1, json!({})).await;
    }
    let open =
        left_open(&world, "update restante.outbox set status = 'paused' where key in ('k0', 'k1', 'k2')")
            .await;

    for n in 0..20 {
        assert_eq!(world.receive(&format!("b{n}"), &format!("k{n}"), 2, json!({})).await, 1);
    }
    let together: Vec<_> =
        (0..20).map(|n| world.new_event(&format!("c{n}"), &format!("k{n}"), 3, json!({}))).collect();
    assert_eq!(world.receive_all(&together).await, 20);
    world.work().await;
    assert_eq!(world.ledger().await.len(), 17 * 3, "what he has not touched is done");

    open.commit().await.unwrap();
    world.work().await;
    assert_eq!(world.ledger().await.len(), 17 * 3 + 3 * 2, "and his keys go on when he is done");
}

#[tokio::test]
async fn completions_are_committed_while_a_person_has_dead_letters_of_their_keys_in_an_open_transaction() {
    let world = World::new().await;
    for n in 0..12 {
        world.receive(&format!("dead{n}"), &format!("k{n}"), 1, json!({ "permanent": true })).await;
    }
    world.work().await;
    let mut open =
        left_open(&world, "update restante.outbox set status = 'cancelled' where status = 'dead'").await;
    for n in 0..12 {
        world.receive(&format!("a{n}"), &format!("k{n}"), 2, json!({})).await;
        world.receive(&format!("b{n}"), &format!("k{n}"), 3, json!({})).await;
        world.receive(&format!("c{n}"), &format!("m{n}"), 2, json!({})).await;
    }

    // The open transaction enqueues into some of these keys again, so that it surely has their locks.
    sqlx::query("select restante.enqueue('test.ledger', '{}', key => 'k0', event_id => 'his')")
        .execute(&mut *open)
        .await
        .unwrap();
    world.work().await;
    assert!(world.ledger().await.iter().filter(|event| event.starts_with('c')).count() == 12);
    open.rollback().await.unwrap();
    world.work().await;

    assert_eq!(world.ledger().await.len(), 36);
    assert_eq!(world.value("select count(*) from restante.failure where outcome = 'crashed'").await, "0");
}

#[tokio::test]
async fn a_completion_is_committed_while_an_application_holds_its_key_and_the_successor_follows() {
    for others in [0, 1] {
        let world = World::new().await;
        world.receive("k1", "k", 1, json!({})).await;
        for n in 0..others {
            world.receive(&format!("l{n}"), &format!("l{n}"), 1, json!({})).await;
        }
        let claimed = world.claim(9).await;
        let enqueue = "select restante.enqueue('test.ledger', '{}', key => 'k', event_id => 'k2')";
        let open = left_open(&world, enqueue).await;

        let done: Vec<_> = claimed
            .into_iter()
            .map(|claimed| Finished {
                lease: claimed.lease,
                finish: Finish::Done,
                result: None,
                delivered: None,
            })
            .collect();
        let settled = finish(&world.pool, &done, None).await.unwrap();
        assert_eq!(settled.finished.len(), done.len());
        assert_eq!(settled.unblocked, 1, "a claim is called for");
        open.commit().await.unwrap();

        assert_eq!(world.settle_keys().await, (1, 0));
        assert!(world.outbox().await.contains("k2 pending"), "{}", world.outbox().await);
    }
}

#[tokio::test]
async fn what_a_login_without_a_role_can_lock_holds_up_nobody() {
    let world = World::new().await;
    let salt = "select has_table_privilege('public', 'restante.key_salt', 'select')";
    assert_eq!(world.value(salt).await, "false");
    let numbers =
        "select pg_advisory_xact_lock(hashtextextended(key, seed)) from (values ('k'), ('m')) as k (key),
                     generate_series(0, 20) as seed";
    let open = left_open(&world, numbers).await;

    world.receive("a", "k", 1, json!({})).await;
    world.receive("b", "m", 1, json!({})).await;

    assert_eq!(world.value("select count(*) from restante.key_unsettled").await, "0");
    world.work().await;
    let mut handled = world.ledger().await;
    // The events have different keys, so they run at once.
    handled.sort();
    assert_eq!(handled, ["a", "b"]);
    open.rollback().await.unwrap();
}

#[tokio::test]
async fn an_identifier_that_somebody_is_storing_is_not_waited_for_longer_than_its_neighbours_can_bear() {
    let world = World::new().await;
    let open = left_open(&world, "select restante.enqueue('test.ledger', '{}', event_id => 'same')").await;
    let events = ["same", "other"].map(|name| world.new_event(name, name, 1, json!({})));

    let error = outbox::insert_events(&world.pool, Source::Webhook, &events).await.unwrap_err();

    assert!(database::is_locked(&error), "{error}");
    assert_eq!(world.receive_all(&events[1..]).await, 1);
    open.rollback().await.unwrap();
    assert_eq!(world.receive_all(&events).await, 1);
}

#[tokio::test]
async fn an_attempt_waits_for_no_row_that_a_person_has_locked_and_its_lease_lasts_as_long_as_it_did() {
    let world = World::new().await;
    world.receive("a", "k", 1, json!({})).await;
    let lease = world.claim(1).await[0].lease;
    let until = "select lease_until from restante.outbox_live";
    let (lasts, open) =
        (world.value(until).await, left_open(&world, "select from restante.outbox for update").await);
    let failure = Failure { fault: Fault::Retryable, kind: "handler", reason: "no".to_owned() };
    let verdict = Verdict::Retry { failure, wait: Duration::from_secs(1) };

    assert!(!fail(&world.pool, lease, &verdict).await.unwrap());
    assert_eq!(hand_back(&world.pool, &[lease]).await.unwrap(), 0);
    let renewed = renew(&world.pool, &[lease], Duration::from_secs(90)).await.unwrap();
    assert_eq!((renewed.renewed, renewed.locked), (vec![], vec![lease]));
    assert_eq!(world.value(until).await, lasts);

    open.rollback().await.unwrap();
    assert!(fail(&world.pool, lease, &verdict).await.unwrap());
    expect![["a retry, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn an_older_event_that_comes_while_a_younger_head_is_only_locked_goes_first_in_the_end() {
    let claims = "select restante.claim_events('somebody', array[''], 1, '30 s', '-infinity', 1000000, true)";
    for locks in ["select from restante.outbox where event_id = 'k5' for update", claims] {
        let world = World::new().await;
        world.receive("k5", "k", 5, json!({})).await;
        let open = left_open(&world, locks).await;

        world.receive("k4", "k", 4, json!({})).await;
        open.rollback().await.unwrap();
        world.work().await;

        assert_eq!(world.ledger().await, ["k4", "k5"], "{locks}");
    }
}

#[tokio::test]
async fn an_older_event_that_came_meanwhile_goes_before_one_that_is_handed_back() {
    let world = World::new().await;
    world.receive("k5", "k", 5, json!({})).await;
    let claimed = world.claim(1).await;
    world.receive("k4", "k", 4, json!({})).await;

    assert_eq!(hand_back(&world.pool, &[claimed[0].lease]).await.unwrap(), 1);
    world.work().await;

    assert_eq!(world.ledger().await, ["k4", "k5"]);
}

#[tokio::test]
async fn one_statement_pauses_resumes_and_calls_off_more_keys_than_the_server_has_room_for_locks() {
    let world = World::new().await;
    let events = "insert into restante.outbox_live (event_id, type, payload, key, lane)
                  select 'e' || n, 'test.ledger', '{}', 'k' || n, 'r' from generate_series(1, 14000) as n";
    world.sql(events).await;

    assert_eq!(world.value("select restante.pause('*')").await, "14000");
    assert_eq!(world.value("select restante.resume('*')").await, "14000");
    while world.settle_keys().await.0 > 0 {}
    let states = "select string_agg(distinct status, ' ') from restante.outbox";
    assert_eq!(world.value(states).await, "pending");

    assert_eq!(
        world.sql("update restante.outbox set status = 'cancelled' where finished_at = 'infinity'").await,
        14000
    );
    assert_eq!(
        world.sql("update restante.outbox set status = 'pending' where status = 'cancelled'").await,
        14000
    );
    while world.settle_keys().await.0 > 0 {}
    assert_eq!(world.value(states).await, "pending");
    let held = "select count(*) from pg_locks as l join pg_database as d on d.oid = l.database
                 where l.locktype = 'advisory' and d.datname = current_database()";
    assert_eq!(world.value(held).await, "0");
}

#[tokio::test]
async fn one_transaction_takes_a_thousand_locks_of_keys_at_most() {
    let world = World::new().await;
    let enqueue = "select count(restante.enqueue('test.ledger', '{}', key => 'k' || n)) from generate_series(1, 1500) as n";
    for statement in [enqueue, "select restante.pause('*')", "select restante.resume('*')"] {
        let mut tx = world.pool.begin().await.unwrap();
        sqlx::query(statement).execute(&mut *tx).await.unwrap();
        let held = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()";
        let held: i64 = sqlx::query_scalar(held).fetch_one(&mut *tx).await.unwrap();
        assert_eq!(held, 1000, "{statement}");
        tx.commit().await.unwrap();
    }
}

#[tokio::test]
async fn an_application_may_enqueue_into_more_keys_than_the_server_has_room_for_locks() {
    let world = World::new().await;
    let enqueue = "select count(restante.enqueue('test.ledger', '{}', key => 'k' || n)) from generate_series(1, 14000) as n";
    assert_eq!(world.value(enqueue).await, "14000");

    while world.settle_keys().await.0 > 0 {}

    assert_eq!(world.value("select string_agg(distinct status, ' ') from restante.outbox").await, "pending");
}

#[tokio::test]
async fn what_runs_does_not_come_back_before_its_pause_is_over() {
    let world = World::new().await;
    let keys = ["retry", "snooze", "back"];
    for key in keys {
        world.receive(key, key, 1, json!({})).await;
        world.receive(&format!("next of {key}"), key, 2, json!({})).await;
    }
    let claimed = world.claim(3).await;
    let lease = |name: &str| claimed.iter().find(|claimed| claimed.event.event_id == name).unwrap().lease;
    // An event whose insert is in progress when the pause begins.
    let late = "select restante.enqueue('test.ledger', '{}', key => 'late', event_id => 'late')";
    let open = left_open(&world, late).await;
    assert_eq!(world.value("select restante.pause('test.ledger')").await, "3");
    open.commit().await.unwrap();

    let wait = Duration::ZERO;
    let failure = Failure { fault: Fault::Retryable, kind: "handler", reason: "no".to_owned() };
    assert!(fail(&world.pool, lease("retry"), &Verdict::Retry { failure, wait }).await.unwrap());
    assert!(
        fail(&world.pool, lease("snooze"), &Verdict::Snooze { wait, reason: "too early".to_owned() })
            .await
            .unwrap()
    );
    assert_eq!(hand_back(&world.pool, &[lease("back")]).await.unwrap(), 1);

    // Checked before any claim, which would pause them too.
    let came_back = "select string_agg(distinct status, ' ') from restante.outbox where event_id in ('retry', 'snooze', 'back')";
    assert_eq!(world.value(came_back).await, "paused");
    assert_eq!(world.work().await, 0);
    let held = "select string_agg(distinct status || ' by ' || held_by, ', ') || ' ' || count(*) from restante.outbox";
    assert_eq!(world.value(held).await, "paused by test.ledger 7");
    assert_eq!(world.value("select restante.resume('test.ledger')").await, "7");
    assert_eq!(world.work().await, 7);
}

#[tokio::test]
async fn what_is_stored_while_the_end_of_its_pause_is_not_committed_goes_soon_after() {
    let world = World::new().await;
    world.value("select restante.pause('test.*')").await;
    world.value("select restante.pause('test.ledger')").await;
    let open = left_open(&world, "select restante.resume('test.*')").await;
    world.receive("late", "k", 1, json!({})).await;
    open.commit().await.unwrap();
    let held = "select string_agg(status || ' ' || coalesce(held_by, '-'), ', ') from restante.outbox";
    assert_eq!(world.value(held).await, "paused test.*");

    assert_eq!(let_held_go(&world.pool).await.unwrap(), 1);
    assert_eq!(world.value(held).await, "paused test.ledger", "another pause covers it");
    assert_eq!(let_held_go(&world.pool).await.unwrap(), 0);

    let open = left_open(&world, "select restante.resume('test.ledger')").await;
    world.receive("later", "k", 2, json!({})).await;
    open.commit().await.unwrap();
    assert_eq!(world.work().await, 1, "what was held before goes at once");
    assert_eq!(let_held_go(&world.pool).await.unwrap(), 1);
    assert_eq!(world.work().await, 1);
    assert_eq!(world.ledger().await, ["late", "later"]);
}

#[tokio::test]
async fn an_end_of_a_pause_leaves_alone_what_another_pause_or_a_person_holds() {
    let world = World::new().await;
    for (name, event_type) in
        [("idled", "session.status_idled"), ("created", "session.created"), ("ledger", "test.ledger")]
    {
        let body = json!({ "type": "event", "id": name, "data": { "type": event_type } });
        world.receive_body(&body).await;
    }
    world.sql("update restante.outbox set status = 'paused' where event_id = 'ledger'").await;
    world.value("select restante.pause('session.status*')").await;
    world.value("select restante.pause('session.*')").await;
    world.value("select restante.pause('*')").await;
    let held = "select coalesce(string_agg(event_id, ' ' order by event_id), 'none') from restante.outbox where status = 'paused'";

    world.value("select restante.resume('*')").await;
    assert_eq!(world.value(held).await, "created idled ledger");
    world.value("select restante.resume('session.*')").await;
    assert_eq!(world.value(held).await, "idled ledger");
    world.value("select restante.resume('session.status*')").await;
    assert_eq!(world.value(held).await, "ledger");
}

#[tokio::test]
async fn no_status_that_a_person_writes_makes_an_event_that_never_runs() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({})).await;
    world.receive("k2", "k", 2, json!({})).await;
    let lease = world.claim(1).await[0].lease;
    let failure = Failure { fault: Fault::Permanent, kind: "handler", reason: "no".to_owned() };
    assert!(fail(&world.pool, lease, &Verdict::Dead { failure, holds_key: true }).await.unwrap());

    world.sql("update restante.outbox set status = 'retry' where status = 'dead'").await;
    let for_ever = "update restante.outbox set run_at = 'infinity'";
    let error = sqlx::query(for_ever).execute(&world.pool).await.unwrap_err();
    assert!(error.to_string().contains("run_at must be a time"), "{error}");
    world.work().await;

    assert_eq!(world.ledger().await, ["k1", "k2"]);
}
