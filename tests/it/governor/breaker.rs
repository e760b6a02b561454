//! The breaker in Postgres: one worker opens it for all, one at a time tries, and nobody's transaction or crash holds it open.

use restante::internals::outbox::breaker::{self, Ended, Opened, Probe};
use serde_json::json;

use crate::support::World;

const SESSIONS: (&str, &str) = ("anthropic", "sessions");
const REFUSED: (&str, &str) = ("account", "401 authentication_error");
/// Events of sessions, of the account and of none, for the handlers of the types.
const WAITS: &str = r"^(?:anthropic|)//session\..*$";

/// A world with events about two sessions, one behind the other, and one that needs no API.
async fn with_events() -> World {
    let world = World::new().await;
    for (event_id, event_type) in [("a1", "session.updated"), ("a2", "session.updated")] {
        let body = json!({ "type": "event", "id": event_id, "data": { "type": event_type, "id": "sesn_a" } });
        world.receive_body(&body).await;
    }
    world.receive("behind", "sesn_a", 0, json!({})).await;
    world.receive("apart", "", 0, json!({})).await;
    world
}

async fn open(world: &World) {
    assert_eq!(breaker::open(&world.pool, SESSIONS, REFUSED, 0).await.unwrap(), Opened::First);
    world.sql("update restante.api_breaker set probed_at = '-infinity'").await;
}

async fn probe(world: &World, owner: &str) -> Option<Probe> {
    world.sql("update restante.api_breaker set probed_at = '-infinity'").await;
    breaker::lease_probe(&world.pool, owner, SESSIONS, WAITS).await.unwrap()
}

async fn end(world: &World, probe: Probe, is_answered: bool) -> Ended {
    breaker::end_probe(&world.pool, SESSIONS, probe.token, is_answered, None).await.unwrap()
}

async fn claimed(world: &World, but_for: &[i64]) -> String {
    let claimed = format!(
        "select coalesce(string_agg(event_id, ' ' order by event_id), '-') from restante.claim_except(
           'somebody', array[''], 10, '30 s', '-infinity', 1000000, true, '{WAITS}', array{but_for:?}::bigint[])"
    );
    world.value(&claimed).await
}

#[tokio::test]
async fn one_worker_says_that_a_part_does_not_answer_and_old_news_changes_nothing() {
    let world = World::new().await;
    let opened = async |part, generation| {
        breaker::open(&world.pool, ("anthropic", part), REFUSED, generation).await.unwrap()
    };
    assert_eq!(opened("sessions", 0).await, Opened::First);
    assert_eq!(opened("sessions", 0).await, Opened::Not, "known");
    assert_eq!(opened("batches", 0).await, Opened::Not, "it does not know yet that sessions do not answer");
    assert_eq!(opened("batches", 1).await, Opened::Joined);
    assert_eq!(
        world.value("select parts::text || ' ' || times_opened from restante.api_breaker").await,
        "{sessions,batches} 1"
    );
    let [row] = &breaker::of(&world.pool, &["anthropic".to_owned(), "other".to_owned()]).await.unwrap()[..]
    else {
        panic!("one breaker")
    };
    assert_eq!((row.generation, row.said.as_str()), (2, REFUSED.1));
    assert!(row.open_for_seconds.is_some());
}

#[tokio::test]
async fn a_claim_leaves_out_what_waits_and_takes_what_needs_no_api_in_the_order_of_its_key() {
    let world = with_events().await;
    world.may_leave_running();
    assert_eq!(claimed(&world, &[]).await, "apart");
    assert_eq!(claimed(&world, &[]).await, "-", "`behind` waits for the older events of its key");
    let first: i64 =
        world.value("select id from restante.outbox where event_id = 'a1'").await.parse().unwrap();
    assert_eq!(claimed(&world, &[first]).await, "a1", "the one that is tried");
    let of_none = format!("select restante.need_name(null, '', 'session.updated') ~ '{WAITS}'");
    assert_eq!(world.value(&of_none).await, "true", "of no account is of the default one");
}

