//! The breaker: while the API does not answer an account, no worker claims what needs it, and one at a time tries it.
//!
//! Each worker notices trouble by its own calls (`api::health`), and says so in a row that all workers read. From then on their claims
//! leave out the events whose handlers [need](crate::handler::Handler::needs_of_api) the part of the API that does not answer. Every
//! other second one worker tries one event. With the first answer the breaker closes, and what waited goes on at the pace of the
//! governor.
//!
//! The worker that opens a breaker logs it for all, and so does the one that closes it.

mod left_out;
mod pattern;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::database::Connections;
use crate::outbox::breaker::{self, Ended, Opened, Probe};
use crate::outbox::trouble::NO_ACCOUNT;
use crate::registry::Need;
use crate::{api, database, telemetry};

pub(super) use left_out::LeftOut;
use left_out::Progress;
use pattern::Waits;

/// A worker looks so often at what the others know, and more often while a breaker is open. What its own calls tell it makes it look at once.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_WHILE_OPEN: Duration = Duration::from_millis(500);

/// A try whose event has not begun in this time is given up: a person holds the event, or another worker has it.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);

/// This worker's part in the breakers of all accounts.
pub(super) struct Breakers {
    pub(super) owner: String,
    pub(super) accounts: api::Accounts,
    pub(super) needs: Vec<Need>,
    pub(super) connections: Connections,
    pub(super) left_out: Arc<LeftOut>,
    pub(super) known: BTreeMap<String, Known>,
}

/// What this worker knows of the breaker of an account.
#[derive(Debug, Default)]
pub(super) struct Known {
    generation: Option<i64>,
    trying: Option<Trying>,
    /// The part that is tried takes turns.
    turn: usize,
}

/// A try of this worker.
#[derive(Debug)]
struct Trying {
    probe: Probe,
    part: String,
    /// How many answers the part had given before.
    answers: u64,
    since: Instant,
}

