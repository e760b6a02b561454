//! The journals of ingests among the answers: what waits in them, and those of which nothing is heard any more.

use restante::internals::outbox::{JournalReport, note_journal};

use super::state;
use crate::support::World;

fn report(journal: &str, events: u64) -> JournalReport {
    let since = (events > 0).then(chrono::Utc::now);
    JournalReport {
        journal: journal.to_owned(),
        place: format!("host-{journal}:/journal"),
        since,
        events,
        bytes: events * 300,
        bytes_max: 1000,
        oldest_at: since,
        aside: 0,
        is_full: false,
        is_last: false,
    }
}

async fn told(world: &World, report: &JournalReport) {
    note_journal(&world.pool, report).await.unwrap();
}

async fn sentence(world: &World) -> String {
    world.value("select sentence from restante.health where question = 'journal'").await
}

#[tokio::test]
async fn what_waits_in_a_journal_is_to_be_looked_at_and_acted_on_once_it_does_not_get_empty() {
    let world = World::new().await;
    told(&world, &report("a", 0)).await;
    assert_eq!(state(&world, "journal").await, "ok", "an ingest with an empty journal");

    told(&world, &report("a", 3)).await;
    assert_eq!(state(&world, "journal").await, "look", "ingest replays it by itself");
    let said = sentence(&world).await;
    assert!(
        said.starts_with("3 events wait in the journal host-a:/journal, 900 of 1000 bytes; the oldest"),
        "{said}"
    );

    world.sql("update restante.journal set waiting_since = waiting_since - interval '11 minutes'").await;
    told(&world, &report("a", 2)).await;
    assert_eq!(state(&world, "journal").await, "act", "eleven minutes of reports told of events that wait");
    told(&world, &report("a", 0)).await;
    assert_eq!(state(&world, "journal").await, "ok");
    told(&world, &report("a", 1)).await;
    assert_eq!(state(&world, "journal").await, "look", "the time counts anew");

    told(&world, &JournalReport { is_full: true, ..report("a", 3) }).await;
    assert_eq!(state(&world, "journal").await, "act");
    assert_eq!(sentence(&world).await, "The journal host-a:/journal takes no more events.");
    told(&world, &JournalReport { aside: 2, ..report("a", 0) }).await;
    assert_eq!(sentence(&world).await, "2 files of the journal host-a:/journal could not be replayed.");
}

#[tokio::test]
async fn a_journal_whose_ingest_has_fallen_silent_is_an_alarm_until_it_is_heard_of_or_its_row_is_deleted() {
    let world = World::new().await;
    let silent = "update restante.journal set reported_at = reported_at - interval '6 minutes', ended_at = ended_at - interval '6 minutes'";
    told(&world, &report("killed", 0)).await;
    world.sql(silent).await;
    assert_eq!(state(&world, "journal").await, "act");
    assert_eq!(
        sentence(&world).await,
        "The ingest of the journal host-killed:/journal has not reported for 6 min; 0 events waited in it then, \
         and deliveries may have come since."
    );
    told(&world, &report("killed", 0)).await;
    assert_eq!(state(&world, "journal").await, "ok", "it was started again");

    told(&world, &JournalReport { is_last: true, ..report("killed", 2) }).await;
    world.sql(silent).await;
    assert_eq!(
        sentence(&world).await,
        "The ingest of the journal host-killed:/journal stopped 6 min ago and left 2 events in it."
    );
    let next_step = world.value("select next_step from restante.health where question = 'journal'").await;
    let statement = next_step.split_once("for good: ").unwrap().1;
    world.sql(statement).await;
    assert_eq!(state(&world, "journal").await, "ok", "{statement}");
}

#[tokio::test]
async fn an_ingest_that_stops_with_an_empty_journal_leaves_no_row_and_many_folders_leave_a_hundred() {
    let world = World::new().await;
    let rows = "select count(*) from restante.journal";
    told(&world, &report("a", 0)).await;
    told(&world, &JournalReport { is_last: true, ..report("a", 0) }).await;
    assert_eq!(world.value(rows).await, "0");

    told(&world, &report("full", 1)).await;
    for number in 0..120 {
        told(&world, &report(&format!("{number:03}"), 0)).await;
    }

    assert_eq!(world.value(rows).await, "100");
    let kept =
        "select string_agg(journal, ' ') from restante.journal where journal in ('full', '000', '119')";
    assert_eq!(world.value(kept).await.split(' ').count(), 2, "the oldest of the empty ones went");
    assert_eq!(world.value("select events from restante.journal where journal = 'full'").await, "1");
}
