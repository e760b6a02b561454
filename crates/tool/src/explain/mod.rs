//! `restante explain`: the life of one event in a page, and under each step the line of SQL that shows it.
//!
//! It reads what the role `restante_operator` may read, in one read-only transaction whose statements have a deadline.

mod page;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use restante::database;
use restante::internals::outbox::life::{self, Row, Step};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// How long a statement may take. Each reads by an index, or the backlog.
const STATEMENT_TIMEOUT: &str = "10s";

/// Shows the life of one event: how it came, what it waited for, its attempts, how it ended, and what came of it
///
/// Under each step is the line of SQL that shows it, to paste and to change. Any login with the role restante_operator may ask.
/// Exits 1 if there is no such event.
#[derive(Args, Clone, Debug)]
pub(super) struct ExplainArgs {
    /// The sender's identifier, such as whe_1, or our own number: the column id of restante.outbox
    event: String,
}

/// Shows the life of an event. The exit code says whether there is one.
///
/// # Errors
/// If the database cannot be asked.
pub(super) async fn run(args: ExplainArgs, url: &SecretString) -> anyhow::Result<ExitCode> {
    let mut connection = database::connect(url, "restante explain").await?;
    database::check_schema(&mut connection).await?;
    let mut snapshot =
        connection.begin_with("begin transaction isolation level repeatable read, read only").await?;
    let careful = format!("set local statement_timeout = '{STATEMENT_TIMEOUT}'");
    sqlx::raw_sql(AssertSqlSafe(careful)).execute(&mut *snapshot).await?;

    let rows = life::find(&mut snapshot, &args.event).await?;
    let text = if rows.is_empty() {
        not_found(&mut snapshot, &args.event).await?
    } else {
        explained(&mut snapshot, &rows).await?
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // A reader that has gone away (`| head`) is no fault.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(if rows.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn explained(connection: &mut PgConnection, rows: &[Row]) -> sqlx::Result<String> {
    let mut text = String::new();
    for of_sender in rows.chunk_by(|one, other| one.sender == other.sender) {
        let event = &of_sender[0];
        text += &page::title(event);
        text += &shown(connection, life::of_event(event)).await?;
        for row in of_sender {
            text += &page::subtitle(row);
            text += &shown(connection, life::of_row(row)).await?;
        }
        text += &shown(connection, life::of_object(event)).await?;
    }
    Ok(text)
}

/// The steps that have something to show.
async fn shown(connection: &mut PgConnection, steps: Vec<Step>) -> sqlx::Result<String> {
    let mut text = String::new();
    for step in steps {
        // The simple protocol gives every value as the text that a person would see.
        let rows = sqlx::raw_sql(AssertSqlSafe(step.sql.as_str())).fetch_all(&mut *connection).await?;
        text += &page::step(&step, &rows)?;
    }
    Ok(text)
}

async fn not_found(connection: &mut PgConnection, event: &str) -> sqlx::Result<String> {
    let seen: Option<String> =
        sqlx::query_scalar("select to_char(seen_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') from restante.outbox_seen where event_id = $1")
            .bind(event)
            .fetch_optional(connection)
            .await?;
    Ok(page::not_found(event, seen.as_deref()))
}
