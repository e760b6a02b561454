//! One exchange with the API: a request, its stream, and what follows from how that ended.

use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use super::partial;
use crate::api::{self, FinalMessage, MessageStream, NotOpened, SoFar, StreamError};
use crate::database;
use crate::handler::{self, Context, Error};
use crate::message::{self, Outcome};

/// How often to look whether the message was called off, since each further token of an answer that nobody wants is paid.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// How long to wait before an answer is stored again that the database did not take.
const STORE_AGAIN: Duration = Duration::from_millis(250);

/// An attempt that has begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) id: i64,
    pub(super) attempt: i32,
    pub(super) attempts_max: i32,
}

/// Why a stream was not read to its end.
enum Stopped {
    /// The message was called off, or changed in another way.
    CalledOff,
    Broken(StreamError),
}

impl Exchange {
    /// Sends the request, reads the answer and stores it.
    pub(super) async fn run(
        self,
        cx: &mut Context<'_>,
        body: Bytes,
        betas: &[String],
        mut partial: Option<partial::Stream>,
    ) -> handler::Result {
        let betas: Vec<&str> = betas.iter().map(String::as_str).collect();
        let mut stream = match cx.api.stream_message(body, &betas).await {
            Ok(stream) => stream,
            Err(not_opened) => return self.not_opened(cx, not_opened).await,
        };
        let read = self.read(cx, &mut stream, partial.as_mut()).await;
        let so_far = stream.so_far();
        match read {
            Ok(()) => {}
            Err(Stopped::CalledOff) => return self.called_off(cx, &so_far).await,
            Err(Stopped::Broken(error)) => return self.broken(cx, &so_far, error).await,
        }
        let answer = match stream.finish() {
            Ok(answer) => answer,
            Err(error) => return self.broken(cx, &so_far, error).await,
        };
        if let Some(partial) = partial {
            partial.flush().await;
        }
        self.answered(cx, &answer).await
    }

