//! What everybody who looks shares: each panel is asked for at most every few seconds, however many browsers are open.
//!
//! Whoever comes while a question is being asked waits for its answer. If the database does not answer, the last answer is
//! shown, with its time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use maud::Markup;

use super::reader::Problem;

/// How soon a question that got no answer is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// A question that takes long is asked less often: it keeps its connection busy for 2 % of the time at most.
const TIMES_AS_LONG: u32 = 50;

/// An answer that is older than it should be is shown at once up to this age, while the next one is asked for.
const TOLERATED: Duration = Duration::from_secs(10);

/// How many answers are kept. Searches are answers too.
const KEPT_MAX: usize = 200;

/// An answer, drawn.
#[derive(Clone, Default)]
pub(super) struct Answer {
    /// As HTML, and since when; none if there never was one.
    pub(super) drawn: Option<(Arc<str>, DateTime<Utc>)>,
    /// Why there is no newer one.
    pub(super) problem: Option<Problem>,
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
    /// The answer under a name, not much older than `fresh` unless the database does not give one.
    pub(super) async fn answer<F>(&self, name: String, fresh: Duration, ask: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Result<Markup, Problem>> + Send + 'static,
    {
        let place = self.place(&name);
        let kept = place.kept();
        if kept.is_fresh(fresh) {
            return kept;
        }
        if kept.is_tolerable(fresh) {
            if let Ok(turn) = Arc::clone(&place.turn).try_lock_owned() {
                let asked = ask();
                tokio::spawn(async move {
                    place.renew(asked).await;
                    drop(turn);
                });
            }
            return kept;
        }
        let _turn = Arc::clone(&place.turn).lock_owned().await;
        if !place.kept().is_fresh(fresh) {
            place.renew(ask()).await;
        }
        place.kept()
    }

    fn place(&self, name: &str) -> Arc<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.len() >= KEPT_MAX && !places.contains_key(name) {
            places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        Arc::clone(places.entry(name.to_owned()).or_default())
    }

    /// After a change, everybody sees what is so now.
    pub(super) fn forget(&self) {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use maud::html;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn drawn(answer: &Answer) -> &str {
        answer.drawn.as_ref().unwrap().0.as_ref()
    }

    #[tokio::test]
    async fn many_who_look_at_once_cost_one_question() {
        let (shared, asked) = (Shared::default(), Arc::new(AtomicUsize::new(0)));
        let look = || {
            let asked = Arc::clone(&asked);
            shared.answer("a".to_owned(), LONG, || async move {
                Ok(html! { (asked.fetch_add(1, Ordering::Relaxed)) })
            })
        };

        let answers = join_all((0..50).map(|_| look())).await;

        assert!(answers.iter().all(|answer| drawn(answer) == "0"));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        shared.forget();
        assert_eq!(drawn(&look().await), "1");
    }

    #[tokio::test]
    async fn an_outage_shows_the_last_answer_and_what_keeps_it_from_a_newer_one() {
        let shared = Shared::default();
        shared.answer("a".to_owned(), LONG, || async { Ok(html! { "one" }) }).await;

        let place = shared.place("a");
        place.renew(async { Err("away".to_owned()) }).await;

        let away = shared.answer("a".to_owned(), LONG, || async { Ok(html! { "two" }) }).await;
        assert_eq!((drawn(&away), away.problem.as_deref()), ("one", Some("away")));
    }

    #[tokio::test]
    async fn no_more_answers_are_kept_than_there_is_room_for() {
        let shared = Shared::default();
        for name in 0..2 * KEPT_MAX {
            shared.answer(name.to_string(), AGAIN, || async { Ok(html! { "x" }) }).await;
        }
        assert!(shared.places.lock().unwrap().len() <= KEPT_MAX);
    }
}
