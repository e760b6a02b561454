use chrono::DateTime;
use futures_util::future::join_all;

use super::*;
use crate::event::{ANTHROPIC, Body};
use crate::ingest::fake::{FakeStore, Verdict};

fn limits() -> Limits {
    Limits { lanes_max: 1, ..Limits::default() }
}

fn event(id: &str) -> NewEvent {
    NewEvent {
        sender: ANTHROPIC.to_owned(),
        account: Some(ANTHROPIC.to_owned()),
        event_id: id.into(),
        event_type: "session.status_idled".into(),
        key: None,
        workspace_id: None,
        created_at: DateTime::UNIX_EPOCH,
        body: Body::Json("{}".into()),
        traceparent: None,
    }
}

fn names(count: usize) -> Vec<String> {
    (1..=count).map(|number| format!("e{number}")).collect()
}

/// Queues an event for each name behind a commit that is held, and then releases that commit.
async fn commit_behind(
    store: &FakeStore,
    committer: &Committer,
    names: &[String],
) -> Vec<Result<Kept, NotStored>> {
    let first = tokio::spawn({
        let committer = committer.clone();
        async move { committer.commit(event("first")).await }
    });
    store.entered().await;
    let behind = join_all(names.iter().map(|name| committer.commit(event(name))));
    let release = async { store.release() };
    // The events are queued when they are first polled, which is before the release.
    let (answers, ()) = tokio::join!(biased; behind, release);
    assert_eq!(first.await.unwrap(), Ok(Kept::New));
    answers
}

#[tokio::test]
async fn events_that_arrive_during_a_commit_share_the_next_one() {
    let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hold } else { Verdict::Take });
    let (committer, _lanes) = start(store.clone(), None, &limits());

    let answers = commit_behind(&store, &committer, &names(9)).await;

    assert_eq!(answers, [Ok(Kept::New); 9]);
    assert_eq!(store.calls(), [vec!["first".to_owned()], names(9)]);
}

/// Holds two events in the second commit, queues `waiting` more, and returns how many commits have begun by then. Each
/// commit reports that it took `took`.
async fn begun_beside_two_held(limits: &Limits, took: Took, waiting: usize) -> usize {
    let store = FakeStore::timed(took, |call, _| if call == 1 { Verdict::Hold } else { Verdict::Take });
    let (committer, _lanes) = start(store.clone(), None, limits);
    assert_eq!(committer.commit(event("e1")).await, Ok(Kept::New));
    store.entered().await;
    let names = names(2 + waiting);
    let commit = |names: &[String]| join_all(names.iter().map(|name| committer.commit(event(name))));
    let begun = async {
        store.entered().await;
        let begun = async {
            // Nothing here waits for time, so everything that can happen has happened after a few yields.
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let begun = store.calls().len();
            store.release();
            begun
        };
        tokio::join!(biased; commit(&names[2..]), begun).1
    };
    tokio::join!(biased; commit(&names[..2]), begun).1
}

#[tokio::test]
async fn a_commit_begins_beside_another_where_the_store_mostly_waits_and_half_of_the_events_on_their_way() {
    let waits = Took { worked: Duration::from_millis(1), waited: Duration::from_millis(9) };
    let two = Limits { lanes_max: 2, ..limits() };
    assert_eq!(begun_beside_two_held(&two, waits, 1).await, 2);
    assert_eq!(begun_beside_two_held(&two, waits, 2).await, 3);
    let works = Took { worked: Duration::from_millis(9), waited: Duration::from_millis(1) };
    assert_eq!(begun_beside_two_held(&two, works, 2).await, 2);
}

