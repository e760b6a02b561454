//! The state of a running simulator, shared by its endpoints and its webhook sender.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::batch::Batches;
use super::delivery::{Delivery, Endpoint};
use super::faults::Faults;
use super::gate::Seen;
use super::journal::Journal;
use super::refusal::Refusal;
use super::settings::Settings;
use super::store::Store;
use super::webhook::Event;

/// The organization that every object and webhook belongs to.
pub(super) const ORGANIZATION: &str = "org_01simulated";
/// The workspace that every key belongs to.
pub(super) const WORKSPACE: &str = "wrkspc_01simulated";

/// All there is to know.
pub(super) struct App {
    pub(super) seed: u64,
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
    serial: AtomicU64,
}

impl App {
    pub(super) fn new(settings: Settings, events: mpsc::UnboundedSender<Event>) -> App {
        App {
            seed: settings.seed.unwrap_or_else(rand::random),
            faults: Mutex::new(settings.faults.clone()),
            settings,
            batches: Mutex::default(),
            store: Mutex::default(),
            endpoint: Mutex::default(),
            requests: Journal::new(),
            deliveries: Journal::new(),
            stop: CancellationToken::new(),
            events,
            asked: Mutex::default(),
            serial: AtomicU64::new(1),
        }
    }

    /// The faults that are switched on now.
    pub(super) fn faults(&self) -> Faults {
        held(&self.faults).clone()
    }

    /// A number that nobody got before.
    pub(super) fn serial(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }

    /// An event happens to the object: its webhook is on its way, where webhooks are set up.
    pub(super) fn emit(&self, kind: &str, id: &str, data: Map<String, Value>) {
        self.send(Event::new(self, kind, id, data));
    }

    /// Puts the event into the queue of the sender.
    pub(super) fn send(&self, event: Event) {
        // The queue is closed only while the simulator stops; what would be sent then is lost, as the real
        // sender loses it.
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

    /// Holds up a GET of an object while the fault says that its first ones answer 404.
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

/// Takes the lock. What it guards is complete at every moment, so a panic elsewhere does not spoil it.
pub(super) fn held<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A length of time given in seconds; nothing where it is negative or too long to be one.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
