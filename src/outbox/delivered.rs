//! A notification that its endpoint has taken, as it is noted with the completion of its event.

use std::time::Duration;

use sqlx::postgres::types::PgInterval;

use super::claim::interval;

/// A notification that its endpoint has taken. The row of `restante.endpoint_delivery` that says so is in the commit of its
/// completion, and there is none if the attempt had lost its lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// The name of the endpoint.
    pub endpoint: String,
    /// The identifier under which the receiver knows it.
    pub event_id: String,
    /// The type of the event that it tells of.
    pub event_type: String,
    /// Which attempt it was, from 1.
    pub attempt: i32,
    /// How long the exchange took.
    pub took: Duration,
    /// The status of the answer.
    pub status: u16,
    /// The beginning of the body of the answer.
    pub answer: String,
}

/// The same, a list for each column.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) outbox_ids: Vec<i64>,
    pub(super) endpoints: Vec<&'a str>,
    pub(super) event_ids: Vec<&'a str>,
    pub(super) event_types: Vec<&'a str>,
    pub(super) attempts: Vec<i32>,
    pub(super) took: Vec<PgInterval>,
    pub(super) statuses: Vec<i32>,
    pub(super) answers: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    /// Of these, each with the number of its event.
    pub(super) fn of(all: impl Iterator<Item = (i64, &'a Delivered)>) -> Self {
        let mut columns = Self::default();
        for (outbox_id, delivered) in all {
            columns.outbox_ids.push(outbox_id);
            columns.endpoints.push(&delivered.endpoint);
            columns.event_ids.push(&delivered.event_id);
            columns.event_types.push(&delivered.event_type);
            columns.attempts.push(delivered.attempt);
            columns.took.push(interval(delivered.took));
            columns.statuses.push(delivered.status.into());
            columns.answers.push(&delivered.answer);
        }
        columns
    }
}
