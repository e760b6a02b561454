//! What an operator should know of: the answers of `restante.health`, the rhythm of each sender, and alarms.

use sqlx::PgExecutor;

/// The questions that `restante.health` answers, in its order (a test compares the two).
pub const QUESTIONS: [&str; 10] = [
    "silence",
    "refusals",
    "workers",
    "trouble",
    "dead",
    "batches",
    "reconciler",
    "horizon",
    "partitions",
    "journal",
];

/// How many events one statement reads to learn when their senders sent.
const PAGE: i32 = 50_000;

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is to be done.
    Ok,
    /// A person should look at it soon.
    Look,
    /// A person should act now.
    Act,
}

/// The answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One of [`QUESTIONS`].
    pub question: &'static str,
    /// How it stands.
    pub state: State,
}

/// What became of the alarms in one look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// How many were raised.
    pub raised: i32,
    /// How many were cleared, because it was good for two looks.
    pub cleared: i32,
}

/// Reads the events that are new and notes when each sender sent. Returns whether there may be more of them.
///
/// # Errors
/// The database is away or did not answer.
pub async fn note_rhythm(executor: impl PgExecutor<'_>) -> sqlx::Result<bool> {
    let read = sqlx::query_scalar!(r#"select restante.note_rhythm($1) as "read!""#, PAGE);
    Ok(read.fetch_one(executor).await? >= PAGE)
}

/// Stores an event for each answer that turned bad and for each that is good again. Does nothing if a worker looked less than 20
/// seconds ago.
///
/// # Errors
/// The database is away or did not answer.
pub async fn note_alarms(executor: impl PgExecutor<'_>) -> sqlx::Result<Noted> {
    sqlx::query_as!(Noted, r#"select raised as "raised!", cleared as "cleared!" from restante.note_alarms()"#)
        .fetch_one(executor)
        .await
}

/// The answers of `restante.health` to the questions that this program knows.
///
/// # Errors
/// The database is away or did not answer.
pub async fn answers(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<Answer>> {
    let rows = sqlx::query!(r#"select question as "question!", state as "state!" from restante.health"#);
    let answers = rows.fetch_all(executor).await?.into_iter().filter_map(|row| {
        // A newer schema may ask more.
        let question = QUESTIONS.into_iter().find(|known| *known == row.question)?;
        let state = match row.state.as_str() {
            "ok" => State::Ok,
            "look" => State::Look,
            _ => State::Act,
        };
        Some(Answer { question, state })
    });
    Ok(answers.collect())
}

/// The alarms that are raised and not cleared: the question, and the sender, account or subscriber if there is one.
///
/// # Errors
/// The database is away or did not answer.
pub async fn open_alarms(executor: impl PgExecutor<'_>) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar!(
        r#"select concat_ws(' of ', a.question, nullif(a.subject, '')) as "alarm!" from restante.health_alarm as a
            where a.raised_at is not null and a.cleared_at is null order by a.question, a.subject limit 20"#
    )
    .fetch_all(executor)
    .await
}
