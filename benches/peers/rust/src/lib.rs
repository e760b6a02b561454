//! What the programs of the queues share: their arguments, and when they begin and end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// `fill COUNT` or `work COUNT CONCURRENCY`.
pub struct Arguments {
    pub is_fill: bool,
    pub count: u64,
    pub concurrency: usize,
}

impl Arguments {
    pub fn read() -> anyhow::Result<Self> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let [action, count, rest @ ..] = &arguments[..] else {
            anyhow::bail!("fill COUNT | work COUNT CONCURRENCY")
        };
        Ok(Self {
            is_fill: action == "fill",
            count: count.parse()?,
            concurrency: rest.first().map_or(Ok(1), |concurrency| concurrency.parse())?,
        })
    }
}

/// Says that the worker is about to claim its first job.
pub fn say_begin() {
    println!("begin {}", now_ms());
}

/// Counts a handler that ended, and says when it was the last of `count`.
pub fn count_handled(count: u64) {
    static HANDLED: AtomicU64 = AtomicU64::new(0);
    if HANDLED.fetch_add(1, Ordering::Relaxed) + 1 == count {
        println!("handled {}", now_ms());
    }
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}
