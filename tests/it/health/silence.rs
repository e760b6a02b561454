//! Silence: a sender is silent if it sends nothing for much longer than it usually does.

use restante::internals::outbox::health::note_rhythm;

use super::{came, look, state};
use crate::support::World;

/// The senders that are silent.
async fn silent(world: &World) -> String {
    world
        .value("select string_agg(sender, ' ' order by sender) from restante.sender_overview where is_silent")
        .await
}

#[tokio::test]
async fn each_sender_is_judged_by_its_own_rhythm() {
    let world = World::new().await;
    // Both sent last ten hours ago.
    came(&world, "often", "select h * interval '1 hour' from generate_series(60, 10, -1) as h").await;
    came(&world, "seldom", "select h * interval '1 hour' from generate_series(60, 10, -5) as h").await;
    // This one sends every ten minutes, and has been quiet for less than an hour.
    came(&world, "busy", "select m * interval '1 minute' from generate_series(1600, 50, -10) as m").await;
    look(&world).await;

    assert_eq!(silent(&world).await, "often");
    let sentence = world.value("select sentence from restante.health where question = 'silence'").await;
    assert_eq!(sentence, "The sender often has sent nothing for 10 h; it usually sends within 60 min.");
}

#[tokio::test]
async fn a_sender_that_sends_again_is_not_silent_even_before_a_worker_has_read_that() {
    let world = World::new().await;
    came(&world, "often", "select h * interval '1 hour' from generate_series(60, 10, -1) as h").await;
    look(&world).await;
    assert_eq!(silent(&world).await, "often");

    came(&world, "often", "select interval '1 second'").await;

    assert_eq!(silent(&world).await, "null");
}

#[tokio::test]
async fn a_sender_of_less_than_a_day_has_no_rhythm_yet() {
    let world = World::new().await;
    came(&world, "new", "select h * interval '1 hour' from generate_series(30, 10, -1) as h").await;
    look(&world).await;

    assert_eq!(silent(&world).await, "null");
}

#[tokio::test]
async fn an_outage_of_one_day_among_many_is_not_usual() {
    let world = World::new().await;
    // Every hour for ten days, but for 20 hours after the fifth day. Silent for 8 hours now.
    came(
        &world,
        "hourly",
        "select h * interval '1 hour' from generate_series(240, 8, -1) as h where h not between 101 and 119",
    )
    .await;
    look(&world).await;

    assert_eq!(world.value("select max(longest) from restante.sender_gap").await, "20:00:00");
    assert_eq!(world.value("select usual_gap from restante.sender_overview").await, "01:00:00");
    assert_eq!(silent(&world).await, "hourly");
}

#[tokio::test]
async fn events_of_other_sources_say_nothing_of_a_sender() {
    let world = World::new().await;
    came(&world, "often", "select h * interval '1 hour' from generate_series(60, 10, -1) as h").await;
    look(&world).await;
    came(&world, "often", "select interval '1 second'").await;
    world
        .sql("update restante.outbox set source = 'poll' where received_at > now() - interval '1 minute'")
        .await;
    look(&world).await;

    assert_eq!(silent(&world).await, "often");
}

#[tokio::test]
async fn the_outbox_is_read_page_by_page_and_nobody_counts_as_silent_before_its_end() {
    let world = World::new().await;
    came(&world, "often", "select h * interval '1 hour' from generate_series(60, 10, -1) as h").await;

    assert_eq!(world.value("select restante.note_rhythm(51)").await, "51");
    assert_eq!(silent(&world).await, "null", "there may be more");
    assert_eq!(world.value("select restante.note_rhythm(51)").await, "0");
    assert_eq!(silent(&world).await, "often");
    let gaps = "select string_agg(day || ' ' || longest, ', ' order by day) from restante.sender_gap";
    let before = world.value(gaps).await;
    assert!(!note_rhythm(&world.pool).await.unwrap());
    assert_eq!(world.value(gaps).await, before, "what is read again changes nothing");
}

#[tokio::test]
async fn an_operator_forgets_a_sender_that_is_to_send_nothing_any_more() {
    let world = World::new().await;
    came(&world, "often", "select h * interval '1 hour' from generate_series(60, 10, -1) as h").await;
    look(&world).await;
    let next_step = world.value("select next_step from restante.health where question = 'silence'").await;
    let (_, statement) = next_step.split_once("any more: ").unwrap();

    world.sql(statement).await;
    look(&world).await;

    assert_eq!(state(&world, "silence").await, "ok");
    assert_eq!(world.value("select count(*) from restante.sender_gap").await, "0");
    let noted = world.value("select what || ' ' || of_what from restante.operation").await;
    assert_eq!(noted, "end sender often");
}

#[tokio::test]
async fn a_sender_that_somebody_is_about_to_forget_holds_up_no_other() {
    let world = World::new().await;
    for sender in ["locked", "other"] {
        came(&world, sender, "select h * interval '1 hour' from generate_series(60, 10, -1) as h").await;
    }
    look(&world).await;
    let mut person = world.pool.begin().await.unwrap();
    let forget = "delete from restante.sender_rhythm where sender = 'locked'";
    sqlx::query(forget).execute(&mut *person).await.unwrap();
    for sender in ["locked", "other"] {
        came(&world, sender, "select interval '1 second'").await;
    }

    assert!(!note_rhythm(&world.pool).await.unwrap());

    let fresh = "select string_agg(sender, ' ') from restante.sender_rhythm where last_at > now() - interval '1 hour'";
    assert_eq!(world.value(fresh).await, "other");
    person.rollback().await.unwrap();
    assert!(!note_rhythm(&world.pool).await.unwrap());
    assert_eq!(
        world
            .value("select count(*) from restante.sender_rhythm where last_at > now() - interval '1 hour'")
            .await,
        "2"
    );
}
