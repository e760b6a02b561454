//! A standby takes over, with real streaming replication: what was acknowledged is there, and work goes on by itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::*;
use crate::support::forwarder::Forwarder;
use crate::support::servers::Server;
use crate::support::{Delivery, Process, Sender, eventually};

/// How long it may take after the promotion until ingest accepts a delivery, and until both services say that they are ready.
const BACK_WITHIN: Duration = Duration::from_secs(10);

/// With fewer deliveries, a test of none being lost shows nothing.
const ENOUGH: usize = 51;

/// Posts events one after the other, each once, and records which were acknowledged, and when the last one was.
struct Stream {
    taken: Arc<Mutex<Vec<String>>>,
    last_taken: Arc<Mutex<Option<Instant>>>,
    stop: Arc<AtomicBool>,
    posting: JoinHandle<()>,
}

impl Stream {
    fn start(sender: Sender) -> Self {
        let (taken, last_taken, stop) = (
            Arc::<Mutex<Vec<String>>>::default(),
            Arc::<Mutex<Option<Instant>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let (ids, last, ended) = (Arc::clone(&taken), Arc::clone(&last_taken), Arc::clone(&stop));
        let posting = tokio::spawn(async move {
            let mut posts = tokio::task::JoinSet::new();
            for number in 0.. {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let id = format!("whe_{number}");
                let (sender, ids, last) = (sender.clone(), Arc::clone(&ids), Arc::clone(&last));
                posts.spawn(async move {
                    let delivery = Delivery::event(&id, "test.other", &format!("k{}", number % 20));
                    let answer = sender.post(&delivery).await;
                    if answer.is_some_and(|answer| (200..300).contains(&answer.status)) {
                        ids.lock().unwrap().push(id);
                        *last.lock().unwrap() = Some(Instant::now());
                    }
                });
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            posts.join_all().await;
        });
        Self { taken, last_taken, stop, posting }
    }

    async fn until_taken_after(&self, moment: Instant) -> Duration {
        eventually("a delivery that is taken", async || {
            let last = *self.last_taken.lock().unwrap();
            last.filter(|last| *last > moment).map(|last| last - moment)
        })
        .await
    }

    async fn until_taken_are(&self, deliveries: usize) {
        eventually("enough deliveries that are taken", async || {
            (self.taken.lock().unwrap().len() >= deliveries).then_some(())
        })
        .await;
    }

    async fn ended(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.posting.await.unwrap();
        Arc::into_inner(self.taken).unwrap().into_inner().unwrap()
    }
}

async fn until_ready(process: &Process, wanted: u16) -> String {
    eventually(&format!("/readyz says {wanted}"), async || {
        let (status, said) = process.ops("/readyz").await;
        (status == wanted).then_some(said)
    })
    .await
}

/// Runs the services on the address before, while and after the standby takes over. `moves` tells a proxy or balancer in between
/// about it.
async fn switch_over(
    primary: &mut Server,
    standby: &mut Server,
    address: &SecretString,
    moves: impl Fn(u16),
) {
    database::migrate(&primary.url()).await.unwrap();
    let api = ScriptedApi::new().await;
    let ingest = Process::ingest(address, &[]).await;
    let worker = Process::worker(address, &api.origin, &[]).await;
    until_ready(&ingest, 200).await;
    until_ready(&worker, 200).await;
    let stream = Stream::start(Sender::to(ingest.address()));
    let start = Instant::now();
    stream.until_taken_after(start).await;

    primary.stop().await;
    until_ready(&ingest, 503).await;
    until_ready(&worker, 503).await;

    // The old primary comes back as a standby. Its address is the first one that the services know.
    primary.follow(standby);
    primary.start().await;
    let said = until_ready(&ingest, 503).await;
    assert!(said.contains("\"ready\":false"), "{said}");
    let promoted = Instant::now();
    standby.promote().await;
    moves(standby.port);

    let back = stream.until_taken_after(promoted).await;
    until_ready(&ingest, 200).await;
    until_ready(&worker, 200).await;
    assert!(back <= BACK_WITHIN, "the first delivery was taken after {back:?}");
    assert!(promoted.elapsed() <= BACK_WITHIN, "ready after {:?}", promoted.elapsed());

    // And this stays so while the old one is there, read-only.
    for _ in 0..3 {
        stream.until_taken_after(Instant::now()).await;
        assert_eq!(ingest.ops("/readyz").await.0, 200);
        assert_eq!(worker.ops("/readyz").await.0, 200);
    }
    stream.until_taken_are(ENOUGH).await;
    let taken = stream.ended().await;
    let world = World::on(standby.url()).await;
    let stored: Vec<String> =
        sqlx::query_scalar("select event_id from restante.outbox_seen").fetch_all(&world.pool).await.unwrap();
    let lost: Vec<&String> = taken.iter().filter(|id| !stored.contains(id)).collect();
    assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), taken.len());
    eventually("all of it is dealt with", async || {
        (world.value("select count(*) from restante.outbox_live").await == "0").then_some(())
    })
    .await;
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_know_both_servers_find_the_one_that_took_over() {
    let mut primary = Server::primary().await;
    let mut standby = Server::standby_of(&primary).await;
    // The server that takes no writes yet comes first.
    let address = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write",
        standby.port, primary.port
    );
    switch_over(&mut primary, &mut standby, &SecretString::from(address), |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_behind_one_address_follow_it_although_the_old_primary_came_back_read_only() {
    let mut primary = Server::primary().await;
    let mut standby = Server::standby_of(&primary).await;
    let forwarder = Forwarder::to(primary.port).await;
    let address = format!("postgres://postgres@127.0.0.1:{}/postgres", forwarder.port);
    switch_over(&mut primary, &mut standby, &SecretString::from(address), |port| forwarder.moved_to(port))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_on_a_standby_is_not_ready_and_says_why() {
    let primary = Server::primary().await;
    database::migrate(&primary.url()).await.unwrap();
    let standby = Server::standby_of(&primary).await;
    let forwarder = Forwarder::to(primary.port).await;
    let address = SecretString::from(format!("postgres://postgres@127.0.0.1:{}/postgres", forwarder.port));
    let api = ScriptedApi::new().await;
    let ingest = Process::ingest(&address, &[]).await;
    let worker = Process::worker(&address, &api.origin, &[]).await;
    until_ready(&ingest, 200).await;

    forwarder.moved_to(standby.port);
    let end =
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'restante%'";
    execute(&mut stranger(&primary.url()).await, end).await;

    for process in [&ingest, &worker] {
        let said = until_ready(process, 503).await;
        let why = "the database takes no writes: it is a standby, or read-only";
        eventually("the reason", async || process.ops("/readyz").await.1.contains(why).then_some(())).await;
        assert!(said.contains("\"name\":\"database\",\"ok\":false"), "{said}");
    }
    let doctor = Process::start_with(
        crate::support::processes::tool(),
        &["doctor"],
        &[("DATABASE_URL", standby.url().expose_secret())],
    );
    let mut doctor = doctor;
    assert_eq!(doctor.ended().await.code(), Some(1), "{}", doctor.log());
    assert!(doctor.log().contains("are refused: this server is a standby"), "{}", doctor.log());
}
