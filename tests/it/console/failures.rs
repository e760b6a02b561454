//! What fails, by the kind of failure.

use std::time::Duration;

use expect_test::expect;
use restante::internals::outbox::outcome::{Failure, Fault, Verdict};
use restante::internals::outbox::settle::fail;
use serde_json::json;

use super::lines;
use crate::support::World;

#[tokio::test]
async fn failures_count_by_kind_with_the_events_that_wait_for_them() {
    let world = World::new().await;
    let long = Duration::from_secs(600);
    let failed = |kind, reason: &str| Failure { fault: Fault::Retryable, kind, reason: reason.to_owned() };
    for (event_id, verdict) in [
        ("r1", Verdict::Retry { failure: failed("database", "no such table"), wait: long }),
        ("r2", Verdict::Retry { failure: failed("database", "no such table"), wait: long }),
        (
            "d1",
            Verdict::Dead { failure: failed("payload", "id is missing (request req_1)"), holds_key: false },
        ),
        ("t1", Verdict::Trouble { wait: long, kind: "account", reason: "401 invalid x-api-key".to_owned() }),
        ("s1", Verdict::Snooze { wait: long, reason: "too early".to_owned() }),
    ] {
        world.receive(event_id, "", 0, json!({})).await;
        let claimed = world.claim(1).await;
        assert!(fail(&world.pool, claimed[0].lease, &verdict).await.unwrap());
    }
    world
        .sql(
            "insert into restante.failure (outbox_id, event_id, type, attempt, failed_at, outcome, kind, error)
             values (0, 'x', 'test.ledger', 1, now() - interval '2 hours', 'crashed', 'crash', 'its worker vanished'),
                    (0, 'x', 'test.ledger', 1, now() - interval '2 days', 'crashed', 'crash', 'its worker vanished')",
        )
        .await;

    let shown =
        "select kind, type, failed_last_hour, failed_last_day, events_retrying, events_dead, for_example
                   from restante.failures_by_kind order by kind";
    expect![[r#"
        {"kind":"account","type":"test.ledger","failed_last_hour":0,"failed_last_day":0,"events_retrying":1,"events_dead":0,"for_example":"401 invalid x-api-key"}
        {"kind":"crash","type":"test.ledger","failed_last_hour":0,"failed_last_day":1,"events_retrying":0,"events_dead":0,"for_example":"its worker vanished"}
        {"kind":"database","type":"test.ledger","failed_last_hour":2,"failed_last_day":2,"events_retrying":2,"events_dead":0,"for_example":"no such table"}
        {"kind":"payload","type":"test.ledger","failed_last_hour":1,"failed_last_day":1,"events_retrying":0,"events_dead":1,"for_example":"id is missing"}
    "#]]
    .assert_eq(&lines(&world, shown).await);
}
