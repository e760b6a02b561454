//! How many notifications go to an endpoint at once, and when the others come back.
//!
//! An endpoint that hangs must not fill the worker. So it begins with a few places, gets more as it answers, and after some failures in a
//! row only one notification at a time tries whether it answers again. One that finds no place waits a moment, or comes back at the
//! time at which, as fast as the endpoint has been, it will have its turn: so a backlog is claimed about twice, and not again and again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// So many notifications at once go to an endpoint that has not answered yet.
const PLACES_AT_FIRST: usize = 4;
/// After so many failures in a row the gate closes.
const FAILURES_MAX: u32 = 3;
/// For how long it closes at first. The time doubles with each failure after that.
const CLOSED_AT_FIRST: Duration = Duration::from_secs(1);
const CLOSED_AT_MOST: Duration = Duration::from_secs(5 * 60);
/// For how long a notification waits for a place in the worker.
const WAIT_IN_PLACE: Duration = Duration::from_secs(1);
/// The bounds of the wait of one that comes back later. The estimate that it rests on is soon out of date.
const LATER_AT_LEAST: Duration = Duration::from_millis(50);
const LATER_AT_MOST: Duration = Duration::from_secs(30);
/// Before the first answer a wait is this long at most, and four times as long as the endpoint has been silent. An estimate that rests on
/// nothing must not hold a backlog up for half a minute.
const UNKNOWN_AT_MOST: Duration = Duration::from_millis(250);
/// How long an answer is thought to take before the first one, in seconds.
const SECONDS_AT_FIRST: f64 = 0.05;
/// The share of the last answer in the average.
const SHARE_OF_LAST: f64 = 0.2;

/// What an endpoint allows. If it changes, or the endpoint is enabled anew, what was learned of the endpoint is forgotten.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Terms {
    pub(super) places: usize,
    pub(super) per_second: Option<i32>,
    /// Something that changes whenever a person has another try made.
    pub(super) edition: String,
}

/// The gates of all endpoints, for one worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Gates(Arc<Mutex<HashMap<String, Gate>>>);

#[derive(Debug)]
struct Gate {
    terms: Terms,
    /// How many may be on their way at once.
    places: usize,
    under_way: usize,
    /// How many wait in the worker for a place.
    in_line: usize,
    freed: Arc<Notify>,
    /// How long an answer takes, in seconds.
    seconds: f64,
    /// About how many were told to come back later and have not had their turn.
    later: f64,
    later_at: Instant,
    /// When the last one ended, or the first one of those under way began.
    ended_at: Instant,
    answered_at: Option<Instant>,
    is_open: Open,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Open {
    /// After this many failures in a row.
    Yes(u32),
    /// Until this time, after which one tries; if it fails, for twice as long again.
    No { until: Instant, next: Duration },
    /// One tries.
    Trying { next: Duration },
}

/// Why a notification does not go now, and when it should come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Later {
    /// All places are taken.
    Full(Duration),
    /// The endpoint has failed.
    Closed(Duration),
}

/// Whether one may go now.
enum Entry {
    Go,
    /// It may wait here, until this is notified.
    Line(Arc<Notify>),
    Later(Later),
}

/// The right to send one notification. Dropped without a word it leaves everything as it was.
#[derive(Debug)]
pub(super) struct Pass {
    gates: Gates,
    endpoint: String,
    edition: String,
    /// It tries whether the endpoint answers again.
    tries: bool,
    is_reported: bool,
}

impl Gates {
    /// Lets a notification go, at once or after a moment.
    ///
    /// # Errors
    /// [`Later`] if it should come back.
    pub(super) async fn enter(&self, endpoint: &str, terms: &Terms) -> Result<Pass, Later> {
        let give_up_at = Instant::now() + WAIT_IN_PLACE;
        loop {
            let (entry, tries) = self.with(endpoint, terms, |gate| {
                let entry = gate.enter(Instant::now());
                (entry, matches!(gate.is_open, Open::Trying { .. }))
            });
            let freed = match entry {
                Entry::Go => {
                    let (endpoint, edition) = (endpoint.to_owned(), terms.edition.clone());
                    return Ok(Pass { gates: self.clone(), endpoint, edition, tries, is_reported: false });
                }
                Entry::Later(later) => return Err(later),
                Entry::Line(freed) => freed,
            };
            let in_line = InLine { gates: self, endpoint };
            let left = give_up_at.saturating_duration_since(Instant::now());
            let is_freed = timeout(left, freed.notified()).await.is_ok();
            drop(in_line);
            if !is_freed {
                return Err(self.with(endpoint, terms, |gate| Later::Full(gate.come_back(Instant::now()))));
            }
        }
    }

