//! The goals that the figures are compared with. A missed goal is printed as missed.

use crate::figures::{PRODUCT, Table, number};

/// A goal for one figure: a limit for it, or for its ratio to another figure.
pub(crate) struct Goal {
    work: &'static str,
    table: &'static str,
    of: At,
    over: Over,
    bound: Bound,
}

/// The place of a figure: point, subject, quantity.
type At = (&'static str, &'static str, &'static str);

enum Over {
    /// The figure itself counts.
    Nothing,
    /// Another figure of the same table divides it.
    Figure(At),
    /// The largest figure of a peer at the same point divides it.
    BestPeer,
    /// The smallest figure of a peer at the same point divides it.
    QuickestPeer,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};

const fn goal(work: &'static str, table: &'static str, of: At, over: Over, bound: Bound) -> Goal {
    Goal { work, table, of, over, bound }
}

const RATE: &str = "events/s";
const fn rate(point: &'static str, subject: &'static str) -> At {
    (point, subject, RATE)
}

/// All of them.
pub(crate) const GOALS: &[Goal] = &[
    goal(
        "64 connections, over axum + sqlx",
        "Ingest",
        rate("64 connections", PRODUCT),
        Over::Figure(rate("64 connections", "axum + sqlx")),
        AtLeast(3.0),
    ),
    goal(
        "64 connections, over Express",
        "Ingest",
        rate("64 connections", PRODUCT),
        Over::Figure(rate("64 connections", "Express")),
        AtLeast(4.5),
    ),
    goal(
        "64 connections, over Flask",
        "Ingest",
        rate("64 connections", PRODUCT),
        Over::Figure(rate("64 connections", "Flask")),
        AtLeast(15.0),
    ),
    goal(
        "64 connections, over pgbench",
        "Ingest",
        rate("64 connections", PRODUCT),
        Over::Figure(rate("64 connections", "pgbench")),
        AtLeast(1.5),
    ),
    goal(
        "64 connections, p99 over the p50 of axum + sqlx",
        "Ingest",
        ("64 connections", PRODUCT, "p99 ms"),
        Over::Figure(("64 connections", "axum + sqlx", "p50 ms")),
        AtMost(1.0),
    ),
    goal(
        "1 connection, over axum + sqlx",
        "Ingest",
        rate("1 connection", PRODUCT),
        Over::Figure(rate("1 connection", "axum + sqlx")),
        AtLeast(0.95),
    ),
    goal(
        "256 connections, over axum + sqlx",
        "Ingest",
        rate("256 connections", PRODUCT),
        Over::Figure(rate("256 connections", "axum + sqlx")),
        AtLeast(3.0),
    ),
    goal(
        "duplicates, over distinct events",
        "Ingest",
        rate("64 connections, duplicates", PRODUCT),
        Over::Figure(rate("64 connections", PRODUCT)),
        AtLeast(1.0),
    ),
    goal(
        "slow flushes, 64 connections, over axum + sqlx",
        "Ingest with slow flushes",
        rate("64 connections", PRODUCT),
        Over::Figure(rate("64 connections", "axum + sqlx")),
        AtLeast(3.0),
    ),
    goal(
        "slow flushes, 256 connections, over axum + sqlx",
        "Ingest with slow flushes",
        rate("256 connections", PRODUCT),
        Over::Figure(rate("256 connections", "axum + sqlx")),
        AtLeast(3.0),
    ),
    goal(
        "beside 5000 bad requests/s, over none",
        "Flood of bad requests",
        rate("5000 bad requests/s", PRODUCT),
        Over::Figure(rate("no flood", PRODUCT)),
        AtLeast(0.67),
    ),
    goal(
        "no-op handler, over the fastest peer",
        "Drain",
        rate("no-op", PRODUCT),
        Over::BestPeer,
        AtLeast(1.0),
    ),
    goal(
        "handler writes one row, over sqlxmq's no-op",
        "Drain",
        rate("writes one row", PRODUCT),
        Over::Figure(rate("no-op", "sqlxmq")),
        AtLeast(4.0),
    ),
    goal(
        "handler writes one row, over apalis' no-op",
        "Drain",
        rate("writes one row", PRODUCT),
        Over::Figure(rate("no-op", "apalis")),
        AtLeast(1.0),
    ),
    goal(
        "10 events a key, over distinct keys",
        "Drain",
        rate("no-op, 10 events a key", PRODUCT),
        Over::Figure(rate("no-op", PRODUCT)),
        AtLeast(0.6),
    ),
    goal(
        "two workers, over one",
        "Drain",
        rate("no-op, two workers", PRODUCT),
        Over::Figure(rate("no-op", PRODUCT)),
        AtLeast(1.0),
    ),
    goal("median, ms", "Pick-up", ("20 events/s", PRODUCT, "p50 ms"), Over::Nothing, AtMost(2.0)),
    goal("p99, ms", "Pick-up", ("20 events/s", PRODUCT, "p99 ms"), Over::Nothing, AtMost(6.0)),
    goal(
        "median, over the quickest peer",
        "Pick-up",
        ("20 events/s", PRODUCT, "p50 ms"),
        Over::QuickestPeer,
        AtMost(1.0),
    ),
    goal(
        "one key with a long queue: the others' median, over without",
        "One busy key",
        ("beside a busy key", PRODUCT, "p50 ms"),
        Over::Figure(("alone", PRODUCT, "p50 ms")),
        AtMost(1.2),
    ),
    goal(
        "over curl and psql",
        "Results of a batch",
        ("batch", PRODUCT, "lines/s"),
        Over::Figure(("batch", "curl to psql", "lines/s")),
        AtLeast(1.0),
    ),
    goal(
        "over the SDK and COPY",
        "Results of a batch",
        ("batch", PRODUCT, "lines/s"),
        Over::Figure(("batch", "SDK + COPY", "lines/s")),
        AtLeast(4.0),
    ),
    goal(
        "memory of the worker, MiB",
        "Results of a batch",
        ("batch", PRODUCT, "peak MiB"),
        Over::Nothing,
        AtMost(64.0),
    ),
    goal(
        "memory of the worker at eight times as much, MiB",
        "Results of a batch",
        ("large batch", PRODUCT, "peak MiB"),
        Over::Nothing,
        AtMost(64.0),
    ),
    goal(
        "buffers: history",
        "Flat",
        ("history", PRODUCT, "buffers/event"),
        Over::Figure(("empty", PRODUCT, "buffers/event")),
        AtMost(1.2),
    ),
    goal(
        "WAL: history",
        "Flat",
        ("history", PRODUCT, "WAL B/event"),
        Over::Figure(("empty", PRODUCT, "WAL B/event")),
        AtMost(1.2),
    ),
    goal(
        "buffers: waiting",
        "Flat",
        ("waiting", PRODUCT, "buffers/event"),
        Over::Figure(("empty", PRODUCT, "buffers/event")),
        AtMost(1.2),
    ),
    goal(
        "WAL: waiting",
        "Flat",
        ("waiting", PRODUCT, "WAL B/event"),
        Over::Figure(("empty", PRODUCT, "WAL B/event")),
        AtMost(1.2),
    ),
    goal(
        "buffers: blocked behind one key",
        "Flat",
        ("blocked behind one key", PRODUCT, "buffers/event"),
        Over::Figure(("empty", PRODUCT, "buffers/event")),
        AtMost(1.2),
    ),
    goal(
        "WAL: blocked behind one key",
        "Flat",
        ("blocked behind one key", PRODUCT, "WAL B/event"),
        Over::Figure(("empty", PRODUCT, "WAL B/event")),
        AtMost(1.2),
    ),
    goal(
        "buffers: in retry",
        "Flat",
        ("in retry", PRODUCT, "buffers/event"),
        Over::Figure(("empty", PRODUCT, "buffers/event")),
        AtMost(1.2),
    ),
    goal(
        "WAL: in retry",
        "Flat",
        ("in retry", PRODUCT, "WAL B/event"),
        Over::Figure(("empty", PRODUCT, "WAL B/event")),
        AtMost(1.2),
    ),
    goal(
        "buffers: at the end of the snapshot",
        "Snapshot held",
        ("held, at its end", PRODUCT, "buffers/event"),
        Over::Figure(("before", PRODUCT, "buffers/event")),
        AtMost(2.0),
    ),
    goal(
        "buffers: after the snapshot",
        "Snapshot held",
        ("after", PRODUCT, "buffers/event"),
        Over::Figure(("before", PRODUCT, "buffers/event")),
        AtMost(1.2),
    ),
    goal(
        "share of the API's limit that four workers use, %",
        "Governor",
        ("4 workers, 100/s", PRODUCT, "limit used %"),
        Over::Nothing,
        AtLeast(90.0),
    ),
    goal(
        "calls beyond the limit, %",
        "Governor",
        ("4 workers, 100/s", PRODUCT, "429 %"),
        Over::Nothing,
        AtMost(1.0),
    ),
    goal("queries/s", "Idle", ("ingest and worker", PRODUCT, "queries/s"), Over::Nothing, AtMost(2.0)),
    goal(
        "CPU, % of a core",
        "Idle",
        ("ingest and worker", PRODUCT, "CPU % of a core"),
        Over::Nothing,
        AtMost(1.0),
    ),
    goal(
        "200 streams at once with partial text, MiB of the worker",
        "Messages",
        ("with partial text", PRODUCT, "peak MiB"),
        Over::Nothing,
        AtMost(128.0),
    ),
    goal("keyed, bytes an event", "WAL", ("keyed", PRODUCT, "WAL B/event"), Over::Nothing, AtMost(2000.0)),
    goal(
        "without key, bytes an event",
        "WAL",
        ("without key", PRODUCT, "WAL B/event"),
        Over::Nothing,
        AtMost(1600.0),
    ),
];

impl Goal {
    /// The goal as a row, if the run has the figures.
    pub(crate) fn row(&self, tables: &[Table]) -> Option<Vec<String>> {
        let table = tables.iter().find(|table| table.title == self.table)?;
        let median = |(point, subject, quantity): At| table.median(point, subject, quantity);
        let peers = || {
            let (point, _, quantity) = self.of;
            let at_point = table.rows().into_iter().filter(move |row| row.0 == point && row.1 != PRODUCT);
            at_point.filter_map(move |(point, peer)| table.median(point, peer, quantity))
        };
        let over = match self.over {
            Over::Nothing => 1.0,
            Over::Figure(at) => median(at)?,
            Over::BestPeer => peers().reduce(f64::max)?,
            Over::QuickestPeer => peers().reduce(f64::min)?,
        };
        let found = median(self.of)? / over;
        let (goal, met) = match self.bound {
            AtLeast(bound) => (format!("≥ {bound}"), found >= bound),
            AtMost(bound) => (format!("≤ {bound}"), found <= bound),
        };
        let met = if met { "yes" } else { "**no**" };
        Some(vec![format!("{}: {}", self.table, self.work), goal, number(Some(found)), met.to_owned()])
    }
}
