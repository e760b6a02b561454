//! The schedule step by step. Longer histories are in `simulation`.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::*;

const MS: Duration = Duration::from_millis(1);

/// An event that was created in a second and claimed at a time.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    second: i64,
    claimed_at: Instant,
    is_suspect: bool,
}

impl Item for Event {
    fn created_at(&self) -> DateTime<Utc> {
        created(self.second)
    }
    fn claimed_at(&self) -> Instant {
        self.claimed_at
    }
    fn leased_until(&self) -> Instant {
        self.claimed_at + 30_000 * MS
    }
    fn is_suspect(&self) -> bool {
        self.is_suspect
    }
}

fn created(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

/// A schedule with the time and the surroundings that a test gives it.
struct Worker {
    schedule: Schedule<Event>,
    start: Instant,
    now: Instant,
    outside: Outside,
    /// The last turn that was set.
    turn: Turn,
}

impl Worker {
    fn new(concurrency: usize) -> Self {
        let now = Instant::now();
        let outside = Outside { settling: 0, alive_until: Some(now + 3_600_000 * MS) };
        Self { schedule: Schedule::new(concurrency, now), start: now, now, outside, turn: Turn::Nobody }
    }

    /// The time after so many milliseconds of the test.
    fn at(&self, ms: u32) -> Instant {
        self.start + ms * MS
    }

    /// Moves the clock to `ms` milliseconds after the start.
    fn until(&mut self, ms: u32) -> &mut Self {
        self.now = self.at(ms);
        self
    }

    fn on(&mut self, input: Input<Event>) -> &mut Self {
        self.schedule.on(self.now, input);
        self
    }

    /// The actions before the schedule waits, and until when it then waits.
    fn actions(&mut self) -> (Vec<Action<Event>>, Option<Instant>) {
        let mut actions = Vec::new();
        loop {
            match self.schedule.next(self.now, self.outside) {
                Action::Wait { until } => return (actions, until),
                Action::SetTurn(turn) => self.turn = turn,
                action => actions.push(action),
            }
        }
    }

    fn event(&self, second: i64) -> Event {
        Event { second, claimed_at: self.now, is_suspect: false }
    }

    fn suspect(&self, second: i64) -> Event {
        Event { is_suspect: true, ..self.event(second) }
    }

    /// The schedule begins the claim `ask`, which returns these events at once.
    fn claims<const N: usize>(&mut self, ask: Ask, items: [Event; N]) -> &mut Self {
        assert_eq!(self.actions().0, [Action::Claim(ask)]);
        let (keys_settled, keys_left, now) = (0, 0, self.now);
        let items = items.into();
        self.on(Input::Claimed(Claimed {
            ask,
            items,
            keys_settled,
            keys_left,
            left_out_at: None,
            began: now,
            ended: now,
        }))
    }
}

fn everything(limit: usize) -> Ask {
    Ask { limit, cursor: None, settles: true }
}

#[test]
fn a_worker_claims_as_much_as_it_can_start_and_starts_it() {
    let mut worker = Worker::new(2);
    let (one, two) = (worker.event(1), worker.event(2));
    worker.claims(everything(2), [one.clone(), two.clone()]);
    assert_eq!(worker.actions().0, [Action::Start(one), Action::Start(two)]);
    // The claim came back full, so the next one is due; it begins when there is a place.
    assert!(!worker.schedule.listens());
    worker.on(Input::Ended { took: Some(50 * MS) });
    assert_eq!(worker.actions().0, [Action::Claim(everything(1))]);
}

#[test]
fn what_is_being_settled_keeps_its_place_for_its_successor() {
    let mut worker = Worker::new(1);
    let one = worker.event(1);
    worker.claims(everything(1), [one.clone()]);
    worker.actions();
    worker.outside.settling = 1;
    worker.on(Input::Ended { took: None });
    assert_eq!(worker.actions().0, []);
    worker.outside.settling = 0;
    assert!(matches!(worker.actions().0[..], [Action::Claim(_)]));
}

#[test]
fn what_could_not_start_within_half_a_second_is_handed_back() {
    let mut worker = Worker::new(1);
    let (one, two, three) = (worker.event(1), worker.event(2), worker.event(3));
    worker.claims(everything(1), [one.clone()]);
    worker.on(Input::Leased(two.clone())).on(Input::Leased(three.clone()));
    let (actions, until) = worker.actions();
    assert_eq!((actions, until), (vec![Action::Start(one)], Some(worker.at(500))));

    assert_eq!(worker.until(499).actions().0, []);
    assert_eq!(worker.until(500).actions().0, [Action::HandBack(vec![two, three])]);
}

#[test]
fn a_place_that_comes_free_in_the_last_moment_is_used() {
    let mut worker = Worker::new(1);
    let (one, two) = (worker.event(1), worker.event(2));
    worker.claims(everything(1), [one]).on(Input::Leased(two.clone()));
    worker.actions();
    worker.until(500).on(Input::Ended { took: None });
    assert_eq!(worker.actions().0[0], Action::Start(two));
}

#[test]
fn a_suspect_runs_alone() {
    let mut worker = Worker::new(3);
    let (one, bad, two) = (worker.event(1), worker.suspect(2), worker.event(3));
    worker.claims(everything(3), [one.clone()]);
    assert_eq!(worker.actions().0, [Action::Start(one)]);
    worker.on(Input::Leased(bad.clone())).on(Input::Leased(two.clone())).on(Input::Look);
    // While the suspect waits nothing else starts, so the ready event goes to another worker.
    assert_eq!(worker.actions().0, [Action::HandBack(vec![two])]);
    worker.outside.settling = 1;
    worker.on(Input::Ended { took: None });
    assert_eq!(worker.actions().0, [], "what is being settled would be taken along");
    worker.outside.settling = 0;
    assert_eq!(worker.actions().0, [Action::StartAlone(bad)]);
    let three = worker.event(4);
    worker.on(Input::Leased(three.clone()));
    assert_eq!(worker.actions().0, []);
    worker.on(Input::Ended { took: None });
    assert_eq!(worker.actions().0[0], Action::Start(three));
}

#[test]
fn after_a_short_claim_above_the_cursor_what_lies_below_is_looked_for() {
    let mut worker = Worker::new(2);
    let (one, two) = (worker.event(7), worker.event(8));
    // A full scan that takes 10 ms and comes back full is repeated after twenty times as long.
    assert_eq!(worker.actions().0, [Action::Claim(everything(2))]);
    let (began, ended, ask) = (worker.start, worker.at(10), everything(2));
    let (items, keys_settled, keys_left) = (vec![one, two], 0, 0);
    worker.until(10).on(Input::Claimed(Claimed {
        ask,
        items,
        keys_settled,
        keys_left,
        left_out_at: None,
        began,
        ended,
    }));
    worker.actions();
    worker.on(Input::Ended { took: None });
    let above = Ask { limit: 1, cursor: Some(created(8)), settles: true };
    worker.claims(above, []);

    // The claim came back short, so the worker looks below the cursor by itself.
    let (actions, until) = worker.actions();
    assert_eq!((actions, until), (vec![], Some(worker.at(20))));
    assert!(worker.schedule.listens());
    assert_eq!(worker.until(20).actions().0, [Action::Claim(everything(1))]);
}

#[test]
fn successors_have_their_turn_where_nothing_older_can_wait() {
    let mut worker = Worker::new(1);
    let one = worker.event(7);
    worker.claims(everything(1), [one]);
    assert_eq!(worker.turn, Turn::Nobody);
    // The claim came back full: another one is due, and it would return younger events.
    worker.actions();
    assert_eq!(worker.turn, Turn::Until(created(7)));
    // It has been due for so long that an older event may be waiting for a place.
    let (actions, until) = worker.until(999).actions();
    assert_eq!((actions, until, worker.turn), (vec![], Some(worker.at(1000)), Turn::Until(created(7))));
    worker.until(1000).actions();
    assert_eq!(worker.turn, Turn::Nobody);

    worker.on(Input::Ended { took: None });
    worker.claims(everything(1), []).actions();
    assert_eq!(worker.turn, Turn::Everybody);
    worker.on(Input::Stop).actions();
    assert_eq!(worker.turn, Turn::Nobody);
}

#[test]
fn what_a_lost_answer_had_leased_is_handed_back_after_ten_seconds() {
    let mut worker = Worker::new(1);
    assert_eq!(worker.actions().0, [Action::Claim(everything(1))]);
    worker.on(Input::ClaimFailed);
    let (actions, until) = worker.actions();
    assert_eq!((actions, until), (vec![], Some(worker.at(10_000))));
    assert_eq!(worker.until(10_000).actions().0, [Action::HandBackStrays]);
    // The database did not answer.
    worker.on(Input::StraysHandedBack(None));
    assert_eq!(worker.actions(), (vec![], Some(worker.at(20_000))));
    assert_eq!(worker.until(20_000).actions().0, [Action::HandBackStrays]);
    worker.on(Input::StraysHandedBack(Some(1)));
    assert_eq!(worker.actions().0, [Action::Claim(everything(1))]);
}

#[test]
fn a_worker_whose_sign_lapsed_claims_again_once_it_is_back() {
    let mut worker = Worker::new(1);
    worker.outside.alive_until = Some(worker.now);
    let (actions, until) = worker.actions();
    assert_eq!(actions, []);
    assert!(!worker.schedule.listens());
    assert_eq!(until, Some(worker.at(250)), "nothing else would wake it");
    worker.until(250).outside.alive_until = Some(worker.at(1000));
    assert_eq!(worker.actions().0, [Action::Claim(everything(1))]);
}

#[test]
fn a_worker_that_stops_starts_and_claims_nothing_and_keeps_nothing() {
    let mut worker = Worker::new(1);
    let (one, two, bad) = (worker.event(1), worker.event(2), worker.suspect(3));
    worker.claims(everything(1), [one]);
    worker.actions();
    worker.on(Input::Leased(two.clone())).on(Input::Stop).on(Input::Look);
    assert_eq!(worker.actions(), (vec![Action::HandBack(vec![two])], None));
    worker.on(Input::Ended { took: None }).on(Input::Leased(bad.clone()));
    assert_eq!(worker.actions().0, [Action::HandBack(vec![bad])]);
    assert!(!worker.schedule.is_idle(worker.outside), "two statements are under way");
    worker.on(Input::HandedBack { events: 1 }).on(Input::HandedBack { events: 1 });
    assert!(worker.schedule.is_idle(worker.outside));
    assert_eq!(worker.actions(), (vec![], None));
}

#[test]
fn keys_that_somebody_holds_bring_about_a_claim() {
    let mut worker = Worker::new(1);
    assert_eq!(worker.actions().0, [Action::Claim(everything(1))]);
    let (now, ask) = (worker.now, everything(1));
    let held = Claimed {
        ask,
        items: vec![],
        keys_settled: 0,
        keys_left: 1,
        left_out_at: None,
        began: now,
        ended: now,
    };
    worker.on(Input::Claimed(held));
    assert_eq!(worker.actions(), (vec![], Some(worker.at(10))));
    assert!(!worker.schedule.is_idle(worker.outside), "they may be free in a moment");
    assert_eq!(worker.until(10).actions().0, [Action::Claim(everything(1))]);
}
