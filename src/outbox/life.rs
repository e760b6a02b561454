//! The steps in the life of an event, each a question in SQL. One that has no answer is not shown.
//!
//! `restante explain` and the ops page show them. The statements only read; each has the values of its event in it, so that a
//! person can paste it.

use sqlx::{AssertSqlSafe, FromRow, PgConnection};

/// A row of the outbox: the event for the handler of its type, or for a subscriber.
#[derive(Clone, Debug, FromRow)]
pub struct Row {
    /// Our own number: the column `id` of `restante.outbox`.
    pub id: i64,
    /// The sender's identifier.
    pub event_id: String,
    /// Who sent it.
    pub sender: String,
    /// Whose key reads its object at the API; none, if its sender is not the Claude API.
    pub account: Option<String>,
    /// Its type.
    pub event_type: String,
    /// Whose row it is; empty for the handler of the type.
    pub subscriber: String,
    /// The object that it happened to.
    pub key: Option<String>,
}

/// The rows of the events with an identifier, or of the event with a number: each sender's event, and its subscribers in their order.
///
/// # Errors
/// As the database reports.
pub async fn find(connection: &mut PgConnection, event: &str) -> sqlx::Result<Vec<Row>> {
    const ROWS: &str =
        "select id, event_id, sender, account, type as event_type, subscriber, key from restante.outbox";
    let named = format!("{ROWS} where event_id = $1 order by sender, subscriber, id");
    let rows = sqlx::query_as(AssertSqlSafe(named)).bind(event).fetch_all(&mut *connection).await?;
    match event.parse::<i64>() {
        Ok(number) if rows.is_empty() => {
            let numbered = format!("{ROWS} where id = $1");
            sqlx::query_as(AssertSqlSafe(numbered)).bind(number).fetch_all(connection).await
        }
        _ => Ok(rows),
    }
}

/// The rows of one event are stored by one statement, so their numbers are this close together.
const ROWS_OF_A_COMMIT: i64 = 20_000;

/// The rows of the event of which one has this number, in the order of their subscribers.
///
/// The history is asked by identifier. What is not finished has no index of it and may be a million rows, so it is asked by number.
///
/// # Errors
/// As the database reports.
pub async fn of_number(connection: &mut PgConnection, id: i64) -> sqlx::Result<Vec<Row>> {
    const ROWS: &str =
        "select o.id, o.event_id, o.sender, o.account, o.event_type, o.subscriber, o.key
           from restante.outbox as e
          cross join lateral (
                select f.id, f.event_id, f.sender, f.account, f.type as event_type, f.subscriber, f.key from restante.outbox as f
                 where f.finished_at < 'infinity' and f.event_id = e.event_id
                union all
                select l.id, l.event_id, l.sender, l.account, l.type, l.subscriber, l.key from restante.outbox as l
                 where l.finished_at = 'infinity' and l.id between $2 and $3 and l.event_id = e.event_id) as o
          where e.id = $1 and o.sender = e.sender order by o.subscriber, o.id";
    let rows = sqlx::query_as(ROWS).bind(id);
    let (first, last) = (id.saturating_sub(ROWS_OF_A_COMMIT), id.saturating_add(ROWS_OF_A_COMMIT));
    rows.bind(first).bind(last).fetch_all(connection).await
}

/// A step, and the SQL that shows it.
#[derive(Clone, Debug)]
pub struct Step {
    /// What happened, as a heading.
    pub title: &'static str,
    /// The statement, without a semicolon.
    pub sql: String,
}

impl Step {
    fn new(title: &'static str, sql: String) -> Self {
        Self { title, sql }
    }
}

/// How it came.
pub fn of_event(event: &Row) -> Vec<Step> {
    let Row { id, .. } = event;
    let (event_id, sender) = (quoted(&event.event_id), quoted(&event.sender));
    vec![
        Step::new(
            "It was received",
            format!(
                "select received_at, source, sender, account, created_at as happened_at, key, workspace_id from restante.outbox_events where id = {id}"
            ),
        ),
        Step::new(
            "It came again with another body, which changed nothing",
            format!(
                "select received_at, digest from restante.delivery_differs where sender = {sender} and event_id = {event_id} order by received_at limit 10"
            ),
        ),
    ]
}

