//! The engine that receives deliveries: limit, verify, one commit, then 2xx.
//!
//! `accept` accepts a connection, `endpoint` answers its requests, and `commit` commits their events; deliveries that
//! arrive at the same time share a transaction. The invariant: a 2xx means committed. If a verified event cannot be
//! committed, the answer is 503, so that the sender tries again. With a `journal`, which an operator has to ask for, a 2xx means
//! committed or in the journal; `replay` then commits what is in it. A body that cannot be read is committed too, as an
//! event of the type `unreadable`. Ingest knows no handler and no API, and never answers with a redirect: the API
//! disables an endpoint at the first redirect.

mod accept;
mod body;
mod commit;
mod endpoint;
#[cfg(test)]
mod fake;
mod journal;
mod journal_reports;
mod key_reports;
mod lanes;
mod refusals;
mod replay;
mod reports;
mod senders;
mod store;
#[cfg(test)]
mod tests;
mod throttle;
mod watch;

use std::time::Duration;

use tokio::join;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use self::commit::{Inserted, Store, StoreError};
pub use self::journal::{Backlog, Journal, Unusable, inspect, is_in_use};
pub use self::lanes::Took;
use self::refusals::Refusals;
pub use self::senders::{Sender, Senders, keys};
pub use self::store::OutboxStore;
use crate::key_use::Uses;

/// What the identifier of a probe begins with: a delivery that `restante doctor` signs, to see whether it arrives as it was sent.
/// Ingest checks it as any delivery, stores nothing and answers 409 with [`PROBE_HEADER`]. No sender makes such identifiers.
pub const PROBE_PREFIX: &str = "restante_probe_";

/// The header of the answer to a probe whose signature is valid.
pub const PROBE_HEADER: &str = "restante-probe";

/// How long the end waits for the last reports of refused requests, keys and the journal. They share one connection, which may be
/// a new one.
const LAST_REPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// What ingest needs to know.
#[derive(Debug)]
pub struct Settings {
    /// The senders, each with the keys of its deliveries.
    pub senders: Senders,
    /// The clock that the timestamps of deliveries are compared with, in Unix seconds.
    pub now: fn() -> i64,
    /// Bounds on what one sender, or all of them, can use up.
    pub limits: Limits,
    /// Where events are kept while the store takes none; none without `RESTANTE_JOURNAL_DIR`.
    pub journal: Option<Journal>,
    /// Where this ingest runs, for people who look for its journal.
    pub machine: String,
}

/// Bounds on time and memory. The defaults suit deliveries of about 1 kB, the size that the API sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long the head of a request may take once it has begun. 5 s.
    pub head_timeout: Duration,
    /// How long a connection may be idle, also before its first request. 90 s: longer than the usual proxies keep one
    /// (60 to 75 s). So the proxy closes it; if ingest did, it might do so just when the proxy uses it again.
    pub idle: Duration,
    /// How long the sender may read nothing of an answer. 10 s.
    pub unread_timeout: Duration,
    /// How long the body of a request may take. 10 s.
    pub body_timeout: Duration,
    /// How long a delivery waits for the database before it is answered with 503. 10 s: longer than a restart or
    /// the crash recovery of Postgres takes, shorter than the 15 s that Standard Webhooks asks senders to wait.
    pub ingest_wait: Duration,
    /// How long connections are still accepted after the stop, at most half of the drain time: load balancers need a
    /// moment to notice the stop. 5 s.
    pub linger: Duration,
    /// How long connections and commits may go on after the stop before they are cut. 20 s.
    pub drain: Duration,
    /// How often the counts of refused requests and the uses of keys go to the database. 15 s.
    pub report_every: Duration,
    /// The largest body, in bytes. 1 MiB.
    pub body_bytes_max: usize,
    /// The memory for all bodies above 16 KiB at one time, in bytes; the number of connections bounds the memory of
    /// smaller ones. 256 MiB.
    pub large_bodies_bytes_max: usize,
    /// The most connections at one time; others wait in the listener's backlog. 4096.
    pub max_connections: usize,
    /// How many requests are refused in a second without a delay. 5,000: two cores refuse six times as many, and then a good delivery
    /// takes twice as long.
    pub refusals_per_second: u32,
    /// The most events that wait for a commit; further ones are answered with 503. 8192.
    pub queue_events_max: usize,
    /// The most events in one commit. 512.
    pub batch_events_max: usize,
    /// A commit takes no further event once its bodies have this many bytes. 4 MB.
    pub batch_bytes_max: usize,
    /// The most commits at one time, each on a database connection of its own. 4. All of them are used only where
    /// commits mostly wait for the disk: where Postgres mostly works, 64 senders got a fifth less through with two than
    /// with one.
    pub lanes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            head_timeout: Duration::from_secs(5),
            idle: Duration::from_secs(90),
            unread_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            ingest_wait: Duration::from_secs(10),
            linger: Duration::from_secs(5),
            drain: Duration::from_secs(20),
            report_every: Duration::from_secs(15),
            body_bytes_max: 1 << 20,
            large_bodies_bytes_max: 256 << 20,
            max_connections: 4096,
            refusals_per_second: 5_000,
            queue_events_max: 8192,
            batch_events_max: 512,
            batch_bytes_max: 4_000_000,
            lanes_max: 4,
        }
    }
}

/// Receives deliveries on `listener` and commits their events to `store`, until `stop`.
///
/// After `stop` it still accepts deliveries for [`Limits::linger`], but every answer ends its connection. Then it
/// accepts no more connections, closes idle ones, and waits for the requests and commits under way. Returns false if
/// some did not end within the drain time and were cut; a request that was cut got no 2xx.
pub async fn run<S: Store + Clone>(
    settings: Settings,
    listener: TcpListener,
    store: S,
    stop: CancellationToken,
) -> bool {
    let Settings { senders, now, limits, journal, machine } = settings;
    let _replay = journal.clone().map(|journal| {
        AbortOnDropHandle::new(tokio::spawn(replay::run(store.clone(), journal, limits.clone())))
    });
    let (committer, mut commits) = commit::start(store.clone(), journal.clone(), &limits);
    let refusals = Refusals::default();
    let last_report = CancellationToken::new();
    let (last, every) = (last_report.clone(), limits.report_every);
    let of_refusals = refusals.clone().report_until(last.clone(), every, store.clone());
    let uses = Uses::default();
    let of_keys = key_reports::run(senders.clone(), uses.clone(), every, store.clone(), last.clone());
    let of_journal = async move {
        if let Some(journal) = journal {
            journal_reports::report_until(journal, machine, last, every, store).await;
        }
    };
    let reports = tokio::spawn(async { join!(of_refusals, of_keys, of_journal) });
    let counts = endpoint::Counts { refusals, uses };
    let router = endpoint::router(senders, now, committer, counts, stop.clone(), &limits);

    let lingered = async {
        stop.cancelled().await;
        sleep(limits.linger.min(limits.drain / 2)).await;
    };
    let stopped = async {
        stop.cancelled().await;
        Instant::now()
    };
    let (connections, stopped_at) =
        join!(accept::accept_until(lingered, stop.clone(), listener, router, &limits), stopped);

    // The commits end by themselves once the last connection is gone, and with it the last `Committer`.
    let cut_at = stopped_at + limits.drain;
    let closed = connections.close(cut_at).await;
    let committed = timeout_at(cut_at, &mut commits).await.is_ok();
    if !committed {
        commits.abort();
    }
    last_report.cancel();
    // Whether the last report arrives or not changes no answer.
    let _reported = timeout(LAST_REPORT_TIMEOUT, reports).await;
    closed && committed
}
