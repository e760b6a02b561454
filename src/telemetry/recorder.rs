//! The recorder of the metrics: their descriptions and their buckets.
//!
//! Labels have few, known values; event types pass through [`event_type_label`](super::event_type_label).

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::log::Error;
use super::names::{OTHER, attempts, metric};
use crate::api::{API_CALLS_TOTAL, API_WAIT_SECONDS, Class};
use crate::event::ANTHROPIC;
use crate::outbox::{Outcome, retention};

/// Starts recording metrics for the whole process, and returns the handle that renders them.
///
/// It opens no listener: `ops` serves what the handle renders.
///
/// # Errors
///
/// [`Error::Metrics`] if the process already has a recorder.
pub fn recorder() -> Result<PrometheusHandle, Error> {
    let handle = builder()?.install_recorder()?;
    describe();
    counter!(metric::LOG_LINES_DROPPED_TOTAL).increment(0);
    Ok(handle)
}

/// Records the version of the program, and of the schema that it knows.
pub fn note_build(version: &'static str, schema: i64) {
    gauge!(metric::BUILD_INFO, "version" => version, "schema" => schema.to_string()).set(1.0);
}

/// Starts at zero what says how changes of the configuration's files were taken.
pub fn start_configuration_at_zero() {
    gauge!(metric::CONFIGURATION_REFUSED).set(0.0);
    for answer in ["used", "refused"] {
        counter!(metric::CONFIGURATION_CHANGES_TOTAL, "answer" => answer).increment(0);
    }
}

/// Starts every counter of a worker at zero. A counter that appears with its first event has no increase to alert on.
///
/// `event_types` are the types and patterns that have a handler, `resources` the kinds of objects that events name.
pub fn start_worker_at_zero(event_types: &[&'static str], resources: &[&'static str]) {
    for name in [
        metric::CLAIMS_TOTAL,
        metric::LOST_LEASES_TOTAL,
        metric::RESULTS_ROWS_TOTAL,
        metric::RESULTS_BYTES_TOTAL,
    ] {
        counter!(name).increment(0);
    }
    for what in retention::KINDS {
        counter!(metric::RETENTION_ROWS_TOTAL, "what" => what).increment(0);
    }
    for resource in resources {
        counter!(metric::MISSED_CHANGES_TOTAL, "kind" => *resource).increment(0);
        counter!(metric::RESOURCES_NEVER_SEEN_TOTAL, "resource" => *resource).increment(0);
    }
    for class in Class::ALL {
        for answer in API_ANSWERS {
            counter!(API_CALLS_TOTAL, "class" => class.as_str(), "answer" => answer).increment(0);
        }
    }
    for event_type in event_types.iter().copied().chain([OTHER]) {
        for outcome in Outcome::ALL {
            attempts(outcome, event_type).increment(0);
        }
    }
}

/// Starts every counter of ingest at zero, as [`start_worker_at_zero`] does. `senders` are the names of those that are configured.
pub fn start_ingest_at_zero<'s>(senders: impl IntoIterator<Item = &'s str>) {
    for sender in senders {
        for (answer, reason) in ANSWERS {
            // As in a delivery of this sender.
            let of_sender = (sender != ANTHROPIC).then(|| Label::new("sender", sender.to_owned()));
            let labels = [Label::new("answer", answer), Label::new("reason", reason)];
            counter!(metric::DELIVERIES_TOTAL, labels.into_iter().chain(of_sender).collect::<Vec<_>>())
                .increment(0);
        }
    }
}

/// What [`API_CALLS_TOTAL`] tells apart.
const API_ANSWERS: [&str; 5] = ["success", "limited", "refused", "failed", "none"];

/// The answers to deliveries, with their reasons, that an operator may want an alert for.
const ANSWERS: [(&str, &str); 16] = [
    ("204", "stored"),
    ("204", "duplicate"),
    ("204", "unreadable"),
    ("204", "journaled"),
    ("401", "missing"),
    ("401", "duplicate"),
    ("401", "malformed"),
    ("401", "timestamp"),
    ("401", "stale"),
    ("401", "future"),
    ("401", "mismatch"),
    ("413", "too_large"),
    ("503", "large_bodies"),
    ("503", "queue_full"),
    ("503", "database_unavailable"),
    ("503", "database_refused"),
];

