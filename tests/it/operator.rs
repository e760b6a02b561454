//! The operator's interface is an UPDATE of `status`. No such UPDATE can break a promise.

use expect_test::expect;
use restante::internals::outbox::outcome::Finish;
use restante::internals::outbox::settle::{Finished, finish};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::World;

#[tokio::test]
async fn a_dead_letter_replays_with_fresh_attempts() {
    let world = World::new().await;
    world.receive("a", "k", 0, json!({ "permanent": true })).await;
    world.work().await;
    world.sql("update restante.outbox set payload = '{\"data\":{}}' where event_id = 'a'").await;

    world.sql("update restante.outbox set status = 'pending' where status = 'dead'").await;
    expect![["a pending, attempt 0\n"]].assert_eq(&world.outbox().await);
    world.work().await;

    expect![["a done, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn a_finished_event_replays() {
    let world = World::new().await;
    world.receive("a", "k", 0, json!({})).await;
    world.work().await;

    world.sql("update restante.outbox set status = 'pending' where event_id = 'a'").await;
    world.work().await;

    expect![["a done, attempt 1\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.ledger().await, ["a", "a"]);
}

#[tokio::test]
async fn a_replay_onto_a_busy_key_waits_for_its_turn() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({})).await;
    world.work().await;
    world.receive("k2", "k", 2, json!({})).await;
    let claimed = world.claim(1).await;

    world.sql("update restante.outbox set status = 'pending' where event_id = 'k1'").await;
    expect![["k1 blocked, attempt 0\nk2 running, attempt 1\n"]].assert_eq(&world.outbox().await);

    let done = Finished { lease: claimed[0].lease, finish: Finish::Done, result: None, delivered: None };
    finish(&world.pool, &[done], None).await.unwrap();
    expect![["k1 pending, attempt 0\nk2 done, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn an_older_event_that_is_replayed_goes_before_a_younger_one_that_waits() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({ "permanent": true })).await;
    world.work().await;
    world.receive("k2", "k", 2, json!({})).await;

    world.sql("update restante.outbox set status = 'pending' where event_id = 'k1'").await;

    expect![["k1 pending, attempt 0\nk2 blocked, attempt 0\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn cancelling_a_running_event_takes_its_lease_and_lets_the_next_go() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({})).await;
    world.receive("k2", "k", 2, json!({})).await;
    let claimed = world.claim(1).await;

    world.sql("update restante.outbox set status = 'cancelled' where event_id = 'k1'").await;

    expect![["k1 cancelled, attempt 1\nk2 pending, attempt 0\n"]].assert_eq(&world.outbox().await);
    let done = Finished { lease: claimed[0].lease, finish: Finish::Done, result: None, delivered: None };
    assert!(finish(&world.pool, &[done], None).await.unwrap().finished.is_empty());
}

#[tokio::test]
async fn pausing_holds_an_event_and_lets_its_successors_pass() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({})).await;
    world.receive("k2", "k", 2, json!({})).await;

    world.sql("update restante.outbox set status = 'paused' where event_id = 'k1'").await;
    world.work().await;

    expect![["k1 paused, attempt 0\nk2 done, attempt 1\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn a_paused_type_holds_what_waits_and_what_comes_until_it_is_resumed() {
    let world = World::new().await;
    world.receive("a", "k", 1, json!({})).await;

    assert_eq!(world.value("select restante.pause('test.*')").await, "1");
    world.receive("b", "k", 2, json!({})).await;
    world.work().await;
    expect![["a paused, attempt 0\nb paused, attempt 0\n"]].assert_eq(&world.outbox().await);

    assert_eq!(world.value("select restante.resume('test.*')").await, "2");
    world.work().await;
    assert_eq!(world.ledger().await, ["a", "b"]);
}

#[tokio::test]
async fn what_only_a_worker_may_say_is_refused_with_a_hint() {
    let world = World::new().await;
    world.receive("a", "k", 1, json!({})).await;

    for (status, reason) in [
        ("running", "an event becomes running when a worker claims it"),
        ("blocked", "blocked is kept by Restante"),
        ("finished", "event_status_known"),
    ] {
        let update = format!("update restante.outbox set status = '{status}'");
        let error = sqlx::query(AssertSqlSafe(update)).execute(&world.pool).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{status}: {error}");
    }
    expect![["a pending, attempt 0\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn a_row_that_a_person_writes_is_found_by_what_its_state_says() {
    let world = World::new().await;
    world
        .sql(
            "insert into restante.outbox (event_id, type, payload, status, run_at) values
               ('ready', 't', '{}', 'pending', '-infinity'), ('later', 't', '{}', 'pending', now() + interval '1 hour'),
               ('again', 't', '{}', 'retry', now() + interval '1 hour'), ('held', 't', '{}', 'paused', '-infinity')",
        )
        .await;
    world.work().await;
    let left = "ready ignored, attempt 1\nlater pending, attempt 0\nagain retry, attempt 0\nheld paused, attempt 0\n";
    assert_eq!(world.outbox().await, left);

    world.sql("update restante.outbox set run_at = now() where status = 'retry'").await;
    world.sql("update restante.outbox set run_at = '-infinity' where event_id = 'later'").await;
    world.work().await;

    let left = "ready ignored, attempt 1\nlater ignored, attempt 1\nagain ignored, attempt 1\nheld paused, attempt 0\n";
    assert_eq!(world.outbox().await, left);
}

#[tokio::test]
async fn deleting_a_head_lets_the_next_go() {
    let world = World::new().await;
    world.receive("k1", "k", 1, json!({})).await;
    world.receive("k2", "k", 2, json!({})).await;

    world.sql("delete from restante.outbox where event_id = 'k1'").await;

    expect![["k2 pending, attempt 0\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn deleting_the_heads_of_many_keys_and_of_each_subscriber_lets_every_next_one_go() {
    let world = World::new().await;
    world.sql("insert into restante.subscription (subscriber, type) values ('mirror', '*')").await;
    for key in ["j", "k", "l"] {
        world.receive(&format!("{key}1"), key, 1, json!({})).await;
        world.receive(&format!("{key}2"), key, 2, json!({})).await;
    }

    assert_eq!(world.sql("delete from restante.outbox where status = 'pending'").await, 6);

    let next = "select string_agg(event_id || ' ' || status, ', ' order by event_id, subscriber) from restante.outbox";
    let pending = ["j2 pending, j2 pending", "k2 pending, k2 pending", "l2 pending, l2 pending"].join(", ");
    assert_eq!(world.value(next).await, pending);
}

#[tokio::test]
async fn a_key_that_lost_its_head_behind_our_back_is_healed_by_a_sweep() {
    let world = World::new().await;
    for key in ["j", "k"] {
        world.receive(&format!("{key}1"), key, 1, json!({})).await;
        world.receive(&format!("{key}2"), key, 2, json!({})).await;
    }
    world.sql("delete from restante.outbox_live where event_id = 'k1'").await;

    let swept = restante::internals::outbox::upkeep::sweep(&world.pool, None).await.unwrap();

    assert_eq!((swept.healed, swept.next_after), (1, None));
    expect![["j1 pending, attempt 0\nj2 blocked, attempt 0\nk2 pending, attempt 0\n"]]
        .assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn an_application_enqueues_in_its_own_transaction() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("select restante.enqueue('test.ledger', '{}', key => 'k', event_id => 'mine')")
        .execute(&mut *tx)
        .await
        .unwrap();
    world.work().await;
    assert!(world.outbox().await.is_empty(), "not before it commits");

    tx.commit().await.unwrap();
    world.work().await;

    expect![["mine done, attempt 1\n"]].assert_eq(&world.outbox().await);
    let again = "select restante.enqueue('test.ledger', '{}', event_id => 'mine')";
    assert_eq!(world.value(again).await, "null", "an event_id is stored once");
}

#[tokio::test]
async fn a_transaction_that_can_not_see_the_head_of_a_key_leaves_its_event_to_the_next_claim() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("set transaction isolation level repeatable read").execute(&mut *tx).await.unwrap();
    sqlx::query("select count(*) from restante.outbox").execute(&mut *tx).await.unwrap();
    world.receive("head", "k", 1, json!({})).await;
    for (event_id, key) in [("mine", "k"), ("alone", "m")] {
        let enqueue = "select restante.enqueue('test.ledger', '{}', key => $1, event_id => $2)";
        sqlx::query(enqueue).bind(key).bind(event_id).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();

    assert_eq!(world.settle_keys().await, (2, 0));

    expect![["head pending, attempt 0\nmine blocked, attempt 0\nalone pending, attempt 0\n"]]
        .assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn a_scheduled_event_runs_when_its_time_has_come() {
    let world = World::new().await;
    world.sql("select restante.enqueue('test.ledger', '{}', event_id => 'later', run_at => now() + interval '1 hour')")
        .await;
    assert_eq!(world.work().await, 0);

    world.sql("update restante.outbox set run_at = now() where event_id = 'later'").await;

    assert_eq!(world.work().await, 1);
}

#[tokio::test]
async fn a_mistake_in_a_call_is_an_error_that_names_the_argument() {
    let world = World::new().await;
    for (call, reason) in [
        ("restante.enqueue('', '{}')", "type is missing"),
        ("restante.enqueue('x', null)", "payload is missing"),
        ("restante.enqueue('x', '{}', key => '')", "key must have"),
        ("restante.enqueue('x', '{}', run_at => 'infinity')", "run_at must be a time"),
        (
            "restante.enqueue('x', '{}', run_at => '0001-12-31 BC')",
            "run_at must be a time of the years 1 to 9999",
        ),
        (
            "restante.enqueue('x', '{}', created_at => '290000-01-01')",
            "created_at must be a time of the years 1 to 9999",
        ),
        (
            "restante.enqueue('x', '{}', created_at => '10000-01-01 00:00Z')",
            "created_at must be a time of the years",
        ),
        (
            "restante.enqueue('x', '{}', created_at => '-infinity')",
            "created_at must be a time of the years 1 to 9999",
        ),
        ("restante.enqueue(repeat('x', 513), '{}')", "type must have 1 to 512 bytes"),
        ("restante.enqueue('x', '{}', key => repeat('é', 257))", "key must have 1 to 512 bytes"),
        ("restante.enqueue('x', '{}', event_id => repeat('€', 1000))", "event_id must have 1 to 512 bytes"),
        ("restante.enqueue('x', '{}', event_id => '')", "event_id must have 1 to 512 bytes"),
        (
            "restante.enqueue('x', '{}', workspace_id => repeat('x', 9999))",
            "workspace_id must have 1 to 512 bytes",
        ),
        ("restante.resume('x')", "the type x is not paused"),
    ] {
        let query = format!("select {call}");
        let error = sqlx::query(AssertSqlSafe(query)).execute(&world.pool).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{call}: {error}");
    }
}

#[tokio::test]
async fn an_application_cannot_say_what_the_api_or_the_engine_says() {
    let world = World::new().await;
    let types = [
        "session.deleted",
        "vault.created",
        "vault_credential.x",
        "agent.updated",
        "deployment.x",
        "deployment_run.x",
        "environment.x",
        "memory_store.x",
        "user_profile.x",
        "external_key.failed",
        "external_storage.failed",
        "batch.poll",
        "batch.reconcile",
        "batch.ended",
        "message_batch.ended",
        "unreadable",
        "session.",
    ];
    let identifiers =
        ["batch.poll:msgbatch_1", "batch.ended:msgbatch_1", "batch.reconcile", "batch.of_next_year", "whe_1"];
    let of_type = |name: &str| format!("restante.enqueue('{name}', '{{}}')");
    let of_identifier = |name: &str| format!("restante.enqueue('x', '{{}}', event_id => '{name}')");
    for (argument, call) in types
        .map(|name| ("type", of_type(name)))
        .into_iter()
        .chain(identifiers.map(|name| ("event_id", of_identifier(name))))
    {
        let error =
            sqlx::query(AssertSqlSafe(format!("select {call}"))).execute(&world.pool).await.unwrap_err();
        assert!(
            error.to_string().contains(&format!("restante.enqueue: {argument} is reserved")),
            "{call}: {error}"
        );
    }
    for mine in [
        "order.placed",
        "session",
        "sessions.closed",
        "my.session.deleted",
        "batches.made",
        "batch_of_mail.sent",
    ] {
        assert_ne!(world.value(&of_type(mine)).await, "null", "{mine}");
    }
    for mine in ["order_1", "batch", "batch-1", "my_whe_1"] {
        assert_ne!(world.value(&of_identifier(mine)).await, "null", "{mine}");
    }
}

#[tokio::test]
async fn what_an_application_may_just_enqueue_is_stored_and_run() {
    let world = World::new().await;
    let calls = [
        "restante.enqueue('test.ledger', '{}', event_id => 'oldest', created_at => '0001-01-01 00:00Z', run_at => '0001-01-01 00:00Z')",
        "restante.enqueue('test.ledger', '{}', event_id => 'youngest', created_at => '9999-12-31 23:59:59.999999Z')",
        "restante.enqueue('test.ledger', '{}', event_id => repeat('€', 170), key => repeat('€', 170))",
    ];
    for call in calls {
        assert_ne!(world.value(call).await, "null", "{call}");
    }

    world.work().await;

    assert_eq!(world.value("select string_agg(distinct status, ' ') from restante.outbox").await, "done");
    assert_eq!(world.ledger().await.len(), calls.len());
}

#[tokio::test]
async fn every_time_of_an_event_lies_in_years_that_every_client_reads_whoever_stores_it() {
    let world = World::new().await;
    for (event_id, time) in
        [("first", "0001-01-01 00:00Z"), ("last", "9999-12-31 23:59:59Z"), ("now", "2026-11-01 12:00Z")]
    {
        let enqueue = "select restante.enqueue('test.ledger', '{}', event_id => 'sql ' || $1, key => 'k', \
             created_at => $2::timestamptz, run_at => $2::timestamptz)";
        let insert_event = "select restante.insert_event($1, 'test.ledger', 'k', null, $2::timestamptz, '{}', null, 1, null, 'webhook')";
        let insert_events = "select restante.insert_events(array['both ' || $1], array['test.ledger'], array['k'], array[null], \
             array[$2::timestamptz], array['{}'], array[null::bytea], array[1::bigint], 'webhook')";
        for call in [enqueue, insert_event, insert_events] {
            sqlx::query(call).bind(event_id).bind(time).execute(&world.pool).await.unwrap();
        }
    }
    world.value("select restante.pause(key => 'k')").await;

    let outside = "select coalesce(string_agg(event_id || ' at ' || created_at || ' for ' || run_at, ', '), 'none') from restante.outbox
        where not created_at between case when type = 'restante.paused_key' then timestamptz '0001-01-02 11:00Z'
                                          else timestamptz '0001-01-02 12:00Z' end and timestamptz '9999-12-30 12:00Z'
           or isfinite(run_at) and not run_at between timestamptz '0001-01-02 12:00Z' and timestamptz '9999-12-30 12:00Z'";
    assert_eq!(world.value(outside).await, "none");
    let far = "select string_agg(distinct extract(year from created_at at time zone z.name)::text, ' ')
                 from restante.outbox cross join pg_timezone_names as z where created_at <> '2026-11-01 12:00Z'";
    assert_eq!(world.value(far).await, "1 9999");
    // What holds the key is older than the oldest of its events, so that none of them runs.
    assert_eq!(world.work().await, 0);
    world.value("select restante.resume(key => 'k')").await;
}
