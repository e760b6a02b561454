//! `restante results`: writes the answers of a submission, in the order of its requests, each exactly as the API gave it.
//!
//! Everything is read in one snapshot. A cursor goes through the requests, and the answers of a page are streamed, so memory
//! does not grow with their number.

mod answers;
mod file;

use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use futures_util::TryStreamExt as _;
use secrecy::SecretString;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use self::answers::{Asked, Missing};
use self::file::Out;
use crate::columns::grouped;
use crate::explained::explained;
use restante::database;

/// The exit code if answers are missing.
pub(super) const NOT_COMPLETE: u8 = 3;

/// Writes the answers of a submission as JSON lines, in the order of its requests
///
/// Each line is exactly as the API gave it. If answers are missing it writes nothing, says how many and why, and exits 3. Any
/// login with the role restante_app or restante_operator may read them.
#[derive(Args, Clone, Debug)]
pub(super) struct ResultsArgs {
    /// The name of the submission
    name: String,
    /// Writes to this file, which is there once it is whole, and not to the standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Writes the answers that are there, even if others are missing, and exits 0
    #[arg(long)]
    partial: bool,
}

#[derive(Debug, sqlx::FromRow)]
struct Submission {
    account: String,
    status: String,
    reason: Option<String>,
    requests: i64,
}

/// Writes the answers.
///
/// # Errors
/// If there is no such submission, or the database or the output fails.
pub(super) async fn run(
    args: ResultsArgs,
    url: &SecretString,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let mut connection = database::connect(url, "restante results").await?;
    match answer(args, &mut connection, stop).await {
        Err(error) => Err(explained(error, &mut connection, "read answers").await),
        answered => answered,
    }
}

async fn answer(
    args: ResultsArgs,
    connection: &mut PgConnection,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let mut snapshot =
        connection.begin_with("begin transaction isolation level repeatable read, read only").await?;
    let submission = find(&args.name, &mut snapshot).await?;
    let missing = answers::missing(&mut snapshot, &args.name, &submission.account).await?;
    let is_complete = missing.is_empty() && matches!(submission.status.as_str(), "complete" | "cancelled");
    if !is_complete {
        eprintln!("{}", why_not_complete(&args.name, &submission, &missing));
        if !args.partial {
            eprintln!("nothing was written; --partial writes the answers that are there");
            return Ok(ExitCode::from(NOT_COMPLETE));
        }
    }
    let out = Out::open(args.output.as_deref()).context("cannot write the answers")?;
    tokio::select! {
        () = stop.cancelled() => bail!("stopped on request"),
        written = write(&args.name, &submission.account, &mut snapshot, out) => match written {
            // A reader that has gone away (`| head`) is no fault.
            Err(error) if is_reader_gone(&error) => {}
            written => written?,
        },
    }
    Ok(ExitCode::SUCCESS)
}

async fn find(name: &str, connection: &mut PgConnection) -> anyhow::Result<Submission> {
    let found = sqlx::query_as(
        "select account, status::text, reason, requests from restante.submission where name = $1",
    );
    if let Some(submission) = found.bind(name).fetch_optional(&mut *connection).await? {
        return Ok(submission);
    }
    let collected: i64 =
        sqlx::query_scalar("select count(*) from restante.batch_request where submission = $1")
            .bind(name)
            .fetch_one(connection)
            .await?;
    match collected {
        0 => bail!("there is no submission named {name}"),
        requests => {
            bail!("{name} has {} requests, but nobody has submitted them", grouped(requests))
        }
    }
}

async fn write(name: &str, account: &str, connection: &mut PgConnection, mut out: Out) -> anyhow::Result<()> {
    // The requests are sorted without what they ask and what was answered, which would be much to sort.
    sqlx::query(
        "declare asked no scroll cursor for
          select batch_id, custom_id from restante.batch_request where submission = $1 order by position",
    )
    .bind(name)
    .execute(&mut *connection)
    .await?;
    loop {
        let page: Vec<Asked> =
            sqlx::query_as("fetch 500 from asked").persistent(false).fetch_all(&mut *connection).await?;
        if page.is_empty() {
            break;
        }
        let mut lines = answers::lines(connection, account, &page);
        while let Some(line) = lines.try_next().await? {
            out.line(&line)?;
        }
    }
    Ok(out.finish()?)
}

fn why_not_complete(name: &str, submission: &Submission, missing: &[Missing]) -> String {
    let reason = submission.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let count: i64 = missing.iter().map(|missing| missing.requests).sum();
    let by_status: Vec<String> =
        missing.iter().map(|missing| format!("{} {}", grouped(missing.requests), missing.status)).collect();
    let what = match count {
        // Requests of it are sent again, and their first answers are here.
        0 => "no answer is missing, but some are to come anew".to_owned(),
        _ => format!(
            "{} of {} answers are missing (the requests: {})",
            grouped(count),
            grouped(submission.requests),
            by_status.join(", ")
        ),
    };
    format!("{name} is not complete: {what}. The submission is {}{reason}", submission.status)
}

fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_with_its_reason() {
        let submission = Submission {
            account: "anthropic".to_owned(),
            status: "waiting".to_owned(),
            reason: Some("no credit".to_owned()),
            requests: 1500,
        };
        let missing = [("submitted", 1000), ("waiting", 5)]
            .map(|(status, requests)| Missing { status: status.to_owned(), requests });

        assert_eq!(
            why_not_complete("nightly", &submission, &missing),
            "nightly is not complete: 1,005 of 1,500 answers are missing (the requests: 1,000 submitted, 5 waiting). \
             The submission is waiting: no credit"
        );
        assert!(why_not_complete("nightly", &submission, &[]).contains("no answer is missing"));
    }
}
