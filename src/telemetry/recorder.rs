//! The recorder of the metrics: their names, what is said of each, and their buckets.
//!
//! Labels are of known, few values only; event types pass through [`event_type_label`].

use metrics::{Counter, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::Error;
use crate::outbox::Outcome;

/// Starts recording metrics for the whole process, and gives the handle that renders them.
///
/// No listener comes with it: `ops` serves what the handle renders.
///
/// # Errors
///
/// The process records its metrics elsewhere already.
pub fn recorder() -> Result<PrometheusHandle, Error> {
    let handle = builder()?.install_recorder()?;
    describe();
    counter!(metric::LOG_LINES_DROPPED_TOTAL).increment(0);
    Ok(handle)
}

/// Says which program runs: its version, and that of the schema that it knows.
pub fn note_build(version: &'static str, schema: i64) {
    gauge!(metric::BUILD_INFO, "version" => version, "schema" => schema.to_string()).set(1.0);
}

/// Has every counter of a worker start at zero. One that appears with its first event has no increase to alert on.
///
/// `event_types` are the types and patterns that have a handler.
pub fn start_worker_at_zero(event_types: &[&'static str]) {
    for name in [
        metric::CLAIMS_TOTAL,
        metric::LOST_LEASES_TOTAL,
        metric::RESULTS_ROWS_TOTAL,
        metric::RESULTS_BYTES_TOTAL,
    ] {
        counter!(name).increment(0);
    }
    for event_type in event_types.iter().copied().chain([OTHER]) {
        for outcome in Outcome::ALL {
            attempts(outcome, event_type).increment(0);
        }
    }
}

/// The counter of the attempts that ended like this. `event_type` is an answer of [`event_type_label`].
pub fn attempts(outcome: Outcome, event_type: &'static str) -> Counter {
    counter!(metric::ATTEMPTS_TOTAL, "outcome" => outcome.as_str(), "event_type" => event_type)
}

/// Has every counter of ingest start at zero, as [`start_worker_at_zero`] does.
pub fn start_ingest_at_zero() {
    for (answer, reason) in ANSWERS {
        counter!(metric::DELIVERIES_TOTAL, "answer" => answer, "reason" => reason).increment(0);
    }
}

/// How deliveries are answered, and why; those that a person would want to be told of.
const ANSWERS: [(&str, &str); 15] = [
    ("204", "stored"),
    ("204", "duplicate"),
    ("204", "unreadable"),
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

/// With fixed buckets, histograms of several processes can be added up, which quantiles can't.
fn builder() -> Result<PrometheusBuilder, BuildError> {
    // From a commit on a local disk to the ten seconds that a delivery waits out an outage, and beyond.
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
        ATTEMPTS_TOTAL,
        Unit::Count,
        "Attempts that ended, by outcome and event_type (the type, or the pattern of its handler); snoozed, deferred \
         and trouble (something is wrong with us, or with the other side) do not count towards giving up; nothing of \
         lease_lost counts, and of unknown the database did not say what became of it"
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
    describe_counter!(LOG_LINES_DROPPED_TOTAL, Unit::Count, "Log lines dropped since nobody read them");
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
        EVENTS_IN_TROUBLE,
        Unit::Count,
        "Events that wait because something is wrong with us, or with the other side, counted up to about 10,000"
    );
    describe_gauge!(
        LAST_DELIVERY_TIMESTAMP_SECONDS,
        Unit::Seconds,
        "When the last delivery was stored, in Unix seconds, by signature scheme; absent until the first one"
    );
    describe_gauge!(
        BUILD_INFO,
        Unit::Count,
        "1, with the version of the program and of the schema that it knows"
    );
}

/// The names of all metrics. Their labels are named in what [`recorder`] says of each.
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
    /// Attempts whose lease somebody else had by the time they ended.
    pub const LOST_LEASES_TOTAL: &str = "restante_lost_leases_total";
    /// Batch results stored.
    pub const RESULTS_ROWS_TOTAL: &str = "restante_results_rows_total";
    /// Bytes of batch results stored.
    pub const RESULTS_BYTES_TOTAL: &str = "restante_results_bytes_total";
    /// Objects that an event named and that the API never showed, by `resource`.
    pub const RESOURCES_NEVER_SEEN_TOTAL: &str = "restante_resources_never_seen_total";
    /// The age of the oldest event that is not finished and has something to be done about it, in seconds.
    pub const OLDEST_UNFINISHED_EVENT_SECONDS: &str = "restante_oldest_unfinished_event_seconds";
    /// The age of the oldest event that may be claimed now, in seconds.
    pub const OLDEST_CLAIMABLE_EVENT_SECONDS: &str = "restante_oldest_claimable_event_seconds";
    /// Log lines dropped since nobody read the pipe.
    pub const LOG_LINES_DROPPED_TOTAL: &str = "restante_log_lines_dropped_total";
    /// Events that are not finished, by `status`.
    pub const EVENTS_UNFINISHED: &str = "restante_events_unfinished";
    /// Events that wait because something is wrong with us, or with the other side.
    pub const EVENTS_IN_TROUBLE: &str = "restante_events_in_trouble";
    /// When the last delivery was stored, in Unix seconds, by `scheme`.
    pub const LAST_DELIVERY_TIMESTAMP_SECONDS: &str = "restante_last_delivery_timestamp_seconds";
    /// 1, with the `version` of the program and of the `schema` that it knows.
    pub const BUILD_INFO: &str = "restante_build_info";
}

/// The label of a type that no handler is registered for.
const OTHER: &str = "other";

/// The label of an event's type: itself where it is one of `known`, else the longest pattern of `known` (`session.*`) that
/// covers it, else `other`.
///
/// Types come from outside, and every new value of a label is a new series for good: whoever can sign a
/// webhook could fill the memory of this process and of the Prometheus behind it. `known` is commonly the list
/// of types and patterns that a handler is registered for.
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

    #[test]
    fn counters_are_there_before_the_first_event_is_counted_and_the_build_says_what_it_is() {
        let recorder = builder().unwrap().build_recorder();

        metrics::with_local_recorder(&recorder, || {
            note_build("1.2.3", 9);
            start_worker_at_zero(&["session.*"]);
            start_ingest_at_zero();
        });

        let text = recorder.handle().render();
        for line in [
            "restante_build_info{version=\"1.2.3\",schema=\"9\"} 1",
            "restante_lost_leases_total 0",
            "restante_attempts_total{outcome=\"trouble\",event_type=\"session.*\"} 0",
            "restante_attempts_total{outcome=\"permanent\",event_type=\"other\"} 0",
            "restante_deliveries_total{answer=\"401\",reason=\"mismatch\"} 0",
            "restante_deliveries_total{answer=\"204\",reason=\"duplicate\"} 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in:\n{text}");
        }
    }
}
