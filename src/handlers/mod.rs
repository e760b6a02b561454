//! The built-in handlers, one file or folder each. To add one, write its file and add its two lines here.

use std::time::Duration;

use crate::egress::Rules;
use crate::registry::Registry;

pub mod batch_cancel;
pub mod batch_delete;
pub mod batch_poll;
pub mod batch_reconcile;
pub mod batch_results;
pub mod batch_submit;
pub mod message_pack;
pub mod message_send;
pub mod message_unpack;
pub mod notify;
pub mod resource_forget;
pub mod resource_reconcile;
pub mod resources;
pub mod session_events;

/// The settings of the built-in handlers.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The time between two polls of a batch that has not ended.
    pub batch_poll: Duration,
    /// The time between two searches for batches and between two looks at the other objects, for what no webhook has told; `None`
    /// turns both off.
    pub reconcile: Option<Duration>,
    /// May notifications go into a private network, and by plain http?
    pub allow_private_endpoints: bool,
}

/// What the objects that events name call themselves, for labels of metrics.
#[cfg(feature = "service")]
pub(crate) fn resource_kinds() -> impl Iterator<Item = &'static str> {
    resources::kinds::KINDS.iter().map(|kind| kind.resource)
}

/// A registry with the built-in handlers. A worker of your own adds to it, or starts from an empty [`Registry`].
pub fn registry(settings: Settings) -> Registry {
    let rules = if settings.allow_private_endpoints { Rules::PRIVATE_NETWORK } else { Rules::PUBLIC };
    let registry = Registry::new()
        .register(batch_poll::BatchPoll { every: settings.batch_poll })
        .register(batch_results::BatchResults::new(settings.batch_poll))
        .register(batch_submit::BatchSubmit)
        .register(batch_cancel::BatchCancel)
        .register(batch_delete::BatchDelete)
        .register(message_send::MessageSend::new())
        .register(message_pack::MessagePack)
        .register(message_unpack::MessageUnpack)
        .register(notify::Notifications::new(rules))
        .register(resource_forget::ResourceForget)
        .register(resources::Resources)
        .register(session_events::SessionEvents);
    match settings.reconcile {
        Some(every) => registry
            .register(batch_reconcile::BatchReconcile { every })
            .register(resource_reconcile::ResourceReconcile { every }),
        None => registry,
    }
}