/// What it waited for, its attempts, and where it is now.
pub fn of_row(row: &Row) -> Vec<Step> {
    let Row { id, .. } = row;
    let mut steps = vec![
        Step::new(
            "Attempts that failed",
            format!(
                "select attempt, started_at, failed_at, outcome, kind, error, lease_owner from restante.failure where outbox_id = {id} order by failed_at limit 30"
            ),
        ),
        Step::new(
            "It waits",
            format!(
                "select status, waits_for, reason, behind, next_attempt_at from restante.outbox_waiting where id = {id}"
            ),
        ),
        Step::new(
            "It runs",
            format!(
                "select attempt, started_at, running_for, lease_owner, lease_until, lease_ran_out from restante.outbox_running where id = {id}"
            ),
        ),
        Step::new(
            "How its endpoint answered",
            format!(
                "select attempt, delivered_at, took, status, error, answer from restante.endpoint_delivery where outbox_id = {id} order by id limit 30"
            ),
        ),
        Step::new(
            "It is finished",
            format!(
                "select status, attempt, started_at, finished_at, started_at - received_at as waited, finished_at - started_at as ran, lease_owner, result from restante.outbox_events where id = {id} and finished_at is not null"
            ),
        ),
    ];
    if let Some(key) = &row.key {
        let (key, subscriber) = (quoted(key), quoted(&row.subscriber));
        let whose = quoted(row.account.as_ref().unwrap_or(&row.sender));
        let before = Step::new(
            "Events of its key that came first",
            format!(
                "select o.id, o.event_id, o.type, o.status, o.created_at, o.finished_at from restante.outbox_events as o, restante.outbox as e where e.id = {id} and o.key = {key} and coalesce(o.account, o.sender) = {whose} and o.subscriber = {subscriber} and (o.created_at, o.id) < (e.created_at, e.id) and (o.finished_at is null or o.finished_at > e.received_at) order by o.created_at desc, o.id desc limit 5"
            ),
        );
        steps.insert(0, before);
    }
    steps
}

/// Where it was sent on to, and what was answered there.
fn notifications(event: &Row) -> Step {
    let Row { id, .. } = event;
    Step::new(
        "Its notifications",
        format!(
            "select id, event_id, endpoint, status, attempt, max_attempts, next_attempt_at, last_attempt_at, answer, error from restante.notifications_of({id})"
        ),
    )
}

/// The message that an event of ours is about: its number stands in the identifier, behind the type.
fn message_of(event: &Row) -> Option<i64> {
    let types = ["message.send", "message.completed", "message.failed", "message.cancelled"];
    let named = types.iter().find(|name| **name == event.event_type)?;
    event.event_id.strip_prefix(named)?.strip_prefix(':')?.split(':').next()?.parse().ok()
}

fn of_message(message: i64) -> [Step; 2] {
    [
        Step::new(
            "Its message",
            format!(
                "select id, state, reason, attempt, tag, model, stop_reason, input_tokens, output_tokens, dollars, created_at, sent_at, done_at from restante.message_overview where id = {message}"
            ),
        ),
        Step::new(
            "The attempts of its message",
            format!(
                "select attempt, sent_as, batch_id, sent_at, ended_at, outcome, may_be_paid, error from restante.message_attempt where message = {message} order by attempt limit 30"
            ),
        ),
    ]
}

/// What came of it: the object that it names, its batch and submission, its message, whom it was told to, and what people did.
pub fn of_object(event: &Row) -> Vec<Step> {
    let event_id = quoted(&event.event_id);
    let mut steps = Vec::new();
    if let Some(key) = &event.key {
        let key = quoted(key);
        let account = quoted(event.account.as_ref().unwrap_or(&event.sender));
        steps = vec![
            Step::new(
                "What the API said of its object",
                format!(
                    "select type, id, status, stop_reason, error_type, error_message, updated_at, observed_at, gone_at, gone_because from restante.resource where id = {key} and account = {account}"
                ),
            ),
            Step::new(
                "Its batch",
                format!(
                    "select progress, requests, succeeded, errored, canceled, expired, results_stored, created_at, ended_at, complete_at, results_vanish_in from restante.batch_overview where id = {key} and account = {account}"
                ),
            ),
            Step::new(
                "The results that are stored",
                format!(
                    "select outcome, count(*), max(stored_at) as last_stored_at from restante.batch_result where batch_id = {key} and account = {account} group by outcome order by outcome"
                ),
            ),
            Step::new(
                "The submission of its batch",
                format!(
                    "select submission, number as part, status, requests, sent_at, submitted_at from restante.submission_part where batch_id = {key} and account = {account}"
                ),
            ),
        ];
    }
    steps.extend(message_of(event).into_iter().flat_map(of_message));
    steps.push(notifications(event));
    let names = event.key.iter().map(|key| quoted(key)).chain([event_id]).collect::<Vec<_>>().join(", ");
    steps.push(Step::new("What people did with it, or with its key", format!("select at, who, what, of_what, how_many, reason, arguments from restante.operation where of_what in ({names}) order by at limit 30")));
    steps
}

/// A text as SQL writes it. Our sessions read backslashes as they are.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_an_event_is_known_by_the_number_in_its_identifier() {
        let of = |event_type: &str, event_id: &str| {
            let row = Row {
                id: 1,
                event_id: event_id.to_owned(),
                sender: "anthropic".to_owned(),
                account: None,
                event_type: event_type.to_owned(),
                subscriber: String::new(),
                key: None,
            };
            message_of(&row)
        };

        assert_eq!(of("message.send", "message.send:7:0af"), Some(7));
        assert_eq!(of("message.completed", "message.completed:12:0af"), Some(12));
        for (event_type, event_id) in [
            ("message.send", "message.completed:7:0af"),
            ("order.placed", "order.placed:7:0af"),
            ("message.send", "message.send:x:0af"),
        ] {
            assert_eq!(of(event_type, event_id), None, "{event_type} {event_id}");
        }
    }

    #[test]
    fn a_quote_in_an_identifier_stays_a_part_of_it() {
        assert_eq!(quoted("it's \\'"), r"'it''s \'''");
    }
}