#[tokio::test]
async fn where_a_commit_may_hold_fewer_than_half_of_the_events_as_many_as_it_may_hold_are_enough() {
    let waits = Took { worked: Duration::from_millis(1), waited: Duration::from_millis(9) };
    let small = Limits { lanes_max: 4, batch_events_max: 4, ..limits() };
    assert_eq!(begun_beside_two_held(&small, waits, 9).await, 2 + 2);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_stands_still_does_not_keep_the_next_from_beginning() {
    let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hang } else { Verdict::Take });
    let (committer, _lanes) = start(store.clone(), None, &Limits { lanes_max: 2, ..limits() });
    let began = tokio::time::Instant::now();

    let first = committer.commit(event("e1"));
    let second = async {
        store.entered().await;
        let second = committer.commit(event("e2")).await;
        (second, began.elapsed())
    };
    let second = tokio::select! { second = second => second, _ = first => panic!("it hangs") };

    assert_eq!(second, (Ok(Kept::New), Duration::from_millis(100)));
}

#[tokio::test]
async fn a_commit_takes_no_more_events_and_bytes_than_its_limits() {
    let by_events = Limits { batch_events_max: 4, ..limits() };
    // Each body has two bytes.
    let by_bytes = Limits { batch_bytes_max: 8, ..limits() };
    for limits in [by_events, by_bytes] {
        let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hold } else { Verdict::Take });
        let (committer, _lanes) = start(store.clone(), None, &limits);

        let answers = commit_behind(&store, &committer, &names(9)).await;

        assert_eq!(answers, [Ok(Kept::New); 9]);
        let sizes: Vec<usize> = store.calls().iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 4, 4, 1], "{limits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_somebody_has_locked_is_waited_for_alone() {
    let store = FakeStore::scripted(|call, events| match call {
        0 => Verdict::Hold,
        // The other session unlocks it after a while.
        1..20 if events.iter().any(|event| event.event_id == "e3") => Verdict::Locked,
        _ => Verdict::Take,
    });
    let (committer, _lanes) = start(store.clone(), None, &limits());

    let answers = commit_behind(&store, &committer, &names(8)).await;

    assert_eq!(answers, [Ok(Kept::New); 8]);
    let alone = store.calls().iter().filter(|events| events[..] == ["e3".to_owned()]).count();
    assert!(alone > 1, "{:?}", store.calls());
    assert!(store.calls().iter().any(|events| events.len() == 4), "the others go in halves");
}

#[tokio::test]
async fn an_event_beyond_the_queue_is_turned_away_at_once() {
    let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hold } else { Verdict::Take });
    let (committer, _lanes) = start(store.clone(), None, &Limits { queue_events_max: 2, ..limits() });

    let answers = commit_behind(&store, &committer, &names(3)).await;

    assert_eq!(answers, [Ok(Kept::New), Ok(Kept::New), Err(NotStored::Full)]);
}

#[tokio::test]
async fn an_event_that_is_there_already_is_told_from_a_new_one_and_from_one_that_differs() {
    let store = FakeStore::scripted(|call, _| if call == 1 { Verdict::Hold } else { Verdict::Take });
    let (committer, _lanes) = start(store.clone(), None, &limits());
    let other = |id: &str, body: &str| NewEvent { body: Body::Json(body.into()), ..event(id) };
    assert_eq!(committer.commit(event("old")).await, Ok(Kept::New));

    // These share a commit, behind the one that is held.
    let held = tokio::spawn({
        let committer = committer.clone();
        async move { committer.commit(event("held")).await }
    });
    store.entered().await;
    store.entered().await;
    let events = [
        event("old"),
        other("old", "1"),
        event("new"),
        event("new"),
        other("new", "1"),
        other("new", "2"),
        event("new"),
    ];
    let answers = join_all(events.map(|event| committer.commit(event)));
    let (answers, ()) = tokio::join!(biased; answers, async { store.release() });

    let (again, differs) = (Ok(Kept::Again { differs: false }), Ok(Kept::Again { differs: true }));
    assert_eq!(answers, [again, differs, Ok(Kept::New), again, differs, differs, again]);
    assert_eq!(held.await.unwrap(), Ok(Kept::New));
    assert_eq!(store.stored()["new"].body, Body::Json("{}".into()), "the first one counts");
}

