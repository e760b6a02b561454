//! The dispatcher: keeps as many attempts under way as there are places, and claims what comes next meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use rand::Rng;
use sqlx::{PgConnection, PgPool};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::database::Connections;
use crate::handler::Deadline;
use crate::outbox::claim::{Ask, Claims};
use crate::outbox::{Claimed, Lease};
use crate::registry::Registry;
use crate::worker::Settings;
use crate::worker::attempt::{self, CRASHES_MAX};
use crate::worker::floor::Floor;
use crate::worker::group_commit::{self, GroupCommit};
use crate::worker::held_keys::HeldKeys;
use crate::worker::keeper::{Keeper, Kept};
use crate::worker::pace::Pace;
use crate::worker::successors::{Ready, Successors};
use crate::{api, database, outbox, telemetry};

/// What is claimed, what is under way, and whether to look for more.
pub(super) struct Dispatcher {
    owner: String,
    settings: Settings,
    subscribers: Vec<String>,
    /// For claiming.
    connections: Connections,
    attempts: Arc<attempt::Shared>,
    /// There may be something to claim.
    hungry: bool,
    floor: Floor,
    /// When to look for what lies below the floor, where the last claim may have missed it.
    look_below: Option<Instant>,
    /// The claim under way: at most one.
    claiming: JoinSet<sqlx::Result<Batch>>,
    /// Claimed, and about to start.
    ready: VecDeque<Ready>,
    /// Claimed, and to run alone.
    suspects: VecDeque<Suspect>,
    /// Is one of them running?
    is_alone: bool,
    is_draining: bool,
    /// When to look again at keys that somebody held.
    keys: HeldKeys,
    /// When to hand back what was claimed by statements whose answers were lost.
    strays: Option<Instant>,
    /// Leased when their predecessors were settled.
    successors: mpsc::UnboundedReceiver<Ready>,
    running: JoinSet<()>,
    claimed: u64,
}

/// An event whose next crash would be its last. It may be what kills its workers, so it runs alone: nobody is taken along.
struct Suspect {
    claimed: Claimed,
    kept: Kept,
}

/// What one claim brought.
struct Batch {
    claims: Claims,
    has_settled: bool,
    asked_for: usize,
    floor: Option<DateTime<Utc>>,
    at: Instant,
    answered_at: Instant,
}

/// What was claimed and could not be started for so long is handed back: the handlers have become slow.
const READY_WAIT: Duration = Duration::from_millis(500);

/// What was claimed by a statement whose answer was lost is handed back after so long: twice the time in which a statement is
/// answered or given up, so that no answer to it can be on its way any more.
const STRAY_AGE: Duration = Duration::from_secs(10);

impl Dispatcher {
    pub(super) async fn start(
        settings: Settings,
        pool: PgPool,
        registry: Registry,
        api: api::Client,
    ) -> Result<Self, database::Error> {
        for (subscriber, event_types) in registry.subscriptions() {
            outbox::upkeep::subscribe(&pool, subscriber, &event_types).await?;
        }
        let more = Arc::new(Notify::new());
        // Claiming and settling have connections of their own, or handlers that hold theirs would keep each other waiting.
        let connections_max = pool.options().get_max_connections();
        let ours = (connections_max / 4).clamp(1, 1 + group_commit::LANES);
        let connections = Connections::of(&pool, ours);
        let for_handlers = Connections::of(&pool, connections_max.saturating_sub(ours + 1).max(1));
        // A name that no other worker has, nor this one after a restart.
        let owner = format!("{}-{:08x}", settings.name, rand::rng().random::<u32>());
        tracing::info!(worker = owner, concurrency = settings.concurrency, "the worker starts");
        // Before anything is claimed it has its connection, and others know of this worker.
        let keeper = Keeper::start(&settings.database_url, owner.clone(), settings.lease);
        keeper.has_given_sign().await;
        let (leases, successors) = Successors::new(owner.clone(), settings.lease);
        let leases = Arc::new(leases);
        Ok(Self {
            owner,
            connections: connections.clone(),
            subscribers: registry.subscribers(),
            attempts: Arc::new(attempt::Shared {
                event_types: registry.event_types().collect(),
                registry,
                api,
                keeper,
                lease: settings.lease,
                settler: GroupCommit::start(pool.clone(), connections, leases.clone(), more.clone()),
                successors: leases,
                pace: Pace::default(),
                pool,
                connections: for_handlers,
                more,
            }),
            settings,
            hungry: true,
            floor: Floor::new(),
            look_below: None,
            claiming: JoinSet::new(),
            ready: VecDeque::new(),
            suspects: VecDeque::new(),
            is_alone: false,
            is_draining: false,
            keys: HeldKeys::new(),
            strays: None,
            successors,
            running: JoinSet::new(),
            claimed: 0,
        })
    }

