//! Counts and logs an attempt, once its outcome is known.

use std::time::Duration;

use tracing::Span;

use crate::outbox::Outcome;
use crate::outbox::outcome::Verdict;
use crate::{telemetry, trace};

/// The report of one attempt.
pub(super) struct Report {
    /// Names the event in every log line.
    span: Span,
    /// The event's type as a label of metrics.
    event_type: &'static str,
    /// How long the handler took.
    took: Duration,
    /// From the end of the handler until the outcome is known. Ends before the attempt, whose part it is.
    settle: trace::Span,
    attempt: trace::Span,
}

impl Report {
    /// Records how long the handler took.
    pub(super) fn new(span: Span, attempt: trace::Span, event_type: &'static str, took: Duration) -> Self {
        metrics::histogram!(telemetry::metric::ATTEMPT_SECONDS, "event_type" => event_type)
            .record(took.as_secs_f64());
        Self { span, event_type, took, settle: attempt.part("settle"), attempt }
    }

    /// The span that names the event in every log line.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Counts and logs how the attempt ended.
    pub(super) fn ended(&self, outcome: Outcome) {
        telemetry::attempts(outcome, self.event_type).increment(1);
        self.log(outcome);
    }

    fn log(&self, outcome: Outcome) {
        self.settle.set("restante.outcome", || outcome.as_str());
        self.attempt.set("restante.outcome", || outcome.as_str());
        if outcome == Outcome::LeaseLost {
            metrics::counter!(telemetry::metric::LOST_LEASES_TOTAL).increment(1);
            tracing::warn!(parent: &self.span, "the lease was lost: this attempt does not settle its event");
        }
        tracing::debug!(
            parent: &self.span,
            outcome = outcome.as_str(),
            duration_ms = self.took.as_millis(),
            "attempt ended"
        );
    }

    /// Logs what failed, at the level that it deserves. Call it once the database has stored the verdict.
    pub(super) fn failed(&self, verdict: &Verdict, attempt: i32, is_known: bool) {
        let (outcome, reason) = (verdict.outcome().as_str(), verdict.reason());
        let (kind, wait_ms) = (verdict.kind(), verdict.wait().map(|wait| wait.as_millis()));
        let _entered = self.span.enter();
        if matches!(verdict, Verdict::Retry { .. } | Verdict::Dead { .. } | Verdict::Trouble { .. }) {
            self.attempt.failed(kind.unwrap_or("other"));
        }
        match verdict {
            Verdict::Retry { .. } => tracing::warn!(
                outcome,
                kind,
                wait_ms,
                reason,
                "attempt {attempt} failed; the event runs again later"
            ),
            Verdict::Trouble { .. } if is_known => tracing::debug!(
                kind,
                wait_ms,
                reason,
                "the event waits until the API may be asked again; the attempt does not count"
            ),
            Verdict::Trouble { .. } => tracing::warn!(
                kind,
                wait_ms,
                reason,
                "the event waits because something is wrong on our side or on the API's; the attempt does not count"
            ),
            // The row has the reason. It may quote what a customer wrote, and no operator has to act on it.
            Verdict::Snooze { .. } | Verdict::Defer { .. } => {
                tracing::debug!(outcome, wait_ms, "the event waits; the attempt does not count");
            }
            Verdict::Dead { .. } => tracing::error!(
                outcome,
                kind,
                reason,
                "attempt {attempt} failed; the event is a dead letter now"
            ),
        }
    }
}

/// Counts attempts that end together. Looking up a counter costs more than counting, so each counter is looked up once.
#[derive(Default)]
pub(super) struct Tally(Vec<(Outcome, &'static str, u64)>);

impl Tally {
    /// Logs how an attempt ended, and notes it for [`count`](Self::count).
    pub(super) fn ended(&mut self, report: &Report, outcome: Outcome) {
        report.log(outcome);
        let of_kind = |(noted, event_type, _): &&mut (Outcome, &str, u64)| {
            *noted == outcome && *event_type == report.event_type
        };
        match self.0.iter_mut().find(of_kind) {
            Some((_, _, count)) => *count += 1,
            None => self.0.push((outcome, report.event_type, 1)),
        }
    }

    /// Adds the noted attempts to the counters.
    pub(super) fn count(self) {
        for (outcome, event_type, count) in self.0 {
            telemetry::attempts(outcome, event_type).increment(count);
        }
    }
}
