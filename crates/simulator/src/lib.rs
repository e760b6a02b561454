//! A simulated Claude API, and the sender of its webhooks, for `restante simulate` and the tests.
//!
//! It keeps its state in memory, and draws everything that looks random from one seed, so that a caller can compute
//! in advance how many results succeed. Paths under `/_simulator/` control it and show what it has seen. All other
//! paths answer as the real API does, with network errors if a fault is switched on. It shares no code with ingest and
//! the worker, so that one misreading of the API's documents is not repeated on both sides.

mod agents;
mod app;
mod asked;
mod batch;
mod batches;
mod call;
pub mod cli;
mod control;
mod delivery;
mod deployments;
mod dice;
mod endpoint;
mod faults;
mod flags;
mod gate;
mod held;
mod journal;
mod kinds;
mod messages;
mod outcome;
mod page;
mod params;
mod refusal;
mod resources;
mod results;
pub mod send;
mod session_events;
mod sessions;
mod settings;
pub mod sign;
mod store;
mod text;
mod webhook;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use app::App;
use delivery::Sender;
pub use faults::Faults;
pub use outcome::{Outcome, Shares};
pub use settings::Settings;

/// How long open connections may go on after the simulator was stopped.
const DRAIN: Duration = Duration::from_secs(2);

/// A simulated Claude API that does not listen yet.
pub struct Simulator {
    app: Arc<App>,
    queue: mpsc::UnboundedReceiver<webhook::Event>,
}

impl Simulator {
    /// A simulator without batches or objects.
    pub fn new(settings: Settings) -> Simulator {
        let (events, queue) = mpsc::unbounded_channel();
        Simulator { app: Arc::new(App::new(settings, events)), queue }
    }

    /// The seed that everything is drawn from: that of the settings, or else a random one.
    pub fn seed(&self) -> u64 {
        self.app.mint.seed
    }

    /// Is a webhook URL set, but no key to sign with?
    pub fn sends_unsigned(&self) -> bool {
        let settings = &self.app.settings;
        settings.webhook_url.is_some() && settings.signing_key.is_none() && settings.webhook_secret.is_none()
    }

    /// Answers HTTP/1 on the listener, and delivers webhooks, until `stop` is cancelled.
    ///
    /// With a webhook URL set, the process must have a default TLS provider
    /// (`rustls::crypto::ring::default_provider().install_default()`).
    ///
    /// # Errors
    ///
    /// If a signing key is invalid (before anything is answered), or the listener fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        // Every task of this simulator ends with it, also if this future is dropped.
        let _ended = self.app.stop.clone().drop_guard();
        if let Some(sender) = Sender::new(self.app.clone())? {
            tokio::spawn(sender.deliver_all(self.queue));
        }
        let served =
            axum::serve(listener, routes(self.app)).with_graceful_shutdown(stop.clone().cancelled_owned());
        let drained = async {
            stop.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        tokio::select! {
            served = served => served,
            () = drained => Ok(()),
        }
    }
}

fn routes(app: Arc<App>) -> Router {
    Router::new()
        .merge(batches::routes())
        .merge(messages::routes())
        .merge(resources::routes())
        .merge(sessions::routes())
        .merge(deployments::routes())
        .merge(control::routes())
        .fallback(refusal::no_such_path)
        .method_not_allowed_fallback(refusal::no_such_method)
        .layer(middleware::from_fn_with_state(app.clone(), gate::gate))
        // The gate knows the limit of each path, and answers with the API's envelope.
        .layer(DefaultBodyLimit::disable())
        .with_state(app)
}
