//! What everybody who looks shares: each panel is asked for at most every few seconds, however many browsers are open.
//!
//! A question is asked in the background, by whoever first finds its answer too old. Everybody else shares that question too. Nobody
//! waits longer than they said for it: whoever goes on without gets the last answer, with its time, and learns that a newer one comes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use maud::Markup;
use tokio::time::timeout;

use super::reader::Problem;

/// How soon a question that got no answer is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// A question that takes long is asked less often: it keeps its connection busy for 2 % of the time at most.
const TIMES_AS_LONG: u32 = 50;

/// An answer that is older than it should be is shown at once up to this age, while the next one is asked for.
const TOLERATED: Duration = Duration::from_secs(10);

/// How many answers are kept.
const KEPT_MAX: usize = 200;

/// An answer, drawn.
#[derive(Clone, Default)]
pub(super) struct Answer {
    /// As HTML, and since when; none if there never was one.
    pub(super) drawn: Option<(Arc<str>, DateTime<Utc>)>,
    /// Why there is no newer one.
    pub(super) problem: Option<Problem>,
    /// It is not there, or too old, and a newer one is being asked for.
    pub(super) is_awaited: bool,
    asked: Option<Instant>,
    took: Duration,
}

impl Answer {
    /// No answer, since the question cannot be asked.
    pub(super) fn problem(problem: Problem) -> Self {
        Self { problem: Some(problem), ..Self::default() }
    }

    fn age(&self) -> Duration {
        self.asked.map_or(Duration::MAX, |asked| asked.elapsed())
    }

    fn is_fresh(&self, fresh: Duration) -> bool {
        let usual = fresh.max(self.took * TIMES_AS_LONG);
        self.age() < if self.problem.is_some() { AGAIN.min(fresh) } else { usual }
    }

    fn is_tolerable(&self, fresh: Duration) -> bool {
        self.drawn.is_some() && self.age() < fresh.max(self.took * TIMES_AS_LONG) + TOLERATED
    }
}

