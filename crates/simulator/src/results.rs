//! The results of a batch as a stream of JSON lines. Each line is made when it is sent, so memory use does not grow.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde_json::json;

use super::batch::Batch;
use super::faults::Faults;
use super::outcome::Outcome;
use super::settings::Settings;
use super::{dice, text};

/// Lines are sent in pieces of about this size.
const PIECE_BYTES: usize = 64 << 10;
/// How long to wait before a cut, so that the data sent before reaches the client ahead of the error.
const CUT_DELAY: Duration = Duration::from_millis(20);

/// One download of a batch's results.
pub(super) struct Download {
    batch: Batch,
    text_bytes: usize,
    huge_share: f64,
    huge_text_bytes: usize,
    order: Order,
    lines: usize,
    /// Bytes that may still be sent before the cut.
    bytes_left: Option<u64>,
    lines_end: usize,
    cut_quietly: bool,
    cut: bool,
}

impl Download {
    /// A download; `cut` says where it is cut.
    pub(super) fn new(batch: Batch, settings: &Settings, cut: Option<&Faults>) -> Download {
        let count = batch.requests.count();
        let lines_end = cut.and_then(|faults| faults.results_cut_lines).map_or(count, |lines| lines as usize);
        Download {
            text_bytes: settings.text_bytes,
            huge_share: settings.huge_share,
            huge_text_bytes: settings.huge_text_bytes,
            order: Order::new(dice::number(batch.seed, "order", &batch.id), count),
            lines: 0,
            bytes_left: cut.and_then(|faults| faults.results_cut_bytes),
            lines_end: lines_end.min(count),
            cut_quietly: cut.is_some_and(|faults| faults.results_cut_quietly),
            cut: lines_end < count,
            batch,
        }
    }

    /// The pieces, with a pause before each.
    pub(super) fn stream(self, pause: Duration) -> impl Stream<Item = io::Result<Bytes>> + Send {
        futures_util::stream::unfold(Some(self), move |state| async move {
            let mut download = state?;
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            match download.piece() {
                Some(piece) => Some((Ok(piece), Some(download))),
                None if download.cut && !download.cut_quietly => {
                    tokio::time::sleep(CUT_DELAY).await;
                    Some((Err(io::Error::other("cut by a fault")), None))
                }
                None => None,
            }
        })
    }

    /// The next piece; `None` at the end or at the cut.
    fn piece(&mut self) -> Option<Bytes> {
        let mut piece = Vec::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        while piece.len() < PIECE_BYTES && self.lines < self.lines_end {
            self.write_line(self.order.place(self.lines), &mut piece);
            self.lines += 1;
        }
        if let Some(left) = &mut self.bytes_left {
            let sent = piece.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
            self.cut |= sent < piece.len();
            piece.truncate(sent);
            *left -= sent as u64;
        }
        (!piece.is_empty()).then(|| piece.into())
    }

    fn write_line(&self, index: usize, out: &mut Vec<u8>) {
        let batch = &self.batch;
        let custom_id = batch.requests.custom_id(index);
        let outcome = batch.outcome(index);
        let result = match outcome {
            Outcome::Succeeded => {
                let huge = dice::roll(batch.seed, "huge", &custom_id) < self.huge_share;
                let bytes = if huge { self.huge_text_bytes } else { self.text_bytes };
                json!({"type": outcome, "message": self.message(index, &custom_id, bytes)})
            }
            Outcome::Errored => json!({"type": outcome, "error": self.error(index, &custom_id)}),
            Outcome::Canceled | Outcome::Expired => json!({"type": outcome}),
        };
        let line = json!({"custom_id": custom_id, "result": result});
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(&mut *out, &line);
        out.push(b'\n');
    }

    fn message(&self, index: usize, custom_id: &str, bytes: usize) -> serde_json::Value {
        let text = text::text(&format!("Answer to {custom_id}. "), bytes);
        let stop_reason = match dice::roll(self.batch.seed, "stop reason", custom_id) {
            r if r < 0.02 => "max_tokens",
            r if r < 0.03 => "refusal",
            _ => "end_turn",
        };
        json!({
            "id": self.item_id("msg_", index), "type": "message", "role": "assistant",
            "model": self.batch.requests.model(index),
            "stop_reason": stop_reason, "stop_sequence": null, "stop_details": null,
            "usage": {"input_tokens": 10 + custom_id.len(), "output_tokens": text::tokens(&text),
                "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "service_tier": "batch"},
            "content": [{"type": "text", "text": text, "citations": null}],
        })
    }

    /// The complete error envelope, so the type of the error is at `result.error.error.type`.
    fn error(&self, index: usize, custom_id: &str) -> serde_json::Value {
        let (kind, message) =
            match (self.batch.requests.flaw(index), dice::roll(self.batch.seed, "error", custom_id)) {
                (Some(flaw), _) => ("invalid_request_error", format!("params.{flaw}")),
                (None, r) if r < 0.4 => ("invalid_request_error", "params.max_tokens: too large".to_owned()),
                (None, r) if r < 0.7 => ("api_error", "Internal server error".to_owned()),
                (None, _) => ("overloaded_error", "Overloaded".to_owned()),
            };
        let request_id = self.item_id("req_", index);
        json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": request_id})
    }

    fn item_id(&self, prefix: &str, index: usize) -> String {
        dice::id(dice::number(self.batch.seed, "item", &self.batch.id), prefix, index as u64)
    }
}

/// A shuffled order of `count` indices, computed and not stored: `(first + n × stride) mod count`.
struct Order {
    first: u64,
    stride: u64,
    count: u64,
}

impl Order {
    fn new(number: u64, count: usize) -> Order {
        let count = (count as u64).max(1);
        // A stride that has no common factor with the count visits every index once.
        let stride = (number % count..).find(|&stride| gcd(stride, count) == 1).unwrap_or(1);
        Order { first: (number >> 32) % count, stride, count }
    }

    fn place(&self, n: usize) -> usize {
        ((self.first + n as u64 * self.stride) % self.count) as usize
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::super::batch::Requests;
    use super::*;

    #[test]
    fn no_piece_is_larger_than_its_size_and_one_line() {
        let requests = Requests::Made { prefix: "r-".to_owned(), count: 2000 };
        let settings = Settings { text_bytes: 2500, ..Settings::default() };
        let mut batch =
            Batch::new("b".to_owned(), requests, 1, settings.shares, Utc::now(), Duration::default());
        batch.end();
        let mut download = Download::new(batch, &settings, None);

        let pieces: Vec<usize> = std::iter::from_fn(|| download.piece()).map(|piece| piece.len()).collect();

        assert!(pieces.iter().sum::<usize>() > 2000 * 2500);
        assert!(pieces.iter().all(|&bytes| bytes < PIECE_BYTES + 4000), "{pieces:?}");
    }

    #[test]
    fn an_order_comes_by_every_place_once() {
        for count in [1, 2, 3, 10, 97, 1000] {
            let order = Order::new(dice::number(3, "order", "x"), count);
            let mut places: Vec<usize> = (0..count).map(|n| order.place(n)).collect();
            places.sort_unstable();

            assert_eq!(places, (0..count).collect::<Vec<_>>());
        }
    }
}
