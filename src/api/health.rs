//! How the API fares, by its answers: who may ask now, and who comes back later.
//!
//! Where a part of the API answers nobody, a backlog would ask it thousands of times for nothing, and each of its events would
//! wait long for the next try. So after some failures in a row only a few ask. The others are told at once when to come back:
//! one after the other, ten a second, so that the repair is noticed within seconds however many wait. With the first answer
//! everybody may ask again, and `outbox::trouble` has those run who wait.
//!
//! A worker tells the others of a part in trouble by the breaker that they share (`breaker`), and from then on asks only where it is
//! the one to try.
//!
//! A thing that is not answered while others are is asked for ever more rarely: it is that thing, and holds up nobody else.

mod breaker;
mod part;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::Error;
use super::governor::Governor;
use crate::event::ANTHROPIC;
use breaker::is_shared;
pub(crate) use breaker::{Open, Trouble};
use part::{LATEST, Part, SOONEST, name_of};

/// How many things that are not answered, and how many parts, are remembered.
const THINGS_MAX: usize = 1024;
const PARTS_MAX: usize = 64;

/// Shared by all clones of a client.
#[derive(Debug)]
pub(super) struct Health {
    /// Whose, where lines have to say so.
    account: Option<String>,
    state: Mutex<State>,
    recoveries: watch::Sender<u64>,
    /// Told when there is news for the breaker that workers share.
    breaker: OnceLock<Arc<Notify>>,
    /// When requests may leave.
    pub(super) governor: Arc<Governor>,
}

#[derive(Debug, Default)]
struct State {
    /// By their names: `messages`, `sessions`.
    parts: HashMap<String, Part>,
    /// By their paths.
    things: HashMap<String, Thing>,
}

/// Something that is not answered while others are.
#[derive(Debug)]
struct Thing {
    failures: u32,
    again_at: Instant,
    /// Somebody has been told so since it was asked for last.
    is_told: bool,
    said: String,
    kind: &'static str,
}

impl Health {
    pub(super) fn new() -> Self {
        Self::of(None)
    }

    /// That of an account which its lines name.
    pub(super) fn of(account: Option<String>) -> Self {
        let governor = Arc::new(Governor::new(account.as_deref().unwrap_or(ANTHROPIC)));
        Self {
            governor,
            account,
            state: Mutex::default(),
            recoveries: watch::Sender::new(0),
            breaker: OnceLock::new(),
        }
    }

    /// Makes a request, unless it is not to be made now.
    pub(super) async fn ask<T>(
        &self,
        path: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.ask_of(path, Some(path), request).await
    }

    /// As [`Health::ask`], for a path at which each request is about something else: one that fails holds up no other.
    pub(super) async fn ask_apart<T>(
        &self,
        path: &str,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.ask_of(path, None, request).await
    }

    /// Notes that the API broke off an answer that it had begun.
    pub(super) fn broke_off(&self, path: &str, error: &Error) {
        self.failed(name_of(path), None, error);
    }

    async fn ask_of<T>(
        &self,
        path: &str,
        thing: Option<&str>,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let part = name_of(path);
        let _under_way = self.admit(part, path)?;
        let answer = request.await;
        match &answer {
            // It did not leave, so it says nothing of the API.
            Err(Error::OutOfTurn { .. }) => {}
            Err(error) if error.is_trouble() => self.failed(part, thing, error),
            _ => self.answered(part, path),
        }
        answer
    }

    /// Changes whenever a part that was in trouble answers again.
    pub(super) fn recoveries(&self) -> watch::Receiver<u64> {
        self.recoveries.subscribe()
    }

    /// What is wrong with the API at this time, in a line.
    pub(super) fn trouble(&self) -> Option<String> {
        let state = self.state();
        let mut troubled: Vec<(&String, &Part)> =
            state.parts.iter().filter(|(_, part)| part.is_in_trouble()).collect();
        troubled.sort_by_key(|(name, _)| *name);
        let said = troubled.first()?.1.said.clone();
        let names: Vec<&str> = troubled.iter().map(|(name, _)| name.as_str()).collect();
        Some(format!("{said} (asked for {})", names.join(", ")))
    }

