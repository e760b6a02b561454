//! `resource.reconcile`: lists the objects of an account from time to time, and puts into the outbox what changed and no webhook told.
//!
//! As the search for batches, it is one row of the outbox that never finishes, for each account. So one worker at a time looks,
//! however many there are, and if that one is gone, the next goes on at the page where it was.
//!
//! | step | file |
//! |---|---|
//! | which kinds are listed, and how far each look is | `kinds`, `state` |
//! | one look at a kind: its pages, then what the lists do not have any more | `look`, `page`, `take_in`, `gone` |
//! | what is asked once more before a look stops | `again` |
//! | what changed since an object was last explained | `changes`, `history` for sessions |
//! | which of these changes a webhook tells of | `matching`, `webhooks` |
//! | notes the others, and puts them into the outbox if no webhook comes soon | `missed` |

mod again;
mod changes;
mod gone;
mod history;
mod kinds;
mod look;
mod matching;
mod missed;
mod page;
mod state;
mod stopped;
mod take_in;
#[cfg(test)]
mod tests;
mod webhooks;

use std::time::Duration;

use crate::handler::{self, Context, Error, Handler, Senders};
use crate::{api, retry};

use stopped::Stopped;

/// Why the next look waits.
const LOOKED: &str = "the look at the API's objects is done; this event begins the next one";

/// Why the event waits for changes that were noticed.
const NOTICED: &str =
    "changes were noticed that no webhook has told; they are put into the outbox if none comes soon";

/// Lists what webhooks may have missed.
#[derive(Debug)]
pub struct ResourceReconcile {
    /// The time between two looks at a kind of object.
    pub every: Duration,
}

/// The payload of the job: none of it is read.
#[derive(Debug, serde::Deserialize)]
pub struct Nothing {}

impl Handler for ResourceReconcile {
    const EVENT_TYPES: &'static [&'static str] = &["resource.reconcile"];
    const SENDERS: Senders = Senders::OfTheApi;
    /// It is never given up, because nothing else finds what no webhook told.
    const RETRY: retry::Policy = retry::Policy { max_attempts: u32::MAX, ..retry::Policy::DEFAULT };
    const PATIENCE: Duration = retry::LONGEST;
    /// For a page and what is asked about its objects.
    const TIMEOUT: Duration = Duration::from_secs(150);
    type Payload = Nothing;

    async fn handle(&self, cx: &mut Context<'_>, _: Nothing) -> handler::Result {
        if cx.event.source != "worker" {
            // Otherwise a second row that never ends would look as well.
            cx.set_result(&serde_json::json!({ "skipped": "the reconciler is an event of Restante's own" }));
            return Ok(());
        }
        match self.go_on(cx).await {
            // A bad answer may be followed by a good one, so no error of a look is final.
            Err(Error::Permanent(error)) => Err(Error::Retryable(error)),
            other => other,
        }
    }
}

impl ResourceReconcile {
    /// How long a webhook may still come for a change that was noticed. Most come within seconds.
    fn grace(&self) -> Duration {
        (self.every / 5).clamp(Duration::from_secs(2), Duration::from_secs(60))
    }

    /// Never `Ok`: the job waits for its next look.
    async fn go_on(&self, cx: &Context<'_>) -> handler::Result {
        let account = cx.event.account_or_default();
        missed::put_in(cx, self.grace()).await?;
        let mut trouble = None;
        for kind in state::due(cx, self.every).await? {
            match look::at(cx, kind).await {
                Ok(()) => {}
                Err(Stopped::Kind(error)) => {
                    state::failed(&mut *cx.connection().await?, account, kind, &error).await?;
                    // What may pass soon is tried again soon.
                    if !matches!(
                        error,
                        api::Error::Refused(_) | api::Error::NotFound(_) | api::Error::Account(_)
                    ) {
                        trouble.get_or_insert(error);
                    }
                }
                Err(Stopped::Job(error)) => return Err(error),
            }
            // What was noticed need not wait for the end of a long round.
            missed::put_in(cx, self.grace()).await?;
        }
        missed::forget_old(&mut *cx.connection().await?, account).await?;
        if let Some(error) = trouble {
            return Err(Error::from(error));
        }
        if missed::waits(&mut *cx.connection().await?, account).await? {
            return Err(Error::Snooze(self.grace(), NOTICED.into()));
        }
        let until_next = state::until_next(&mut *cx.connection().await?, account).await?;
        Err(Error::Snooze(until_next.min(self.every), LOOKED.into()))
    }
}
