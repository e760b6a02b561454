//! What came between two times.

use serde_json::json;

use crate::support::World;

#[tokio::test]
async fn events_are_found_by_the_time_of_their_receipt_finished_or_not() {
    let world = World::new().await;
    // An event each minute for five hours, every third one finished.
    world
        .sql(
            "insert into restante.outbox (event_id, type, payload, received_at, status, finished_at)
             select 'e' || n, 'test.ledger', '{}', t.at, case when n % 3 = 0 then 'done' else 'pending' end,
                    case when n % 3 = 0 then t.at + interval '1 second' else 'infinity' end
               from generate_series(1, 300) as n
              cross join lateral (select now() - interval '300 minutes' + n * interval '1 minute' - interval '30 seconds' as at) as t
              order by n",
        )
        .await;

    let between = |since: &str, until: &str| {
        format!(
            "select coalesce(string_agg(event_id, ' ' order by id), 'none') from restante.received({since}, {until})"
        )
    };
    for (since, until, events) in [
        ("now() - interval '3 minutes'", "null", "e298 e299 e300"),
        ("now() - interval '300 minutes'", "now() - interval '298 minutes'", "e1 e2"),
        ("now() - interval '150 minutes'", "now() - interval '147 minutes'", "e151 e152 e153"),
        ("now() - interval '2 days'", "now() - interval '1 day'", "none"),
        ("now() + interval '1 day'", "null", "none"),
    ] {
        assert_eq!(world.value(&between(since, until)).await, events, "{since} to {until}");
    }
    let count = "select count(*) from restante.received(now() - interval '1 day')";
    assert_eq!(world.value(count).await, "300");
}

#[tokio::test]
async fn a_number_that_was_given_out_a_moment_too_late_hides_no_event() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.receive(name, "", 0, json!({})).await;
    }
    // The number of b is between, and its time after c's.
    world.sql("update restante.outbox_live set received_at = received_at + interval '20 seconds' where event_id = 'b'").await;

    let found = "select string_agg(event_id, ' ' order by event_id)
                   from restante.received((select received_at from restante.outbox where event_id = 'b'))";
    assert_eq!(world.value(found).await, "b");
}

#[tokio::test]
async fn nothing_was_received_in_an_empty_outbox() {
    let world = World::new().await;
    assert_eq!(
        world.value("select count(*) from restante.received(now() - interval '1 day', now())").await,
        "0"
    );
}
