//! The turn of the successors: which events may be leased together with the completion of the one before.
//!
//! That spares a key the way through `pending` and a claim. It must not reverse the order among the keys: a successor is
//! leased only where every older event has been claimed already, or where nothing waits to be claimed.

use chrono::{DateTime, Utc};

/// Which successors may be leased along with a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Turn {
    /// None.
    Nobody,
    /// Those that were created then or before.
    Until(DateTime<Utc>),
    /// All of them.
    Everybody,
}

impl Turn {
    /// For a worker that looks for events, and has claimed everything that was created before `reached`.
    pub(super) fn until(reached: Option<DateTime<Utc>>) -> Self {
        reached.map_or(Turn::Nobody, Turn::Until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_claim_has_reached_anything_nobody_has_a_turn() {
        assert_eq!(Turn::until(None), Turn::Nobody);
        assert_eq!(Turn::until(Some(DateTime::UNIX_EPOCH)), Turn::Until(DateTime::UNIX_EPOCH));
    }
}
