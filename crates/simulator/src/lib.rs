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
mod creation;
mod delivery;
mod deployments;
mod dice;
mod endpoint;
mod faults;
mod flags;
mod front;
mod gate;
mod held;
pub mod hostile;
mod journal;
mod kinds;
mod limit;
mod line;
mod line_end;
mod messages;
mod mishap;
mod outage;
mod outcome;
mod page;
mod params;
mod refusal;
mod refusals;
mod resources;
mod results;
pub mod send;
mod session_events;
mod sessions;
mod settings;
pub mod sign;
mod store;
mod stream;
mod text;
mod webhook;
mod workspace;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::{Router, middleware};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use app::App;
use delivery::Sender;
pub use faults::{Faults, Mishap};
use front::Workspaces;
use line::{Line, Lines};
pub use outcome::{Outcome, Shares};
pub use refusals::{Call, Planned};
pub use settings::Settings;
use webhook::WORKSPACE;
pub use workspace::Workspace;

/// How long open connections may go on after the simulator was stopped.
const DRAIN: Duration = Duration::from_secs(2);

/// A simulated Claude API that does not listen yet.
pub struct Simulator {
    first: Simulated,
    /// The workspaces of further keys.
    others: Vec<(SecretString, Simulated)>,
}

/// One workspace.
struct Simulated {
    app: Arc<App>,
    queue: mpsc::UnboundedReceiver<webhook::Event>,
}

impl Simulated {
    fn new(workspace_id: String, settings: Settings) -> Self {
        let (events, queue) = mpsc::unbounded_channel();
        Self { app: Arc::new(App::new(workspace_id, settings, events)), queue }
    }

    fn sends_unsigned(&self) -> bool {
        let settings = &self.app.settings;
        settings.webhook_url.is_some() && settings.signing_key.is_none() && settings.webhook_secret.is_none()
    }

    /// Delivers its webhooks from now on. Returns its endpoints.
    fn start(self) -> io::Result<Router> {
        if let Some(sender) = Sender::new(self.app.clone())? {
            tokio::spawn(sender.deliver_all(self.queue));
        }
        Ok(routes(self.app))
    }
}

impl Simulator {
    /// A simulator without batches or objects.
    pub fn new(mut settings: Settings) -> Simulator {
        let seed = *settings.seed.get_or_insert_with(rand::random);
        let others = std::mem::take(&mut settings.workspaces).into_iter();
        let others = others.map(|Workspace { name, api_key, webhooks }| {
            let (webhook_url, signing_key) = webhooks.unzip();
            let settings = Settings {
                webhook_url,
                signing_key,
                webhook_secret: None,
                api_key: Some(api_key.clone()),
                // Its own, so that no id is in two workspaces.
                seed: Some(dice::number(seed, "workspace", &name)),
                ..settings.clone()
            };
            (api_key, Simulated::new(format!("wrkspc_01{name}"), settings))
        });
        Simulator { others: others.collect(), first: Simulated::new(WORKSPACE.to_owned(), settings) }
    }

    /// The seed that everything is drawn from: that of the settings, or else a random one.
    pub fn seed(&self) -> u64 {
        self.first.app.mint.seed
    }

    /// Is a webhook URL set, but no key to sign with?
    pub fn sends_unsigned(&self) -> bool {
        self.first.sends_unsigned()
    }

    /// Answers HTTP/1 on the listener, and delivers webhooks, until `stop` is cancelled.
    ///
    /// With a webhook URL set, the process must have a default TLS provider
    /// (`rustls::crypto::ring::default_provider().install_default()`).
    ///
    /// # Errors
    ///
    /// If a signing key is invalid, or two workspaces have the same API key (before anything is answered), or the listener
    /// fails.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) -> io::Result<()> {
        // Every task of this simulator ends with it, also if this future is dropped.
        let all = || self.others.iter().map(|(_, simulated)| simulated).chain([&self.first]);
        let _ended: Vec<_> = all().map(|simulated| simulated.app.stop.clone().drop_guard()).collect();
        let keys: Vec<_> = all().filter_map(|simulated| simulated.app.settings.api_key.as_ref()).collect();
        if keys.iter().map(|key| key.expose_secret()).collect::<BTreeSet<_>>().len() < keys.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "two workspaces have the same API key"));
        }
        let others = self.others.into_iter().map(|(key, simulated)| Ok((key, simulated.start()?)));
        let others = others.collect::<io::Result<_>>()?;
        let routes = Workspaces::router(self.first.start()?, others);
        let routes = routes.into_make_service_with_connect_info::<Line>();
        let served =
            axum::serve(Lines(listener), routes).with_graceful_shutdown(stop.clone().cancelled_owned());
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
        .merge(creation::routes())
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