/// Fixed buckets, because histograms of several processes can then be added up; quantiles cannot.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    // From a commit on a local disk to the ten seconds that a delivery waits for the database, and beyond.
    const ACK: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];
    // From a lookup to the download of a large batch.
    const ATTEMPT: &[f64] = &[0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0];
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(metric::ACK_SECONDS.to_owned()), ACK)?
        .set_buckets_for_metric(Matcher::Full(metric::ATTEMPT_SECONDS.to_owned()), ATTEMPT)
}

fn describe() {
    use metric::*;

    describe_counter!(DELIVERIES_TOTAL, Unit::Count, "Deliveries answered, by answer and reason");
    describe_histogram!(ACK_SECONDS, Unit::Seconds, "From the head of a delivery to its answer");
    describe_counter!(CLAIMS_TOTAL, Unit::Count, "Events claimed");
    describe_counter!(
        API_CALLS_TOTAL,
        Unit::Count,
        "Calls of the API, by class (messages, batches, objects) and answer (success, limited for 429, refused, failed \
         for 5xx, or none)"
    );
    describe_histogram!(
        API_WAIT_SECONDS,
        Unit::Seconds,
        "How long a call waited for its place within the API's limit, by class"
    );
    describe_counter!(
        ATTEMPTS_TOTAL,
        Unit::Count,
        "Attempts that ended, by outcome and event_type (the type, or the pattern of its handler); snoozed, deferred \
         and trouble (something is wrong with us, or with the other side) do not count towards giving up; an attempt \
         that ended as lease_lost changed nothing, and for unknown the database did not say whether it was settled"
    );
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "How long an attempt took, by event_type");
    describe_counter!(LOST_LEASES_TOTAL, Unit::Count, "Attempts that ended after their lease was lost");
    describe_counter!(RESULTS_ROWS_TOTAL, Unit::Count, "Batch results stored");
    describe_counter!(RESULTS_BYTES_TOTAL, Unit::Bytes, "Bytes of batch results stored");
    describe_counter!(
        RESOURCES_NEVER_SEEN_TOTAL,
        Unit::Count,
        "Objects that an event named and that the API never showed, by resource"
    );
    describe_counter!(
        MISSED_CHANGES_TOTAL,
        Unit::Count,
        "Changes at the API that no webhook had told when they were noticed, by kind of object"
    );
    describe_gauge!(
        UNEXPLAINED_CHANGE_SECONDS,
        Unit::Seconds,
        "How old a change at the API may be that no webhook told and that has not been noticed yet: the time since the \
         last complete look at the kind of object that was looked at longest ago"
    );
    describe_gauge!(
        JOURNAL_BYTES,
        Unit::Bytes,
        "Size of the journal's files; absent, as the others of the journal, without RESTANTE_JOURNAL_DIR"
    );
    describe_gauge!(
        JOURNAL_EVENTS,
        Unit::Count,
        "Events in the journal that are not in the outbox yet; above 0 while the database does not take events"
    );
    describe_gauge!(
        JOURNAL_OLDEST_SECONDS,
        Unit::Seconds,
        "How long the oldest event of the journal has waited; 0 if none waits"
    );
    describe_counter!(JOURNAL_WRITES_TOTAL, Unit::Count, "Writes to the journal that the disk has");
    describe_counter!(LOG_LINES_DROPPED_TOTAL, Unit::Count, "Log lines dropped because the pipe was full");
    describe_gauge!(
        OLDEST_UNFINISHED_EVENT_SECONDS,
        Unit::Seconds,
        "Age of the oldest event that is pending, running, blocked or in retry, since it was received; not of what is \
         scheduled for later, paused or dead, nor of the jobs that look again and again"
    );
    describe_gauge!(
        OLDEST_CLAIMABLE_EVENT_SECONDS,
        Unit::Seconds,
        "Age of the oldest event that a worker could claim now: how far the workers are behind"
    );
    describe_gauge!(
        EVENTS_UNFINISHED,
        Unit::Count,
        "Events that are not finished, by status (scheduled: for a later time; standing: jobs that look again and \
         again), each counted up to about 10,000"
    );
    describe_gauge!(
        EVENTS_WAITING,
        Unit::Count,
        "Events that wait, by reason: worker (a free place), scheduled_time, too_early and its_turn (the handler said so), \
         repair (something is wrong with us, or with the other side), next_attempt (it has failed), older_event (of its \
         key), person; each counted up to about 10,000"
    );
    describe_gauge!(
        EVENTS_IN_TROUBLE,
        Unit::Count,
        "Events that wait because something is wrong with us, or with the other side, counted up to about 10,000; the \
         same as restante_events_waiting{reason=\"repair\"}"
    );
    describe_counter!(
        TRACE_EXPORTS_TOTAL,
        Unit::Count,
        "Requests that took spans to the collector, by result (success, failure); absent without a collector"
    );
    describe_gauge!(
        HEALTH,
        Unit::Count,
        "Am I safe? 0 while restante.health answers the question with act, else 1, by question; absent until the first look"
    );
    describe_counter!(
        RETENTION_ROWS_TOTAL,
        Unit::Count,
        "Rows that retention deleted, by what as in restante.retention; of a dropped week as many as Postgres estimated"
    );
    describe_gauge!(
        RETENTION_PENDING_SECONDS,
        Unit::Seconds,
        "How long a week of the history has waited to be dropped, because somebody holds a lock on the outbox; 0 if none waits"
    );
    describe_gauge!(
        API_BREAKER_OPEN,
        Unit::Count,
        "1 while a part of the API does not answer the account, so that no worker claims what needs it, else 0, by account"
    );
    describe_gauge!(
        LAST_DELIVERY_TIMESTAMP_SECONDS,
        Unit::Seconds,
        "When the last delivery was stored, in Unix seconds, by signature scheme; absent until the first one"
    );
    describe_gauge!(
        KEY_LOADED,
        Unit::Count,
        "1 while the process has a key and 0 once it is gone, by kind (signing, api, admin), party (the sender or the \
         account) and fingerprint"
    );
    describe_gauge!(
        KEY_LAST_USED_TIMESTAMP_SECONDS,
        Unit::Seconds,
        "When a key was used last, in Unix seconds, by kind, party and fingerprint; absent until then"
    );
    describe_gauge!(
        CONFIGURATION_REFUSED,
        Unit::Count,
        "1 while the files of the configuration say what cannot be used, so that what they said before is in force; else 0"
    );
    describe_counter!(
        CONFIGURATION_CHANGES_TOTAL,
        Unit::Count,
        "How often a change of the files of the configuration was read, by answer (used, refused)"
    );
    describe_gauge!(
        BUILD_INFO,
        Unit::Count,
        "1, with the version of the program and of the schema that it knows"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_rendered_with_their_help_and_in_buckets() {
        let recorder = builder().unwrap().build_recorder();

        metrics::with_local_recorder(&recorder, || {
            describe();
            metrics::counter!(metric::DELIVERIES_TOTAL, "answer" => "204").increment(3);
            metrics::histogram!(metric::ACK_SECONDS).record(0.004);
            metrics::gauge!(metric::EVENTS_UNFINISHED, "status" => "dead").set(1.0);
        });

        let text = recorder.handle().render();
        for line in [
            "# HELP restante_deliveries_total Deliveries answered, by answer and reason",
            "# TYPE restante_deliveries_total counter",
            "restante_deliveries_total{answer=\"204\"} 3",
            "# TYPE restante_ack_seconds histogram",
            "restante_ack_seconds_bucket{le=\"0.0025\"} 0",
            "restante_ack_seconds_bucket{le=\"0.005\"} 1",
            "restante_events_unfinished{status=\"dead\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn counters_are_there_before_the_first_event_is_counted_and_the_build_says_what_it_is() {
        let recorder = builder().unwrap().build_recorder();

        metrics::with_local_recorder(&recorder, || {
            note_build("1.2.3", 9);
            start_worker_at_zero(&["session.*"], &["session"]);
            start_ingest_at_zero([ANTHROPIC, "staging"]);
        });

        let text = recorder.handle().render();
        for line in [
            "restante_build_info{version=\"1.2.3\",schema=\"9\"} 1",
            "restante_lost_leases_total 0",
            "restante_attempts_total{outcome=\"trouble\",event_type=\"session.*\"} 0",
            "restante_attempts_total{outcome=\"permanent\",event_type=\"other\"} 0",
            "restante_deliveries_total{answer=\"401\",reason=\"mismatch\"} 0",
            "restante_deliveries_total{answer=\"204\",reason=\"duplicate\"} 0",
            "restante_deliveries_total{answer=\"401\",reason=\"mismatch\",sender=\"staging\"} 0",
            "restante_missed_changes_total{kind=\"session\"} 0",
            "restante_api_calls_total{class=\"messages\",answer=\"none\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }
}
