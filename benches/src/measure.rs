//! The measurements, in the order in which they run.

mod counting;
mod drain;
mod flat;
mod flood;
mod governor;
mod idle;
mod ingest;
mod messages;
mod neighbours;
mod notify;
mod pick_up;
mod product;
mod results;
mod snapshot;
mod submit;
mod wal;

use crate::Bench;
use crate::figures::Table;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measurement {
    Ingest,
    SlowFlush,
    Flood,
    Drain,
    PickUp,
    Neighbours,
    Results,
    Submit,
    Messages,
    Notify,
    Governor,
    Flat,
    Snapshot,
    Wal,
    Idle,
}

/// All measurements, with the names that `ONLY=` takes.
pub(crate) const ALL: &[(&str, Measurement)] = &[
    ("ingest", Measurement::Ingest),
    ("slow-flush", Measurement::SlowFlush),
    ("flood", Measurement::Flood),
    ("drain", Measurement::Drain),
    ("pick-up", Measurement::PickUp),
    ("neighbours", Measurement::Neighbours),
    ("results", Measurement::Results),
    ("submit", Measurement::Submit),
    ("messages", Measurement::Messages),
    ("notify", Measurement::Notify),
    ("governor", Measurement::Governor),
    ("flat", Measurement::Flat),
    ("snapshot", Measurement::Snapshot),
    ("wal", Measurement::Wal),
    ("idle", Measurement::Idle),
];

/// The names of all measurements, in a line.
pub(crate) fn names() -> String {
    ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl Measurement {
    pub(crate) async fn run(self, bench: &Bench) -> anyhow::Result<Table> {
        match self {
            Self::Ingest => ingest::measure(bench).await,
            Self::SlowFlush => ingest::measure_slow_flush(bench).await,
            Self::Flood => flood::measure(bench).await,
            Self::Drain => drain::measure(bench).await,
            Self::PickUp => pick_up::measure(bench).await,
            Self::Neighbours => neighbours::measure(bench).await,
            Self::Results => results::measure(bench).await,
            Self::Submit => submit::measure(bench).await,
            Self::Messages => messages::measure(bench).await,
            Self::Notify => notify::measure(bench).await,
            Self::Governor => governor::measure(bench).await,
            Self::Flat => flat::measure(bench).await,
            Self::Snapshot => snapshot::measure(bench).await,
            Self::Wal => wal::measure(bench).await,
            Self::Idle => idle::measure(bench).await,
        }
    }
}