    fn with<T>(&self, endpoint: &str, terms: &Terms, what: impl FnOnce(&mut Gate) -> T) -> T {
        let mut gates = self.lock();
        let gate = gates.entry(endpoint.to_owned()).or_insert_with(|| Gate::new(terms.clone()));
        if gate.terms != *terms {
            // Those under way are of the gate as it was; they keep their places.
            let (under_way, in_line, freed) = (gate.under_way, gate.in_line, Arc::clone(&gate.freed));
            *gate = Gate { under_way, in_line, freed, ..Gate::new(terms.clone()) };
        }
        what(gate)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Gate>> {
        // Nobody panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one that waits in the worker, also if it is cancelled.
struct InLine<'a> {
    gates: &'a Gates,
    endpoint: &'a str,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        if let Some(gate) = self.gates.lock().get_mut(self.endpoint) {
            gate.in_line -= 1;
        }
    }
}

impl Gate {
    fn new(terms: Terms) -> Self {
        Self {
            places: terms.places.min(PLACES_AT_FIRST),
            terms,
            under_way: 0,
            in_line: 0,
            freed: Arc::new(Notify::new()),
            seconds: SECONDS_AT_FIRST,
            later: 0.0,
            later_at: Instant::now(),
            ended_at: Instant::now(),
            answered_at: None,
            is_open: Open::Yes(0),
        }
    }

    fn enter(&mut self, now: Instant) -> Entry {
        match self.is_open {
            Open::No { until, .. } if now < until => {
                let wait = until - now + self.come_back(now);
                return Entry::Later(Later::Closed(wait));
            }
            Open::No { next, .. } => self.is_open = Open::Trying { next },
            Open::Trying { next } => return Entry::Later(Later::Closed(next + self.come_back(now))),
            Open::Yes(_) if self.under_way < self.places => {}
            Open::Yes(_) if self.gets_on(now) && self.in_line < self.places => {
                self.in_line += 1;
                return Entry::Line(Arc::clone(&self.freed));
            }
            Open::Yes(_) => return Entry::Later(Later::Full(self.come_back(now))),
        }
        if self.under_way == 0 {
            self.ended_at = now;
        }
        self.under_way += 1;
        Entry::Go
    }

    /// Does it answer so quickly that a place comes up within the time that one may wait in the worker?
    fn gets_on(&self, now: Instant) -> bool {
        self.answered_at.is_some_and(|at| now.saturating_duration_since(at) < WAIT_IN_PLACE)
            && self.seconds < WAIT_IN_PLACE.as_secs_f64()
    }

    /// When one that came too early has its turn, as fast as the endpoint has been.
    fn come_back(&mut self, now: Instant) -> Duration {
        // An endpoint that has not answered for longer than usual is as slow as that.
        let silent = match self.under_way {
            0 => 0.0,
            _ => now.saturating_duration_since(self.ended_at).as_secs_f64(),
        };
        let answers = self.places as f64 / self.seconds.max(silent).max(0.001);
        let per_second = self.terms.per_second.map_or(answers, |most| answers.min(f64::from(most)));
        let since = now.saturating_duration_since(self.later_at).as_secs_f64();
        self.later = (self.later - since * per_second).max(0.0) + 1.0;
        self.later_at = now;
        let wait = Duration::try_from_secs_f64(self.later / per_second).unwrap_or(LATER_AT_MOST);
        let most = match self.answered_at {
            Some(_) => LATER_AT_MOST,
            None => LATER_AT_MOST.min(UNKNOWN_AT_MOST + Duration::from_secs_f64(4.0 * silent)),
        };
        wait.clamp(LATER_AT_LEAST, most)
    }

    fn succeeded(&mut self, took: Duration, now: Instant) {
        self.ended_at = now;
        // What was thought before the first answer is no part of the average: a quick endpoint would count as slow for some seconds.
        let share = if self.answered_at.is_none() { 1.0 } else { SHARE_OF_LAST };
        self.answered_at = Some(now);
        self.seconds += share * (took.as_secs_f64() - self.seconds);
        self.places = (self.places * 2).min(self.terms.places);
        self.is_open = Open::Yes(0);
        // Those in line may go into the places that came up.
        self.freed.notify_waiters();
    }