    /// There is a reason to look for work.
    pub(super) fn look(&mut self) {
        self.hungry = true;
    }

    /// As [`look`](Self::look), and below the floor as well.
    pub(super) fn look_everywhere(&mut self) {
        self.hungry = true;
        self.floor.forget();
    }

    /// How many events have been claimed so far.
    pub(super) fn claimed(&self) -> u64 {
        self.claimed
    }

    /// Starts what is ready, and a claim where there is room and a chance of finding something.
    pub(super) fn go_on(&mut self) {
        // Before anything starts that may end at once.
        if self.is_looking() {
            self.attempts.successors.have_turn_until(self.floor.reached());
        } else {
            self.attempts.successors.all_have_turn();
        }
        if self.attempts.successors.take_lost_answer() {
            self.strays.get_or_insert(Instant::now() + STRAY_AGE);
        }
        if self.is_for_a_suspect() {
            return;
        }
        while self.running.len() < self.settings.concurrency
            && let Some(Ready { claimed, at }) = self.ready.pop_front()
        {
            let leased_until = at + self.settings.lease;
            self.running.spawn(attempt::run(Arc::clone(&self.attempts), claimed, leased_until));
        }
        let ahead = self.attempts.pace.ahead(self.settings.concurrency);
        // What is being settled keeps its place, because its successor may come back with the answer.
        let taken = self.running.len() + self.ready.len() + self.attempts.settler.len();
        let room = (self.settings.concurrency + ahead).saturating_sub(taken);
        let is_time = self.hungry && self.claiming.is_empty() && self.attempts.keeper.gives_sign();
        if is_time && room > 0 && self.ready.len() <= ahead / 2 {
            self.hungry = false;
            self.claim(room);
        }
    }

    /// Does the worker belong to an event that has to run alone? It begins once nothing else runs, and until it has ended
    /// nothing else is started or claimed.
    fn is_for_a_suspect(&mut self) -> bool {
        if self.suspects.is_empty() && !self.is_alone {
            return false;
        }
        if !self.running.is_empty() || self.attempts.settler.len() > 0 {
            return true;
        }
        self.is_alone = false;
        let Some(Suspect { claimed, kept }) = self.suspects.pop_front() else { return false };
        tracing::warn!(
            event.id = claimed.event.event_id,
            crashes = claimed.crashes,
            "an event runs alone, because workers vanished while they ran it"
        );
        let leased_until = kept.until();
        drop(kept);
        self.is_alone = true;
        self.running.spawn(attempt::run(Arc::clone(&self.attempts), claimed, leased_until));
        true
    }

    fn claim(&mut self, room: usize) {
        let (connections, owner) = (self.connections.clone(), self.owner.clone());
        let (subscribers, lease) = (self.subscribers.clone(), self.settings.lease);
        let floor = self.floor.at(Instant::now());
        let settles = self.keys.is_time(Instant::now());
        self.look_below = None;
        self.claiming.spawn(async move {
            // Taken before the claim, so that our own estimate of the lease's end is never too late.
            let at = Instant::now();
            let limit = i64::try_from(room).unwrap_or(i64::MAX);
            let claim = async |connection: &mut PgConnection| {
                let ask = Ask { owner: &owner, subscribers: &subscribers, limit, lease, floor, settles };
                outbox::claim(connection, ask).await
            };
            let claims = connections.run(claim).await?;
            Ok(Batch {
                claims,
                has_settled: settles,
                asked_for: room,
                floor,
                at,
                answered_at: Instant::now(),
            })
        });
    }

