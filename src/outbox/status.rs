//! The words of an event's status, as the domain `restante.event_status` has them (a test compares the two).

/// Each status of an event that is not finished, in the order of an event's way.
pub const UNFINISHED: [&str; 6] = ["pending", "running", "retry", "blocked", "paused", "dead"];

/// Each status of a finished event.
pub const FINISHED: [&str; 3] = ["done", "ignored", "cancelled"];

/// Each state that `restante.state()` tells apart among unfinished events: every status, then two that need nobody's attention.
pub const STATES: [&str; UNFINISHED.len() + 2] = {
    let [pending, running, retry, blocked, paused, dead] = UNFINISHED;
    [pending, running, retry, blocked, paused, dead, "scheduled", "standing"]
};
