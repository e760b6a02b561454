//! How a worker starts: what its parts share, and the sign of life that comes before the first claim.

use std::sync::Arc;

use rand::Rng;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::database::Connections;
use crate::registry::Registry;
use crate::worker::Settings;
use crate::worker::attempt;
use crate::worker::breaker::LeftOut;
use crate::worker::group_commit::{self, GroupCommit};
use crate::worker::judge::Spread;
use crate::worker::lease_renewer::LeaseRenewer;
use crate::worker::schedule::Schedule;
use crate::worker::successors::Successors;
use crate::worker::twins::Twins;
use crate::{api, database, outbox};

use super::statements::Claimant;
use super::{Dispatcher, now};

impl Dispatcher {
    /// Returns once this worker's sign of life is in the database.
    ///
    /// # Errors
    /// The subscriptions could not be written.
    pub(in crate::worker) async fn start(
        settings: Settings,
        pool: PgPool,
        for_calls: &Connections,
        registry: Registry,
        api: api::Accounts,
        left_out: Arc<LeftOut>,
        spread: Spread,
    ) -> Result<Self, database::Error> {
        for (subscriber, event_types) in registry.subscriptions() {
            outbox::upkeep::subscribe(&pool, subscriber, &event_types).await?;
        }
        let more = Arc::new(Notify::new());
        // Claiming and settling have their own connections. Otherwise handlers that hold all connections would wait for
        // a completion that gets none.
        let max_connections = pool.options().get_max_connections();
        let ours = (max_connections / 4).clamp(1, 1 + group_commit::LANES);
        let connections = for_calls.beside(ours);
        let for_handlers = for_calls.beside(max_connections.saturating_sub(ours + 1).max(1));
        let (lease, concurrency) = (settings.lease, settings.concurrency);
        let owner = format!("{}-{:08x}", settings.name, rand::rng().random::<u32>());
        tracing::info!(worker = owner, concurrency, "the worker starts");
        // Before the first claim the lease renewer has its connection, and other workers know of this one.
        let lease_renewer = LeaseRenewer::start(&settings.database_url, owner.clone(), lease);
        lease_renewer.has_given_sign().await;
        let (leases, successors) = Successors::new(owner.clone(), lease);
        let leases = Arc::new(leases);
        let group_commit = GroupCommit::start(connections.clone(), Arc::clone(&leases), Arc::clone(&more));
        let subscribers = registry.subscribers();
        Ok(Self {
            schedule: Schedule::new(concurrency, now()),
            claimant: Arc::new(Claimant {
                owner,
                subscribers,
                lease,
                connections: connections.clone(),
                left_out: Arc::clone(&left_out),
            }),
            shared: Arc::new(attempt::Shared {
                event_types: registry.event_types().collect(),
                registry,
                api,
                lease_renewer,
                lease,
                group_commit,
                successors: leases,
                left_out,
                spread,
                twins: Twins::default(),
                pool,
                connections: for_handlers,
                settling: connections,
                more,
            }),
            drain: settings.drain,
            attempts: JoinSet::new(),
            claims: JoinSet::new(),
            hand_backs: JoinSet::new(),
            successors,
            wait_until: None,
            claimed: 0,
            handed_back: 0,
        })
    }
}
