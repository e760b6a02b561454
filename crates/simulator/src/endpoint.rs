//! The endpoint that receives webhooks, as the API sees it, and the record of each attempt.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

/// The record of one attempt to deliver an event, or of a dropped event.
#[derive(Serialize)]
pub(super) struct Delivery {
    pub(super) at: DateTime<Utc>,
    pub(super) event_id: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// Counts from 1; 0 for a duplicate, a stale or forged delivery, and a loss.
    pub(super) attempt: u32,
    pub(super) status: Option<u16>,
    pub(super) milliseconds: f64,
    pub(super) error: Option<String>,
    /// The fault that caused this delivery.
    pub(super) fault: Option<&'static str>,
}

/// The state of the endpoint that webhooks go to.
#[derive(Default)]
pub(super) struct Endpoint {
    pub(super) disabled_reason: Option<&'static str>,
    failures_in_a_row: u32,
    pub(super) lost: u64,
}

impl Endpoint {
    pub(super) fn enable(&mut self) {
        (self.disabled_reason, self.failures_in_a_row) = (None, 0);
    }

    pub(super) fn object(&self, url: Option<&str>) -> Value {
        let state = if self.disabled_reason.is_some() { "disabled" } else { "enabled" };
        let reason = self.disabled_reason.unwrap_or_default();
        let failures = self.failures_in_a_row;
        json!({"url": url, "state": state, "disabled_reason": reason, "failures_in_a_row": failures, "lost": self.lost})
    }

    /// Records the outcome of an attempt. The reasons are in the API's words.
    pub(super) fn note(&mut self, status: Option<u16>, failures_limit: u32) {
        match status {
            Some(200..=299) => self.failures_in_a_row = 0,
            Some(300..=399) => {
                self.disabled_reason = Some("auto-disabled: endpoint URL returned a redirect (3xx)");
            }
            _ => {
                self.failures_in_a_row += 1;
                if self.failures_in_a_row >= failures_limit && self.disabled_reason.is_none() {
                    self.disabled_reason = Some("auto-disabled after sustained delivery failures");
                }
            }
        }
    }
}