    fn failed(&mut self, tries: bool, retry_after: Option<Duration>, now: Instant) {
        self.ended_at = now;
        self.places = (self.places / 2).max(1);
        let next = match self.is_open {
            Open::Yes(failures) if failures + 1 < FAILURES_MAX && retry_after.is_none() => {
                self.is_open = Open::Yes(failures + 1);
                return;
            }
            Open::Yes(_) => CLOSED_AT_FIRST,
            Open::Trying { next } if tries => next,
            // One that went before the gate was closed.
            Open::Trying { .. } | Open::No { .. } => return,
        };
        let wait = retry_after.unwrap_or_default().max(next);
        self.is_open = Open::No { until: now + wait, next: (next * 2).min(CLOSED_AT_MOST) };
    }
}

impl Pass {
    /// The endpoint has taken the notification, after this time.
    pub(super) fn succeeded(mut self, took: Duration) {
        self.report(|gate, _| gate.succeeded(took, Instant::now()));
    }

    /// It has not, and may have asked to be left alone for a while.
    pub(super) fn failed(mut self, retry_after: Option<Duration>) {
        self.report(|gate, tries| gate.failed(tries, retry_after, Instant::now()));
    }

    /// When a notification should come back for which the limit by the second leaves no room now.
    pub(super) fn paced(mut self) -> Duration {
        let mut wait = LATER_AT_LEAST;
        self.report(|gate, tries| {
            wait = gate.come_back(Instant::now());
            gate.give_up_trying(tries);
        });
        wait
    }

    fn report(&mut self, what: impl FnOnce(&mut Gate, bool)) {
        self.is_reported = true;
        if let Some(gate) = self.gates.lock().get_mut(&self.endpoint)
            && gate.terms.edition == self.edition
        {
            what(gate, self.tries);
        }
    }
}

