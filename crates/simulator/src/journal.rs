//! A journal with the newest entries of what the simulator has seen or done.

use std::collections::VecDeque;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::held::held;

/// How many entries are kept, so that hours of load do not fill the memory.
const CAPACITY: usize = 200_000;

/// Entries in the order in which they were made, numbered from 1.
pub(super) struct Journal<T> {
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    entries: VecDeque<T>,
    total: u64,
}

impl<T: Serialize> Journal<T> {
    pub(super) fn new() -> Journal<T> {
        Journal { kept: Mutex::new(Kept { entries: VecDeque::new(), total: 0 }) }
    }

    pub(super) fn push(&self, entry: T) {
        let mut kept = held(&self.kept);
        kept.total += 1;
        kept.entries.push_back(entry);
        if kept.entries.len() > CAPACITY {
            kept.entries.pop_front();
        }
    }

    pub(super) fn clear(&self) {
        held(&self.kept).entries.clear();
    }

    /// The entries after number `after`, as `{"data", "last", "total"}`; pass `last` as the next `after`.
    pub(super) fn page(&self, after: u64, limit: usize) -> Value {
        let kept = held(&self.kept);
        let oldest = kept.total - kept.entries.len() as u64;
        let skipped = after.saturating_sub(oldest);
        let data: Vec<Value> = (kept.entries.iter().skip(skipped as usize).take(limit))
            .filter_map(|entry| serde_json::to_value(entry).ok())
            .collect();
        let last = oldest + skipped + data.len() as u64;
        json!({"data": data, "last": last.min(kept.total), "total": kept.total})
    }
}

/// A request that was seen.
#[derive(Serialize)]
pub(super) struct Seen {
    pub(super) at: DateTime<Utc>,
    pub(super) request_id: String,
    pub(super) method: String,
    pub(super) path: String,
    /// Did the request carry an API key, right or wrong?
    pub(super) key: bool,
    /// The beta features that it asked for.
    pub(super) betas: Option<String>,
    pub(super) status: u16,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_after_the_last_entry_of_the_one_before() {
        let journal = Journal::new();
        (1..=5).for_each(|n| journal.push(n));

        let first = journal.page(0, 3);
        let second = journal.page(first["last"].as_u64().unwrap(), 3);

        assert_eq!(first["data"], json!([1, 2, 3]));
        assert_eq!(second, json!({"data": [4, 5], "last": 5, "total": 5}));
    }
}
