//! `restante status`: how things stand with events and batches, in a terminal, for a pipe, or as JSON.
//!
//! It reads what the role `restante_operator` may read, in read-only transactions whose statements have a deadline, and
//! costs the backlog, never the history. While it watches, a database that goes away is waited for, and said to be away.

mod calls;
mod figures;
mod history;
mod pace;
mod picture;
mod screen;
mod snapshot;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use clap::Args;
use secrecy::SecretString;
use sqlx::PgConnection;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use self::pace::Pace;
use self::screen::Screen;
use self::snapshot::{Counting, Snapshot};
use crate::journal;
use restante::database;

/// How long one look may take, all its statements and the way to the database included.
const LOOK_PATIENCE: Duration = Duration::from_secs(15);

/// Shows how things stand: what waits, runs, retries, is blocked, paused or dead, and how far each batch has come
///
/// Rates need two looks, so only --watch has them. Any login with the role restante_operator may ask.
#[derive(Args, Clone, Debug)]
pub(super) struct StatusArgs {
    /// Looks again and again until Ctrl-C; in a terminal the picture stays in its place
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    watch: Option<Duration>,
    /// Prints JSON, one object for each look on a line of its own
    #[arg(long)]
    json: bool,
}

/// Shows how things stand, once, or until `stop`.
///
/// # Errors
/// If the database cannot be looked at; while watching, only at the first look.
pub(super) async fn run(
    args: StatusArgs,
    url: &SecretString,
    journal: Option<&Path>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut eye = Eye { url, journal, connection: None, counting: Counting::InFull, batches: Vec::new() };
    let Some(every) = args.watch else {
        let looked = eye.look().await;
        let snapshot = looked.map_err(|error| match journal.and_then(journal::told) {
            Some(told) => error.context(told),
            None => error,
        })?;
        return written(print(&mut io::stdout().lock(), &said(&args, journal, &snapshot)));
    };
    if !args.json && io::stdout().is_terminal() {
        let mut screen = Screen::open(io::stdout())?;
        watch(&args, eye, every, stop, |text| screen.show(text)).await
    } else {
        watch(&args, eye, every, stop, |text| print(&mut io::stdout().lock(), text)).await
    }
}

/// Looks every so often and shows what was seen, until `stop` or until nobody reads any more.
async fn watch(
    args: &StatusArgs,
    mut eye: Eye<'_>,
    every: Duration,
    stop: CancellationToken,
    mut show: impl FnMut(&str) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut pace = Pace::default();
    let mut last: Option<Snapshot> = None;
    loop {
        let looked = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            looked = async { ticks.tick().await; eye.look().await } => looked,
        };
        let text = match (looked, &last) {
            (Ok(mut snapshot), _) => {
                pace.measure(&mut snapshot);
                let text = said(args, eye.journal, &snapshot);
                last = Some(snapshot);
                text
            }
            (Err(error), None) => return Err(error),
            (Err(error), Some(last)) => away(args, eye.journal, &error, last),
        };
        if let Err(error) = show(&text) {
            return written(Err(error));
        }
    }
}

/// Looks at a database, over a connection that is made anew when it breaks.
struct Eye<'a> {
    url: &'a SecretString,
    /// The journal of an ingest on this machine.
    journal: Option<&'a Path>,
    connection: Option<PgConnection>,
    counting: Counting,
    /// The batches of the last look, so that one that has become complete is seen to be.
    batches: Vec<String>,
}

impl Eye<'_> {
    async fn look(&mut self) -> anyhow::Result<Snapshot> {
        let looked = timeout(LOOK_PATIENCE, self.look_now()).await.context("the database does not answer");
        let snapshot = looked.and_then(|looked| looked).inspect_err(|_| self.connection = None)?;
        self.batches = snapshot.batches.iter().map(|batch| batch.id.clone()).collect();
        Ok(snapshot)
    }

    async fn look_now(&mut self) -> anyhow::Result<Snapshot> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            None => {
                let mut connection = database::connect(self.url, "restante status").await?;
                database::check_schema(&mut connection).await?;
                self.connection.insert(connection)
            }
        };
        Ok(snapshot::take(connection, &mut self.counting, &self.batches).await?)
    }
}

fn said(args: &StatusArgs, journal: Option<&Path>, snapshot: &Snapshot) -> String {
    if args.json { picture::json(snapshot) } else { picture::text(snapshot) + &line_of(journal) }
}

/// What waits in the journal, in a line of its own; nothing if nothing does.
fn line_of(journal: Option<&Path>) -> String {
    journal.and_then(journal::told).map(|told| format!("\njournal: {told}\n")).unwrap_or_default()
}

/// What is said while the database is away: that it is, and how things stood.
fn away(args: &StatusArgs, journal: Option<&Path>, error: &anyhow::Error, last: &Snapshot) -> String {
    let problem = database::told(error.as_ref());
    match args.json {
        true => format!("{}\n", serde_json::json!({ "tried_at": Utc::now(), "problem": problem })),
        false => picture::text_while_away(&problem, last) + &line_of(journal),
    }
}

/// Pictures that follow each other are kept apart by an empty line, objects of JSON by nothing.
fn print(out: &mut impl Write, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    if !text.starts_with('{') {
        out.write_all(b"\n")?;
    }
    out.flush()
}

/// A reader that has gone away (`| head`) is no fault.
fn written(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// A command-line value in seconds: from a tenth, so that looking costs less than what is looked at, to an hour.
fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected seconds, from 0.1 to 3600".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Status {
        #[command(flatten)]
        args: StatusArgs,
    }

    fn watched(line: &[&str]) -> Option<Duration> {
        Status::parse_from([&["status"], line].concat()).args.watch
    }

    #[test]
    fn watching_is_every_two_seconds_unless_told() {
        assert_eq!(watched(&[]), None);
        assert_eq!(watched(&["--watch"]), Some(Duration::from_secs(2)));
        assert_eq!(watched(&["--watch", "0.5", "--json"]), Some(Duration::from_millis(500)));
        assert!(Status::try_parse_from(["status", "--watch", "0"]).is_err());
    }
}
