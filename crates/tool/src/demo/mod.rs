//! `restante demo`: shows Restante at work, with the real programs and a private Postgres, and prints each step.
//!
//! It does what a user would do: it starts the programs with variables, submits a batch and sends a message in SQL as an
//! application does, asks the API as its customer, receives a notification as its receiver, and reads the database with SQL. It
//! succeeds only if every request has its answer and the notification is verified. However it ends, it leaves nothing behind.

mod batch;
mod customer;
mod evidence;
mod keep;
mod message;
mod receiver;
mod stage;
mod story;
mod submission;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::columns::{answer, indented};
use super::surroundings::Surroundings;
use story::{Stopped, Story};
use world::World;

/// Shows everything at work: a private Postgres, a simulated Claude API, and the real programs
///
/// An application submits a batch in one statement of SQL. A worker sends it to the simulated API, which ends it and sends a
/// signed webhook. Ingest commits the event; the worker claims it, downloads the results and stores them. Then the application sends a
/// message in another statement: its text grows in a table while the API writes it, and a receiver is told by a signed webhook, which
/// it verifies. Each step is printed with its time. Exits 0 only if all of it arrived and agrees with the database. However the demo ends, it leaves nothing behind. It needs no account and no network.
#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// Keep everything running until Ctrl-C, and say how to connect and how to send more
    #[arg(long)]
    keep: bool,
    /// How many requests the batch has
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    requests: u32,
}

/// Help for the variables that the demo reads. Settings of the services are not among them.
pub(super) const SURROUNDINGS: &str = "\
Environment:
  PG_BIN  [optional]
      the directory with initdb and postgres; without it the demo looks on PATH and in the usual directories
  TMPDIR  [default /tmp]
      the directory for the temporary directories of this run
The settings of your services (DATABASE_URL, ANTHROPIC_*, RESTANTE_*) are neither read nor passed on.
";

/// How long a step of the story may take, unless it says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often to check whether something has happened.
const LOOK_EVERY: Duration = Duration::from_millis(20);

const QUERIES: [&str; 5] = [
    "select type, status, attempt, finished_at - received_at as took from restante.outbox where type = 'batch.completed';",
    "select outcome, count(*), sum(input_tokens) as input_tokens, sum(output_tokens) as output_tokens \
     from restante.batch_result group by outcome order by 2 desc;",
    "select custom_id, r.status, left(coalesce(a.text, a.error_message), 60) as said \
     from restante.batch_request as r join restante.batch_result as a using (batch_id, custom_id) \
     where submission = 'letters' order by position limit 3;",
    "select id, state, model, input_tokens, output_tokens, dollars, left(text, 60) as said from restante.message_overview;",
    "select endpoint, type, attempt, status, took from restante.endpoint_delivery;",
];

/// Runs the demo. When this returns, every program that it started has ended.
///
/// # Errors
/// If a program fails, with the end of its log, or if not everything arrived.
pub(super) async fn run(args: DemoArgs, surroundings: &Surroundings) -> anyhow::Result<ExitCode> {
    let mut story = Story::new(surroundings.stop.clone());
    match tell(&args, surroundings, &mut story).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) if error.is::<Stopped>() => {
            story.say("\nStopped on request. Every program has ended, and nothing is left behind.")?;
            Ok(ExitCode::from(130))
        }
        Err(error) => Err(error.context("the demo failed")),
    }
}

async fn tell(args: &DemoArgs, surroundings: &Surroundings, story: &mut Story) -> anyhow::Result<()> {
    story.title("Restante demo: everything below is private to this run, and is removed when it ends")?;
    let mut world = World::start(surroundings, story).await?;
    if let Err(error) = play(args.requests, &mut world, story).await {
        // If a program has ended, its log says more than the errors that follow from its absence.
        return Err(if error.is::<Stopped>() { error } else { world.check().err().unwrap_or(error) });
    }
    if args.keep {
        keep::running(&mut world, story, surroundings).await?;
    }
    world.end(story).await?;
    story.triumph("It works.")?;
    let restante = surroundings.executable.display();
    story.say(&format!(
        "Next, with your own account: cp .env.example .env, fill it in, and let the doctor say what is missing:\n  \
         set -a; . ./.env; set +a; {restante} doctor"
    ))?;
    Ok(())
}

async fn play(requests: u32, world: &mut World, story: &mut Story) -> anyhow::Result<()> {
    batch::play(requests, world, story).await?;
    message::play(world, story).await?;
    story.title("To try in SQL")?;
    for query in QUERIES {
        story.say(&format!("\n{query}\n{}", indented(&answer(&mut world.connection, query).await?)))?;
    }
    Ok(())
}
