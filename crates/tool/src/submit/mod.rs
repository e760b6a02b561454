//! `restante submit`: reads a file of requests into the database and submits them, in one transaction.
//!
//! The file goes through in pieces, by `COPY`, so memory does not grow with it. The database finds a `custom_id` that is there
//! twice. Whatever is wrong, nothing of the file is submitted.

mod progress;
mod reader;
mod request;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use clap::Args;
use secrecy::SecretString;
use sqlx::{Connection, PgConnection};
use tokio_util::sync::CancellationToken;

use self::progress::Progress;
use self::reader::Piece;
use crate::explained::explained;
use restante::database;

/// Submits a file of requests as a batch, as it is or not at all
///
/// Each line of the file is a JSON object with custom_id and params, as the API has them in its own batches. What params says is
/// sent exactly as it stands there. The worker sends the requests, in several batches if they are more than the API takes at
/// once (100,000 requests or 256 MB). A mistake is reported with its line and the rule, and nothing is submitted. Any login
/// with the role restante_app may submit.
#[derive(Args, Clone, Debug)]
pub(super) struct SubmitArgs {
    /// The file, or - for the standard input
    file: PathBuf,
    /// The name that the requests and their answers are found by; each name is taken once
    #[arg(long, value_parser = name)]
    name: String,
    /// What the cost is added up by
    #[arg(long, value_parser = name)]
    tag: Option<String>,
    /// The account, by its name in the configuration, whose key pays
    #[arg(long, default_value = "anthropic", value_parser = name)]
    account: String,
    /// Waits until every answer is here; exits 3 if that needs a person's decision, or was called off
    #[arg(long)]
    wait: bool,
}

/// The signature of the binary format of `COPY`, no flags, no extension; and what ends it.
const COPY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const COPY_TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// Submits the file, and with `--wait` follows it.
///
/// # Errors
/// If there is a mistake in the file, its name is taken, or the database refuses it or is away. Nothing is submitted then.
pub(super) async fn run(
    args: SubmitArgs,
    url: &SecretString,
    stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let mut connection = database::connect(url, "restante submit").await?;
    let total = match submit(&args, &mut connection, &stop).await {
        Ok(total) => total,
        Err(error) => return Err(explained(error, &mut connection, "submit").await),
    };
    // The connection has done its work; a failure to end it in good manners changes nothing.
    let _ = connection.close().await;
    println!("{} is submitted: {total}", args.name);
    if args.wait { wait::until_complete(&args.name, url, stop).await } else { Ok(ExitCode::SUCCESS) }
}

/// Returns how much was submitted.
async fn submit(
    args: &SubmitArgs,
    connection: &mut PgConnection,
    stop: &CancellationToken,
) -> anyhow::Result<String> {
    refuse_taken(&args.name, connection).await?;
    let mut progress = Progress::new();
    let mut transaction = connection.begin().await?;
    let filled = tokio::select! {
        () = stop.cancelled() => Err(anyhow!("stopped on request; nothing was submitted")),
        filled = fill(args, &mut transaction, &mut progress) => filled,
    };
    progress.clear();
    if let Err(error) = filled {
        // Whatever comes of this, nothing was committed; and a copy that was left off is an error here.
        let _ = transaction.rollback().await;
        let Some(refused) = refused_line(&error) else { return Err(error) };
        if refused.is_second {
            // The name may have been taken meanwhile: then each line is there twice.
            refuse_taken(&args.name, connection).await?;
        }
        bail!("{}:\n{}\nnothing was submitted", args.file.display(), refused.told);
    }
    // No signal stops this: whoever stopped it would not know what had become of it.
    transaction.commit().await.with_context(|| {
        format!(
            "it is unknown whether {} was submitted: submit it again, which is refused if it was",
            args.name
        )
    })?;
    Ok(progress.total())
}

/// Everything but the commit.
async fn fill(
    args: &SubmitArgs,
    connection: &mut PgConnection,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    copy(args, connection, progress).await?;
    if progress.requests() == 0 {
        bail!("{} has no request; nothing was submitted", args.file.display());
    }
    sqlx::query("select restante.submit_batch(name => $1, tag => $2, account => $3)")
        .bind(&args.name)
        .bind(&args.tag)
        .bind(&args.account)
        .execute(connection)
        .await?;
    Ok(())
}

/// Copies the file into the table of requests.
async fn copy(
    args: &SubmitArgs,
    connection: &mut PgConnection,
    progress: &mut Progress,
) -> anyhow::Result<()> {
    let mut pieces = reader::begin(&args.file, &args.name)?;
    let statement = "copy restante.batch_request (submission, custom_id, params) from stdin (format binary)";
    let mut copy = connection.copy_in_raw(statement).await?;
    copy.send(COPY_HEADER).await?;
    let broken_off = loop {
        match pieces.recv().await {
            Some(Piece::Rows { copy: rows, requests, bytes }) => {
                copy.send(rows).await?;
                progress.add(requests, bytes);
            }
            Some(Piece::End) => {
                copy.send(&COPY_TRAILER[..]).await?;
                copy.finish().await?;
                return Ok(());
            }
            Some(Piece::Mistakes(mistakes)) => break mistakes,
            None => break "the file was not read to its end".to_owned(),
        }
    };
    copy.abort("the file has a mistake").await?;
    bail!("{}:\n{broken_off}\nnothing was submitted", args.file.display())
}

/// Refuses a name that has been submitted, or under which somebody collects requests: they would be submitted along.
async fn refuse_taken(name: &str, connection: &mut PgConnection) -> anyhow::Result<()> {
    let (is_submitted, collects): (bool, bool) = sqlx::query_as(
        "select exists (select from restante.submission where name = $1),
                exists (select from restante.batch_request where submission = $1)",
    )
    .bind(name)
    .fetch_one(connection)
    .await?;
    match (is_submitted, collects) {
        (true, _) => bail!("there is a submission named {name} already: choose another name"),
        (false, true) => {
            bail!("there are requests under the name {name}, which were not submitted: choose another name")
        }
        (false, false) => Ok(()),
    }
}

/// The line that the database has refused, if it was one.
fn refused_line(error: &anyhow::Error) -> Option<Refused> {
    let error = error.downcast_ref::<sqlx::Error>()?.as_database_error()?;
    let error = error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>()?;
    // COPY batch_request, line 7
    let (_, line) = error.r#where()?.split_once("COPY batch_request, line ")?;
    let line: String = line.chars().take_while(char::is_ascii_digit).collect();
    let is_second = error.constraint() == Some("batch_request_once");
    // Key (submission, custom_id)=(nightly, a) already exists. No such identifier has a blank.
    let custom_id = || error.detail()?.split(") already exists").next()?.rsplit(' ').next();
    let rule = match custom_id().filter(|_| is_second) {
        Some(custom_id) => format!("custom_id \"{custom_id}\" is there twice"),
        None => error.message().to_owned(),
    };
    Some(Refused { told: format!("line {line}: {rule}"), is_second })
}

/// A line that the database has refused.
struct Refused {
    told: String,
    /// Was its `custom_id` there already?
    is_second: bool,
}

/// A name, tag or account: 1 to 200 bytes, as the database demands.
fn name(text: &str) -> Result<String, String> {
    if (1..=200).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("it must have 1 to 200 bytes".to_owned())
    }
}
