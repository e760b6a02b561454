//! The steps in the life of an event, each a question in SQL. One that has no answer is not shown.

use super::Row;

/// A step, and the SQL that shows it.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) title: &'static str,
    pub(super) sql: String,
}

/// How it came.
pub(super) fn of_event(event: &Row) -> Vec<Step> {
    let Row { id, .. } = event;
    let (event_id, sender) = (quoted(&event.event_id), quoted(&event.sender));
    vec![
        Step {
            title: "It was received",
            sql: format!(
                "select received_at, source, sender, account, created_at as happened_at, key, workspace_id from restante.outbox_events where id = {id}"
            ),
        },
        Step {
            title: "It came again with another body, which changed nothing",
            sql: format!(
                "select received_at, digest from restante.delivery_differs where sender = {sender} and event_id = {event_id} order by received_at limit 10"
            ),
        },
    ]
}

/// What it waited for, its attempts, and where it is now.
pub(super) fn of_row(row: &Row) -> Vec<Step> {
    let Row { id, .. } = row;
    let mut steps = vec![
        Step {
            title: "Attempts that failed",
            sql: format!(
                "select attempt, started_at, failed_at, outcome, kind, error, lease_owner from restante.failure where outbox_id = {id} order by failed_at limit 30"
            ),
        },
        Step {
            title: "It waits",
            sql: format!(
                "select status, waits_for, reason, behind, next_attempt_at from restante.outbox_waiting where id = {id}"
            ),
        },
        Step {
            title: "It runs",
            sql: format!(
                "select attempt, started_at, running_for, lease_owner, lease_until, lease_ran_out from restante.outbox_running where id = {id}"
            ),
        },
        Step {
            title: "How its endpoint answered",
            sql: format!(
                "select attempt, delivered_at, took, status, error, answer from restante.endpoint_delivery where outbox_id = {id} order by id limit 30"
            ),
        },
        Step {
            title: "It is finished",
            sql: format!(
                "select status, attempt, started_at, finished_at, started_at - received_at as waited, finished_at - started_at as ran, lease_owner, result from restante.outbox_events where id = {id} and finished_at is not null"
            ),
        },
    ];
    if let Some(key) = &row.key {
        let (key, subscriber) = (quoted(key), quoted(&row.subscriber));
        let whose = quoted(row.account.as_ref().unwrap_or(&row.sender));
        let before = Step {
            title: "Events of its key that came first",
            sql: format!(
                "select o.id, o.event_id, o.type, o.status, o.created_at, o.finished_at from restante.outbox_events as o, restante.outbox as e where e.id = {id} and o.key = {key} and coalesce(o.account, o.sender) = {whose} and o.subscriber = {subscriber} and (o.created_at, o.id) < (e.created_at, e.id) and (o.finished_at is null or o.finished_at > e.received_at) order by o.created_at desc, o.id desc limit 5"
            ),
        };
        steps.insert(0, before);
    }
    steps
}

/// Notifications are stored right after the event that they tell of, in the same commit. So they are among as many rows that follow it.
const ROWS_OF_A_COMMIT: i64 = 20_000;

/// Where it was sent on to, and what was answered there.
fn notifications(event: &Row) -> Step {
    let Row { id, .. } = event;
    let (event_id, sender) = (quoted(&event.event_id), quoted(&event.sender));
    let account = quoted(event.account.as_ref().unwrap_or(&event.sender));
    Step {
        title: "Its notifications",
        sql: format!(
            "select o.id, o.event_id, o.type, o.status, d.attempt, d.delivered_at, d.status as answer, d.error from restante.outbox_events as o left join restante.endpoint_delivery as d on d.outbox_id = o.id where o.id > {id} and o.id <= {id} + {ROWS_OF_A_COMMIT} and o.sender in ({sender}, {account}) and case when starts_with(o.type, 'notify.') then restante.json_part(restante.json_part(o.payload::text, 'body')::text, 'id')::text = to_json({event_id}::text)::text end order by o.id, d.id limit 30"
        ),
    }
}

/// The message that an event of ours is about: its number stands in the identifier, behind the type.
fn message_of(event: &Row) -> Option<i64> {
    let types = ["message.send", "message.completed", "message.failed", "message.cancelled"];
    let named = types.iter().find(|name| **name == event.event_type)?;
    event.event_id.strip_prefix(named)?.strip_prefix(':')?.split(':').next()?.parse().ok()
}

fn of_message(message: i64) -> [Step; 2] {
    [
        Step {
            title: "Its message",
            sql: format!(
                "select id, state, reason, attempt, tag, model, stop_reason, input_tokens, output_tokens, dollars, created_at, sent_at, done_at from restante.message_overview where id = {message}"
            ),
        },
        Step {
            title: "The attempts of its message",
            sql: format!(
                "select attempt, sent_as, batch_id, sent_at, ended_at, outcome, may_be_paid, error from restante.message_attempt where message = {message} order by attempt limit 30"
            ),
        },
    ]
}

/// What came of it: the object that it names, its batch and submission, its message, whom it was told to, and what people did.
pub(super) fn of_object(event: &Row) -> Vec<Step> {
    let event_id = quoted(&event.event_id);
    let mut steps = Vec::new();
    if let Some(key) = &event.key {
        let key = quoted(key);
        let account = quoted(event.account.as_ref().unwrap_or(&event.sender));
        steps = vec![
            Step {
                title: "What the API said of its object",
                sql: format!(
                    "select type, id, status, stop_reason, error_type, error_message, updated_at, observed_at, gone_at, gone_because from restante.resource where id = {key} and account = {account}"
                ),
            },
            Step {
                title: "Its batch",
                sql: format!(
                    "select progress, requests, succeeded, errored, canceled, expired, results_stored, created_at, ended_at, complete_at, results_vanish_in from restante.batch_overview where id = {key} and account = {account}"
                ),
            },
            Step {
                title: "The results that are stored",
                sql: format!(
                    "select outcome, count(*), max(stored_at) as last_stored_at from restante.batch_result where batch_id = {key} and account = {account} group by outcome order by outcome"
                ),
            },
            Step {
                title: "The submission of its batch",
                sql: format!(
                    "select submission, number as part, status, requests, sent_at, submitted_at from restante.submission_part where batch_id = {key} and account = {account}"
                ),
            },
        ];
    }
    steps.extend(message_of(event).into_iter().flat_map(of_message));
    steps.push(notifications(event));
    let names = event.key.iter().map(|key| quoted(key)).chain([event_id]).collect::<Vec<_>>().join(", ");
    steps.push(Step {
        title: "What people did with it, or with its key",
        sql: format!(
            "select at, who, what, of_what, how_many, reason, arguments from restante.operation where of_what in ({names}) order by at limit 30"
        ),
    });
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
