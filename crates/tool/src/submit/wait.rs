//! Follows a submission until every answer is here, or a person has to decide.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use secrecy::SecretString;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::columns::grouped;
use crate::results::NOT_COMPLETE;
use restante::database;

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The exit code of a program that was stopped by Ctrl-C.
const STOPPED: u8 = 130;

/// A submission as it is now.
#[derive(Debug, sqlx::FromRow)]
struct Look {
    status: String,
    reason: Option<String>,
    requests: i64,
    parts: i64,
    complete: i64,
    /// Those that the API has.
    at_work: i64,
}

/// Shows how far the submission is until it gets no further by itself. A database that goes away is waited for.
///
/// # Errors
/// If the standard error is gone.
pub(super) async fn until_complete(
    name: &str,
    url: &SecretString,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let mut connection = None;
    let mut line = Line { is_terminal: io::stderr().is_terminal(), last: String::new() };
    loop {
        let looked = tokio::select! {
            () = stop.cancelled() => {
                line.end()?;
                eprintln!("stopped on request; {name} goes on without this command");
                return Ok(ExitCode::from(STOPPED));
            }
            looked = look(name, url, &mut connection) => looked,
        };
        match looked {
            Ok(look) => {
                line.show(&look.said(name))?;
                if let Some(code) = look.exit_code() {
                    line.end()?;
                    return Ok(code);
                }
            }
            Err(error) => {
                connection = None;
                line.show(&format!("{name}: waiting for the database: {}", database::told(error.as_ref())))?;
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

async fn look(name: &str, url: &SecretString, connection: &mut Option<PgConnection>) -> anyhow::Result<Look> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(database::connect(url, "restante submit --wait").await?),
    };
    let look = sqlx::query_as(
        "select s.status::text, s.reason, s.requests, count(p.id) as parts,
                count(*) filter (where p.status = 'complete') as complete,
                count(*) filter (where p.status = 'submitted') as at_work
           from restante.submission as s left join restante.submission_part as p on p.submission = s.name
          where s.name = $1 group by s.id",
    );
    Ok(database::answered(look.bind(name).fetch_one(connection)).await?)
}

impl Look {
    fn said(&self, name: &str) -> String {
        let reason = self.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let requests = grouped(self.requests);
        match self.parts {
            1 => format!("{name}: {}, {requests} requests{reason}", self.status),
            parts => format!(
                "{name}: {}, {requests} requests, {} of {parts} batches complete{reason}",
                self.status, self.complete
            ),
        }
    }

    /// How the command ends, if nothing goes on by itself any more.
    fn exit_code(&self) -> Option<ExitCode> {
        match self.status.as_str() {
            "complete" => Some(ExitCode::SUCCESS),
            "uncertain" | "refused" => Some(ExitCode::from(NOT_COMPLETE)),
            "cancelled" if self.at_work == 0 => Some(ExitCode::from(NOT_COMPLETE)),
            _ => None,
        }
    }
}

/// The line of status: on a terminal it is written anew, elsewhere each change is a line of its own.
struct Line {
    is_terminal: bool,
    last: String,
}

impl Line {
    fn show(&mut self, text: &str) -> io::Result<()> {
        if text != self.last {
            let (begin, end) = if self.is_terminal { ("\r", "\x1b[K") } else { ("", "\n") };
            write!(io::stderr(), "{begin}{text}{end}")?;
            text.clone_into(&mut self.last);
        }
        Ok(())
    }

    /// Ends the line, which stays.
    fn end(&mut self) -> io::Result<()> {
        if self.is_terminal && !self.last.is_empty() {
            writeln!(io::stderr())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(status: &str, parts: i64, at_work: i64) -> Look {
        Look { status: status.to_owned(), reason: None, requests: 1000, parts, complete: 0, at_work }
    }

    #[test]
    fn the_line_says_how_far_it_is_and_why_it_waits() {
        let waits = Look { reason: Some("no credit".to_owned()), ..look("waiting", 1, 0) };
        assert_eq!(waits.said("n"), "n: waiting, 1,000 requests: no credit");
        let large = Look { complete: 1, ..look("submitted", 3, 2) };
        assert_eq!(large.said("n"), "n: submitted, 1,000 requests, 1 of 3 batches complete");
    }

    #[test]
    fn it_ends_where_nothing_goes_on_by_itself() {
        for status in ["complete", "uncertain", "refused", "cancelled"] {
            assert!(look(status, 1, 0).exit_code().is_some(), "{status}");
        }
        for look in [look("waiting", 1, 0), look("sending", 1, 0), look("submitted", 1, 1)] {
            assert!(look.exit_code().is_none(), "{look:?}");
        }
        assert!(look("cancelled", 1, 1).exit_code().is_none(), "its batch has not ended yet");
    }
}
