//! The governor: calls of an account keep to the limits that the API's answers tell of, whichever worker makes them.
//!
//! Each class of call has a limit of its own, as at the API. Until an answer names a limit, nothing is held back, except
//! that few calls go first. From then on each call needs a place: a moment at which it may begin. Places are leased in blocks, from
//! the [`Budget`] that the workers share, or else from this process's own. A call waits for a place within the next second here; one
//! that finds none is [out of turn](Error::OutOfTurn), and its event comes back at the pace of the limit.

mod budget;
mod limits;
mod pace;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::header::HeaderMap;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Error;
pub(crate) use budget::{Budget, Class, Learned, Leased};
use limits::Limits;
use pace::{Pace, Place};

/// Calls of the API, by `class` and `answer`.
pub(crate) const API_CALLS_TOTAL: &str = "restante_api_calls_total";
/// How long a call waited for its place, in seconds, by `class`.
pub(crate) const API_WAIT_SECONDS: &str = "restante_api_wait_seconds";

/// So many calls of a class go at once until an answer has told whether there is a limit.
const FIRST_AT_ONCE: usize = 8;

/// A place is leased so far ahead at most, and no call waits longer here.
const AHEAD: Duration = Duration::from_secs(1);

/// A budget that another worker is using at this moment is tried again so often, and so soon.
const BUSY_TRIES: u32 = 8;
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// The budget has so long to answer. After that this process keeps to a share of its own.
const BUDGET_PATIENCE: Duration = Duration::from_secs(1);

/// The pace of one account's calls.
#[derive(Debug)]
pub(super) struct Governor {
    account: String,
    budget: OnceLock<Arc<dyn Budget>>,
    lanes: [Lane; Class::ALL.len()],
}

/// The calls of one class.
#[derive(Debug)]
struct Lane {
    pace: Mutex<Pace>,
    first: Semaphore,
    /// Held by the one that leases places for all who wait.
    turn: tokio::sync::Mutex<()>,
}

/// A call that may begin. The first ones keep this until they are answered.
#[derive(Debug)]
pub(super) struct Admitted<'a>(Option<SemaphorePermit<'a>>);

impl Governor {
    pub(super) fn new(account: impl Into<String>) -> Self {
        let lane = |_| Lane {
            pace: Mutex::new(Pace::new(Instant::now())),
            first: Semaphore::new(FIRST_AT_ONCE),
            turn: tokio::sync::Mutex::default(),
        };
        Self { account: account.into(), budget: OnceLock::new(), lanes: Class::ALL.map(lane) }
    }

    /// From now on places come from this budget.
    pub(super) fn share(&self, budget: Arc<dyn Budget>) {
        // A second one would be that of the same workers.
        let _ = self.budget.set(budget);
    }