    /// Reads the stream to its end.
    async fn read(
        self,
        cx: &Context<'_>,
        stream: &mut MessageStream,
        mut partial: Option<&mut partial::Stream>,
    ) -> Result<(), Stopped> {
        let mut look = interval_at(Instant::now() + LOOK_EVERY, LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                step = stream.next() => {
                    let Some(step) = step.map_err(Stopped::Broken)? else { return Ok(()) };
                    cx.progress();
                    if let Some(partial) = &mut partial
                        && step.name != "ping"
                    {
                        partial.push(&step.data).await;
                    }
                }
                _ = look.tick() => {
                    // A database that does not answer says nothing of the message.
                    let is_under_way = async {
                        let mut connection = cx.connection().await?;
                        message::is_under_way(&mut *connection, self.id, self.attempt).await
                    };
                    let is_under_way = database::answered(is_under_way).await;
                    if matches!(is_under_way, Ok(false)) {
                        return Err(Stopped::CalledOff);
                    }
                }
            }
        }
    }

    /// Stores the answer for as long as the lease lasts, since another answer would cost as much again. That is why it does not wait
    /// for the commit of the event, which is tried once: the message has its answer first, and an event that runs again finds it.
    async fn answered(self, cx: &mut Context<'_>, answer: &FinalMessage) -> handler::Result {
        let mut is_told = false;
        let is_answer = loop {
            match self.store(cx, answer).await {
                Err(Error::Trouble(_, error)) => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(
                            message = self.id,
                            "an answer could not be stored yet, and is kept: {error:#}"
                        );
                    }
                    cx.progress();
                    sleep(STORE_AGAIN).await;
                }
                Err(Error::Permanent(error)) => {
                    let reason = format!("the database does not take the answer: {error:#}");
                    let so_far =
                        SoFar { id: answer.id.clone(), model: answer.model.clone(), usage: answer.usage };
                    return self.end(cx, Outcome::Cut, &so_far, &reason, None, Follows::Failure).await;
                }
                other => break other?,
            }
        };
        cx.set_result(&serde_json::json!({ "message": self.id, "attempt": self.attempt, "used": is_answer }));
        Ok(())
    }

    async fn store(self, cx: &Context<'_>, answer: &FinalMessage) -> Result<bool, Error> {
        let mut checkpoint = cx.checkpoint().await?;
        let is_answer = message::store_answer(&mut checkpoint, self.id, self.attempt, answer).await?;
        checkpoint.commit().await?;
        Ok(is_answer)
    }

    async fn called_off(self, cx: &mut Context<'_>, so_far: &SoFar) -> handler::Result {
        let mut checkpoint = cx.checkpoint().await?;
        message::end_attempt(&mut *checkpoint, self.id, self.attempt, Outcome::Unused, None, so_far).await?;
        checkpoint.commit().await?;
        cx.set_result(&serde_json::json!({ "message": self.id, "attempt": self.attempt, "used": false }));
        Ok(())
    }

    /// The answer broke off. Whatever it was, the API may bill it.
    async fn broken(self, cx: &Context<'_>, so_far: &SoFar, error: StreamError) -> handler::Result {
        let reason = error.to_string();
        let error_type = error.answer().and_then(|answer| answer.kind.clone());
        let follows = match error {
            StreamError::Refused(_) => Follows::Failure,
            // The operator has to mend that, and every event waits for it.
            StreamError::Account(answer) => Follows::Wait(api::Error::Account(answer).into()),
            _ => Follows::Wait(Error::Retryable(anyhow!(error))),
        };
        self.end(cx, Outcome::Cut, so_far, &reason, error_type.as_deref(), follows).await
    }

    /// No stream came of the request.
    async fn not_opened(self, cx: &Context<'_>, not_opened: NotOpened) -> handler::Result {
        let NotOpened { error, may_have_arrived } = not_opened;
        let reason = error.to_string();
        let (outcome, follows, error_type) = match error {
            // Each try may cost as much as an answer, so the tries come further and further apart.
            error if may_have_arrived && !is_denied(&error) => {
                (Outcome::Lost, Follows::Wait(Error::Retryable(error.into())), None)
            }
            error => {
                let answer = answer_of(&error);
                let outcome = if answer.is_some() { Outcome::Refused } else { Outcome::NotSent };
                let error_type = answer.and_then(|answer| answer.kind.clone());
                let follows =
                    if is_of_the_message(&error) { Follows::Failure } else { Follows::Wait(patient(error)) };
                (outcome, follows, error_type)
            }
        };
        self.end(cx, outcome, &SoFar::default(), &reason, error_type.as_deref(), follows).await
    }

    /// Ends the attempt, and has the message wait or fail.
    async fn end(
        self,
        cx: &Context<'_>,
        outcome: Outcome,
        so_far: &SoFar,
        reason: &str,
        error_type: Option<&str>,
        follows: Follows,
    ) -> handler::Result {
        let is_spent = outcome.may_be_paid() && self.attempt >= self.attempts_max;
        let mut checkpoint = cx.checkpoint().await?;
        message::end_attempt(&mut *checkpoint, self.id, self.attempt, outcome, Some(reason), so_far).await?;
        let (is_ours, error) = match follows {
            Follows::Wait(error) if !is_spent => {
                (message::wait(&mut *checkpoint, self.id, self.attempt, outcome, reason).await?, error)
            }
            follows => {
                let reason = match follows {
                    Follows::Wait(_) => {
                        format!("it was sent {} times; the last time: {reason}", self.attempt)
                    }
                    Follows::Failure => reason.to_owned(),
                };
                let is_ours =
                    message::fail(&mut checkpoint, self.id, self.attempt, &reason, error_type).await?;
                (is_ours, Error::Permanent(anyhow!(reason)))
            }
        };
        checkpoint.commit().await?;
        if outcome.may_be_paid() {
            tracing::warn!(
                message = self.id,
                attempt = self.attempt,
                outcome = outcome.as_str(),
                reason,
                "an attempt at a message has no answer, and the API may bill it"
            );
        }
        // Otherwise it was called off meanwhile, and what follows is the business of another event.
        if is_ours { Err(error) } else { Ok(()) }
    }
}

/// What becomes of a message whose attempt has no answer.
enum Follows {
    /// It waits for another attempt, as the error says.
    Wait(Error),
    /// It fails.
    Failure,
}

/// What the API said, if it said something.
fn answer_of(error: &api::Error) -> Option<&api::Answer> {
    match error {
        api::Error::Refused(answer)
        | api::Error::Account(answer)
        | api::Error::RateLimited { answer, .. }
        | api::Error::NotFound(answer)
        | api::Error::Unavailable { answer, .. } => Some(answer),
        _ => None,
    }
}

/// Does the API itself say that it gives no answer? What fails with an error of its own is not billed; one without its form may be that
/// of something in between.
fn is_denied(error: &api::Error) -> bool {
    matches!(error, api::Error::Unavailable { answer, .. } if answer.kind.is_some())
}

/// Is what the message asks at fault, such as a model that does not exist?
fn is_of_the_message(error: &api::Error) -> bool {
    error.is_of_content() || matches!(error, api::Error::NotFound(_))
}

/// The error of a message that waits: nothing of it is final.
fn patient(error: api::Error) -> Error {
    match error.into() {
        Error::Permanent(error) => Error::Retryable(error),
        other => other,
    }
}
