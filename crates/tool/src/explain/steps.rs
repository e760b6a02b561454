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

/// What came of it: the object that it names, its batch and submission, and what people did.
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
    fn a_quote_in_an_identifier_stays_a_part_of_it() {
        assert_eq!(quoted("it's \\'"), r"'it''s \'''");
    }
}
