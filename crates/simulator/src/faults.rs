//! The faults that can be switched on: as flags at the start, and through `/_simulator/faults` while the simulator runs.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::flags::{seconds, share};
use super::line_end::LineEnd;
use super::outage::Outage;
use super::refusals::Planned;

/// What goes wrong, and how often. Shares are between 0 and 1. By default all faults are off.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = "Faults")]
pub struct Faults {
    /// Share of webhooks that are delivered a second time
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub duplicate_share: f64,
    /// Share of webhooks that are held back, so that later ones overtake them
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub reorder_share: f64,
    /// The longest time that a webhook is held back
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub reorder_seconds: f64,
    /// Share of webhooks that are never sent
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub lost_share: f64,
    /// Share of webhooks that are preceded by a delivery with an outdated timestamp
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub stale_share: f64,
    /// Share of webhooks that are preceded by a forged delivery: another event id, signed with a wrong key
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub forged_share: f64,

    /// Milliseconds by which every answer of the API is delayed
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub latency_milliseconds: u64,
    /// Share of requests answered with 429 `rate_limit_error`
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub rate_limited_share: f64,
    /// The `retry-after` of such an answer
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    pub retry_after_seconds: u64,
    /// Share of requests answered with 529 `overloaded_error`
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub overloaded_share: f64,
    /// Share of requests answered with 500 `api_error`
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub internal_error_share: f64,
    /// Refuses calls of the API, `CALL:ERROR` or `CALL:ERROR:TIMES`, such as `create:ramp_limit_exceeded:2`; may be repeated. CALL is
    /// create, list, retrieve, cancel, delete or results (of batches), send (of events to a session), or any; ERROR is a status, or a
    /// code of the API
    #[arg(long = "refuse", value_name = "CALL:ERROR")]
    pub refusals: Vec<Planned>,
    /// Enforces a limit: of messages, of batches and of all other calls, so many requests a second each are answered, and the
    /// others are refused with 429. The headers tell of it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit_per_second: Option<u32>,
    /// Refuses every call for a time, `AFTER:SECONDS` or `AFTER:SECONDS:ERROR`, such as `60:600:401`; may be repeated. AFTER counts
    /// from the start, or from the change of the faults; ERROR is as for --refuse [default: 503]
    #[arg(long = "outage", value_name = "AFTER:SECONDS")]
    pub outages: Vec<Outage>,
    /// How many cursors of lists are refused, as if they had run out; it counts down
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub cursors_refused: u32,
    /// Puts an empty page between every two pages of a list
    #[arg(long)]
    pub empty_pages: bool,
    /// All lists have the cursors of batches (`after_id`, `has_more`) instead of pages
    #[arg(long)]
    pub lists_by_id: bool,
    /// How many of the first GETs of a new object answer 404
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub not_found_first: u32,

    /// Cuts the connection of a call that creates a batch after this many bytes of its body; no batch comes of it
    #[arg(long, value_name = "BYTES")]
    pub create_cut_request_bytes: Option<u64>,
    /// Cuts the connection of a call that creates a batch after this many bytes of the answer; the batch is there
    #[arg(long, value_name = "BYTES")]
    pub create_cut_answer_bytes: Option<u64>,
    /// Cuts the connection of a call that creates a batch before the answer; the batch comes up so much later
    #[arg(long, value_name = "MS")]
    pub create_late_milliseconds: Option<u64>,
    /// How many calls that create a batch these three happen to; it counts down, and then they are off
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub create_mishaps: u32,

    /// Makes every N-th batch that a client creates slow; 2 means every second one, 0 none
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub slow_batch_every: usize,
    /// Seconds from the creation of a slow batch to its end
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds)]
    pub slow_batch_seconds: f64,
    /// What becomes of the answer to a call that sends events to a session, once the session has them
    #[arg(long, value_name = "MISHAP")]
    pub send_mishap: Option<Mishap>,
    /// How many calls that send events this happens to; it counts down, and then it is off
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub send_mishaps: u32,

    /// Cuts the download of results after this many bytes
    #[arg(long, value_name = "BYTES")]
    pub results_cut_bytes: Option<u64>,
    /// Cuts the download of results after this many whole lines
    #[arg(long, value_name = "LINES")]
    pub results_cut_lines: Option<u64>,
    /// How many downloads of each batch are cut before one completes
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub results_cut_downloads: u32,
    /// Makes a cut look like the proper end of the download
    #[arg(long)]
    pub results_cut_quietly: bool,
    /// Milliseconds between two pieces (64 KiB each) of results
    #[arg(long, value_name = "MS", default_value_t = 0)]
    pub results_pause_milliseconds: u64,
    /// Origin that `results_url` names instead of the simulator's own
    #[arg(long, value_name = "URL")]
    pub results_origin: Option<String>,
    /// URL to which a request for results is redirected
    #[arg(long, value_name = "URL")]
    pub results_redirect: Option<String>,

    /// Share of message streams that break off with `event: error`
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub stream_error_share: f64,
    /// The `error.type` of that event
    #[arg(long, value_name = "TYPE", default_value = "overloaded_error")]
    pub stream_error_type: String,
    /// Share of message streams that end without `message_stop`, as if all were well
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub stream_cut_share: f64,
    /// Share of message streams that fall silent, and stay open
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub stream_silence_share: f64,
    /// How many events come before one of these three [default: half of them]
    #[arg(long, value_name = "EVENTS")]
    pub stream_fault_after_events: Option<usize>,
    /// Adds to message streams what the API may add one day: comments, events and deltas of an unknown type
    #[arg(long)]
    pub stream_novelties: bool,
    /// How the lines of message streams end
    #[arg(long, value_name = "END", default_value = "lf")]
    pub stream_line_end: LineEnd,
    /// Milliseconds between two events of a message stream
    #[arg(long, value_name = "MS", default_value_t = 20)]
    pub stream_pause_milliseconds: u64,
}

/// What becomes of the answer to a call whose events the session has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mishap {
    /// The connection is cut before it.
    Lost,
    /// It never comes, and the connection stays open.
    Silence,
    /// It is 500 `api_error`.
    Error,
}

impl Faults {
    /// These faults with the named ones replaced.
    ///
    /// # Errors
    ///
    /// If a name is not that of a fault, or a value has the wrong type.
    pub(super) fn with(
        &self,
        changes: serde_json::Map<String, serde_json::Value>,
    ) -> serde_json::Result<Faults> {
        let mut all = serde_json::to_value(self)?;
        if let Some(fields) = all.as_object_mut() {
            fields.extend(changes);
        }
        serde_json::from_value(all)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Settings;

    #[test]
    fn only_the_named_faults_change() {
        let faults = Settings::default().faults;

        let changed = faults.with(json!({"lost_share": 0.5}).as_object().unwrap().clone()).unwrap();

        assert_eq!(changed, super::Faults { lost_share: 0.5, ..faults });
    }

    #[test]
    fn a_fault_that_does_not_exist_is_refused() {
        let faults = Settings::default().faults;

        assert!(faults.with(json!({"lost_shares": 0.5}).as_object().unwrap().clone()).is_err());
    }
}
