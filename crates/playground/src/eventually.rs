//! The only way to wait in a test: for a condition, never for a time.

use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine. Only a test that fails waits this long.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Calls `look` again and again until it returns something, and returns that. Panics with `what` after a minute.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