impl Gate {
    /// Another may try.
    fn give_up_trying(&mut self, tries: bool) {
        if let (true, Open::Trying { next }) = (tries, self.is_open) {
            self.is_open = Open::No { until: Instant::now(), next };
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let is_reported = self.is_reported;
        if let Some(gate) = self.gates.lock().get_mut(&self.endpoint) {
            gate.under_way -= 1;
            if !is_reported && gate.terms.edition == self.edition {
                gate.give_up_trying(self.tries);
            }
            gate.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(places: usize) -> Terms {
        Terms { places, per_second: None, edition: "first".to_owned() }
    }

    async fn pass(gates: &Gates) -> Pass {
        gates.enter("a", &terms(16)).await.unwrap()
    }

    async fn wait(gates: &Gates) -> Duration {
        match gates.enter("a", &terms(16)).await.unwrap_err() {
            Later::Full(wait) | Later::Closed(wait) => wait,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_has_not_answered_has_few_places_and_gets_more_as_it_answers() {
        let gates = Gates::default();
        let mut passes = Vec::new();
        for _ in 0..PLACES_AT_FIRST {
            passes.push(pass(&gates).await);
        }
        let began = Instant::now();
        assert!(matches!(gates.enter("a", &terms(16)).await, Err(Later::Full(_))));
        assert_eq!(began.elapsed(), Duration::ZERO, "it does not wait in the worker");

        passes.pop().unwrap().succeeded(Duration::from_millis(10));
        passes.pop().unwrap().succeeded(Duration::from_millis(10));
        for _ in 0..14 {
            passes.push(pass(&gates).await);
        }
        assert!(matches!(gates.enter("a", &terms(16)).await, Err(Later::Full(_))), "16 are on their way");
        assert!(gates.enter("b", &terms(16)).await.is_ok(), "other endpoints have gates of their own");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_waits_in_the_worker_gets_the_place_that_comes_up() {
        let gates = Gates::default();
        pass(&gates).await.succeeded(Duration::from_millis(10));
        let mut passes = Vec::new();
        for _ in 0..8 {
            passes.push(pass(&gates).await);
        }
        let began = Instant::now();
        let waiting = tokio::spawn({
            let gates = gates.clone();
            async move { gates.enter("a", &terms(16)).await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(passes.pop());
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert_eq!(began.elapsed(), Duration::ZERO);
        passes.push(pass(&gates).await);
        assert!(matches!(gates.enter("a", &terms(16)).await, Err(Later::Full(_))));
        assert_eq!(began.elapsed(), WAIT_IN_PLACE, "and gives up after a second");
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_come_back_later_come_one_after_the_other_as_fast_as_the_endpoint_is() {
        let gates = Gates::default();
        let _passes = [pass(&gates).await, pass(&gates).await, pass(&gates).await, pass(&gates).await];
        for _ in 0..1000 {
            assert!(wait(&gates).await <= UNKNOWN_AT_MOST, "nothing is known of it yet");
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(wait(&gates).await > Duration::from_secs(4), "it has been silent for a minute");

        let gates = Gates::default();
        pass(&gates).await.succeeded(Duration::from_millis(50));
        let mut passes = Vec::new();
        for _ in 0..8 {
            passes.push(pass(&gates).await);
        }
        // No more of them wait in the worker, which would take a second each.
        tokio::time::advance(WAIT_IN_PLACE).await;
        let mut waits = Vec::new();
        for _ in 0..80 {
            waits.push(wait(&gates).await);
        }
        assert!(waits.is_sorted());
        // 8 answers a second: eight places, and a second without an answer.
        assert_eq!(waits[79], Duration::from_secs(10));
        tokio::time::advance(Duration::from_secs(8)).await;
        assert!(wait(&gates).await > waits[79], "it has been silent for long, so it counts as slow");
        for _ in 0..1000 {
            assert!(wait(&gates).await <= LATER_AT_MOST);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_answer_says_how_quick_an_endpoint_is() {
        let gates = Gates::default();
        let first = pass(&gates).await;
        let _others = [pass(&gates).await, pass(&gates).await, pass(&gates).await];
        for _ in 0..400 {
            assert!(wait(&gates).await <= UNKNOWN_AT_MOST);
        }

        first.succeeded(Duration::from_millis(1));
        let mut passes = Vec::new();
        for _ in 0..5 {
            passes.push(pass(&gates).await);
        }
        passes.pop().unwrap().succeeded(Duration::from_millis(1));
        passes.pop().unwrap().succeeded(Duration::from_millis(1));

        // 16 places of a millisecond each: the 400 before it take 25 ms.
        let last = gates.with("a", &terms(16), |gate| gate.come_back(Instant::now()));
        assert_eq!(last, LATER_AT_LEAST);
    }

    #[tokio::test(start_paused = true)]
    async fn after_some_failures_one_at_a_time_tries_and_the_waits_double() {
        let gates = Gates::default();
        for _ in 0..FAILURES_MAX {
            pass(&gates).await.failed(None);
        }
        for closed in [1, 2, 4, 8] {
            let closed = Duration::from_secs(closed);
            assert!(wait(&gates).await >= closed);
            tokio::time::advance(closed - Duration::from_millis(1)).await;
            assert!(matches!(gates.enter("a", &terms(16)).await, Err(Later::Closed(_))));
            tokio::time::advance(Duration::from_millis(1)).await;
            let tries = pass(&gates).await;
            assert!(matches!(gates.enter("a", &terms(16)).await, Err(Later::Closed(_))), "one tries");
            tries.failed(None);
        }
        tokio::time::advance(Duration::from_secs(16)).await;
        drop(pass(&gates).await);
        pass(&gates).await.succeeded(Duration::from_millis(10));
        let _open = [pass(&gates).await, pass(&gates).await];
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_the_endpoint_asks_for_closes_the_gate_at_once() {
        let gates = Gates::default();
        pass(&gates).await.failed(Some(Duration::from_secs(120)));
        assert!(wait(&gates).await >= Duration::from_secs(120));
        let anew = Terms { edition: "second".to_owned(), ..terms(16) };
        assert!(gates.enter("a", &anew).await.is_ok(), "a person has enabled it anew");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_late_says_nothing_of_the_gate_after_it() {
        let gates = Gates::default();
        let late = pass(&gates).await;
        let anew = Terms { edition: "second".to_owned(), ..terms(16) };
        drop(gates.enter("a", &anew).await);
        late.failed(Some(Duration::from_secs(120)));
        assert!(gates.enter("a", &anew).await.is_ok());
    }
}
