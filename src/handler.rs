//! The contract of a handler: which events it answers, what it may use, and what its result means.
//!
//! | a handler returns | means | the event then | counts as an attempt |
//! |---|---|---|---|
//! | `Ok(())` | handled | is `done`, in one commit with what was written through [`Context::tx`] | yes |
//! | [`Error::Retryable`], [`Error::RetryAfter`] | may work later | runs again after a growing wait; `dead` when its policy is spent | yes |
//! | [`Error::Permanent`] | will never work: something is wrong with *the event* | is `dead` now | yes |
//! | [`Error::Snooze`] | too early: all is well | runs again after that wait, with earlier failures forgiven | no |
//! | [`Error::Defer`] | not now: it has not had its turn | runs again after that wait | no |
//! | [`Error::Trouble`] | something is wrong with *us*, or with the other side | runs again after that wait | no, within [`Handler::PATIENCE`] |
//! | a panic, a timeout, a crash | unknown | as for `Retryable`; three crashes make it `dead` | yes |
//!
//! If an attempt does not count, the row says in `last_error` what the event waits for. No wait is longer than a year.
//!
//! `Err` rolls back what was written through [`Context::tx`]. `?` converts only [`api::Error`](crate::api::Error) and
//! [`sqlx::Error`]; the handler classifies any other error itself, with [`Classify`]. The two convert like this:
//!
//! | error | is |
//! |---|---|
//! | the API refuses the key, the account or the request; it redirects, answers not as an API does, or not at all | `Trouble` |
//! | the account of the event is not configured, or has no Admin key where one is needed | `Trouble` |
//! | the API does not find the object (404) | `Retryable` |
//! | the id cannot be part of a URL | `Permanent` |
//! | the database is away or read-only, ends a deadlock, has no room; a table, a column or a right is missing | `Trouble` |
//! | the database will never accept the value: SQLSTATE 22xxx, 54xxx | `Permanent` |
//! | any other error of the database | `Retryable` |

use std::future::Future;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::event::Event;
use crate::retry;

mod checkpoint;
mod context;
mod deadline;
mod error;
mod senders;

pub use checkpoint::Checkpoint;
pub(crate) use checkpoint::Fence;
pub use context::Context;
pub(crate) use context::{AttemptTx, Left};
pub(crate) use deadline::Deadline;
pub use error::{Classify, Error};
pub use senders::Senders;

/// What a handler returns.
pub type Result = std::result::Result<(), Error>;

/// Answers one or more types of event.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handler",
    note = "write `impl Handler for {Self}` with EVENT_TYPES, Payload and `async fn handle`; src/handlers shows how"
)]
pub trait Handler: Send + Sync + 'static {
    /// The types it answers, as the API spells them. A trailing `*` covers any ending: `session.*`.
    const EVENT_TYPES: &'static [&'static str];
    /// Whose events of these types it answers. An event that only handlers of other senders would answer ends as
    /// `ignored`.
    const SENDERS: Senders = Senders::Any;
    /// How often, and how far apart, attempts are made.
    const RETRY: retry::Policy = retry::Policy::DEFAULT;
    /// How long an attempt may take without reporting [progress](Context::progress).
    const TIMEOUT: Duration = Duration::from_secs(30);
    /// How long [trouble](Error::Trouble) is waited out, counted from when the event was received. After that it counts
    /// as a failure.
    const PATIENCE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    /// Whether a dead letter keeps later events of its key waiting until a person has replayed or cancelled it.
    const DEAD_HOLDS_KEY: bool = false;
    /// The part of the API without which it cannot handle events of this type (or of this pattern, as in [`EVENT_TYPES`](Self::EVENT_TYPES)):
    /// what follows `/v1/` in the paths that it asks for, such as `sessions`, `messages`, and `batches` for `/v1/messages/batches`. None,
    /// unless it says otherwise.
    ///
    /// While that part does not answer the account of an event, no worker claims the event, but for one at a time that finds out whether
    /// it answers again. A handler that asks the API and does not say so is claimed meanwhile, and its event then waits as in trouble.
    fn needs_of_api(&self, _event_type: &str) -> Option<&'static str> {
        None
    }
    /// Names the object whose newest state is all that this handler needs of an event; none, unless it says otherwise.
    ///
    /// An attempt then also settles the events of its key that waited when it began (or when it [said](Context::asks_for_state_at) that it asks) and for which this gives the same name: they are
    /// `done` without an attempt of their own, in the commit of the attempt, and their `result` says `settled_by`. So ask for the
    /// state in [`handle`](Handler::handle), and not before.
    fn newest_state_of(&self, _event: &Event) -> Option<String> {
        None
    }

    /// The type that [`Event::data`](crate::Event::data) is read into. An event that does not fit becomes a dead letter.
    type Payload: DeserializeOwned + Send;

    /// Handles one event. It runs at least once for each event, because a worker may vanish at any point. What it
    /// writes through [`Context::tx`] is committed exactly once; what it does elsewhere must be safe to do twice.
    fn handle(&self, cx: &mut Context<'_>, payload: Self::Payload) -> impl Future<Output = Result> + Send;
}
