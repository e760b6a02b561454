//! A call that fails once, as a few of a busy API do, is made again before anything stops for it.

use std::time::Duration;

use tokio::time::sleep;

use crate::api;
use crate::handler::Context;

/// A little longer than the client holds back a thing that was not answered once.
const PAUSE: Duration = Duration::from_secs(5);

/// A look waits for no longer: then it stops, or goes on with something else.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Waits until a call that failed may be answered. Returns whether it is to be made again.
pub(super) async fn pauses<T>(cx: &Context<'_>, answer: &Result<T, api::Error>) -> bool {
    let Some(pause) = answer.as_ref().err().and_then(pause_after) else { return false };
    cx.progress();
    sleep(pause).await;
    true
}

/// How long until the call may be answered; none, if a look must not wait for that.
pub(super) fn pause_after(error: &api::Error) -> Option<Duration> {
    let pause = match error {
        api::Error::Unavailable { retry_after, .. } | api::Error::RateLimited { retry_after, .. } => {
            retry_after.unwrap_or_default().max(PAUSE)
        }
        api::Error::Transport(_) | api::Error::Malformed { .. } => PAUSE,
        api::Error::OutOfTurn { wait } | api::Error::NotAsked { wait, .. } => *wait,
        _ => return None,
    };
    (pause <= PAUSE_MAX).then_some(pause)
}

/// May the next call, about something else, be answered all the same?
pub(super) fn is_of_one_call(error: &api::Error) -> bool {
    match error {
        api::Error::Unavailable { .. }
        | api::Error::Transport(_)
        | api::Error::Malformed { .. }
        | api::Error::NotAsked { .. } => true,
        // Who is asked for fewer requests, and for a long pause, makes none.
        api::Error::RateLimited { .. } | api::Error::OutOfTurn { .. } => pause_after(error).is_some(),
        _ => false,
    }
}
