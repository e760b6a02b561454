//! Notify: events that are sent on to endpoints, until the last one that can be delivered has been.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::product;
use super::results::wait_until;
use crate::Bench;
use crate::cluster::{Cluster, Database, Purpose};
use crate::figures::{Figure, PRODUCT, Table};
use crate::machine::Usage;
use crate::receiver::Receiver;

/// How many requests the loop has on their way at once: as many as the worker runs handlers.
const AT_ONCE: usize = 64;

/// As many connections to the database as the worker has.
const CONNECTIONS: u32 = 16;

/// The loop waits for an answer as long as the worker does.
const TIMEOUT: Duration = Duration::from_secs(15);

/// How often to look whether the last one has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The endpoints of a point.
#[derive(Clone, Copy, Debug)]
enum Endpoints {
    One,
    /// A hundred, the first of which never answers.
    HundredOneHangs,
}

impl Endpoints {
    fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::HundredOneHangs => 100,
        }
    }

    fn hanging(self) -> usize {
        match self {
            Self::One => 0,
            Self::HundredOneHangs => 1,
        }
    }

    fn point(self) -> &'static str {
        match self {
            Self::One => "1 endpoint",
            Self::HundredOneHangs => "100 endpoints, 1 hangs",
        }
    }
}

/// Measures the product, and a loop as one would write it by hand.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = Cluster::start(bench, Purpose::Timing).await?;
    let mut figures = Vec::new();
    for _ in 0..bench.scale.rounds {
        for endpoints in [Endpoints::One, Endpoints::HundredOneHangs] {
            figures.push(restante(bench, &cluster, endpoints).await?);
            figures.push(by_hand(bench, &cluster, endpoints).await?);
        }
    }
    Ok(Table {
        title: "Sending notifications",
        about: format!(
            "{} events are stored, and sent on to each endpoint, over plain HTTP to a receiver in this process that answers 204 at once. \
             The time is from the first event that is stored, in transactions of a thousand, to the arrival of the last notification that can arrive; those to \
             the endpoint that hangs cannot. Restante signs each and logs each attempt, with one worker and 64 handlers; the loop by hand has the events \
             in memory, 64 requests on their way at once by reqwest with a timeout of 15 s, no signature, no retry, and an INSERT for each delivery.",
            bench.scale.notified,
        ),
        compared: Some("notifications/s"),
        figures,
    })
}

/// How many events make the number of notifications that is measured.
fn events(bench: &Bench, endpoints: Endpoints) -> usize {
    bench.scale.notified / endpoints.count()
}

async fn restante(bench: &Bench, cluster: &Cluster, endpoints: Endpoints) -> anyhow::Result<Figure> {
    let database = cluster.restante().await?;
    let (receiver, hanging) = (Receiver::start().await?, Receiver::hanging().await?);
    for nth in 0..endpoints.count() {
        let address = if nth < endpoints.hanging() { hanging } else { receiver.address };
        let url = format!("http://{address}/{nth}");
        database
            .run(&format!(
                "insert into restante.endpoint (name, url, concurrency) values ('e{nth}', '{url}', 64)"
            ))
            .await?;
    }
    database.settle().await?;
    let allow = [("RESTANTE_ALLOW_PRIVATE_ENDPOINTS", "true"), ("RESTANTE_RECONCILE_SECONDS", "0")];
    let worker = product::worker_with(bench, &database, "http://127.0.0.1:9", &allow)?;
    wait_until(&database, "select count(*) from pg_stat_activity where query ilike 'listen%'").await?;
    let events = events(bench, endpoints);
    let expected = events * (endpoints.count() - endpoints.hanging());
    let before = Usage::now(std::process::id())?;
    let start = Instant::now();
    let per_transaction = 1000.min(events);
    for _ in 0..events / per_transaction {
        let store = format!(
            "select restante.enqueue('order.placed', '{{}}') from generate_series(1, {per_transaction})"
        );
        database.run(&store).await?;
    }
    until_arrived(|| receiver.got(), expected).await;
    let elapsed = start.elapsed();
    let after = Usage::now(std::process::id())?;
    worker.stop()?;
    database.drop().await?;
    Ok(figure(endpoints, PRODUCT, expected, elapsed, after.foreign_since(&before)))
}

async fn by_hand(bench: &Bench, cluster: &Cluster, endpoints: Endpoints) -> anyhow::Result<Figure> {
    let database = cluster.empty().await?;
    database.run("create table delivery (id bigint generated always as identity primary key, url text, event bigint, status integer)").await?;
    let (receiver, hanging) = (Receiver::start().await?, Receiver::hanging().await?);
    let events = events(bench, endpoints);
    let mut todo = Vec::new();
    for event in 0..events {
        for nth in 0..endpoints.count() {
            let address = if nth < endpoints.hanging() { hanging } else { receiver.address };
            todo.push((format!("http://{address}/{nth}"), event));
        }
    }
    let expected = events * (endpoints.count() - endpoints.hanging());
    let before = Usage::now(std::process::id())?;
    let start = Instant::now();
    let mut tasks = send_all(&database, todo).await?;
    until_arrived(|| receiver.got(), expected).await;
    let elapsed = start.elapsed();
    let after = Usage::now(std::process::id())?;
    tasks.shutdown().await;
    database.drop().await?;
    Ok(figure(endpoints, "loop by hand", expected, elapsed, after.foreign_since(&before)))
}

/// Tasks that share a list, each of which sends one after the other. They end when they are dropped.
async fn send_all(
    database: &Database,
    todo: Vec<(String, usize)>,
) -> anyhow::Result<JoinSet<anyhow::Result<()>>> {
    // An error means that the process already has a provider, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pool =
        PgPoolOptions::new().max_connections(CONNECTIONS).connect(database.url.expose_secret()).await?;
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let (todo, next) = (Arc::new(todo), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, pool, todo, next) = (client.clone(), pool.clone(), Arc::clone(&todo), Arc::clone(&next));
        tasks.spawn(async move {
            while let Some((url, event)) = todo.get(next.fetch_add(1, Ordering::Relaxed)) {
                let body = format!("{{\"type\":\"order.placed\",\"id\":{event}}}");
                let request =
                    client.post(url).header("content-type", "application/json").header("webhook-id", *event);
                let status =
                    request.body(body).send().await.map(|answer| i32::from(answer.status().as_u16())).ok();
                sqlx::query("insert into delivery (url, event, status) values ($1, $2, $3)")
                    .bind(url)
                    .bind(i64::try_from(*event)?)
                    .bind(status)
                    .execute(&pool)
                    .await?;
            }
            Ok(())
        });
    }
    Ok(tasks)
}

async fn until_arrived(got: impl Fn() -> usize, expected: usize) {
    while got() < expected {
        sleep(LOOK_EVERY).await;
    }
}

fn figure(endpoints: Endpoints, subject: &str, count: usize, elapsed: Duration, foreign: f64) -> Figure {
    let seconds = elapsed.as_secs_f64();
    Figure {
        point: endpoints.point().to_owned(),
        subject: subject.to_owned(),
        values: vec![("notifications/s", count as f64 / seconds), ("seconds", seconds)],
        foreign,
    }
}
