//! The names of the metrics, and the labels of event types.

use metrics::{Counter, counter};

use crate::outbox::Outcome;

/// The names of all metrics. `recorder` describes each, with its labels.
pub mod metric {
    /// Deliveries answered, by `answer` and `reason`.
    pub const DELIVERIES_TOTAL: &str = "restante_deliveries_total";
    /// From the head of a delivery to its answer, in seconds.
    pub const ACK_SECONDS: &str = "restante_ack_seconds";
    /// Events claimed.
    pub const CLAIMS_TOTAL: &str = "restante_claims_total";
    /// Attempts that ended, by `outcome` and `event_type`.
    pub const ATTEMPTS_TOTAL: &str = "restante_attempts_total";
    /// How long an attempt took, in seconds, by `event_type`.
    pub const ATTEMPT_SECONDS: &str = "restante_attempt_seconds";
    /// Attempts that ended after their lease was lost.
    pub const LOST_LEASES_TOTAL: &str = "restante_lost_leases_total";
    /// Batch results stored.
    pub const RESULTS_ROWS_TOTAL: &str = "restante_results_rows_total";
    /// Bytes of batch results stored.
    pub const RESULTS_BYTES_TOTAL: &str = "restante_results_bytes_total";
    /// Objects that an event named and that the API never showed, by `resource`.
    pub const RESOURCES_NEVER_SEEN_TOTAL: &str = "restante_resources_never_seen_total";
    /// Changes at the API that no webhook had told when they were noticed, by `kind`.
    pub const MISSED_CHANGES_TOTAL: &str = "restante_missed_changes_total";
    /// How old a change may be that no webhook told and that has not been noticed yet, in seconds.
    pub const UNEXPLAINED_CHANGE_SECONDS: &str = "restante_unexplained_change_seconds";
    /// The age of the oldest event that is pending, running, blocked or in retry, in seconds.
    pub const OLDEST_UNFINISHED_EVENT_SECONDS: &str = "restante_oldest_unfinished_event_seconds";
    /// The age of the oldest event that may be claimed now, in seconds.
    pub const OLDEST_CLAIMABLE_EVENT_SECONDS: &str = "restante_oldest_claimable_event_seconds";
    /// The files of the journal, in bytes.
    pub const JOURNAL_BYTES: &str = "restante_journal_bytes";
    /// Events in the journal that are not in the outbox yet.
    pub const JOURNAL_EVENTS: &str = "restante_journal_events";
    /// How long the oldest event of the journal has waited, in seconds.
    pub const JOURNAL_OLDEST_SECONDS: &str = "restante_journal_oldest_seconds";
    /// Writes to the journal that the disk has.
    pub const JOURNAL_WRITES_TOTAL: &str = "restante_journal_writes_total";
    /// Log lines dropped because the pipe was full.
    pub const LOG_LINES_DROPPED_TOTAL: &str = "restante_log_lines_dropped_total";
    /// Requests that took spans to the collector, by `result`.
    pub const TRACE_EXPORTS_TOTAL: &str = "restante_trace_exports_total";
    /// Events that are not finished, by `status`.
    pub const EVENTS_UNFINISHED: &str = "restante_events_unfinished";
    /// Events that wait, by `reason`.
    pub const EVENTS_WAITING: &str = "restante_events_waiting";
    /// Events that wait because something is wrong with us, or with the other side.
    pub const EVENTS_IN_TROUBLE: &str = "restante_events_in_trouble";
    /// 0 while a row of `restante.health` says act, else 1, by `question`.
    pub const HEALTH: &str = "restante_health";
    /// 1 while a part of the API does not answer the `account`, so that no worker claims what needs it, else 0.
    pub const API_BREAKER_OPEN: &str = "restante_api_breaker_open";
    /// Rows that retention deleted, by `what` as in `restante.retention`.
    pub const RETENTION_ROWS_TOTAL: &str = "restante_retention_rows_total";
    /// How long a week of the history has waited to be detached, in seconds.
    pub const RETENTION_PENDING_SECONDS: &str = "restante_retention_pending_seconds";
    /// When the last delivery was stored, in Unix seconds, by `scheme`.
    pub const LAST_DELIVERY_TIMESTAMP_SECONDS: &str = "restante_last_delivery_timestamp_seconds";
    /// 1 while the process has a key and 0 once it is gone, by `kind`, `party` and `fingerprint`.
    pub const KEY_LOADED: &str = "restante_key_loaded";
    /// When a key was used last, in Unix seconds, by `kind`, `party` and `fingerprint`.
    pub const KEY_LAST_USED_TIMESTAMP_SECONDS: &str = "restante_key_last_used_timestamp_seconds";
    /// 1 while the files of the configuration say what cannot be used, else 0.
    pub const CONFIGURATION_REFUSED: &str = "restante_configuration_refused";
    /// How often a change of the files of the configuration was read, by `answer` (`used`, `refused`).
    pub const CONFIGURATION_CHANGES_TOTAL: &str = "restante_configuration_changes_total";
    /// 1, with the `version` of the program and of the `schema` that it knows.
    pub const BUILD_INFO: &str = "restante_build_info";
}

/// The counter of the attempts that ended with `outcome`. `event_type` is a result of [`event_type_label`].
pub fn attempts(outcome: Outcome, event_type: &'static str) -> Counter {
    counter!(metric::ATTEMPTS_TOTAL, "outcome" => outcome.as_str(), "event_type" => event_type)
}

/// The label of a type that no handler is registered for.
pub(super) const OTHER: &str = "other";

/// The label of an event's type: the type itself if it is in `known`, else the longest pattern in `known` (`session.*`)
/// that matches it, else `other`.
///
/// Types come from outside, and each new value of a label is a new series forever: a sender who can sign a webhook
/// could otherwise fill the memory of this process and of Prometheus. `known` is usually the list of types and patterns
/// that a handler is registered for.
pub fn event_type_label(known: &[&'static str], event_type: &str) -> &'static str {
    let covers =
        |pattern: &&str| pattern.strip_suffix('*').is_some_and(|start| event_type.starts_with(start));
    known
        .iter()
        .find(|known| **known == event_type)
        .or_else(|| known.iter().filter(|pattern| covers(pattern)).max_by_key(|pattern| pattern.len()))
        .copied()
        .unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_type_is_labelled_by_itself_or_its_family_and_an_unknown_one_gets_no_label_of_its_own() {
        let known = ["session.*", "session.thread_*", "batch.poll", "*.deleted"];
        for (event_type, label) in [
            ("batch.poll", "batch.poll"),
            ("session.status_idled", "session.*"),
            ("session.thread_idled", "session.thread_*"),
            ("session.", "session.*"),
            ("batch.made_up", "other"),
            ("file.deleted", "other"),
            ("", "other"),
        ] {
            assert_eq!(event_type_label(&known, event_type), label, "{event_type}");
        }
    }
}
