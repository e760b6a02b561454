//! The handlers, one file each. To add one: write its file, and give it its two lines here.

use std::time::Duration;

use crate::registry::Registry;

pub mod batch_poll;
pub mod batch_reconcile;
pub mod batch_results;
pub mod resources;

/// What the built-in handlers have to be told.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long lies between two looks at a batch that has not ended.
    pub batch_poll: Duration,
    /// How long lies between two searches for what webhooks missed; none are made where it is none.
    pub reconcile: Option<Duration>,
}

/// The built-in handlers. A worker of your own adds to it, or starts from an empty [`Registry`].
pub fn registry(settings: Settings) -> Registry {
    let registry = Registry::new()
        .register(batch_poll::BatchPoll { every: settings.batch_poll })
        .register(batch_results::BatchResults::new(settings.batch_poll))
        .register(resources::Resources);
    match settings.reconcile {
        Some(every) => registry.register(batch_reconcile::BatchReconcile { every }),
        None => registry,
    }
}
