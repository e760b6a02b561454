//! One attempt: run the handler of a claimed event under its lease, and settle what comes of it.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use rand::Rng;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument;

use crate::database::{Connections, Lent};
use crate::event::Event;
use crate::handler::{Context, Database, Deadline, Error};
use crate::outbox::Claimed;
use crate::outbox::settle::{Failure, Finish, Finished, Verdict};
use crate::registry::{Registry, Route};
use crate::worker::keeper::{Keeper, Kept};
use crate::worker::settler::Settler;
use crate::worker::settling::{self, Committed, Settled};
use crate::worker::successors::Successors;
use crate::{api, batch, database, telemetry};

/// After this many vanished workers an event is given up without being run again: it may well be what kills them. Before the
/// last of them it runs alone, so that it takes nobody along.
pub(super) const CRASHES_MAX: i32 = 3;

/// What all attempts of a worker share.
pub(super) struct Shared {
    pub(super) pool: PgPool,
    /// For the transactions of handlers.
    pub(super) connections: Connections,
    pub(super) registry: Registry,
    /// The types that have a handler: labels of metrics are bounded by them.
    pub(super) event_types: Vec<&'static str>,
    pub(super) api: api::Client,
    pub(super) keeper: Keeper,
    /// How long a lease lasts.
    pub(super) lease: Duration,
    pub(super) settler: Settler,
    pub(super) successors: Arc<Successors>,
    /// Told when something may be claimed that could not be before.
    pub(super) more: Arc<Notify>,
}

/// What the handler wrote, where it wrote anything.
type Written<'a> = Option<Transaction<'a, Postgres>>;

/// What came of the handler.
enum Outcome {
    Succeeded(Finished),
    Failed(Failed),
    LeaseLost,
}

/// An attempt that did not succeed.
struct Failed {
    verdict: Verdict,
    reason: String,
    /// What it is called in the metrics and the log.
    label: &'static str,
}

/// Runs one attempt, and settles it or has it settled. Returns how long its handler took.
pub(super) async fn run(shared: Arc<Shared>, claimed: Claimed, leased_until: Instant) -> Duration {
    let event = &claimed.event;
    let span = tracing::info_span!(
        "attempt",
        event.id = event.event_id,
        event.r#type = event.event_type,
        attempt = event.attempt,
        subscriber = event.subscriber,
    );
    async {
        let started = Instant::now();
        let route = shared.registry.route(&event.subscriber, &event.event_type);
        let deadline = Deadline::new(route.map_or(Duration::ZERO, Route::timeout));
        // Kept until the event is settled, however long the database takes for that.
        let kept = shared.keeper.keep(claimed.lease, leased_until, deadline.clone());
        let (mut place, mut has_returned) = (None, false);
        let (outcome, written) = match route {
            _ if batch::is_standing(event) && !shared.registry.names("", &event.event_type) => {
                (left_to_others(), None)
            }
            Some(route) => {
                let cx = (&mut place, &mut has_returned);
                decide(&shared, &claimed, route, &kept, &deadline, cx).await
            }
            None => (Outcome::Succeeded(finished(&claimed, Finish::Ignored, None)), None),
        };
        let took = started.elapsed();
        let committed = match (&outcome, written) {
            (Outcome::Succeeded(finished), Some(written)) => {
                Some(settling::commit(written, finished, &shared.successors).await)
            }
            _ => None,
        };
        let outcome = if let Some(committed) = committed {
            conclude(&shared, &claimed, route, committed, place).await
        } else {
            // Given back, and with it rolled back, before the event is settled and may run again. That of a handler that was cut
            // is closed.
            if has_returned && let Some(connection) = place {
                connection.give_back();
            }
            Err(outcome)
        };
        let label = match outcome {
            Ok(settled) => {
                tell(&shared, settled);
                settled.label().unwrap_or("done")
            }
            Err(outcome) => settle(&shared, &claimed, kept, outcome).await,
        };
        let event_type = telemetry::event_type_label(&shared.event_types, &event.event_type);
        metrics::counter!(telemetry::metric::ATTEMPTS_TOTAL, "outcome" => label, "event_type" => event_type)
            .increment(1);
        metrics::histogram!(telemetry::metric::ATTEMPT_SECONDS, "event_type" => event_type)
            .record(took.as_secs_f64());
        tracing::debug!(outcome = label, duration_ms = took.as_millis(), "attempt ended");
        took
    }
    .instrument(span)
    .await
}

/// One of the engine's own jobs, and this worker has no handler for it: it must not end as `ignored`.
fn left_to_others() -> Outcome {
    let reason = "this worker has no handler for it, or its search is turned off; another worker may take it";
    let verdict = Verdict::Defer { wait: Duration::from_secs(60) };
    Outcome::Failed(Failed { verdict, reason: reason.to_owned(), label: "deferred" })
}

