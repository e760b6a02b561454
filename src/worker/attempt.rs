//! One attempt: runs the handler of a claimed event under its lease, and settles the event.
//!
//! What the handler returns is an intention. The attempt has an outcome only when the database has answered, and only
//! then is it counted and logged ([`Report`]).

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::database::{Connections, answered};
use crate::event::ANTHROPIC;
use crate::handler::{AttemptTx, Context, Deadline, Fence, Left};
use crate::outbox::outcome::Finish;
use crate::outbox::settle::Finished;
use crate::outbox::{Claimed, Outcome};
use crate::registry::{Registry, Route};
use crate::worker::breaker::LeftOut;
use crate::worker::coalesce::settle_waiting;
use crate::worker::commit::{self, Committed};
use crate::worker::finish::{self, Settlement};
use crate::worker::group_commit::GroupCommit;
use crate::worker::judge::{CRASHES_MAX, Failed, Judge, Spread};
use crate::worker::lease_renewer::{LeaseGuard, LeaseRenewer};
use crate::worker::report::Report;
use crate::worker::successors::Successors;
use crate::worker::twins::Twins;
use crate::worker::watch::{Watched, watched};
use crate::{api, batch, telemetry, trace};

/// What all attempts of a worker share.
pub(super) struct Shared {
    pub(super) pool: PgPool,
    /// For the transactions of handlers.
    pub(super) connections: Connections,
    /// For what settles an attempt.
    pub(super) settling: Connections,
    pub(super) registry: Registry,
    /// The types that have a handler: labels of metrics are bounded by them.
    pub(super) event_types: Vec<&'static str>,
    pub(super) api: api::Accounts,
    pub(super) lease_renewer: LeaseRenewer,
    /// How long a lease lasts.
    pub(super) lease: Duration,
    pub(super) group_commit: GroupCommit,
    pub(super) successors: Arc<Successors>,
    pub(super) twins: Twins,
    pub(super) left_out: Arc<LeftOut>,
    pub(super) spread: Spread,
    /// Notified when an event has become claimable.
    pub(super) more: Arc<Notify>,
}

/// Runs one attempt, and settles it or passes it to the group commit. Returns how long the handler took.
pub(super) async fn run(shared: Arc<Shared>, claimed: Claimed, leased_until: Instant) -> Duration {
    let trace = trace_of(&claimed);
    let span = tracing::info_span!(
        "attempt",
        event.id = claimed.event.event_id,
        event.r#type = claimed.event.event_type,
        attempt = claimed.event.attempt,
        subscriber = claimed.event.subscriber,
        account = claimed.event.account.as_deref().filter(|account| *account != ANTHROPIC),
        trace_id = trace.trace_id(),
    );
    let _trying = shared.left_out.begin(claimed.lease.id);
    attempt(&shared, &claimed, leased_until, span.clone(), trace).instrument(span).await
}

/// The attempt as a part of the trace that its event belongs to.
fn trace_of(claimed: &Claimed) -> trace::Span {
    let trace = trace::Span::continuing("attempt", claimed.traceparent.as_deref());
    let event = &claimed.event;
    trace.set("restante.event.id", || event.event_id.clone());
    trace.set("restante.event.type", || event.event_type.clone());
    trace.set("restante.attempt", || i64::from(event.attempt));
    if !event.subscriber.is_empty() {
        trace.set("restante.subscriber", || event.subscriber.clone());
    }
    if let Some(account) = &event.account {
        trace.set("restante.account", || account.clone());
    }
    trace
}

