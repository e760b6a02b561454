//! What the programs of the queues share: their arguments, and what they say of their handlers.

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
        let [action, count, rest @ ..] = &arguments[..] else { anyhow::bail!("fill COUNT | work COUNT CONCURRENCY") };
        Ok(Self {
            is_fill: action == "fill",
            count: count.parse()?,
            concurrency: rest.first().map_or(Ok(1), |concurrency| concurrency.parse())?,
        })
    }
}

/// Says when the first handler began and when the last ended.
#[derive(Debug, Default)]
pub struct Progress {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// Of this process.
pub static PROGRESS: Progress = Progress { begun: AtomicU64::new(0), ended: AtomicU64::new(0) };

impl Progress {
    pub fn begin(&self) {
        if self.begun.fetch_add(1, Ordering::Relaxed) == 0 {
            println!("first {}", now_ms());
        }
    }

    pub fn end(&self, count: u64) {
        if self.ended.fetch_add(1, Ordering::Relaxed) + 1 == count {
            println!("handled {}", now_ms());
        }
    }
}

fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}
