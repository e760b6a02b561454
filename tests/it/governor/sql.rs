//! The budget in Postgres.

use crate::support::World;

/// Tells of an answer that named a limit of ten a second.
const NAMES_TEN: &str =
    "select restante.note_limit('anthropic', 'objects', 10, 1, false, null, false, null, null)";
const LIMITED: &str = "select restante.note_limit('anthropic', 'objects', null, 1, true, interval '30 seconds', false, null, null)";
const LEASE_FOUR: &str =
    "select granted from restante.lease_calls('anthropic', 'objects', 4, interval '1 second')";

#[tokio::test]
async fn places_follow_each_other_and_no_two_workers_get_the_same() {
    let world = World::new().await;
    let unknown = "select pace_per_second is null and not is_busy from restante.lease_calls('anthropic', 'objects', 4, interval '1 second')";
    assert_eq!(world.value(unknown).await, "true");
    assert_eq!(world.value(NAMES_TEN).await, "true");

    // The pace is so slow that time does not matter here.
    world.sql("update restante.api_budget set limit_per_second = 0.01, pace_per_second = 0.01").await;
    assert_eq!(world.value(LEASE_FOUR).await, "1", "the others lie too far ahead");
    let next = "select granted = 0 and starts_in_seconds > 80 from restante.lease_calls('anthropic', 'objects', 4, interval '1 second')";
    assert_eq!(world.value(next).await, "true");
    let later = "select granted = 4 from restante.lease_calls('anthropic', 'objects', 4, interval '1 hour')";
    assert_eq!(world.value(later).await, "true");
    assert_eq!(world.value("select calls_leased || ' ' || leases from restante.api_budget").await, "5 3");
}

#[tokio::test]
async fn a_429_halves_the_pace_once_however_many_calls_it_answers() {
    let world = World::new().await;
    world.value(NAMES_TEN).await;
    for _ in 0..5 {
        world.value(LIMITED).await;
    }

    let pace = "select pace_per_second || ' ' || times_limited from restante.api_budget";
    assert_eq!(world.value(pace).await, "4.85 5");
    assert_eq!(world.value(LEASE_FOUR).await, "0", "the API has asked for a wait");
    let stands = "select stands like 'the API asked for no calls before %' from restante.governor_overview";
    assert_eq!(world.value(stands).await, "true");
}

#[tokio::test]
async fn an_open_transaction_of_a_person_makes_nobody_wait() {
    let world = World::new().await;
    world.value(NAMES_TEN).await;
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("update restante.api_budget set updated_at = updated_at")
        .execute(&mut *person)
        .await
        .unwrap();

    let is_busy = "select is_busy from restante.lease_calls('anthropic', 'objects', 4, interval '1 second')";
    assert_eq!(world.value(is_busy).await, "true");
    assert_eq!(world.value(LIMITED).await, "false");

    person.rollback().await.unwrap();
    assert_eq!(world.value(LEASE_FOUR).await, "4");
}
