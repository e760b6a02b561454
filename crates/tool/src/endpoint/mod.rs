//! `restante endpoint`: adds, lists, tests, rotates, disables and enables endpoints, with the rights of an operator.
//!
//! Each is a statement that an operator may also type; see the runbook.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use sqlx::PgConnection;

use restante::database;

mod test;

use crate::columns;

/// Adds, lists, tests, rotates, disables and enables the endpoints that events are sent on to
#[derive(Args, Debug)]
pub(super) struct EndpointArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Adds an endpoint, and prints its secret, this once
    Add(AddArgs),
    /// Shows each endpoint, what waits for it, and its last answer
    List,
    /// Sends an endpoint a notification of type endpoint.test, and shows how it was answered; exits 1 if it was not taken
    Test(Name),
    /// Gives an endpoint a new secret that signs beside the old one, and prints it; --drop-old ends the rotation
    Rotate(RotateArgs),
    /// Parks what waits for an endpoint, and what comes for it
    Disable(DisableArgs),
    /// Releases what was parked for an endpoint, in order
    Enable(Name),
}

#[derive(Args, Debug)]
struct Name {
    /// The name of the endpoint
    name: String,
}

#[derive(Args, Debug)]
struct AddArgs {
    /// Where notifications go, such as https://example.com/hooks
    url: String,
    /// Its name, of the characters a-z 0-9 _ -; made if left out
    #[arg(long)]
    name: Option<String>,
    /// Which events it gets: types, or beginnings with a star, separated by commas. Without it: what applications and handlers
    /// store, and the facts of Restante itself
    #[arg(long, value_delimiter = ',')]
    event_types: Option<Vec<String>>,
    /// thin: type, identifier, time, and what the event is about; full: its whole payload
    #[arg(long, value_parser = ["thin", "full"], default_value = "thin")]
    body: String,
    /// How many notifications it gets within any second at most
    #[arg(long)]
    per_second: Option<i32>,
    /// How many one worker sends to it at once at most
    #[arg(long, default_value_t = 16)]
    concurrency: i32,
    /// A file with its secret, whsec_... or whsk_...; one is made if left out
    #[arg(long)]
    secret_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct RotateArgs {
    /// The name of the endpoint
    name: String,
    /// Ends a rotation: only the newest secret signs from now on
    #[arg(long)]
    drop_old: bool,
}

#[derive(Args, Debug)]
struct DisableArgs {
    /// The name of the endpoint
    name: String,
    /// Why, for those who wonder
    #[arg(long)]
    because: Option<String>,
}

/// Runs a command.
///
/// # Errors
/// If there is no such endpoint, or the database refuses the change or is away.
pub(super) async fn run(args: EndpointArgs, url: &SecretString) -> anyhow::Result<ExitCode> {
    let mut connection = database::connect(url, "restante endpoint").await?;
    match args.command {
        Command::Add(args) => add(&mut connection, args).await?,
        Command::List => print!("{}", columns::answer(&mut connection, OVERVIEW).await?),
        Command::Test(Name { name }) => return test::run(&mut connection, &name).await,
        Command::Rotate(args) => rotate(&mut connection, &args).await?,
        Command::Disable(DisableArgs { name, because }) => {
            set_status(&mut connection, &name, "disabled", because.as_deref()).await?;
            println!("{name} is disabled; what waits for it is parked");
        }
        Command::Enable(Name { name }) => {
            set_status(&mut connection, &name, "enabled", None).await?;
            println!("{name} is enabled; what was parked is released");
        }
    }
    Ok(ExitCode::SUCCESS)
}

const OVERVIEW: &str =
    "select name, status, waiting, parked, dead, delivered_last_day, failed_last_day, last_status, url,
         coalesce(disabled_because, last_answer) as last_answer
    from restante.endpoint_overview order by name";

async fn add(connection: &mut PgConnection, args: AddArgs) -> anyhow::Result<()> {
    let secret = args.secret_file.map(|path| {
        let read = std::fs::read_to_string(&path).map(SecretString::from);
        read.with_context(|| format!("the secret could not be read from {}", path.display()))
    });
    let given = secret.transpose()?;
    // The database could make one, and an operator could not read it there.
    let made: SecretString = match given {
        Some(_) => SecretString::default(),
        None => sqlx::query_scalar::<_, String>("select restante.new_secret()")
            .fetch_one(&mut *connection)
            .await?
            .into(),
    };
    let name: String = sqlx::query_scalar(
        "insert into restante.endpoint (name, url, event_types, body, per_second, concurrency, secret)
         values ($1, $2, $3, $4, $5, $6, $7) returning name",
    )
    .bind(args.name)
    .bind(args.url)
    .bind(args.event_types)
    .bind(args.body)
    .bind(args.per_second)
    .bind(args.concurrency)
    .bind(given.as_ref().unwrap_or(&made).expose_secret())
    .fetch_one(connection)
    .await?;
    println!("{name} is added");
    if given.is_none() {
        println!("Its secret, which is shown this once: {}", made.expose_secret());
    }
    Ok(())
}

async fn rotate(connection: &mut PgConnection, args: &RotateArgs) -> anyhow::Result<()> {
    let secret: Option<String> = sqlx::query_scalar("select restante.rotate_secret($1, drop_old => $2)")
        .bind(&args.name)
        .bind(args.drop_old)
        .fetch_one(connection)
        .await?;
    match secret {
        Some(secret) => println!(
            "{} is signed for with a new secret beside the old one. It is shown this once: {secret}",
            args.name
        ),
        None => println!("only the newest secret signs for {} from now on", args.name),
    }
    Ok(())
}

async fn set_status(
    connection: &mut PgConnection,
    name: &str,
    status: &str,
    because: Option<&str>,
) -> anyhow::Result<()> {
    let changed =
        sqlx::query("update restante.endpoint set status = $2, disabled_because = $3 where name = $1")
            .bind(name)
            .bind(status)
            .bind(because)
            .execute(connection)
            .await?;
    if changed.rows_affected() == 0 {
        bail!("there is no endpoint named {name}; `restante endpoint list` shows the names");
    }
    Ok(())
}
