//! The turn of successors: which of them a completion may lease.
//!
//! That saves a key the way through `pending` and a claim. It must not reverse the order among keys: a successor is
//! leased only if every older event has been claimed already, or if nothing waits to be claimed.

use chrono::{DateTime, Utc};

/// Which successors a completion may lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::worker) enum Turn {
    /// None.
    Nobody,
    /// Those that were created at this time or earlier.
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