#[tokio::test]
async fn one_at_a_time_tries_and_the_answer_releases_what_went_into_trouble() {
    let world = with_events().await;
    open(&world).await;
    // The head went into trouble before.
    world
        .sql("update restante.outbox_live set status = 'retry', lane = 'l', outcome = 'trouble', kind = 'account',
                     run_at = clock_timestamp() + interval '10 minutes', lease_token = lease_token + 1 where event_id = 'a1'")
        .await;
    let waits = "select count(*) from restante.outbox_live where lane = 'l' and run_at > clock_timestamp()";
    let first = probe(&world, "one").await.unwrap();
    assert_eq!(
        world.value("select id from restante.outbox where event_id = 'a1'").await,
        first.event.to_string()
    );
    assert_eq!(world.value(waits).await, "0", "it is due");
    assert_eq!(probe(&world, "two").await, None, "it is the other's turn");
    assert_eq!(end(&world, first, false).await, Ended::Over);

    let second = probe(&world, "two").await.unwrap();
    assert!(second.token > first.token);
    world.sql("update restante.outbox_live set run_at = clock_timestamp() + interval '10 minutes' where event_id = 'a1'").await;
    assert_eq!(end(&world, second, true).await, Ended::Closed);
    assert_eq!(probe(&world, "two").await, None, "it is closed");
    assert_eq!(
        world.value("select opened_at is null and parts = '{}' from restante.api_breaker").await,
        "true"
    );
    let names = ["anthropic".to_owned()];
    let mut connection = world.pool.acquire().await.unwrap();
    assert_eq!(breaker::release(&mut connection, "anthropic", &names).await.unwrap(), 1);
    assert_eq!(world.value(waits).await, "0");
    assert_eq!(breaker::release(&mut connection, "anthropic", &names).await.unwrap(), 0, "once");
}

#[tokio::test]
async fn the_try_of_a_worker_that_vanished_runs_out_and_its_late_end_changes_nothing() {
    let world = with_events().await;
    open(&world).await;
    let vanished = probe(&world, "vanished").await.unwrap();
    assert!(breaker::keep_probe(&world.pool, "anthropic", vanished.token).await.unwrap());
    assert_eq!(probe(&world, "next").await, None);

    world.sql("update restante.api_breaker set probe_until = clock_timestamp()").await;
    let next = probe(&world, "next").await.unwrap();
    assert!(!breaker::keep_probe(&world.pool, "anthropic", vanished.token).await.unwrap());
    for is_answered in [false, true] {
        assert_eq!(end(&world, vanished, is_answered).await, Ended::Over);
    }
    let stands = "select probe_owner || ' ' || (probe_until > clock_timestamp()) || ' ' || (opened_at is not null) from restante.api_breaker";
    assert_eq!(world.value(stands).await, "next true true");
    assert_eq!(end(&world, next, true).await, Ended::Closed);
}

#[tokio::test]
async fn an_open_transaction_of_a_person_makes_no_worker_wait() {
    let world = with_events().await;
    open(&world).await;
    let first = probe(&world, "one").await.unwrap();
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("update restante.api_breaker set said = said").execute(&mut *person).await.unwrap();
    assert_eq!(breaker::lease_probe(&world.pool, "two", SESSIONS, WAITS).await.unwrap(), None);
    assert_eq!(breaker::open(&world.pool, ("anthropic", "vaults"), REFUSED, 1).await.unwrap(), Opened::Not);
    assert_eq!(end(&world, first, true).await, Ended::Busy);
    assert!(breaker::keep_probe(&world.pool, "anthropic", first.token).await.unwrap());
    person.rollback().await.unwrap();
    assert_eq!(end(&world, first, true).await, Ended::Closed);

    // An event that a person has locked is not the one that is tried.
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("update restante.outbox set run_at = run_at where event_id = 'a1'")
        .execute(&mut *person)
        .await
        .unwrap();
    world.sql("update restante.api_breaker set is_releasing = true").await;
    let mut connection = world.pool.acquire().await.unwrap();
    assert_eq!(breaker::release(&mut connection, "anthropic", &["anthropic".to_owned()]).await.unwrap(), 0);
    person.rollback().await.unwrap();
}

#[tokio::test]
async fn an_operator_may_delete_the_row_and_workers_begin_anew() {
    let world = with_events().await;
    open(&world).await;
    let first = probe(&world, "one").await.unwrap();
    world.sql("delete from restante.api_breaker").await;
    assert_eq!(end(&world, first, true).await, Ended::Over);
    assert_eq!(breaker::open(&world.pool, SESSIONS, REFUSED, 7).await.unwrap(), Opened::First);
}
