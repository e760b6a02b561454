//! Stores events, each once.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use crate::event::{ANTHROPIC, NewEvent};

/// How an event came into the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A signed delivery.
    Webhook,
    /// A poll of the API.
    Poll,
    /// An application, by `restante.enqueue`.
    Sql,
    /// A handler.
    Worker,
}

impl Source {
    /// Every source, as the domain `restante.event_source` has them.
    pub const ALL: [Self; Self::Worker as usize + 1] = [Self::Webhook, Self::Poll, Self::Sql, Self::Worker];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Poll => "poll",
            Self::Sql => "sql",
            Self::Worker => "worker",
        }
    }
}

/// The result of [`insert_events`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// How many of the events were new.
    pub new: u64,
    /// The events that were stored already.
    pub duplicates: Vec<Duplicate>,
    /// How long the database worked, without the commit.
    pub worked: Duration,
}

/// An event that was stored already. It changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Who sent it.
    pub sender: String,
    /// The sender's identifier.
    pub event_id: String,
    /// Another body is stored under its identifier. What this one said is in `restante.delivery_differs`.
    pub differs: bool,
}

impl Duplicate {
    fn of(event: &NewEvent, differs: bool) -> Self {
        Self { sender: event.sender.clone(), event_id: event.event_id.clone(), differs }
    }
}

/// Stores the events that are not stored yet. Of several with the same identifier the first counts, and the others are
/// duplicates.
///
/// One statement: it stores all of them or none, and has committed when it returns, unless `executor` is inside a
/// transaction. A second call with the same events changes nothing. It waits only for a session that is storing the
/// same identifier.
///
/// # Errors
/// An outage if [`crate::database::is_unavailable`] says so: the events may be stored if only the answer was lost.
/// Another session is storing one of the identifiers if [`crate::database::is_locked`] says so. Otherwise the database
/// refuses an event, and none is stored.
pub async fn insert_events(
    executor: impl PgExecutor<'_>,
    source: Source,
    events: &[NewEvent],
) -> sqlx::Result<Stored> {
    match events {
        [event] => insert_one(executor, source, event).await,
        _ => insert_many(executor, source, events).await,
    }
}

/// A function for one event costs the database half the work of the one for a set.
async fn insert_one(executor: impl PgExecutor<'_>, source: Source, event: &NewEvent) -> sqlx::Result<Stored> {
    let row = sqlx::query!(
        r#"
        select stored.id is not null as "new!", stored.differs as "differs!",
               extract(epoch from clock_timestamp() - statement_timestamp())::float8 as "worked_seconds!"
          from restante.insert_event(
            -- The trace is a setting of the transaction.
            case when $12::text is null or set_config('restante.traceparent', $12, true) is not null then $1 end,
            $2, $3, $4, $5, $6, $7, $8, null, $9, $10, $11) as stored
        "#,
        event.event_id,
        event.event_type,
        event.key.as_deref(),
        event.workspace_id.as_deref(),
        event.created_at,
        event.body.as_json(),
        event.body.as_raw(),
        event.body.digest(),
        source.as_str(),
        event.sender,
        event.account.as_deref(),
        event.traceparent.as_deref(),
    )
    .fetch_one(executor)
    .await?;
    let duplicate = (!row.new).then(|| Duplicate::of(event, row.differs));
    Ok(Stored {
        new: row.new.into(),
        duplicates: duplicate.into_iter().collect(),
        worked: duration(row.worked_seconds),
    })
}

async fn insert_many(
    executor: impl PgExecutor<'_>,
    source: Source,
    events: &[NewEvent],
) -> sqlx::Result<Stored> {
    let (events, duplicates) = once_each(events);
    let columns = Columns::of(&events);
    // With one sender, the usual case, the database has less to do without the names.
    let is_usual =
        |event: &&NewEvent| event.sender == ANTHROPIC && event.account.as_deref() == Some(ANTHROPIC);
    let are_usual = events.iter().all(is_usual);
    let senders = (!are_usual).then_some(&columns.senders[..]);
    let accounts = (!are_usual).then_some(&columns.accounts[..]);
    let row = sqlx::query_as!(
        Answer,
        r#"
        select stored.stored as "new!", stored.duplicates as "duplicates!", stored.differing as "differing!",
               extract(epoch from clock_timestamp() - statement_timestamp())::float8 as "worked_seconds!"
          from restante.insert_events(
            case when $12::text is null or set_config('restante.traceparent', $12, true) is not null then $1::text[] end,
            $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as stored
        "#,
        &columns.event_ids as &[&str],
        &columns.types as &[&str],
        &columns.keys as &[Option<&str>],
        &columns.workspace_ids as &[Option<&str>],
        &columns.created_ats,
        &columns.payloads as &[Option<&str>],
        &columns.raws as &[Option<&[u8]>],
        &columns.digests,
        source.as_str(),
        senders as Option<&[&str]>,
        accounts as Option<&[Option<&str>]>,
        traces_of(&events),
    )
    .fetch_one(executor)
    .await?;
    Ok(row.stored(&events, duplicates))
}

/// The same as [`insert_events`] for events that ingest kept in its journal, each with the time at which it was delivered.
///
/// # Errors
/// As [`insert_events`].
pub async fn insert_journaled(
    executor: impl PgExecutor<'_>,
    events: &[NewEvent],
    received_ats: &[DateTime<Utc>],
) -> sqlx::Result<Stored> {
    let mut first_at = HashMap::with_capacity(events.len());
    for (event, received_at) in events.iter().zip(received_ats) {
        first_at.entry((event.sender.as_str(), event.event_id.as_str())).or_insert(*received_at);
    }
    let (events, duplicates) = once_each(events);
    let columns = Columns::of(&events);
    let received_ats: Vec<DateTime<Utc>> = events
        .iter()
        .filter_map(|event| first_at.get(&(event.sender.as_str(), event.event_id.as_str())).copied())
        .collect();
    let row = sqlx::query_as!(
        Answer,
        r#"
        select stored.stored as "new!", stored.duplicates as "duplicates!", stored.differing as "differing!",
               extract(epoch from clock_timestamp() - statement_timestamp())::float8 as "worked_seconds!"
          from restante.insert_journaled($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) as stored
        "#,
        &columns.event_ids as &[&str],
        &columns.types as &[&str],
        &columns.keys as &[Option<&str>],
        &columns.workspace_ids as &[Option<&str>],
        &columns.created_ats,
        &columns.payloads as &[Option<&str>],
        &columns.raws as &[Option<&[u8]>],
        &columns.digests,
        &columns.senders as &[&str],
        &columns.accounts as &[Option<&str>],
        &received_ats,
    )
    .fetch_one(executor)
    .await?;
    Ok(row.stored(&events, duplicates))
}

/// Events, a list for each column.
struct Columns<'e> {
    event_ids: Vec<&'e str>,
    types: Vec<&'e str>,
    keys: Vec<Option<&'e str>>,
    workspace_ids: Vec<Option<&'e str>>,
    created_ats: Vec<DateTime<Utc>>,
    payloads: Vec<Option<&'e str>>,
    raws: Vec<Option<&'e [u8]>>,
    digests: Vec<i64>,
    senders: Vec<&'e str>,
    accounts: Vec<Option<&'e str>>,
}

