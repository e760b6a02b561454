//! The journal on a real folder: what a crash at any byte, damage, and a lack of room leave of it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use proptest::prelude::*;
use tempfile::TempDir;

use super::segment::{self, Found, HEAD_BYTES, Mark};
use super::*;
use crate::event::{ANTHROPIC, Body};

const ROOM: u64 = 1 << 30;

fn event(id: &str) -> NewEvent {
    NewEvent {
        sender: ANTHROPIC.to_owned(),
        account: None,
        event_id: id.to_owned(),
        event_type: "session.status_idled".to_owned(),
        key: Some("sesn_1".to_owned()),
        workspace_id: None,
        created_at: at(1),
        body: Body::Json(format!("{{\"id\":\"{id}\"}}")),
        traceparent: None,
    }
}

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_793_534_400 + second, 0).unwrap()
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

async fn append(journal: &Journal, ids: &[&str]) {
    for (second, id) in ids.iter().enumerate() {
        journal.append(&[event(id)], &[at(second as i64)]).await.unwrap();
    }
}

/// Replays a journal into nothing. Returns the identifiers in their order.
async fn drained(journal: &Journal) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let (oldest, turn) = journal.turn().await.oldest().await.unwrap();
        let Some(segment) = oldest else { return ids };
        ids.extend(segment.events.into_iter().map(|delivered| delivered.event.event_id));
        turn.remove_oldest(segment.is_damaged).await.unwrap();
    }
}

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn bytes_of(mark: Mark, ids: &[&str]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = mark.head();
    let mut ends = vec![bytes.len()];
    for id in ids {
        mark.frame(&event(id), at(0), &mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn ids(found: &Found) -> Vec<&str> {
    found.events.iter().map(|delivered| delivered.event.event_id.as_str()).collect()
}

proptest! {
    #[test]
    fn an_event_is_read_as_it_was_written_whatever_is_in_it(
        texts in any::<[Option<String>; 3]>(), event_id in any::<String>(), body in any::<Vec<u8>>(), is_raw in any::<bool>(),
        seconds in -62_135_596_800_i64..253_402_300_800, nanoseconds in 0_u32..1_000_000_000,
    ) {
        let [account, key, workspace_id] = texts;
        let created_at = DateTime::from_timestamp(seconds, nanoseconds).unwrap();
        let text = String::from_utf8_lossy(&body).into_owned();
        let body = if is_raw { Body::Raw(body) } else { Body::Json(text) };
        let event = NewEvent { account, key, workspace_id, event_id, created_at, body, ..event("x") };
        let mark = Mark::new();
        let mut bytes = mark.head();
        mark.frame(&event, at(5), &mut bytes);

        let found = segment::read(&bytes);

        prop_assert_eq!(found.whole_bytes, bytes.len());
        prop_assert_eq!(found.events, [Delivered { event, received_at: at(5) }]);
    }

    #[test]
    fn no_change_of_a_byte_reads_as_another_event(place in 0_usize..400, flip in 1_u8..=255) {
        let (mut bytes, _) = bytes_of(Mark::new(), &["e1", "e2", "e3"]);
        let place = place % bytes.len();
        bytes[place] ^= flip;

        let found = segment::read(&bytes);

        // Before the change and after it, what was written is there; the event that was hit is not, and is told as damaged.
        prop_assert!(found.events.iter().all(|delivered| delivered.event == event(&delivered.event.event_id)));
        prop_assert!(found.events.len() == 2 || (place < HEAD_BYTES && found.events.is_empty()));
        prop_assert!(found.damaged_bytes > 0);
        prop_assert_eq!(found.whole_bytes, bytes.len());
    }
}

#[test]
fn a_file_that_ends_at_any_byte_has_its_whole_events_and_a_torn_tail() {
    let (bytes, ends) = bytes_of(Mark::new(), &["e1", "e2", "e3"]);
    for length in 0..=bytes.len() {
        let found = segment::read(&bytes[..length]);

        let whole = ends.iter().skip(1).filter(|end| **end <= length).count();
        assert_eq!(ids(&found), ["e1", "e2", "e3"][..whole], "{length}");
        let expected = ends.iter().filter(|end| **end <= length).max().copied().unwrap_or(0);
        assert_eq!((found.whole_bytes, found.damaged_bytes), (expected, 0), "{length}");
    }
}

#[test]
fn a_body_that_looks_like_a_frame_of_another_segment_is_no_frame() {
    let (forged, _) = bytes_of(Mark::new(), &["forged"]);
    let mark = Mark::new();
    let mut bytes = mark.head();
    let carrier = NewEvent { body: Body::Raw(forged), ..event("carrier") };
    mark.frame(&carrier, at(0), &mut bytes);
    // The head of the frame that carries it is damaged, so the next whole frame is looked for.
    bytes[HEAD_BYTES] ^= 1;
    mark.frame(&event("after"), at(0), &mut bytes);

    assert_eq!(ids(&segment::read(&bytes)), ["after"]);
}

#[tokio::test]
async fn what_was_appended_before_a_kill_at_any_byte_is_replayed_in_order() {
    let written = folder();
    append(&Journal::open(written.path(), ROOM).unwrap(), &["e1", "e2", "e3"]).await;
    let bytes = fs::read(written.path().join("0000000001.journal")).unwrap();
    for length in 0..=bytes.len() {
        let cut = folder();
        fs::write(cut.path().join("0000000001.journal"), &bytes[..length]).unwrap();

        let journal = Journal::open(cut.path(), ROOM).unwrap();

        let whole = journal.backlog().events as usize;
        assert_eq!(journal.is_on(), whole > 0, "{length}");
        append(&journal, &["new"]).await;
        let expected = [&["e1", "e2", "e3"][..whole], &["new"]].concat();
        assert_eq!(drained(&journal).await, expected, "{length}");
        assert_eq!(names(&cut), ["identity", "lock"], "{length}: a torn tail is nothing to keep");
    }
}

#[tokio::test]
async fn a_journal_of_an_earlier_run_is_on_at_the_start_and_off_once_it_is_empty() {
    let folder = folder();
    let journal = Journal::open(folder.path(), ROOM).unwrap();
    assert!(!journal.is_on());
    append(&journal, &["e1", "e2"]).await;
    let told = journal.backlog();
    assert_eq!((told.events, told.oldest), (2, Some(at(0))));
    drop(journal);

    let journal = Journal::open(folder.path(), ROOM).unwrap();

    assert!(journal.is_on());
    let found = inspect(folder.path()).unwrap().unwrap();
    assert_eq!(Backlog { since: None, ..journal.backlog() }, found, "as it is seen from outside");
    assert_eq!((found.events, found.oldest, found.bytes), (told.events, told.oldest, told.bytes));
    assert!(journal.append_if_on(&[event("e3")], &[at(3)]).await.unwrap());
    assert_eq!(drained(&journal).await, ["e1", "e2", "e3"]);
    assert_eq!(journal.backlog(), Backlog::default());
    assert!(!journal.append_if_on(&[event("e4")], &[at(4)]).await.unwrap(), "deliveries go to the database");
}

#[tokio::test]
async fn a_second_ingest_on_the_same_folder_is_told_so_until_the_first_has_ended() {
    let folder = folder();
    let first = Journal::open(folder.path(), ROOM).unwrap();

    let refused = Journal::open(folder.path(), ROOM).unwrap_err();

    assert!(matches!(refused, Unusable::Taken(_)));
    assert!(refused.to_string().contains("Give each ingest a folder of its own"), "{refused}");
    drop(first);
    Journal::open(folder.path(), ROOM).unwrap();
}

#[tokio::test]
async fn of_a_damaged_file_the_whole_events_are_replayed_and_it_is_kept_aside() {
    let folder = folder();
    let journal = Journal::open(folder.path(), ROOM).unwrap();
    append(&journal, &["e1", "e2", "e3"]).await;
    let bytes = journal.backlog().bytes;
    drop(journal);
    let file = folder.path().join("0000000001.journal");
    OpenOptions::new().write(true).open(&file).unwrap().write_all_at(b"?", bytes / 2).unwrap();

    let journal = Journal::open(folder.path(), ROOM).unwrap();
    append(&journal, &["e4"]).await;

    assert_eq!(drained(&journal).await, ["e1", "e3", "e4"]);
    assert_eq!(names(&folder), ["0000000001.bad", "identity", "lock"]);
    assert_eq!(journal.backlog(), Backlog { aside: 1, ..Backlog::default() });
    assert_eq!(inspect(folder.path()).unwrap().unwrap().aside, 1);
}

#[tokio::test]
async fn a_file_that_somebody_has_removed_does_not_hold_up_the_others() {
    let folder = folder();
    let journal = Journal::open(folder.path(), ROOM).unwrap();
    append(&journal, &["e1"]).await;
    drop(journal);
    let journal = Journal::open(folder.path(), ROOM).unwrap();
    append(&journal, &["e2"]).await;
    fs::remove_file(folder.path().join("0000000001.journal")).unwrap();

    assert_eq!(drained(&journal).await, ["e2"]);
    assert_eq!(journal.backlog(), Backlog::default());
}

#[tokio::test]
async fn a_full_journal_takes_nothing_and_says_so_until_it_has_room() {
    let folder = folder();
    let journal = Journal::open(folder.path(), 600).unwrap();
    append(&journal, &["e1"]).await;
    let large = NewEvent { body: Body::Raw(vec![0; 1000]), ..event("large") };

    let refused = journal.append(&[large], &[at(1)]).await;

    assert!(matches!(refused, Err(NotWritten::Full)), "{refused:?}");
    assert!(journal.backlog().is_full);
    append(&journal, &["e2"]).await;
    assert!(!journal.backlog().is_full);
    assert_eq!(drained(&journal).await, ["e1", "e2"]);
}

#[tokio::test]
async fn a_write_that_the_disk_refuses_leaves_what_was_written_before() {
    let folder = folder();
    let journal = Journal::open(folder.path(), ROOM).unwrap();
    append(&journal, &["e1"]).await;
    // A file that is open for reading only refuses every write, as a full disk does.
    {
        let mut writer = journal.writer.lock().await;
        let file = fs::File::open(folder.path().join("0000000001.journal")).unwrap();
        writer.break_off(file);
    }

    let refused = journal.append(&[event("e2")], &[at(1)]).await;

    assert!(matches!(refused, Err(NotWritten::Io(_))), "{refused:?}");
    assert!(journal.backlog().is_full);
    append(&journal, &["e3"]).await;
    assert_eq!(drained(&journal).await, ["e1", "e3"]);
}

#[tokio::test]
async fn a_long_outage_makes_several_files_which_are_replayed_in_order() {
    let folder = folder();
    let journal = Journal::open(folder.path(), ROOM).unwrap();
    let large = |id: &str| NewEvent { body: Body::Raw(vec![b'x'; 1 << 20]), ..event(id) };
    let ids: Vec<_> = (10..30).map(|number| format!("e{number}")).collect();
    for id in &ids {
        journal.append(&[large(id)], &[at(0)]).await.unwrap();
    }

    assert_eq!(names(&folder).len(), 3 + 2, "{:?}", names(&folder));
    assert_eq!(drained(&journal).await, ids);
    assert_eq!(names(&folder), ["identity", "lock"]);
}
