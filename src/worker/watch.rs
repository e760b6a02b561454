//! A handler under watch: until it returns, panics, outlives its deadline, or loses its lease.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio::time::Instant;

use crate::handler::{self, Context, Deadline};
use crate::registry::Route;
use crate::worker::lease_renewer::LeaseGuard;

/// How a handler's run ended.
pub(super) enum Watched {
    /// By itself.
    Returned(handler::Result),
    /// With this message.
    Panicked(String),
    /// It was cancelled.
    TimedOut,
    /// It was cancelled.
    LeaseLost,
}

/// Runs a handler.
pub(super) async fn watched(
    route: &dyn Route,
    cx: &mut Context<'_>,
    lease_guard: &LeaseGuard,
    deadline: &Deadline,
) -> Watched {
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
            () = lease_guard.lost() => return Watched::LeaseLost,
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