impl Breakers {
    /// Looks again and again, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let news = Arc::clone(&self.left_out.news);
        let mut changes = self.accounts.changes();
        loop {
            let is_open = match self.look().await {
                Ok(is_open) => is_open,
                Err(error) => {
                    let error = database::told(&error);
                    tracing::debug!(error, "the breaker could not be looked at; the next look tries again");
                    false
                }
            };
            let pause = if is_open { PAUSE_WHILE_OPEN } else { PAUSE };
            tokio::select! {
                () = stop.cancelled() => return,
                _ = timeout(pause, news.notified()) => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// One look at all accounts. Returns whether a breaker is open.
    async fn look(&mut self) -> sqlx::Result<bool> {
        let names = self.accounts.names();
        let rows = self.read(&names).await?;
        let mut open = Vec::new();
        for name in names {
            let Some(client) = self.accounts.client(&name) else { continue };
            let Some(experience) = client.experience() else { continue };
            let row = rows.iter().find(|row| row.account == name).cloned();
            let row = row.unwrap_or_else(|| breaker::Breaker { account: name.clone(), ..Default::default() });
            let mut known = self.known.remove(&name).unwrap_or_default();
            let stands = self.look_at(row, &mut known, &experience).await;
            self.known.insert(name.clone(), known);
            let row = stands?;
            let is_open = if row.parts.is_empty() { 0.0 } else { 1.0 };
            metrics::gauge!(telemetry::metric::API_BREAKER_OPEN, "account" => name).set(is_open);
            open.extend((!row.parts.is_empty()).then_some(row));
        }
        let accounts: Vec<Vec<String>> = open.iter().map(|row| self.names_in_events(&row.account)).collect();
        let waits: Vec<Waits<'_>> =
            open.iter().zip(&accounts).map(|(row, accounts)| Waits { accounts, parts: &row.parts }).collect();
        self.left_out.leave_out(pattern::of(&waits, &self.needs));
        Ok(!open.is_empty())
    }

    /// One look at an account. Returns how its breaker stands after it.
    async fn look_at(
        &self,
        mut row: breaker::Breaker,
        known: &mut Known,
        experience: &api::Experience<'_>,
    ) -> sqlx::Result<breaker::Breaker> {
        heed(&row, known, experience);
        let mut has_changed = false;
        for trouble in experience.troubles().iter().filter(|trouble| !row.parts.contains(&trouble.part)) {
            self.open(&row, trouble).await?;
            has_changed = true;
        }
        has_changed |= self.go_on_trying(&row, known, experience).await?;
        if has_changed {
            row = self.read_one(row.account).await?;
            heed(&row, known, experience);
        }
        if known.trying.is_none() && !row.parts.is_empty() {
            self.begin_to_try(&row, known, experience).await?;
            heed(&row, known, experience);
        }
        if row.is_releasing {
            self.release(&row.account).await?;
        }
        Ok(row)
    }

    async fn open(&self, row: &breaker::Breaker, trouble: &api::Trouble) -> sqlx::Result<()> {
        let api::Trouble { part, kind, said } = trouble;
        let open = async |connection: &mut PgConnection| {
            breaker::open(connection, (&row.account, part), (kind, said), row.generation).await
        };
        match self.connections.run(open).await? {
            Opened::First => tracing::error!(
                account = row.account,
                part,
                reason = said,
                "the API does not answer as it should; no worker claims what needs it, and all of it goes on once it answers"
            ),
            Opened::Joined => {
                tracing::debug!(account = row.account, part, reason = said, "another part does not answer");
            }
            Opened::Not => {}
        }
        Ok(())
    }

    /// Ends the try of this worker if it is over, and keeps it else. Returns whether it has ended.
    async fn go_on_trying(
        &self,
        row: &breaker::Breaker,
        known: &mut Known,
        experience: &api::Experience<'_>,
    ) -> sqlx::Result<bool> {
        let Some(Trying { probe, part, answers, since }) = &known.trying else { return Ok(false) };
        let is_answered = experience.answers(part) > *answers;
        let is_over = match self.left_out.progress(probe.event) {
            _ if is_answered || !row.parts.contains(part) => true,
            Progress::NotBegun => since.elapsed() > BEGIN_WITHIN,
            Progress::UnderWay => false,
            Progress::Ended => true,
        };
        if !is_over {
            let keep = async |connection: &mut PgConnection| {
                breaker::keep_probe(connection, &row.account, probe.token).await
            };
            if self.connections.run(keep).await? {
                return Ok(false);
            }
        }
        let failure = experience.last_failure(part);
        let end = async |connection: &mut PgConnection| {
            let failure = failure.as_ref().map(|(kind, said)| (*kind, said.as_str()));
            breaker::end_probe(connection, (&row.account, part), probe.token, is_answered, failure).await
        };
        match self.connections.run(end).await? {
            // The next look tries it again.
            Ended::Busy => return Ok(false),
            Ended::Closed => tracing::info!(
                account = row.account,
                part,
                failing_for_seconds = row.open_for_seconds.map(|seconds| seconds as u64),
                "the API answers again; what waited for it goes on"
            ),
            Ended::Over => {}
        }
        self.left_out.forget(probe.event);
        known.trying = None;
        Ok(true)
    }

    async fn begin_to_try(
        &self,
        row: &breaker::Breaker,
        known: &mut Known,
        experience: &api::Experience<'_>,
    ) -> sqlx::Result<()> {
        known.turn = known.turn.wrapping_add(1);
        let Some(part) = row.parts.get(known.turn % row.parts.len().max(1)) else { return Ok(()) };
        let accounts = self.names_in_events(&row.account);
        let waits = Waits { accounts: &accounts, parts: std::slice::from_ref(part) };
        let Some(pattern) = pattern::of(&[waits], &self.needs) else { return Ok(()) };
        let answers = experience.answers(part);
        let lease = async |connection: &mut PgConnection| {
            breaker::lease_probe(connection, &self.owner, (&row.account, part), &pattern).await
        };
        if let Some(probe) = self.connections.run(lease).await? {
            known.trying = Some(Trying { probe, part: part.clone(), answers, since: Instant::now() });
            self.left_out.try_event(probe.event);
        }
        Ok(())
    }

    async fn release(&self, account: &str) -> sqlx::Result<()> {
        let accounts = self.names_in_events(account);
        let release =
            async |connection: &mut PgConnection| breaker::release(connection, account, &accounts).await;
        let events = self.connections.run_to_its_end(release).await?;
        if events > 0 {
            tracing::info!(account, events, "events that waited in trouble are due again");
            self.left_out.less.notify_one();
        }
        Ok(())
    }

    /// How events name this account: those of none belong to one, too.
    fn names_in_events(&self, account: &str) -> Vec<String> {
        let is_default = self.accounts.default_name().as_deref() == Some(account);
        let none = is_default.then(|| NO_ACCOUNT.to_owned());
        [account.to_owned()].into_iter().chain(none).collect()
    }

    async fn read(&self, accounts: &[String]) -> sqlx::Result<Vec<breaker::Breaker>> {
        self.connections
            .run(async |connection: &mut PgConnection| breaker::of(connection, accounts).await)
            .await
    }

    async fn read_one(&self, account: String) -> sqlx::Result<breaker::Breaker> {
        let rows = self.read(std::slice::from_ref(&account)).await?;
        Ok(rows.into_iter().next().unwrap_or_else(|| breaker::Breaker { account, ..Default::default() }))
    }
}

/// Lets the calls of this process know how the breaker stands.
fn heed(row: &breaker::Breaker, known: &mut Known, experience: &api::Experience<'_>) {
    let is_news = known.generation.replace(row.generation).is_some_and(|before| before != row.generation);
    let probed = known.trying.as_ref().map(|trying| trying.part.as_str());
    experience.heed(api::Open {
        parts: &row.parts,
        kind: row.known_kind(),
        said: &row.said,
        probed,
        is_news,
    });
}