async fn attempt(
    shared: &Shared,
    claimed: &Claimed,
    leased_until: Instant,
    span: Span,
    trace: trace::Span,
) -> Duration {
    let event = &claimed.event;
    let started = Instant::now();
    let route = shared.registry.route(event);
    let judge = Judge { spread: shared.spread, claimed, route };
    let deadline = Deadline::new(route.map_or(Duration::ZERO, Route::timeout));
    // Renewed until the event is settled, however long the database takes for that.
    let lease_guard = shared.lease_renewer.keep(claimed.lease, leased_until, deadline.clone());
    let (intended, tx) = match route {
        _ if batch::is_standing(event) && !shared.registry.names("", &event.event_type) => {
            (Err(judge.left_to_others()), None)
        }
        Some(_) if claimed.crashes >= CRASHES_MAX => (Err(judge.crashed()), None),
        Some(route) => trace.around(handled(shared, &judge, route, &lease_guard, deadline)).await,
        None => (Ok(finished(claimed, Finish::Ignored, None)), None),
    };
    let took = started.elapsed();
    let event_type = telemetry::event_type_label(&shared.event_types, &event.event_type);
    let report = Report::new(span, trace, event_type, took);
    let failed = match (intended, tx) {
        // Settled together with others. While too many wait for the database, this waits too.
        (Ok(finished), None) => {
            shared.group_commit.finish(finished, lease_guard, report).await;
            return took;
        }
        (Ok(finished), Some(tx)) => {
            match commit::commit(tx, &finished, &shared.settling, &shared.successors).await {
                Committed::Settled(settlement) => {
                    settled(shared, settlement, finished.finish.outcome(), report);
                    return took;
                }
                Committed::Not(error) => judge.error(error),
            }
        }
        (Err(failed), tx) => {
            // First, because once the event is settled it may run again.
            if let Some(tx) = tx {
                roll_back(tx).await;
            }
            failed
        }
    };
    fail(shared, claimed, failed, report).await;
    took
}

fn finished(claimed: &Claimed, finish: Finish, result: Option<String>) -> Finished {
    Finished { lease: claimed.lease, finish, result, delivered: None }
}

/// Runs the handler. Returns what its event should become, and its transaction if it has begun one and returned. A
/// handler that was cancelled has its connection closed.
async fn handled(
    shared: &Shared,
    judge: &Judge<'_>,
    route: &dyn Route,
    lease_guard: &LeaseGuard,
    deadline: Deadline,
) -> (Result<Finished, Failed>, Option<AttemptTx>) {
    let claimed = judge.claimed;
    match shared.twins.stands_for(&shared.connections, &claimed.event).await {
        Ok(None) => {}
        Ok(Some(event_id)) => {
            let result = serde_json::json!({ "settled_by": event_id }).to_string();
            return (Ok(finished(claimed, Finish::Done, Some(result))), None);
        }
        Err(error) => return (Err(judge.error(error.into())), None),
    }
    let fence = Fence { lease: claimed.lease, lease_time: shared.lease, deadline: deadline.clone() };
    let api = shared.api.client_for(claimed.event.account.as_deref());
    let mut cx = Context::new(&claimed.event, &api, &shared.pool, &shared.connections, fence);
    match watched(route, &mut cx, lease_guard, &deadline).await {
        Watched::Returned(mut returned) => {
            if returned.is_ok() {
                returned = settle_waiting(&mut cx, &shared.registry, route).await;
            }
            let Left { tx, result, delivered } = cx.into_parts();
            let intended = match returned {
                Ok(()) => Ok(Finished { delivered, ..finished(claimed, Finish::Done, result) }),
                Err(error) => Err(judge.error(error)),
            };
            (intended, tx)
        }
        Watched::Panicked(message) => (Err(judge.panicked(message)), None),
        Watched::TimedOut => (Err(judge.timed_out(&deadline)), None),
        Watched::LeaseLost => (Err(Failed::LeaseLost), None),
    }
}

/// The answer to the rollback proves that no older answer is on its way: the handler may have dropped a query before it
/// returned. So the connection can go back.
async fn roll_back(tx: AttemptTx) {
    if let Ok(connection) = answered(tx.roll_back()).await {
        connection.give_back();
    }
}

/// Settles an attempt that did not succeed.
async fn fail(shared: &Shared, claimed: &Claimed, failed: Failed, report: Report) {
    match failed {
        Failed::Judged { verdict, is_known } => {
            let settlement = finish::fail(&shared.settling, claimed.lease, &verdict).await;
            if matches!(settlement, Settlement::Made { .. }) {
                report.failed(&verdict, claimed.event.attempt, is_known);
            }
            settled(shared, settlement, verdict.outcome(), report);
        }
        Failed::LeaseLost => {
            report.ended(Outcome::LeaseLost);
            // The lease may only have run out, while the database was away or while a person had the event locked.
            let (connections, lease) = (shared.settling.clone(), claimed.lease);
            tokio::spawn(async move { finish::hand_back(&connections, lease).await }.in_current_span());
        }
    }
}

/// Reports the outcome of an attempt whose intended outcome is `intended`.
fn settled(shared: &Shared, settlement: Settlement, intended: Outcome, report: Report) {
    report.ended(settlement.outcome(intended));
    if settlement.has_unblocked() {
        shared.more.notify_one();
    }
}
