//! What the breaker that workers share has to know of this process, and what it tells.

use std::sync::Arc;

use tokio::sync::Notify;

use super::Health;
use super::part::{Held, Part};

/// A part that does not answer this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) part: String,
    /// The kind of the last error.
    pub(crate) kind: &'static str,
    /// Its text.
    pub(crate) said: String,
}

/// How the breaker of an account stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Open<'a> {
    /// The parts that do not answer; none while it is closed.
    pub(crate) parts: &'a [String],
    /// The kind of the last error.
    pub(crate) kind: &'static str,
    /// What the API said.
    pub(crate) said: &'a str,
    /// The part that this worker tries.
    pub(crate) probed: Option<&'a str>,
    /// Parts were added or taken out since this worker looked last.
    pub(crate) is_news: bool,
}

/// The governor deals with limits.
pub(super) fn is_shared(part: &Part) -> bool {
    part.kind != "rate_limited"
}

impl Health {
    /// From now on `news` is notified when a part comes into trouble, and when one that is held answers.
    pub(in crate::api) fn tell_breaker(&self, news: &Arc<Notify>) {
        // A second one would be that of the same worker.
        let _ = self.breaker.set(Arc::clone(news));
    }

    /// The parts that do not answer this process, by its own experience.
    pub(in crate::api) fn troubles(&self) -> Vec<Trouble> {
        let state = self.state();
        let failed = state.parts.iter().filter(|(_, part)| part.has_failed() && is_shared(part));
        failed
            .map(|(name, part)| Trouble { part: name.clone(), kind: part.kind, said: part.said.clone() })
            .collect()
    }

    /// What the API said last when a request for this part failed, and the kind of that; none if it was answered since.
    pub(in crate::api) fn last_failure(&self, part: &str) -> Option<(&'static str, String)> {
        let state = self.state();
        let part = state.parts.get(part).filter(|part| part.failures > 0)?;
        Some((part.kind, part.said.clone()))
    }

    /// How many requests for this part were answered.
    pub(in crate::api) fn answers(&self, part: &str) -> u64 {
        self.state().parts.get(part).map_or(0, |part| part.answers)
    }

    /// Takes note of how the breaker stands. What is open for all is not asked here, unless this worker tries it; what is not any
    /// more begins slowly.
    pub(in crate::api) fn heed(&self, open: Open<'_>) {
        let mut state = self.state();
        for name in open.parts {
            super::part_of(&mut state.parts, name);
        }
        let mut has_recovered = false;
        for (name, part) in &mut state.parts {
            if open.parts.contains(name) {
                let is_probed = open.probed == Some(name);
                part.held = Some(Held { kind: open.kind, said: open.said.to_owned(), is_probed });
            } else if part.held.take().is_some() || (open.is_news && part.has_failed() && is_shared(part)) {
                // Failures from before the news say nothing of now.
                part.begin_anew();
                has_recovered = true;
            }
        }
        if has_recovered {
            state.things.clear();
            drop(state);
            self.has_recovered();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::part::FAILURES_MIN;
    use super::*;
    use crate::api::Error;

    const PATH: &str = "/v1/sessions/a";

    async fn fail(health: &Health) -> Error {
        health.ask_apart(PATH, async { Err::<(), _>(Error::Redirected { status: 302 }) }).await.unwrap_err()
    }

    fn heed(health: &Health, parts: &[&str], probed: Option<&str>) {
        let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        health.heed(Open { parts: &parts, kind: "account", said: "401", probed, is_news: true });
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_open_for_all_is_asked_by_the_one_that_tries_and_by_nobody_else() {
        let health = Health::new();
        heed(&health, &["sessions"], None);
        let Error::NotAsked { wait, said, kind, is_first } = fail(&health).await else {
            panic!("it was asked")
        };
        assert_eq!(
            (kind, said.as_str(), is_first),
            ("account", "401", false),
            "although this process has asked nothing"
        );
        assert!(wait >= Duration::from_secs(300), "it is released before that");

        heed(&health, &["sessions"], Some("sessions"));
        assert!(matches!(fail(&health).await, Error::Redirected { .. }));
        assert_eq!(health.answers("sessions"), 0);
        tokio::time::advance(Duration::from_secs(1)).await;
        health.ask(PATH, async { Ok(()) }).await.unwrap();
        assert_eq!(health.answers("sessions"), 1);

        heed(&health, &["sessions"], None);
        assert!(
            matches!(fail(&health).await, Error::NotAsked { .. }),
            "one answer opens it for nobody before all know"
        );
        heed(&health, &[], None);
        assert!(matches!(fail(&health).await, Error::Redirected { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn trouble_from_before_a_repair_that_others_have_seen_is_over() {
        let (health, news) = (Health::new(), Arc::new(Notify::new()));
        health.tell_breaker(&news);
        for _ in 0..FAILURES_MIN {
            fail(&health).await;
        }
        news.notified().await;
        let troubles = health.troubles();
        assert_eq!(
            (troubles.len(), troubles[0].part.as_str(), troubles[0].kind),
            (1, "sessions", "redirected")
        );

        let recoveries = health.recoveries();
        heed(&health, &[], None);
        assert_eq!(health.troubles(), []);
        assert!(recoveries.has_changed().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_no_trouble_for_all() {
        let health = Health::new();
        for _ in 0..FAILURES_MIN {
            let limited =
                async { Err::<(), _>(Error::RateLimited { retry_after: None, answer: Box::default() }) };
            health.ask_apart(PATH, limited).await.unwrap_err();
        }
        assert!(health.trouble().is_some());
        assert_eq!(health.troubles(), []);
    }
}