    fn admit(&self, name: &str, path: &str) -> Result<UnderWay<'_>, Error> {
        let now = Instant::now();
        let mut state = self.state();
        let State { parts, things } = &mut *state;
        let part = part_of(parts, name);
        if !part.is_in_trouble()
            && let Some(thing) = things.get_mut(path).filter(|thing| now < thing.again_at)
        {
            let (wait, kind) = (thing.again_at - now, thing.kind);
            let is_first = !std::mem::replace(&mut thing.is_told, true);
            return Err(Error::NotAsked { wait, kind, said: thing.said.clone(), is_first });
        }
        part.admit(now)?;
        Ok(UnderWay { health: self, name: name.to_owned() })
    }

    fn failed(&self, name: &str, thing: Option<&str>, error: &Error) {
        let now = Instant::now();
        let mut state = self.state();
        let State { parts, things } = &mut *state;
        let part = part_of(parts, name);
        let since = part.failed(now, without_request_id(&chain(error)), error);
        if part.failures == part::FAILURES_MIN {
            match self.breaker.get() {
                // One worker says it for all.
                Some(breaker) if is_shared(part) => breaker.notify_one(),
                _ => tracing::error!(
                    account = self.account,
                    part = name,
                    reason = part.said,
                    failing_for_ms = (now - since).as_millis(),
                    "the API does not answer as it should; what needs it waits, and goes on once it does"
                ),
            }
        }
        if let Some(path) = thing.filter(|_| !part.is_in_trouble()) {
            if things.len() >= THINGS_MAX {
                things.clear();
            }
            let said = part.said.clone();
            let thing = things.entry(path.to_owned()).or_insert(Thing {
                failures: 0,
                again_at: now,
                is_told: false,
                said: String::new(),
                kind: error.kind(),
            });
            thing.failures = thing.failures.saturating_add(1);
            thing.is_told = false;
            thing.said = said;
            thing.kind = error.kind();
            // A little less than its asker waits anyway, or the second try would always come too early.
            let doublings = (thing.failures - 1).min(10);
            thing.again_at = now + (SOONEST.mul_f64(0.8) * 2_u32.pow(doublings)).min(LATEST);
        }
    }

    fn answered(&self, name: &str, path: &str) {
        let mut state = self.state();
        let State { parts, things } = &mut *state;
        let part = part_of(parts, name);
        things.remove(path);
        if part.has_failed() {
            // They may have failed for the same reason.
            things.clear();
            let seconds = part.since.map_or(0, |since| since.elapsed().as_secs());
            // Where workers share the trouble, one of them says so for all, and they begin together.
            if part.held.is_none() {
                tracing::info!(
                    account = self.account,
                    part = name,
                    failing_for_seconds = seconds,
                    "the API answers again"
                );
                self.has_recovered();
            }
        }
        part.answered();
        if let (Some(_), Some(breaker)) = (&part.held, self.breaker.get()) {
            breaker.notify_one();
        }
    }

    fn has_recovered(&self) {
        self.governor.recovered();
        self.recoveries.send_modify(|recoveries| *recoveries += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request under way.
struct UnderWay<'a> {
    health: &'a Health,
    name: String,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut state = self.health.state();
        let part = part_of(&mut state.parts, &self.name);
        part.under_way = part.under_way.saturating_sub(1);
    }
}