    /// Waits until a call may begin.
    ///
    /// # Errors
    /// [`Error::OutOfTurn`] if it may not begin within a second.
    pub(super) async fn admit(&self, class: Class) -> Result<Admitted<'_>, Error> {
        let lane = self.lane(class);
        self.note_recovery(class).await;
        loop {
            let waits = Waits::in_(lane);
            let place = lane.pace().place(Instant::now());
            match place {
                Place::Free => return Ok(Admitted(None)),
                Place::At(at) => {
                    drop(waits);
                    sleep_until(at).await;
                    if lane.pace().begin(Instant::now()) {
                        return Ok(Admitted(None));
                    }
                }
                Place::Later(wait) => return Err(Error::OutOfTurn { wait }),
                Place::First => {
                    // Whoever gets none in time goes all the same: a first call may take long.
                    match timeout(AHEAD, lane.first.acquire()).await {
                        Ok(Ok(permit)) if lane.pace().is_unknown() => {
                            lane.pace().begin(Instant::now());
                            return Ok(Admitted(Some(permit)));
                        }
                        Err(_) => return Ok(Admitted(None)),
                        // An answer has come meanwhile.
                        Ok(_) => {}
                    }
                }
                Place::ToLease => {
                    let _turn = lane.turn.lock().await;
                    if lane.pace().must_lease(Instant::now()) {
                        self.lease(class).await;
                    }
                }
            }
        }
    }

    /// Takes note of the head of an answer. `is_success` says whether the API did what it was asked.
    pub(super) async fn learn(&self, class: Class, headers: &HeaderMap, is_success: bool) {
        let limits = Limits::of(headers);
        let news = self.lane(class).pace().learn(limits, is_success, Instant::now());
        if self.lane(class).pace().is_unknown() {
            return;
        }
        self.lane(class).first.close();
        if !news {
            return;
        }
        if let Some(limit) = self.lane(class).pace().take_news_of_limit() {
            tracing::info!(
                account = self.account,
                class = class.as_str(),
                limit_per_second = limit,
                "the API names its limit on requests; calls keep to it"
            );
        }
        let learned =
            Learned { limit_per_second: limits.per_second, tokens: limits.tokens, ..self.learned(class) };
        self.note(learned).await;
    }

    /// Takes note of a 429, and of the wait that it asks for. An API that names no limit may have meant this one thing only: then the
    /// event that asked waits, and nobody else, until several 429s have come within a second.
    pub(super) async fn limited(&self, class: Class, wait: Option<Duration>) {
        let lane = self.lane(class);
        if lane.pace().names_no_limit() && !lane.pace().is_limited_unnamed(Instant::now()) {
            return;
        }
        let is_first = lane.pace().limited(wait, Instant::now());
        lane.first.close();
        if is_first {
            tracing::warn!(
                account = self.account,
                class = class.as_str(),
                retry_after_seconds = wait.map(|wait| wait.as_secs_f64()),
                "the API asks for fewer requests (429); calls of this class slow down, and speed up again bit by bit"
            );
        }
        self.note(Learned { is_limited: true, wait, ..self.learned(class) }).await;
    }

    /// Takes note that the API answers again after trouble: calls begin slowly.
    pub(super) fn recovered(&self) {
        for lane in &self.lanes {
            lane.pace().recovered(Instant::now());
        }
    }

    /// Tells the other workers of a recovery, before the first call that follows it.
    async fn note_recovery(&self, class: Class) {
        if self.lane(class).pace().take_news_of_recovery() {
            self.note(Learned { is_recovered: true, ..self.learned(class) }).await;
        }
    }

    async fn lease(&self, class: Class) {
        let lane = self.lane(class);
        let wanted = lane.pace().wanted(Instant::now());
        let leased = match self.budget.get() {
            Some(budget) => {
                let asked = async {
                    for _ in 0..BUSY_TRIES {
                        match budget.lease(&self.account, class, wanted, AHEAD).await {
                            Some(Leased::Busy) => sleep(BUSY_PAUSE).await,
                            other => return other,
                        }
                    }
                    None
                };
                timeout(BUDGET_PATIENCE, asked).await.ok().flatten()
            }
            None => None,
        };
        let now = Instant::now();
        let mut pace = lane.pace();
        match leased {
            Some(Leased::Places { granted, starts_in, per_second }) => {
                pace.take((granted, wanted), now + starts_in, per_second, now);
            }
            // Nobody has learned of a limit, or an operator has deleted it.
            Some(Leased::Unlimited | Leased::Busy) => {
                pace.forget_limit(now);
                pace.lease_here(wanted, false, AHEAD, now);
            }
            None => pace.lease_here(wanted, self.budget.get().is_some(), AHEAD, now),
        }
    }

    async fn note(&self, learned: Learned<'_>) {
        let Some(budget) = self.budget.get() else { return };
        let noted = async {
            for _ in 0..BUSY_TRIES {
                if budget.note(learned).await {
                    return;
                }
                sleep(BUSY_PAUSE).await;
            }
        };
        // What is not noted now is noted with a later answer, or learned by each worker for itself.
        let _ = timeout(BUDGET_PATIENCE, noted).await;
    }

    fn learned(&self, class: Class) -> Learned<'_> {
        let seen_per_second = self.lane(class).pace().seen_per_second(Instant::now());
        Learned::nothing(&self.account, class, seen_per_second)
    }

    fn lane(&self, class: Class) -> &Lane {
        &self.lanes[class as usize]
    }
}

impl Lane {
    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits for a place; counted so that one lease serves all.
struct Waits<'a>(&'a Lane);

impl<'a> Waits<'a> {
    fn in_(lane: &'a Lane) -> Self {
        lane.pace().waiting += 1;
        Self(lane)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.pace().waiting -= 1;
    }
}

impl Admitted<'_> {
    /// The call was answered, or has failed.
    pub(super) fn ended(self) {
        drop(self.0);
    }
}
