//! When to look for work: at a poll, which never fails, or at a hint, which comes sooner and may get lost.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::database::{self, Address};
use crate::outbox;

/// How long the listening connection may be silent before it is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(30);

/// Wakes the worker.
pub(super) struct Wakeup {
    poll: Duration,
    next: Instant,
    hint: Arc<Notify>,
}

impl Wakeup {
    /// Starts listening in the background, until `stop`.
    pub(super) fn start(database_url: &Address, poll: Duration, stop: CancellationToken) -> Self {
        let hint = Arc::new(Notify::new());
        let (url, hints) = (database_url.clone(), Arc::clone(&hint));
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = listen_for_ever(&url, &hints, poll) => {}
            }
        });
        Self { poll, next: Instant::now() + poll, hint }
    }

    /// Waits for a hint, or until it is time to look anyway.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            () = self.hint.notified() => {}
            () = tokio::time::sleep_until(self.next) => {}
        }
        // From 0.75 to 1.25 of the poll, at random, so that many workers do not look in the same moment.
        self.next = Instant::now() + self.poll.mul_f64(rand::rng().random_range(0.75..1.25));
    }
}

async fn listen_for_ever(url: &Address, hint: &Notify, pause: Duration) {
    loop {
        // Any error means a new connection: notifications may have been lost with the old one.
        if let Err(error) = listen(url, hint).await {
            let error = database::told(error.as_ref());
            tracing::warn!(error, "the worker cannot listen for hints; it finds events by polling");
        }
        tokio::time::sleep(pause).await;
    }
}

async fn listen(url: &Address, hint: &Notify) -> anyhow::Result<()> {
    let pool = database::pool(&url.now(), "restante-worker hints", 1)?;
    let _primary = database::keep_at(&pool, url)?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    listener.listen(outbox::CHANNEL).await?;
    loop {
        // Also right after connecting: hints from before were not received.
        hint.notify_one();
        while let Err(_silence) = timeout(SILENCE, listener.recv()).await {
            timeout(SILENCE, sqlx::query("select").execute(&mut listener)).await??;
        }
    }
}