fn part_of<'a>(parts: &'a mut HashMap<String, Part>, name: &str) -> &'a mut Part {
    // Paths that an answer names may be anything.
    let name = if parts.len() < PARTS_MAX || parts.contains_key(name) { name } else { "others" };
    parts.entry(name.to_owned()).or_default()
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Many wait for the same reason, which should read the same in all their rows.
fn without_request_id(text: &str) -> String {
    text.split(" (request ").next().unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::part::{APART, FAILURES_MIN};
    use super::*;

    const PATH: &str = "/v1/messages/batches/a";

    async fn fail(health: &Health, path: &str) -> Error {
        health.ask(path, async { Err::<(), _>(Error::Redirected { status: 302 }) }).await.unwrap_err()
    }

    async fn succeed(health: &Health, path: &str) -> Result<(), Error> {
        health.ask(path, async { Ok(()) }).await
    }

    async fn in_trouble() -> Health {
        let health = Health::new();
        for nth in 0..FAILURES_MIN {
            fail(&health, &format!("/v1/messages/batches/{nth}")).await;
        }
        health
    }

    fn wait(error: &Error) -> Duration {
        let Error::NotAsked { wait, .. } = error else { panic!("it was asked: {error}") };
        *wait
    }

    fn is_first(error: &Error) -> bool {
        let Error::NotAsked { is_first, .. } = error else { panic!("it was asked: {error}") };
        *is_first
    }

    #[tokio::test(start_paused = true)]
    async fn in_trouble_ten_a_second_come_back_and_the_first_answer_opens_for_all() {
        let health = in_trouble().await;
        assert!(matches!(fail(&health, PATH).await, Error::Redirected { .. }), "one may ask");

        let mut waits = Vec::new();
        for n in 0..2000 {
            let error = fail(&health, PATH).await;
            assert_eq!(is_first(&error), n == 0, "one of them is news");
            waits.push(wait(&error));
        }
        assert_eq!((waits[0], waits[1]), (SOONEST, SOONEST + APART));
        assert_eq!(waits[1999], SOONEST + 1999 * APART);
        assert!(health.trouble().unwrap().starts_with("the answer was a redirect (302)"));

        let recoveries = health.recoveries();
        tokio::time::advance(APART).await;
        succeed(&health, PATH).await.unwrap();
        assert!(recoveries.has_changed().unwrap());
        assert_eq!(health.trouble(), None);
        for _ in 0..5 {
            succeed(&health, PATH).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_that_is_very_long_comes_back_within_some_minutes_all_the_same() {
        let health = in_trouble().await;
        fail(&health, PATH).await;
        for _ in 0..20_000 {
            assert!(wait(&fail(&health, PATH).await) <= SOONEST + LATEST);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_part_of_the_api_is_asked_all_the_same() {
        let health = in_trouble().await;
        fail(&health, PATH).await;

        for _ in 0..5 {
            succeed(&health, "/v1/sessions/a").await.unwrap();
        }
        wait(&fail(&health, PATH).await);
    }

    #[tokio::test(start_paused = true)]
    async fn what_alone_is_not_answered_is_asked_for_ever_more_rarely() {
        let health = Health::new();
        let (mut asked, mut news) = (0, 0);
        for _ in 0..3600 {
            match fail(&health, PATH).await {
                Error::NotAsked { is_first, .. } => news += u32::from(is_first),
                _ => asked += 1,
            }
            succeed(&health, "/v1/messages/batches/b").await.unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
        }

        assert!((9..=16).contains(&asked), "{asked} times within an hour");
        assert!(news + 1 >= asked && news <= asked, "{news}: once after each time that it was asked for");
        tokio::time::advance(LATEST).await;
        succeed(&health, PATH).await.unwrap();
        fail(&health, PATH).await;
        assert_eq!(wait(&fail(&health, PATH).await), SOONEST.mul_f64(0.8), "from the beginning");
    }

    #[tokio::test(start_paused = true)]
    async fn of_requests_apart_one_that_fails_holds_up_no_other() {
        let health = Health::new();
        let ask =
            || health.ask_apart("/v1/messages", async { Err::<(), _>(Error::Redirected { status: 302 }) });
        for nth in 1..=FAILURES_MIN {
            assert!(matches!(ask().await, Err(Error::Redirected { .. })), "{nth}");
        }

        ask().await.unwrap_err();
        wait(&ask().await.unwrap_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_the_api_asks_for_is_kept_by_the_whole_part() {
        let health = in_trouble().await;
        let limited = async {
            let retry_after = Some(Duration::from_secs(60));
            Err::<(), _>(Error::RateLimited { retry_after, answer: Box::default() })
        };
        health.ask(PATH, limited).await.unwrap_err();

        assert_eq!(wait(&fail(&health, PATH).await), Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(60)).await;
        succeed(&health, PATH).await.unwrap();
        assert_eq!(health.trouble(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn while_nothing_ends_few_are_under_way() {
        let health = in_trouble().await;
        let mut asking = Vec::new();
        for _ in 0..100 {
            tokio::time::advance(APART).await;
            asking.extend(health.admit("batches", PATH).ok());
        }

        // Four at once, and one more every five seconds.
        assert_eq!(asking.len(), 5);
        drop(asking);
        assert_eq!(health.state().parts["batches"].under_way, 0);
    }
}