fn finished(claimed: &Claimed, finish: Finish, result: Option<String>) -> Finished {
    Finished { lease: claimed.lease, finish, result }
}

/// Runs the handler, unless the event is not to be run again.
async fn decide<'a>(
    shared: &'a Shared,
    claimed: &'a Claimed,
    route: &dyn Route,
    kept: &Kept,
    deadline: &Deadline,
    (place, has_returned): (&'a mut Option<Lent>, &mut bool),
) -> (Outcome, Written<'a>) {
    if claimed.crashes >= CRASHES_MAX {
        let reason = format!("given up: {} workers vanished while they ran it", claimed.crashes);
        let failure = Failure { outcome: "crashed", kind: "crash" };
        let verdict = Verdict::Dead { failure, holds_key: route.dead_holds_key() };
        return (Outcome::Failed(Failed { verdict, reason, label: failure.outcome }), None);
    }
    let database = Database { pool: &shared.pool, connections: &shared.connections, place };
    let mut cx =
        Context::new(&claimed.event, &shared.api, database, claimed.lease, shared.lease, deadline.clone());
    let watched = watched(route, &mut cx, kept, deadline).await;
    *has_returned = matches!(watched, Watched::Returned(_));
    let outcome = match watched {
        Watched::Returned(Ok(())) => {
            let (written, result) = cx.into_parts();
            return (Outcome::Succeeded(finished(claimed, Finish::Done, result)), written);
        }
        Watched::Returned(Err(error)) => classify(error, claimed, route),
        Watched::Panicked(message) => {
            failed(claimed, route, Failure { outcome: "panicked", kind: "panic" }, None, message)
        }
        Watched::TimedOut => {
            let message = format!("no progress within {} s", deadline.timeout().as_secs_f32());
            failed(claimed, route, Failure { outcome: "timed_out", kind: "timeout" }, None, message)
        }
        Watched::LeaseLost => Outcome::LeaseLost,
    };
    (outcome, None)
}

enum Watched {
    Returned(crate::handler::Result),
    Panicked(String),
    TimedOut,
    LeaseLost,
}

