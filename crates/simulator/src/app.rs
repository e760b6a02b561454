//! The state of a running simulator, shared by its endpoints and its webhook sender.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::Batches;
use super::dice::Mint;
use super::endpoint::{Delivery, Endpoint};
use super::faults::Faults;
use super::held::held;
use super::journal::{Journal, Seen};
use super::limit::Buckets;
use super::page::Query;
use super::refusal::Refusal;
use super::settings::Settings;
use super::store::Store;
use super::webhook::{Event, Origin};

/// The whole state of the simulator.
pub(super) struct App {
    /// The source of ids, and of everything else that looks random.
    pub(super) mint: Mint,
    /// The workspace that its key belongs to.
    pub(super) workspace_id: String,
    pub(super) settings: Settings,
    pub(super) faults: Mutex<Faults>,
    pub(super) batches: Mutex<Batches>,
    pub(super) store: Mutex<Store>,
    pub(super) endpoint: Mutex<Endpoint>,
    pub(super) requests: Journal<Seen>,
    pub(super) deliveries: Journal<Delivery>,
    pub(super) stop: CancellationToken,
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// How often each object has been asked for, while the first GETs of it answer 404.
    asked: Mutex<HashMap<String, u32>>,
    /// When the faults were set, from which the schedule of outages counts.
    faulty_since: Mutex<Instant>,
    /// What is left of the limit on requests.
    pub(super) buckets: Mutex<Buckets>,
}

impl App {
    pub(super) fn new(workspace_id: String, settings: Settings, events: mpsc::UnboundedSender<Event>) -> App {
        App {
            mint: Mint::new(settings.seed.unwrap_or_else(rand::random)),
            faults: Mutex::new(settings.faults.clone()),
            workspace_id,
            settings,
            batches: Mutex::default(),
            store: Mutex::default(),
            endpoint: Mutex::default(),
            requests: Journal::new(),
            deliveries: Journal::new(),
            stop: CancellationToken::new(),
            events,
            asked: Mutex::default(),
            faulty_since: Mutex::new(Instant::now()),
            buckets: Mutex::default(),
        }
    }

    /// A copy of the current faults.
    pub(super) fn faults(&self) -> Faults {
        held(&self.faults).clone()
    }

    /// From now on these are the faults.
    pub(super) fn set_faults(&self, faults: Faults) {
        *held(&self.faults) = faults;
        *held(&self.faulty_since) = Instant::now();
    }

    /// How long ago the faults were set.
    pub(super) fn faulty_for(&self) -> Duration {
        held(&self.faulty_since).elapsed()
    }

    /// Where its events come from.
    pub(super) fn origin(&self) -> Origin<'_> {
        let top_level_type = self.settings.top_level_type;
        Origin { mint: &self.mint, workspace_id: &self.workspace_id, top_level_type }
    }

    /// Sends the webhook of an event that happens to this object, if webhooks are set up.
    pub(super) fn emit(&self, kind: &str, id: &str, data: Map<String, Value>) {
        self.send(Event::new(&self.origin(), kind, id, data));
    }

    /// Puts the event into the queue of the sender.
    pub(super) fn send(&self, event: Event) {
        // The queue is closed only while the simulator stops. An event is lost then, as with the real sender.
        let _ = self.events.send(event);
    }

    /// Does something once the time has passed, unless the simulator has stopped by then.
    pub(super) fn later(self: &Arc<Self>, delay: Duration, what: impl FnOnce(&Arc<App>) + Send + 'static) {
        let app = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(delay) => what(&app),
                () = app.stop.cancelled() => {}
            }
        });
    }

    /// Refuses the cursor of a list while the fault `cursors_refused` asks for that.
    pub(super) fn follow(&self, query: &Query) -> Result<(), Refusal> {
        let mut faults = held(&self.faults);
        if faults.cursors_refused > 0 && (query.get("page").is_some() || query.get("after_id").is_some()) {
            faults.cursors_refused -= 1;
            return Err(Refusal::invalid("page: the cursor has expired"));
        }
        Ok(())
    }

    /// Refuses a GET of an object with 404 while the fault `not_found_first` asks for that.
    pub(super) fn ask(&self, id: &str) -> Result<(), Refusal> {
        let first = held(&self.faults).not_found_first;
        if first > 0 {
            let mut asked = held(&self.asked);
            let times = asked.entry(id.to_owned()).or_default();
            *times += 1;
            if *times <= first {
                return Err(Refusal::not_found(id));
            }
        }
        Ok(())
    }
}