    /// Is it looking for work already, or about to as soon as there is room? Otherwise it waits for a reason to, also while keys
    /// run through, or what came meanwhile would wait for their end.
    pub(super) fn is_looking(&self) -> bool {
        self.hungry || !self.claiming.is_empty()
    }

    pub(super) fn is_busy(&self) -> bool {
        let is_settling = self.attempts.settler.len() > 0 || !self.successors.is_empty();
        let is_waiting = !(self.ready.is_empty() && self.suspects.is_empty());
        is_settling
            || is_waiting
            || self.keys.may_be_free_soon()
            || !(self.claiming.is_empty() && self.running.is_empty())
    }

    /// Waits for the end of an attempt or of a claim, or for a reason to claim.
    pub(super) async fn something_ended(&mut self) {
        let wait = if self.suspects.is_empty() { READY_WAIT } else { Duration::ZERO };
        let overdue = self.ready.front().map(|ready| ready.at + wait);
        let look_again = [self.look_below, self.keys.look_at()].into_iter().flatten().min();
        let strays = self.strays;
        tokio::select! {
            biased;
            Some(ended) = self.running.join_next(), if !self.running.is_empty() => {
                note_fault(ended);
                while let Some(ended) = self.running.try_join_next() {
                    note_fault(ended);
                }
            }
            Some(batch) = self.claiming.join_next(), if !self.claiming.is_empty() => self.take(batch),
            Some(successor) = self.successors.recv() => {
                self.take_successor(successor);
                self.take_successors();
            }
            () = self.attempts.settler.settled() => {}
            () = self.attempts.more.notified() => self.hungry = true,
            () = at(look_again) => {
                self.look_below = None;
                self.keys.look();
                self.hungry = true;
            }
            () = at(strays) => self.hand_back_strays().await,
            () = at(overdue) => {
                self.hand_back_ready().await;
            }
        }
    }