/// Runs the handler until it returns, panics, outlives its deadline, or loses its lease.
async fn watched(route: &dyn Route, cx: &mut Context<'_>, kept: &Kept, deadline: &Deadline) -> Watched {
    let handler = AssertUnwindSafe(route.run(cx)).catch_unwind();
    tokio::pin!(handler);
    loop {
        let due = deadline.at();
        tokio::select! {
            biased;
            result = &mut handler => return match result {
                Ok(result) => Watched::Returned(result),
                Err(panic) => Watched::Panicked(panic_message(panic.as_ref())),
            },
            () = kept.lost() => return Watched::LeaseLost,
            // Progress may have moved the deadline while this slept.
            () = tokio::time::sleep_until(due) => if deadline.at() <= Instant::now() {
                return Watched::TimedOut;
            },
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", text.unwrap_or("(without a message)"))
}

/// What an error of the handler means for its event.
fn classify(error: Error, claimed: &Claimed, route: &dyn Route) -> Outcome {
    let kind = error.kind();
    let waits = |verdict, reason, label| Outcome::Failed(Failed { verdict, reason, label });
    match error {
        Error::Retryable(error) => {
            failed(claimed, route, Failure { outcome: "retryable", kind }, None, chain(&error))
        }
        Error::RetryAfter(wait, error) => {
            failed(claimed, route, Failure { outcome: "retryable", kind }, Some(wait), chain(&error))
        }
        Error::Permanent(error) => {
            let failure = Failure { outcome: "permanent", kind };
            let verdict = Verdict::Dead { failure, holds_key: route.dead_holds_key() };
            waits(verdict, chain(&error), failure.outcome)
        }
        Error::Snooze(wait, reason) => waits(Verdict::Snooze { wait }, reason.into_owned(), "snoozed"),
        Error::Defer(wait, reason) => waits(Verdict::Defer { wait }, reason.into_owned(), "deferred"),
        Error::Trouble(wait, error) => {
            // A fifth more at random, or all that wait for the same trouble come back in one moment.
            let wait = wait.saturating_add(wait.min(MOST) / 1000 * rand::rng().random_range(0..200));
            waits(Verdict::Trouble { wait, kind }, chain(&error), "trouble")
        }
        Error::LeaseLost => Outcome::LeaseLost,
    }
}

/// Longer waits are not spread any further.
const MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// A failure that counts: again after a while, or dead when there have been enough.
fn failed(
    claimed: &Claimed,
    route: &dyn Route,
    failure: Failure,
    retry_after: Option<Duration>,
    reason: String,
) -> Outcome {
    let policy = route.retry();
    let attempt = u32::try_from(claimed.event.attempt).unwrap_or(1);
    let attempts_max =
        claimed.max_attempts.map_or(policy.attempts_max, |most| u32::try_from(most).unwrap_or(0));
    let verdict = if attempt >= attempts_max {
        Verdict::Dead { failure, holds_key: route.dead_holds_key() }
    } else {
        let chance = rand::rng().random_range(0.0..1.0);
        Verdict::Retry { failure, wait: policy.wait(attempt, retry_after, chance) }
    };
    Outcome::Failed(Failed { verdict, reason, label: failure.outcome })
}

/// An error with its causes, in one line.
fn chain(error: &anyhow::Error) -> String {
    database::told(error.as_ref())
}

/// Follows up on the commit of what the handler wrote: it is settled, or the attempt has failed after all.
async fn conclude(
    shared: &Shared,
    claimed: &Claimed,
    route: Option<&dyn Route>,
    committed: sqlx::Result<Committed>,
    place: Option<Lent>,
) -> Result<Settled, Outcome> {
    let committed = match committed {
        Ok(committed) => {
            if let Some(connection) = place {
                connection.keep();
            }
            committed
        }
        Err(error) => {
            drop(place);
            shared.successors.note_lost_answer();
            settling::find_out(&shared.pool, claimed.lease, error).await
        }
    };
    match (committed, route) {
        (Committed::Done { unblocked }, _) => Ok(Settled::Done { unblocked }),
        (Committed::Unknown, _) => Ok(Settled::Unknown),
        (Committed::Locked, Some(route)) => {
            let reason = anyhow::anyhow!("somebody else has locked the event; not committed");
            Err(classify(Error::Trouble(AGAIN_SOON, reason), claimed, route))
        }
        // What it wrote is what the database refuses: as if the statement itself had failed.
        (Committed::Refused(error), Some(route)) => {
            Err(classify(Error::from(error).context("not committed"), claimed, route))
        }
        (Committed::LeaseLost, _) | (_, None) => Err(Outcome::LeaseLost),
    }
}

/// The event is unlocked in a moment, or its transaction could not be committed at this one.
const AGAIN_SOON: Duration = Duration::from_millis(100);

/// Settles the outcome of a handler that wrote nothing, and names it for the metrics.
async fn settle(shared: &Shared, claimed: &Claimed, kept: Kept, outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded(finished) => {
            let label = if finished.finish == Finish::Done { "done" } else { "ignored" };
            // Together with others. Where they all wait for the database, so does this attempt.
            shared.settler.finish(finished, kept).await;
            label
        }
        Outcome::Failed(failed) => {
            let settled = settling::fail(&shared.pool, claimed.lease, &failed.verdict, &failed.reason).await;
            if matches!(settled, Settled::Done { .. }) {
                log_failure(&claimed.event, &failed);
            }
            tell(shared, settled);
            settled.label().unwrap_or(failed.label)
        }
        Outcome::LeaseLost => {
            tell(shared, Settled::LeaseLost);
            // It may only have run out: while the database was away, or while a person had the event locked.
            let (pool, lease) = (shared.pool.clone(), claimed.lease);
            tokio::spawn(async move { settling::hand_back(&pool, lease).await });
            "lease_lost"
        }
    }
}

fn tell(shared: &Shared, settled: Settled) {
    if settled.tell() {
        shared.more.notify_one();
    }
}

/// Says once what failed, as loud as it deserves.
fn log_failure(event: &Event, Failed { verdict, reason, label }: &Failed) {
    match verdict {
        Verdict::Retry { failure, wait } => tracing::warn!(
            outcome = failure.outcome,
            kind = failure.kind,
            wait_ms = wait.as_millis(),
            reason,
            "attempt {} failed; the event runs again later",
            event.attempt
        ),
        Verdict::Trouble { wait, kind } => tracing::warn!(
            kind,
            wait_ms = wait.as_millis(),
            reason,
            "the event waits for something that is wrong on our side, or on the API's; the attempt does not count"
        ),
        Verdict::Snooze { wait } | Verdict::Defer { wait } => {
            // The reason is in the row. It may quote what a customer wrote, and nobody has to act on it.
            tracing::debug!(
                wait_ms = wait.as_millis(),
                outcome = *label,
                "the event waits; the attempt does not count"
            );
        }
        Verdict::Dead { failure, .. } => tracing::error!(
            outcome = failure.outcome,
            kind = failure.kind,
            reason,
            "attempt {} failed; the event is a dead letter now",
            event.attempt
        ),
    }
}