/// Where the answer to one question is kept. Whoever has the turn asks.
#[derive(Default)]
struct Place {
    kept: Mutex<Answer>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Place {
    fn kept(&self) -> Answer {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks in the background, unless somebody does already.
    fn ask<F>(self: &Arc<Self>, fresh: Duration, ask: impl FnOnce() -> F)
    where
        F: Future<Output = Result<Markup, Problem>> + Send + 'static,
    {
        let Ok(turn) = Arc::clone(&self.turn).try_lock_owned() else { return };
        if self.kept().is_fresh(fresh) {
            return;
        }
        let (place, asked) = (Arc::clone(self), ask());
        tokio::spawn(async move {
            place.renew(asked).await;
            drop(turn);
        });
    }

    async fn renew(&self, ask: impl Future<Output = Result<Markup, Problem>>) {
        let asked = Instant::now();
        let said = ask.await;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match said {
            Ok(markup) => {
                kept.drawn = Some((markup.into_string().into(), Utc::now()));
                kept.problem = None;
            }
            Err(problem) => kept.problem = Some(problem),
        }
        kept.asked = Some(Instant::now());
        kept.took = asked.elapsed();
    }
}

/// The answers that are kept, each under a name.
#[derive(Default)]
pub(super) struct Shared {
    places: Mutex<HashMap<String, Arc<Place>>>,
}

impl Shared {
    /// The answer under a name, not much older than `fresh`, or after `patience` whatever there is.
    pub(super) async fn answer<F>(
        &self,
        name: String,
        fresh: Duration,
        patience: Duration,
        ask: impl FnOnce() -> F,
    ) -> Answer
    where
        F: Future<Output = Result<Markup, Problem>> + Send + 'static,
    {
        let place = self.place(&name);
        let kept = place.kept();
        if kept.is_fresh(fresh) {
            return kept;
        }
        place.ask(fresh, ask);
        if kept.is_tolerable(fresh) {
            return kept;
        }
        // Whoever asks has the turn until the answer is there.
        let is_awaited = timeout(patience, place.turn.lock()).await.is_err();
        Answer { is_awaited, ..place.kept() }
    }

    fn place(&self, name: &str) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= KEPT_MAX && !places.contains_key(name) {
            places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        Arc::clone(places.entry(name.to_owned()).or_default())
    }

    /// After a change, everybody sees what is so now. What was asked before the change and is answered later is not kept; what was
    /// known stays until the next answer, with its time.
    pub(super) fn forget(&self) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        for place in places.values_mut() {
            let kept = Answer { drawn: place.kept().drawn, ..Answer::default() };
            *place = Arc::new(Place { kept: Mutex::new(kept), ..Place::default() });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use maud::html;
    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const PATIENCE: Duration = Duration::from_millis(80);

    fn drawn(answer: &Answer) -> &str {
        answer.drawn.as_ref().unwrap().0.as_ref()
    }

    /// Asks what is answered at once.
    async fn look(shared: &Shared, says: &'static str) -> Answer {
        shared.answer("a".to_owned(), LONG, LONG, || async move { Ok(html! { (says) }) }).await
    }

    #[tokio::test]
    async fn many_who_look_at_once_cost_one_question() {
        let (shared, asked) = (Shared::default(), Arc::new(AtomicUsize::new(0)));
        let look = || {
            let asked = Arc::clone(&asked);
            shared.answer("a".to_owned(), LONG, LONG, || async move {
                Ok(html! { (asked.fetch_add(1, Ordering::Relaxed)) })
            })
        };

        let answers = join_all((0..50).map(|_| look())).await;

        assert!(answers.iter().all(|answer| drawn(answer) == "0"));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        shared.forget();
        assert_eq!(drawn(&look().await), "1");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_on_without_an_answer_learns_that_it_comes_and_finds_it_later() {
        let shared = Shared::default();
        let (says, said) = oneshot::channel();

        let first =
            shared.answer("a".to_owned(), LONG, PATIENCE, || async move { Ok(said.await.unwrap()) }).await;
        let second =
            shared.answer("a".to_owned(), LONG, PATIENCE, || async { panic!("it is asked already") }).await;
        for answer in [first, second] {
            assert!(answer.is_awaited && answer.drawn.is_none() && answer.problem.is_none());
        }
        says.send(html! { "one" }).unwrap();

        let later = look(&shared, "two").await;
        assert_eq!((drawn(&later), later.is_awaited), ("one", false));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_change_what_was_known_is_shown_as_old_and_what_was_asked_before_is_not_kept() {
        let shared = Shared::default();
        look(&shared, "one").await;
        shared.forget();
        let (says, said) = oneshot::channel();

        let meanwhile =
            shared.answer("a".to_owned(), LONG, PATIENCE, || async move { Ok(said.await.unwrap()) }).await;
        assert_eq!((drawn(&meanwhile), meanwhile.is_awaited), ("one", true));

        shared.forget();
        says.send(html! { "asked before the change" }).unwrap();
        assert_eq!(drawn(&look(&shared, "two").await), "two");
    }

    #[tokio::test]
    async fn an_outage_shows_the_last_answer_and_what_keeps_it_from_a_newer_one() {
        let shared = Shared::default();
        look(&shared, "one").await;

        let place = shared.place("a");
        place.renew(async { Err("away".to_owned()) }).await;

        let away = look(&shared, "two").await;
        assert_eq!((drawn(&away), away.problem.as_deref()), ("one", Some("away")));
    }

    #[tokio::test]
    async fn no_more_answers_are_kept_than_there_is_room_for() {
        let shared = Shared::default();
        for name in 0..2 * KEPT_MAX {
            shared.answer(name.to_string(), AGAIN, LONG, || async { Ok(html! { "x" }) }).await;
        }
        assert!(shared.places.lock().unwrap().len() <= KEPT_MAX);
    }
}