    /// Takes in what a claim brought.
    fn take(&mut self, batch: Result<sqlx::Result<Batch>, JoinError>) {
        match batch {
            Ok(Ok(Batch { claims, has_settled, asked_for, floor, at, answered_at })) => {
                let Claims { claimed, keys_settled, keys_left } = claims;
                self.note_claimed(claimed.len());
                if has_settled {
                    self.keys.note(answered_at, keys_settled, keys_left);
                }
                // As many as were asked for: there may be more.
                let is_full = claimed.len() >= asked_for;
                self.hungry |= is_full;
                let youngest = claimed.iter().map(|claimed| claimed.event.created_at).max();
                self.floor.note(floor, (at, answered_at), youngest, is_full);
                self.look_below = (floor.is_some() && !is_full).then(|| self.floor.next_walk());
                for claimed in claimed {
                    self.take_in(Ready { claimed, at });
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(error = database::told(&error), "could not claim; the next poll tries again");
                self.attempts.successors.note_lost_answer();
            }
            Err(error) => tracing::error!(%error, "a claim broke off; the next poll tries again"),
        }
    }

    fn take_in(&mut self, Ready { claimed, at }: Ready) {
        if claimed.crashes == CRASHES_MAX - 1 {
            let (deadline, until) = (Deadline::new(Duration::MAX), at + self.settings.lease);
            let kept = self.attempts.keeper.keep(claimed.lease, until, deadline);
            self.suspects.push_back(Suspect { claimed, kept });
        } else {
            self.ready.push_back(Ready { claimed, at });
        }
    }

    /// Takes in what was leased along with completions.
    fn take_successors(&mut self) {
        while let Ok(successor) = self.successors.try_recv() {
            self.take_successor(successor);
        }
    }

    fn take_successor(&mut self, successor: Ready) {
        self.note_claimed(1);
        self.take_in(successor);
    }

    fn note_claimed(&mut self, count: usize) {
        metrics::counter!(telemetry::metric::CLAIMS_TOTAL).increment(count as u64);
        self.claimed += count as u64;
    }

    /// Gives back what was claimed and could not be started: the handlers have become slow meanwhile.
    async fn hand_back_ready(&mut self) -> u64 {
        let mut leases: Vec<Lease> = self.ready.drain(..).map(|ready| ready.claimed.lease).collect();
        if self.is_draining {
            leases.extend(self.suspects.drain(..).map(|suspect| suspect.claimed.lease));
        }
        // Others may have room for them; here they would only be claimed again.
        hand_back(&self.attempts.pool, &leases).await
    }

    /// Hands back what this worker has claimed, as the database says, and does not know of.
    async fn hand_back_strays(&mut self) {
        self.strays = None;
        self.take_successors();
        let mut known: Vec<i64> = self.attempts.keeper.leases().iter().map(|lease| lease.id).collect();
        known.extend(self.ready.iter().map(|ready| ready.claimed.lease.id));
        let strays = outbox::settle::hand_back_strays(&self.attempts.pool, &self.owner, &known, STRAY_AGE);
        match database::answered(strays).await.map_err(|error| database::told(&error)) {
            Ok(0) => {}
            Ok(events) => {
                self.hungry = true;
                tracing::warn!(events, "handed back what was claimed by a statement whose answer was lost");
            }
            Err(error) => {
                tracing::warn!(%error, "could not hand back what was claimed by a statement whose answer was lost");
                self.strays = Some(Instant::now() + STRAY_AGE);
            }
        }
    }

    /// Waits for what runs, then hands the rest back.
    pub(super) async fn drain(mut self) -> u64 {
        let handed_back = self.drain_leases().await;
        // Others need not wait for this worker's sign.
        self.attempts.keeper.stop();
        if let Err(error) =
            database::answered(outbox::lease::sign_off(&self.attempts.pool, &self.owner)).await
        {
            tracing::debug!(%error, "the worker could not sign off");
        }
        handed_back
    }

    async fn drain_leases(&mut self) -> u64 {
        self.is_draining = true;
        let until = Instant::now() + self.settings.drain;
        self.attempts.successors.none_has_turn();
        while let Some(batch) = self.claiming.join_next().await {
            self.take(batch);
        }
        let mut handed_back = self.hand_back_ready().await;
        if !self.running.is_empty() {
            tracing::info!(attempts = self.running.len(), "waiting for the attempts under way");
        }
        let all_settled = async {
            while self.running.join_next().await.is_some() {}
            self.attempts.settler.idle().await;
        };
        let are_settled = tokio::time::timeout_at(until, all_settled).await.is_ok();
        // What was leased by statements that were under way when the stop came.
        self.take_successors();
        handed_back += self.hand_back_ready().await;
        if are_settled {
            return handed_back;
        }
        // Before they are aborted, because an attempt that ends lets go of its lease.
        let leases = self.attempts.keeper.leases();
        self.running.abort_all();
        // What blocks its thread can not be aborted; it is not waited for either, its lease is taken from it below.
        let aborted = async { while self.running.join_next().await.is_some() {} };
        let _aborted = tokio::time::timeout(Duration::from_secs(1), aborted).await;
        handed_back += hand_back(&self.attempts.pool, &leases).await;
        handed_back
    }
}

/// Waits for a time, where there is one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn hand_back(pool: &PgPool, leases: &[Lease]) -> u64 {
    if leases.is_empty() {
        return 0;
    }
    match database::answered(outbox::settle::hand_back(pool, leases)).await {
        Ok(count) => {
            tracing::info!(events = count, "handed back what was not begun or not finished in time");
            u64::try_from(count).unwrap_or(0)
        }
        Err(error) => {
            tracing::warn!(error = database::told(&error), "could not hand back; the leases run out");
            0
        }
    }
}

/// The handler's own panics are caught where it runs; what comes here is a fault of the worker. The lease runs out.
fn note_fault(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an attempt ended without being settled");
    }
}
