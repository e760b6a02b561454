//! Finished events: whole weeks are dropped, and of others goes what has expired.

use restante::internals::outbox::retention::{Done, retain_portion};
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use super::{WEEK, finished, is_there, keep_events, left_of, make_week, old_week, retain};
use crate::support::World;

#[tokio::test]
async fn nothing_finished_goes_before_somebody_says_so() {
    let world = World::new().await;
    old_week(&world).await;
    finished(&world, "old", 10, "test.ledger", "done", "2025-10-01").await;
    finished(&world, "older", 10, "test.ledger", "cancelled", "2001-01-01").await;

    retain(&world).await;

    assert_eq!((left_of(&world, "old").await, left_of(&world, "older").await), ("10".into(), "10".into()));
    assert_eq!(world.value("select count(*) from restante.operation").await, "0");
}

#[tokio::test]
async fn a_week_of_which_nothing_has_to_stay_is_dropped_whole() {
    let world = World::new().await;
    old_week(&world).await;
    make_week(&world, "outbox_2025w41", "2025-10-06 00:00+00", "2025-10-13 00:00+00").await;
    finished(&world, "all", 100, "test.ledger", "done", "2025-10-01").await;
    finished(&world, "some", 100, "test.ledger", "ignored", "2025-10-07").await;
    world.receive("new", "k", 0, json!({})).await;
    world.work().await;
    keep_events(&world, "90 days").await;
    // A type that is kept for longer, and of which there is nothing in these weeks, is no reason to delete row by row.
    world.sql("insert into restante.retention values ('event', 'done', 'order.*', null)").await;

    let run = retain(&world).await;

    assert!(!is_there(&world, WEEK).await && !is_there(&world, "outbox_2025w41").await);
    assert_eq!((run.done, run.weeks), (Done::Run, 2));
    assert_eq!(world.outbox().await, "new done, attempt 1\n");
    let noted = "select string_agg(what || ' ' || how_many, ', ') from restante.operation where what = 'retention' and arguments ? 'keep' is not true";
    assert_eq!(world.value(noted).await, format!("retention {}", run.rows));
}

#[tokio::test]
async fn a_week_with_something_that_stays_loses_only_what_has_expired() {
    let world = World::new().await;
    old_week(&world).await;
    finished(&world, "short", 5000, "test.ledger", "done", "2025-10-01").await;
    finished(&world, "long", 30, "order.placed", "done", "2025-10-01").await;
    finished(&world, "cancelled", 20, "test.ledger", "cancelled", "2025-10-01").await;
    keep_events(&world, "90 days").await;
    world
        .sql(
            "insert into restante.retention values
               ('event', 'done', 'order.*', '1 day'::interval * 7), ('event', 'done', 'order.placed', '10 years'), ('event', 'done', 'ord*', null)",
        )
        .await;
    world
        .sql("update restante.retention set keep = '10 years' where what = 'event' and status = 'cancelled'")
        .await;

    let run = retain(&world).await;

    assert!(is_there(&world, WEEK).await);
    assert_eq!((run.rows, run.weeks), (5000, 0));
    assert_eq!(left_of(&world, "short").await, "0");
    assert_eq!(left_of(&world, "long").await, "30", "the pattern that is the type itself counts");
    assert_eq!(left_of(&world, "cancelled").await, "20", "each status has a time of its own");
    let noted =
        format!("select arguments from restante.operation where how_many = 5000 and arguments ? '{WEEK}'");
    assert_eq!(world.value(&noted).await, format!("{{\"{WEEK}\": 5000}}"));

    // Once nothing of it stays, it is dropped as any other.
    world.sql("delete from restante.retention where what = 'event' and type <> '*'").await;
    keep_events(&world, "90 days").await;
    retain(&world).await;
    assert!(!is_there(&world, WEEK).await);
}

#[tokio::test]
async fn what_is_not_finished_stays_however_old_it_is_and_so_do_its_failures() {
    let world = World::new().await;
    world.receive("dead", "k", 0, json!({ "permanent": true })).await;
    world.receive("waits", "", 1, json!({ "fail_until_attempt": 9 })).await;
    world.work().await;
    world.sql("update restante.outbox_live set received_at = '2001-01-01', created_at = '2001-01-01', started_at = '2001-01-01'").await;
    world.sql("update restante.failure set failed_at = '2001-01-01'").await;
    world.sql("insert into restante.failure (outbox_id, event_id, type, attempt, failed_at, outcome, kind, error) values (0, 'gone', 'x', 1, '2001-01-01', 'crashed', 'crash', 'x')").await;
    world.sql("update restante.outbox_seen set seen_at = '2001-01-01'").await;
    world.sql("update restante.retention set keep = '45 days'").await;

    retain(&world).await;

    assert_eq!(world.outbox().await, "dead dead, attempt 1\nwaits retry, attempt 1\n");
    let failures = "select string_agg(event_id, ' ' order by event_id) from restante.failure";
    assert_eq!(world.value(failures).await, "dead waits");
    assert_eq!(world.receive("dead", "k", 0, json!({ "permanent": true })).await, 0, "still known");
}

