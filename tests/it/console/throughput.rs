//! What was finished in each hour, and how long it waited and ran.

use restante::internals::outbox::upkeep::add_up_hour;

use super::{lines, refused};
use crate::support::World;

/// Twenty events of two hours, of which the nth waited n seconds and ran n minutes, one that was ignored, and three failures.
async fn two_hours() -> World {
    let world = World::new().await;
    world
        .sql(
            "insert into restante.outbox (event_id, type, payload, status, received_at, started_at, finished_at)
             select 'e' || n, 'test.ledger', '{}', 'done', t.received_at, t.received_at + n * interval '1 second',
                    t.received_at + n * interval '1 second' + n * interval '1 minute'
               from generate_series(1, 20) as n
              cross join lateral (select date_trunc('hour', now(), 'UTC') - (3 + n % 2) * interval '1 hour' as received_at) as t",
        )
        .await;
    world
        .sql(
            "insert into restante.outbox (event_id, type, payload, status, received_at, finished_at)
             select 'i', 'test.other', '{}', 'ignored', t.at, t.at
               from (select date_trunc('hour', now(), 'UTC') - interval '4 hours' as at) as t",
        )
        .await;
    world
        .sql(
            "insert into restante.failure (outbox_id, event_id, type, attempt, failed_at, outcome, kind, error)
             select n, 'f', case n when 3 then 'test.failing' else 'test.ledger' end, 1,
                    date_trunc('hour', now(), 'UTC') - interval '4 hours', 'retryable', 'handler', 'no'
               from generate_series(1, 3) as n",
        )
        .await;
    world
}

const SHOWN: &str =
    "select round(extract(epoch from max(hour) over () - hour) / 3600) as hours_before, type, done, ignored,
                            failed_attempts, waited_p50, waited_p95, ran_p50, ran_p95 from ";

const EXPECTED: &str = r#"{"hours_before":0,"type":"test.ledger","done":10,"ignored":0,"failed_attempts":0,"waited_p50":"00:00:10","waited_p95":"00:00:20","ran_p50":"00:10:00","ran_p95":"00:20:00"}
{"hours_before":1,"type":"test.ledger","done":10,"ignored":0,"failed_attempts":2,"waited_p50":"00:00:09","waited_p95":"00:00:19","ran_p50":"00:09:00","ran_p95":"00:19:00"}
{"hours_before":1,"type":"test.failing","done":0,"ignored":0,"failed_attempts":1,"waited_p50":null,"waited_p95":null,"ran_p50":null,"ran_p95":null}
{"hours_before":1,"type":"test.other","done":0,"ignored":1,"failed_attempts":0,"waited_p50":null,"waited_p95":null,"ran_p50":null,"ran_p95":null}
"#;

#[tokio::test]
async fn the_view_says_the_same_before_and_after_workers_have_added_up_the_hours() {
    let world = two_hours().await;
    let view = format!("{SHOWN} restante.outbox_throughput");
    assert_eq!(lines(&world, &view).await, EXPECTED);

    while add_up_hour(&world.pool).await.unwrap() {}
    assert_eq!(lines(&world, &view).await, EXPECTED);

    // It reads what was added up, and not the history.
    world.sql("delete from restante.outbox").await;
    world.sql("delete from restante.failure").await;
    assert_eq!(lines(&world, &view).await, EXPECTED);
}

#[tokio::test]
async fn the_hour_that_goes_on_is_read_from_the_history() {
    let world = World::new().await;
    while add_up_hour(&world.pool).await.unwrap() {}
    world.receive("a", "", 0, serde_json::json!({})).await;
    world.work().await;

    assert_eq!(
        world.value("select sum(done) from restante.outbox_throughput where waited_p50 is not null").await,
        "1"
    );
}

#[tokio::test]
async fn an_hour_is_added_up_once_and_not_before_it_is_over() {
    let world = two_hours().await;
    let mut hours = 0;
    while add_up_hour(&world.pool).await.unwrap() {
        hours += 1;
    }
    // An hour counts as over five minutes after its end, so it is 23 or 24 of the last day.
    assert!((23..=25).contains(&hours), "{hours}");
    assert!(!add_up_hour(&world.pool).await.unwrap());
    let ahead = "select count(*) from restante.throughput_known where up_to + interval '5 minutes' > clock_timestamp()";
    assert_eq!(world.value(ahead).await, "0");
}

#[tokio::test]
async fn a_time_is_asked_for_by_its_hours_and_one_without_a_beginning_is_refused() {
    let world = two_hours().await;
    // From the middle of the earlier hour to the beginning of the later one, whatever time it is.
    let later = "(select max(received_at) from restante.outbox)";
    let earlier = format!("restante.throughput({later} - interval '30 minutes', {later})");

    assert_eq!(
        world.value(&format!("select count(distinct hour) || ' ' || sum(done) from {earlier}")).await,
        "1 10"
    );
    assert!(refused(&world, "select * from restante.throughput(null)").await.contains("since is missing"));
}

#[tokio::test]
async fn every_week_of_the_history_finds_what_was_finished_at_a_time() {
    let world = World::new().await;
    let without = "select count(*) from pg_inherits as i
       where i.inhparent = 'restante.outbox'::regclass and i.inhrelid <> 'restante.outbox_live'::regclass
         and not exists (select from pg_index as x join pg_class as c on c.oid = x.indexrelid join pg_am as a on a.oid = c.relam
                          where x.indrelid = i.inhrelid and a.amname = 'brin')";
    assert_eq!(world.value(without).await, "0");
}
