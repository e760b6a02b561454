//! What becomes of deliveries while the store takes none and there is a journal.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tempfile::TempDir;
use tokio_util::task::AbortOnDropHandle;

use super::super::commit::{self, Committer, Kept, NotStored};
use super::super::fake::{FakeStore, Verdict};
use super::super::{Journal, Limits, replay};
use crate::event::{ANTHROPIC, Body, NewEvent};

const TAKES: u8 = 0;
const AWAY: u8 = 1;
const SILENT: u8 = 2;
const REFUSES_BAD: u8 = 3;
const BAD_IS_LOCKED: u8 = 4;

/// Ingest behind its endpoint, with a store that can go away.
struct Desk {
    folder: TempDir,
    state: Arc<AtomicU8>,
    store: FakeStore,
    journal: Journal,
    committer: Committer,
    _replay: AbortOnDropHandle<()>,
}

impl Desk {
    fn of(state: u8, bytes_max: u64) -> Self {
        let state = Arc::new(AtomicU8::new(state));
        let store = FakeStore::scripted({
            let state = Arc::clone(&state);
            move |_, events| {
                let has_bad = events.iter().any(|event| event.event_id == "bad");
                match state.load(Ordering::SeqCst) {
                    AWAY => Verdict::Unavailable,
                    SILENT => Verdict::Hang,
                    REFUSES_BAD if has_bad => Verdict::Refuse,
                    BAD_IS_LOCKED if has_bad => Verdict::Locked,
                    _ => Verdict::Take,
                }
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), bytes_max).unwrap();
        let limits = Limits { ingest_wait: Duration::from_millis(200), ..Limits::default() };
        let replay = tokio::spawn(replay::run(store.clone(), journal.clone(), limits.clone()));
        let (committer, _lanes) = commit::start(store.clone(), Some(journal.clone()), &limits);
        Self { folder, state, store, journal, committer, _replay: AbortOnDropHandle::new(replay) }
    }

    fn becomes(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    async fn commit(&self, id: &str) -> Result<Kept, NotStored> {
        self.committer.commit(event(id)).await
    }

    /// Waits until so many events are left in the journal.
    async fn until_left(&self, events: u64) {
        let wait = async {
            while self.journal.backlog().events != events {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
    }

    async fn until_off(&self) {
        let wait = async {
            while self.journal.is_on() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
    }

    fn replayed(&self) -> Vec<String> {
        self.store.journaled().into_iter().map(|(id, _)| id).collect()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn event(id: &str) -> NewEvent {
    NewEvent {
        sender: ANTHROPIC.to_owned(),
        account: Some(ANTHROPIC.to_owned()),
        event_id: id.to_owned(),
        event_type: "session.status_idled".to_owned(),
        key: None,
        workspace_id: None,
        created_at: DateTime::UNIX_EPOCH,
        body: Body::Json("{}".to_owned()),
        traceparent: None,
    }
}

const ROOM: u64 = 1 << 30;

#[tokio::test]
async fn an_event_that_the_store_does_not_take_in_time_is_journaled_and_stored_when_the_store_is_back() {
    for away in [AWAY, SILENT] {
        let desk = Desk::of(away, ROOM);
        let before = Utc::now();

        assert_eq!(desk.commit("e1").await, Ok(Kept::Journaled));
        let after = Utc::now();
        // Only the replay waits for the store from now on.
        for id in ["e2", "e3"] {
            assert_eq!(desk.commit(id).await, Ok(Kept::Journaled));
        }
        assert_eq!(desk.journal.backlog().events, 3);
        assert!(desk.store.stored().is_empty());
        desk.becomes(TAKES);

        desk.until_off().await;
        assert_eq!(desk.replayed(), ["e1", "e2", "e3"]);
        let (_, received_at) = desk.store.journaled()[0];
        assert!(before <= received_at && received_at <= after, "the time of the delivery, not of the replay");
        assert_eq!(desk.commit("e4").await, Ok(Kept::New));
        assert_eq!(desk.files(), ["identity", "lock"]);
    }
}

#[tokio::test]
async fn while_the_store_takes_events_nothing_is_journaled() {
    let desk = Desk::of(TAKES, ROOM);

    assert_eq!(desk.commit("e1").await, Ok(Kept::New));
    assert_eq!(desk.commit("e1").await, Ok(Kept::Again { differs: false }));

    assert_eq!((desk.replayed().len(), desk.files()), (0, vec!["identity".to_owned(), "lock".to_owned()]));
}

#[tokio::test]
async fn an_empty_journal_stays_on_until_the_store_has_answered() {
    let desk = Desk::of(AWAY, ROOM);

    desk.journal.turn_on().await;
    for _ in 0..3 {
        desk.store.entered().await;
    }
    assert!(desk.journal.is_on());
    assert_eq!(desk.commit("e1").await, Ok(Kept::Journaled));
    desk.becomes(TAKES);

    desk.until_off().await;
    assert_eq!(desk.replayed(), ["e1"]);
}

#[tokio::test]
async fn an_event_of_the_journal_that_the_store_refuses_is_kept_aside_and_the_others_are_stored() {
    let desk = Desk::of(AWAY, ROOM);
    for id in ["e1", "bad", "e2"] {
        assert_eq!(desk.commit(id).await, Ok(Kept::Journaled));
    }

    desk.becomes(REFUSES_BAD);

    desk.until_off().await;
    assert_eq!(desk.replayed(), ["e1", "e2"]);
    let files = desk.files();
    assert!(files[0].ends_with("-refused-1.bad") && files[1..] == ["identity", "lock"], "{files:?}");
    assert_eq!(desk.journal.backlog().aside, 1);
}

#[tokio::test]
async fn an_event_of_the_journal_that_another_session_has_locked_does_not_hold_up_the_others() {
    let desk = Desk::of(AWAY, ROOM);
    for id in ["bad", "e1", "e2"] {
        assert_eq!(desk.commit(id).await, Ok(Kept::Journaled));
    }

    desk.becomes(BAD_IS_LOCKED);
    desk.until_left(1).await;
    assert_eq!(desk.replayed(), ["e1", "e2"]);
    assert_eq!(desk.commit("e3").await, Ok(Kept::Journaled));
    desk.until_left(1).await;
    desk.becomes(TAKES);

    desk.until_off().await;
    assert_eq!(desk.replayed(), ["e1", "e2", "e3", "bad"]);
}

#[tokio::test]
async fn an_event_that_another_session_has_locked_is_not_journaled_and_the_journal_stays_off() {
    let desk = Desk::of(BAD_IS_LOCKED, ROOM);

    assert_eq!(desk.commit("bad").await, Err(NotStored::Locked));

    assert!(!desk.journal.is_on());
    assert_eq!(desk.commit("e1").await, Ok(Kept::New));
}

#[tokio::test]
async fn with_a_full_journal_a_delivery_waits_for_the_store_and_gets_no_2xx_without_it() {
    let desk = Desk::of(AWAY, 200);
    assert_eq!(desk.commit("e1").await, Ok(Kept::Journaled));

    assert_eq!(desk.commit("e2").await, Err(NotStored::Unavailable));
    assert!(desk.journal.backlog().is_full);
    let waiting = desk.commit("e3");
    let back = async { desk.becomes(TAKES) };
    let (answer, ()) = tokio::join!(biased; waiting, back);

    assert!(matches!(answer, Ok(Kept::New | Kept::Journaled)), "{answer:?}");
    desk.until_off().await;
    let stored = desk.store.stored();
    assert!(stored.contains_key("e1") && stored.contains_key("e3"), "{:?}", stored.keys());
}

#[tokio::test]
async fn a_commit_that_began_before_the_journal_was_turned_on_does_not_wait_for_the_store_any_longer() {
    let desk = Desk::of(SILENT, ROOM);
    let patient = async {
        let limits = Limits { ingest_wait: Duration::from_secs(3600), ..Limits::default() };
        let (committer, _lanes) = commit::start(desk.store.clone(), Some(desk.journal.clone()), &limits);
        committer.commit(event("e1")).await
    };
    let turns_on = async {
        desk.store.entered().await;
        desk.journal.turn_on().await;
    };

    assert_eq!(tokio::join!(patient, turns_on).0, Ok(Kept::Journaled));
}
