//! The one way to wait in a test: for something to be so, never for a time to pass.

use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine, and no test waits for it that is going to pass.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Looks again and again until there is something, and answers that. Panics, naming `what`, when patience is over.
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
