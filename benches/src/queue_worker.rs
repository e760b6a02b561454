//! Restante as one of the queue programs: fills the outbox, or handles its events with the library's worker.
//!
//! Its command line and output are those of the peers' programs. `fill COUNT` enqueues and ends. `work COUNT CONCURRENCY` prints
//! `begin TIME` before it claims anything and `handled TIME` when the COUNTth handler ends, in milliseconds since 1970. It goes
//! on until SIGTERM, and prints `total COUNT` at its end. With `--starts` it prints `start ID TIME` for each event.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Parser, ValueEnum};
use restante::handler::{self, Context, Handler};
use restante::internals::envelope;
use restante::internals::outbox::{self, Source};
use restante::registry::Registry;
use restante::{api, database, service, worker};
use secrecy::SecretString;
use serde::de::IgnoredAny;

use crate::events;

#[derive(Parser)]
pub(crate) struct Arguments {
    action: Action,
    count: u64,
    #[arg(default_value = "24")]
    concurrency: usize,
    /// How many events share a key; 0 leaves them without one.
    #[arg(long, default_value = "1")]
    per_key: u64,
    /// The handler writes one row in the event's transaction.
    #[arg(long)]
    writes: bool,
    /// Print when each handler starts.
    #[arg(long)]
    starts: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Action {
    Fill,
    Work,
}

/// Fills or works the outbox that `DATABASE_URL` names.
pub(crate) fn main(arguments: Arguments) -> anyhow::Result<()> {
    // As many threads as `restante-worker` has.
    let threads = std::thread::available_parallelism()?.get().max(4);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let url = SecretString::from(std::env::var("DATABASE_URL")?);
    match arguments.action {
        Action::Fill => fill(&url, arguments.count, arguments.per_key).await,
        Action::Work => work(url, arguments).await,
    }
}

/// Stores events as ingest does, a thousand in a commit.
async fn fill(url: &SecretString, count: u64, per_key: u64) -> anyhow::Result<()> {
    let pool = database::pool(url, "restante-bench", 1)?;
    let run = rand::random::<u32>();
    let begin = Utc::now();
    for first in (0..count).step_by(1000) {
        let bodies = (first..count.min(first + 1000)).map(|number| body(run, begin, number, per_key));
        let events: Vec<_> =
            bodies.map(|body| envelope::read(body.as_bytes(), None, 0)).collect::<Result<_, _>>()?;
        outbox::insert_events(&pool, Source::Webhook, &events).await?;
    }
    Ok(())
}

fn body(run: u32, begin: DateTime<Utc>, number: u64, per_key: u64) -> String {
    let at = begin + chrono::Duration::microseconds(i64::try_from(number).unwrap_or(0));
    let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let id = format!("event_01{run:08x}{number:012}");
    let key = number.checked_div(per_key).map(|key| format!("sesn_01{run:08x}{key:012}"));
    events::body(&id, &at, key.as_deref())
}

async fn work(url: SecretString, arguments: Arguments) -> anyhow::Result<()> {
    let stop = service::stop_on_signal()?;
    // As many connections as `restante-worker` has by default.
    let pool = database::pool(&url, "restante-bench", 16)?;
    let settings = worker::Settings {
        concurrency: arguments.concurrency,
        drain: Duration::from_secs(10),
        ..worker::Settings::new("bench", url)
    };
    let nowhere = "http://127.0.0.1:9".parse()?;
    let api = api::Client::new(api::Settings::new(nowhere, SecretString::from("sk-bench")))?;
    let seen = Arc::new(Seen { count: arguments.count, starts: arguments.starts, ended: 0.into() });
    let registry = if arguments.writes {
        Registry::new().register(Writes(Arc::clone(&seen)))
    } else {
        Registry::new().register(Nothing(Arc::clone(&seen)))
    };
    println!("begin {}", now_ms());
    worker::run(settings, pool, registry, api, stop).await?;
    println!("total {}", seen.ended.load(Ordering::Relaxed));
    Ok(())
}

/// Counts finished handlers, and prints when.
struct Seen {
    count: u64,
    starts: bool,
    ended: AtomicU64,
}

impl Seen {
    fn begin(&self, event_id: &str) {
        if self.starts {
            println!("start {event_id} {}", now_ms());
        }
    }

    fn end(&self) {
        if self.ended.fetch_add(1, Ordering::Relaxed) + 1 == self.count {
            println!("handled {}", now_ms());
        }
    }
}

/// Does nothing.
struct Nothing(Arc<Seen>);

impl Handler for Nothing {
    const EVENT_TYPES: &'static [&'static str] = &["bench.event"];
    type Payload = IgnoredAny;

    async fn handle(&self, cx: &mut Context<'_>, _: IgnoredAny) -> handler::Result {
        self.0.begin(&cx.event.event_id);
        self.0.end();
        Ok(())
    }
}

/// Writes one row in the event's transaction.
struct Writes(Arc<Seen>);

impl Handler for Writes {
    const EVENT_TYPES: &'static [&'static str] = &["bench.event"];
    type Payload = IgnoredAny;

    async fn handle(&self, cx: &mut Context<'_>, _: IgnoredAny) -> handler::Result {
        let event = cx.event;
        self.0.begin(&event.event_id);
        sqlx::query("insert into effect (event_id) values ($1)")
            .bind(&event.event_id)
            .execute(cx.tx().await?)
            .await?;
        self.0.end();
        Ok(())
    }
}

/// Milliseconds since 1970 by this machine's clock.
pub(crate) fn now_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1000.0)
}
