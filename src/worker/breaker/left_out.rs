//! What claims of this worker leave out while the API does not answer, and the events that it tries all the same.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Shared by the breaker, which says what is left out, by claims, and by attempts.
#[derive(Debug, Default)]
pub(in crate::worker) struct LeftOut {
    state: Mutex<State>,
    /// Less is left out than before, so that a claim may find more.
    pub(in crate::worker) less: Notify,
    /// Notified when the breaker should look: a try has ended, or a part has failed or answered.
    pub(in crate::worker) news: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    pattern: Option<String>,
    tried: BTreeMap<i64, Progress>,
}

/// How far the attempt at an event that is tried has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    NotBegun,
    UnderWay,
    Ended,
}

/// What a claim leaves out.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::worker) struct Except {
    /// The pattern of `restante.need_name()`.
    pub(in crate::worker) pattern: String,
    /// Events that are claimed although they match it.
    pub(in crate::worker) but_for: Vec<i64>,
}

/// An attempt at an event that is tried.
pub(in crate::worker) struct Trying<'a> {
    left_out: &'a LeftOut,
    event: i64,
}

impl LeftOut {
    /// What a claim leaves out now; none, while the API answers.
    pub(in crate::worker) fn except(&self) -> Option<Except> {
        let state = self.state();
        let pattern = state.pattern.clone()?;
        Some(Except { pattern, but_for: state.tried.keys().copied().collect() })
    }

    /// An attempt begins. Returns what to keep until it ends, if its event is one that is tried.
    pub(in crate::worker) fn begin(&self, event: i64) -> Option<Trying<'_>> {
        *self.state().tried.get_mut(&event)? = Progress::UnderWay;
        Some(Trying { left_out: self, event })
    }

    /// From now on claims leave this out.
    pub(super) fn leave_out(&self, pattern: Option<String>) {
        let mut state = self.state();
        if state.pattern != pattern {
            state.pattern = pattern;
            self.less.notify_one();
        }
    }

    /// From now on this event is claimed all the same.
    pub(super) fn try_event(&self, event: i64) {
        self.state().tried.insert(event, Progress::NotBegun);
        self.less.notify_one();
    }

    pub(super) fn progress(&self, event: i64) -> Progress {
        self.state().tried.get(&event).copied().unwrap_or(Progress::Ended)
    }

    pub(super) fn forget(&self, event: i64) {
        self.state().tried.remove(&event);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if let Some(progress) = self.left_out.state().tried.get_mut(&self.event) {
            *progress = Progress::Ended;
        }
        self.left_out.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_leaves_out_what_matches_but_for_what_is_tried() {
        let left_out = LeftOut::default();
        assert_eq!(left_out.except(), None);
        left_out.leave_out(Some("pattern".to_owned()));
        left_out.try_event(7);
        let except = Except { pattern: "pattern".to_owned(), but_for: vec![7] };
        assert_eq!(left_out.except(), Some(except));
        assert!(left_out.begin(8).is_none());
        assert_eq!(left_out.progress(7), Progress::NotBegun);

        let trying = left_out.begin(7);
        assert_eq!(left_out.progress(7), Progress::UnderWay);
        drop(trying);
        assert_eq!(left_out.progress(7), Progress::Ended);
        left_out.forget(7);
        assert!(left_out.except().unwrap().but_for.is_empty());
    }
}