#[tokio::test]
async fn an_event_whose_week_is_gone_is_still_a_duplicate() {
    let world = World::new().await;
    old_week(&world).await;
    world.receive("once", "k", 0, json!({})).await;
    world.work().await;
    world.sql("update restante.outbox set finished_at = '2025-10-01'").await;
    keep_events(&world, "30 days").await;

    retain(&world).await;

    assert!(!is_there(&world, WEEK).await);
    assert_eq!(world.outbox().await, "");
    assert_eq!(world.receive("once", "k", 0, json!({})).await, 0);
    assert_eq!((world.work().await, world.ledger().await), (0, vec!["once".to_owned()]));
}

#[tokio::test]
async fn an_identifier_stays_as_long_as_its_event_and_for_its_own_time() {
    let world = World::new().await;
    old_week(&world).await;
    finished(&world, "kept", 3, "test.ledger", "done", "2025-10-01").await;
    let seen = "select coalesce(string_agg(event_id, ' ' order by event_id), '') from restante.outbox_seen";
    world
        .sql("insert into restante.outbox_seen (event_id, seen_at) values ('lost', '2020-01-01'), ('new', now() - interval '44 days')")
        .await;
    world.sql("update restante.retention set keep = '45 days' where what = 'seen'").await;

    retain(&world).await;
    assert_eq!(world.value(seen).await, "kept1 kept2 kept3 new");

    keep_events(&world, "30 days").await;
    retain(&world).await;
    world.sql("update restante.retention_work set due_at = now() where what = 'seen'").await;
    retain(&world).await;
    assert_eq!(world.value(seen).await, "new");
}

#[tokio::test]
async fn who_reads_the_outbox_delays_the_drop_and_nobody_waits_behind_it() {
    let world = World::new().await;
    old_week(&world).await;
    finished(&world, "all", 10, "test.ledger", "done", "2025-10-01").await;
    keep_events(&world, "30 days").await;
    let mut reader = PgConnection::connect(world.url.expose_secret()).await.unwrap();
    reader.execute("begin").await.unwrap();
    reader.execute("select count(*) from restante.outbox").await.unwrap();

    // Every twentieth try waits for the lock, and gives up.
    let pending = format!("select tries >= 20 from restante.retention_work where relation = '{WEEK}'");
    while world.value(&pending).await != "true" {
        retain_portion(&world.pool).await.unwrap();
        world
            .sql("update restante.retention_work set due_at = clock_timestamp() where step = 'detaching'")
            .await;
        // A statement behind it in the queue of the lock would never end if the try did not.
        world.receive("new", "k", 0, json!({})).await;
        world.work().await;
    }

    let shown = format!(
        "select concat_ws(' ', step, pending_since is not null, goes_at < now()) from restante.retention_overview where relation = '{WEEK}'"
    );
    assert_eq!(world.value(&shown).await, "detaching t t");
    assert!(is_there(&world, WEEK).await);
    reader.execute("commit").await.unwrap();
    world.sql("update restante.retention_work set due_at = clock_timestamp() where step = 'detaching'").await;
    retain(&world).await;
    assert!(!is_there(&world, WEEK).await);
}

#[tokio::test]
async fn a_session_behind_the_lock_of_a_drop_waits_for_a_tenth_of_a_second_at_most() {
    let world = World::new().await;
    // A timing is no test: what bounds the wait is the setting of the function that waits, and the locks it does not wait for.
    let bounded =
        "select proconfig @> array['lock_timeout=100ms'] from pg_proc where proname = 'retain_portion'";
    assert_eq!(world.value(bounded).await, "true");
}

#[tokio::test]
async fn a_row_that_somebody_has_locked_is_left_for_the_next_round() {
    let world = World::new().await;
    old_week(&world).await;
    finished(&world, "held", 2, "test.ledger", "done", "2025-10-01").await;
    finished(&world, "stays", 1, "order.placed", "done", "2025-10-01").await;
    keep_events(&world, "30 days").await;
    world.sql("insert into restante.retention values ('event', 'done', 'order.*', null)").await;
    let mut person = PgConnection::connect(world.url.expose_secret()).await.unwrap();
    person.execute("begin").await.unwrap();
    person.execute("select from restante.outbox where event_id = 'held1' for update").await.unwrap();

    retain(&world).await;
    assert_eq!(left_of(&world, "held").await, "1");

    person.execute("rollback").await.unwrap();
    world.sql("update restante.retention_work set due_at = now()").await;
    retain(&world).await;
    assert_eq!(left_of(&world, "held").await, "0");
}