#[tokio::test]
async fn a_short_outage_of_the_store_is_waited_out() {
    let store = FakeStore::scripted(|call, _| if call < 3 { Verdict::Unavailable } else { Verdict::Take });
    let (committer, _lanes) = start(store.clone(), None, &limits());

    assert_eq!(committer.commit(event("e1")).await, Ok(Kept::New));
    assert_eq!(store.calls(), vec![names(1); 4]);
}

#[tokio::test]
async fn a_long_outage_ends_with_the_wait() {
    let limits = Limits { ingest_wait: Duration::from_millis(500), ..limits() };
    let store = FakeStore::scripted(|_, _| Verdict::Unavailable);
    let (committer, _lanes) = start(store.clone(), None, &limits);

    assert_eq!(committer.commit(event("e1")).await, Err(NotStored::Unavailable));
    assert!(store.calls().len() > 1, "it was tried again");
}

#[tokio::test]
async fn an_insert_that_never_returns_is_given_up_for_another_one() {
    let limits = Limits { ingest_wait: Duration::from_secs(1), ..limits() };
    let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Hang } else { Verdict::Take });
    let (committer, _lanes) = start(store.clone(), None, &limits);

    assert_eq!(committer.commit(event("e1")).await, Ok(Kept::New));
}

#[tokio::test]
async fn a_panic_of_the_store_costs_its_own_batch_only() {
    let store = FakeStore::scripted(|call, _| if call == 0 { Verdict::Panic } else { Verdict::Take });
    let (committer, _lanes) = start(store.clone(), None, &limits());

    assert_eq!(committer.commit(event("e1")).await, Err(NotStored::Unavailable));
    assert_eq!(committer.commit(event("e2")).await, Ok(Kept::New));
}

#[tokio::test]
async fn an_event_that_is_refused_as_json_is_kept_as_bytes_and_its_neighbours_as_they_are() {
    let store = FakeStore::scripted(|call, events| {
        let poisoned = |event: &NewEvent| event.event_id == "e7" && matches!(event.body, Body::Json(_));
        match call {
            0 => Verdict::Hold,
            _ if events.iter().any(poisoned) => Verdict::Refuse,
            _ => Verdict::Take,
        }
    });
    let (committer, _lanes) = start(store.clone(), None, &limits());

    let answers = commit_behind(&store, &committer, &names(9)).await;

    assert_eq!(answers, [Ok(Kept::New); 9]);
    let stored = store.stored();
    assert_eq!(stored.len(), 10);
    for (id, event) in stored {
        let expected = if id == "e7" { Body::Raw(b"{}".to_vec()) } else { Body::Json("{}".into()) };
        assert_eq!(event.body, expected, "{id}");
    }
}

#[tokio::test]
async fn an_event_that_is_refused_in_any_form_fails_alone() {
    let store = FakeStore::scripted(|call, events| match call {
        0 => Verdict::Hold,
        _ if events.iter().any(|event| event.event_id == "e4") => Verdict::Refuse,
        _ => Verdict::Take,
    });
    let (committer, _lanes) = start(store.clone(), None, &limits());

    let answers = commit_behind(&store, &committer, &names(6)).await;

    let refused = Err(NotStored::Refused);
    assert_eq!(answers, [Ok(Kept::New), Ok(Kept::New), Ok(Kept::New), refused, Ok(Kept::New), Ok(Kept::New)]);
    assert_eq!(store.stored().len(), 6);
}

#[tokio::test]
async fn an_event_whose_sender_hung_up_is_stored_all_the_same() {
    let store = FakeStore::scripted(|_, _| Verdict::Hold);
    let (committer, lanes) = start(store.clone(), None, &limits());
    let sender = tokio::spawn(async move { committer.commit(event("e1")).await });
    store.entered().await;

    sender.abort();
    assert!(sender.await.unwrap_err().is_cancelled());
    store.release();
    lanes.await.unwrap();

    assert!(store.stored().contains_key("e1"));
}
