//! The recorder of the metrics: their names, what is said of each, and their buckets.
//!
//! Labels are of known, few values only; event types pass through [`event_type_label`].

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::Error;

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
    Ok(handle)
}

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

    describe_counter!(DELIVERIES_TOTAL, Unit::Count, "Deliveries answered, by answer");
    describe_histogram!(ACK_SECONDS, Unit::Seconds, "From the head of a delivery to its answer");
    describe_counter!(CLAIMS_TOTAL, Unit::Count, "Events claimed");
    describe_counter!(ATTEMPTS_TOTAL, Unit::Count, "Attempts that ended, by outcome");
    describe_histogram!(ATTEMPT_SECONDS, Unit::Seconds, "How long an attempt took, by event_type");
    describe_counter!(LOST_LEASES_TOTAL, Unit::Count, "Attempts that ended after their lease was lost");
    describe_counter!(RESULTS_ROWS_TOTAL, Unit::Count, "Batch results stored");
    describe_counter!(RESULTS_BYTES_TOTAL, Unit::Bytes, "Bytes of batch results stored");
    describe_counter!(LOG_LINES_DROPPED_TOTAL, Unit::Count, "Log lines dropped since nobody read them");
    describe_gauge!(OLDEST_UNFINISHED_EVENT_SECONDS, Unit::Seconds, "Age of the oldest unfinished event");
    describe_gauge!(
        EVENTS_UNFINISHED,
        Unit::Count,
        "Events that are not finished, by status, each counted up to about 10,000"
    );
}

/// The names of all metrics. Their labels are named in what [`recorder`] says of each.
pub mod metric {
    /// Deliveries answered, by `answer`.
    pub const DELIVERIES_TOTAL: &str = "restante_deliveries_total";
    /// From the head of a delivery to its answer, in seconds.
    pub const ACK_SECONDS: &str = "restante_ack_seconds";
    /// Events claimed.
    pub const CLAIMS_TOTAL: &str = "restante_claims_total";
    /// Attempts that ended, by `outcome`.
    pub const ATTEMPTS_TOTAL: &str = "restante_attempts_total";
    /// How long an attempt took, in seconds, by `event_type`.
    pub const ATTEMPT_SECONDS: &str = "restante_attempt_seconds";
    /// Attempts whose lease somebody else had by the time they ended.
    pub const LOST_LEASES_TOTAL: &str = "restante_lost_leases_total";
    /// Batch results stored.
    pub const RESULTS_ROWS_TOTAL: &str = "restante_results_rows_total";
    /// Bytes of batch results stored.
    pub const RESULTS_BYTES_TOTAL: &str = "restante_results_bytes_total";
    /// The age of the oldest event that is not finished, in seconds.
    pub const OLDEST_UNFINISHED_EVENT_SECONDS: &str = "restante_oldest_unfinished_event_seconds";
    /// Log lines dropped since nobody read the pipe.
    pub const LOG_LINES_DROPPED_TOTAL: &str = "restante_log_lines_dropped_total";
    /// Events that are not finished, by `status`.
    pub const EVENTS_UNFINISHED: &str = "restante_events_unfinished";
}

/// The label of an event's type: itself where it is one of `known`, else `other`.
///
/// Types come from outside, and every new value of a label is a new series for good: whoever can sign a
/// webhook could fill the memory of this process and of the Prometheus behind it. `known` is commonly the list
/// of types that a handler is registered for.
pub fn event_type_label(known: &[&'static str], event_type: &str) -> &'static str {
    known.iter().find(|known| **known == event_type).copied().unwrap_or("other")
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
            "# HELP restante_deliveries_total Deliveries answered, by answer",
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
    fn an_unknown_event_type_gets_no_label_of_its_own() {
        let known = ["session.created", "session.deleted"];

        assert_eq!(event_type_label(&known, "session.deleted"), "session.deleted");
        assert_eq!(event_type_label(&known, "session.made_up"), "other");
    }
}