impl<'e> Columns<'e> {
    fn of(events: &[&'e NewEvent]) -> Self {
        let events = events.iter();
        Self {
            event_ids: events.clone().map(|event| event.event_id.as_str()).collect(),
            types: events.clone().map(|event| event.event_type.as_str()).collect(),
            keys: events.clone().map(|event| event.key.as_deref()).collect(),
            workspace_ids: events.clone().map(|event| event.workspace_id.as_deref()).collect(),
            created_ats: events.clone().map(|event| event.created_at).collect(),
            payloads: events.clone().map(|event| event.body.as_json()).collect(),
            raws: events.clone().map(|event| event.body.as_raw()).collect(),
            digests: events.clone().map(|event| event.body.digest()).collect(),
            senders: events.clone().map(|event| event.sender.as_str()).collect(),
            accounts: events.map(|event| event.account.as_deref()).collect(),
        }
    }
}

/// What the database says of a set of events.
struct Answer {
    new: i32,
    duplicates: Vec<String>,
    differing: Vec<String>,
    worked_seconds: f64,
}

impl Answer {
    /// `duplicates` are those that the database was not asked about.
    fn stored(self, events: &[&NewEvent], mut duplicates: Vec<Duplicate>) -> Stored {
        let by_identifier: HashMap<_, _> = events.iter().map(|event| (seen_as(event), *event)).collect();
        duplicates.extend(self.duplicates.iter().filter_map(|seen| {
            Some(Duplicate::of(by_identifier.get(seen.as_str())?, self.differing.contains(seen)))
        }));
        let new = u64::try_from(self.new).unwrap_or(0);
        Stored { new, duplicates, worked: duration(self.worked_seconds) }
    }
}

/// An event's identifier as `restante.seen_as()` gives it. No two senders have one in common.
pub fn seen_as(event: &NewEvent) -> Cow<'_, str> {
    match event.sender.as_str() {
        ANTHROPIC => Cow::Borrowed(&event.event_id),
        sender => Cow::Owned(format!("{sender}\u{1f}{}", event.event_id)),
    }
}

/// The traces of events that share a commit, as `restante.keep_trace()` reads them; none if none of them has one.
fn traces_of(events: &[&NewEvent]) -> Option<String> {
    const MARK: char = '\u{1e}';
    let mut traces = String::new();
    for event in events {
        let identifier = seen_as(event);
        // With a mark in it, it could stand for another one.
        if let Some(traceparent) = event.traceparent.as_deref().filter(|_| !identifier.contains(MARK)) {
            traces.push(MARK);
            traces.push_str(&identifier);
            traces.push(MARK);
            traces.push_str(traceparent);
        }
    }
    (!traces.is_empty()).then_some(traces)
}

/// Splits events into the first of each identifier, and the others.
fn once_each(events: &[NewEvent]) -> (Vec<&NewEvent>, Vec<Duplicate>) {
    let mut first_of = HashMap::with_capacity(events.len());
    let (mut firsts, mut duplicates) = (Vec::with_capacity(events.len()), Vec::new());
    for event in events {
        match first_of.entry((event.sender.as_str(), event.event_id.as_str())) {
            Entry::Vacant(place) => {
                place.insert(event);
                firsts.push(event);
            }
            Entry::Occupied(first) => {
                duplicates.push(Duplicate::of(event, first.get().body.as_bytes() != event.body.as_bytes()));
            }
        }
    }
    (firsts, duplicates)
}

/// Zero if it is negative: the database's clock may have been set back meanwhile.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
