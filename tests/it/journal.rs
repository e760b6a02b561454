//! Ingest with a journal while its database is away: every delivery gets a 2xx, and every event is handled once and in order later.
//!
//! In the normal tests the outage is short. `make journal-test` lets it last for ten minutes of 200 deliveries a second.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use restante::event::NewEvent;
use restante::internals::{envelope, outbox};
use secrecy::ExposeSecret;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::processes::{INGEST, Process, tool};
use crate::support::sender::signing_key;
use crate::support::{Delivery, Sender, World, eventually};

const KEYS: u64 = 20;

/// Deliveries at a steady pace, each of which is sent until an answer comes.
struct Stream {
    sender: Sender,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    /// How often each status was the answer.
    answers: Arc<Mutex<BTreeMap<u16, u64>>>,
    deliveries: JoinSet<()>,
}

impl Stream {
    fn start(sender: &Sender, per_second: u64) -> Self {
        let mut stream = Self {
            sender: sender.clone(),
            stop: Arc::default(),
            sent: Arc::default(),
            answers: Arc::default(),
            deliveries: JoinSet::new(),
        };
        let (stop, sent, answers) =
            (Arc::clone(&stream.stop), Arc::clone(&stream.sent), Arc::clone(&stream.answers));
        let sender = sender.clone();
        stream.deliveries.spawn(async move {
            let mut ticks = interval(Duration::from_secs(1) / u32::try_from(per_second).unwrap());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let mut under_way = JoinSet::new();
            while !stop.load(Ordering::SeqCst) {
                ticks.tick().await;
                let number = sent.fetch_add(1, Ordering::SeqCst);
                under_way.spawn(deliver(sender.clone(), number, Arc::clone(&answers)));
                while under_way.try_join_next().is_some() {}
            }
            under_way.join_all().await;
        });
        stream
    }

    async fn until_sent(&self, events: u64) {
        let sent = || self.sent.load(Ordering::SeqCst);
        eventually(&format!("{events} deliveries sent"), async || (sent() >= events).then_some(())).await;
    }

    /// Stops, and waits for the last answer. Returns how many events there are, and how often each status was the answer.
    async fn ended(self) -> (u64, BTreeMap<u16, u64>) {
        self.stop.store(true, Ordering::SeqCst);
        self.deliveries.join_all().await;
        let answers = self.answers.lock().unwrap().clone();
        (self.sent.load(Ordering::SeqCst), answers)
    }
}

/// One event, which happened a millisecond after the one before.
fn delivery(number: u64) -> Delivery {
    let (second, millisecond) = (number / 1000, number % 1000);
    let (minute, second) = (second / 60, second % 60);
    let body = json!({ "type": "event", "id": id(number), "created_at": format!("2026-11-01T12:{minute:02}:{second:02}.{millisecond:03}Z"),
        "data": { "type": "test.ledger", "id": format!("k{}", number % KEYS) } });
    Delivery::new(&id(number), body.to_string())
}

fn id(number: u64) -> String {
    format!("whe_{number:06}")
}

/// A refused or broken connection is no answer: then the sender tries again, as it does after a 503.
async fn deliver(sender: Sender, number: u64, answers: Arc<Mutex<BTreeMap<u16, u64>>>) {
    loop {
        if let Some(answer) = sender.post(&delivery(number)).await {
            *answers.lock().unwrap().entry(answer.status).or_default() += 1;
            if answer.status == 204 {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The variables of an ingest with a journal in `folder`.
fn journaled(folder: &Path) -> [(&str, &str); 2] {
    [("RESTANTE_JOURNAL_DIR", folder.to_str().unwrap()), ("RESTANTE_INGEST_WAIT_SECONDS", "1")]
}

async fn until_replayed(ingest: &Process) {
    let started = Instant::now();
    loop {
        let text = ingest.ops("/metrics").await.1;
        if text.contains("\nrestante_journal_events 0\n") {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(600), "the journal is not empty yet: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Every event is stored once, and was handled once, those of each key in their order.
async fn assert_all_handled_in_order(world: &World, events: u64) {
    let stored = world
        .value(
            "select count(*) || ' ' || count(distinct event_id) || ' ' || max(attempt) from restante.outbox",
        )
        .await;
    assert_eq!(stored, format!("{events} {events} 1"));
    let ledger = world.ledger().await;
    assert_eq!(ledger.len() as u64, events);
    let mut by_key: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for event_id in &ledger {
        let number: u64 = event_id.strip_prefix("whe_").unwrap().parse().unwrap();
        by_key.entry(number % KEYS).or_default().push(number);
    }
    for (key, numbers) in by_key {
        assert!(numbers.is_sorted(), "key {key}: {numbers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_and_an_ingest_that_is_killed_meanwhile_cost_no_delivery_its_2xx_and_no_event_its_place()
 {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (seconds, per_second) = (
        number("RESTANTE_JOURNAL_SECONDS").unwrap_or(4),
        number("RESTANTE_JOURNAL_PER_SECOND").unwrap_or(50),
    );
    let (mut postgres, world) = World::on_its_own_postgres().await;
    let folder = TempDir::new().unwrap();
    let variables = journaled(folder.path());
    let mut ingest = Process::ingest(&world.url, &variables).await;
    let sender = Sender::to(ingest.address());
    let stream = Stream::start(&sender, per_second);
    stream.until_sent(per_second / 2).await;

    postgres.kill_hard().unwrap();
    let away = Instant::now();
    let all = stream.sent.load(Ordering::SeqCst) + seconds * per_second;
    for kill in 1..=5 {
        let until = all * kill / 6;
        while stream.sent.load(Ordering::SeqCst) < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        ingest.kill_hard();
        ingest = Process::ingest(&world.url, &variables).await;
        stream.sender.moved_to(ingest.address());
    }
    while stream.sent.load(Ordering::SeqCst) < all {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (status, ready) = ingest.ops("/readyz").await;
    assert!(status == 200 && ready.contains("journaling since"), "{status} {ready}");
    println!("the database was away for {:?}; {ready}", away.elapsed());
    let back = Instant::now();
    postgres.restart().unwrap();
    until_replayed(&ingest).await;
    println!("the journal was replayed {:?} after the start of the database", back.elapsed());
    let (events, answers) = stream.ended().await;

    assert_eq!(answers, BTreeMap::from([(204, events)]), "every answer is a 204");
    until_replayed(&ingest).await;
    assert_eq!(files(folder.path()), ["identity", "lock"]);
    world.may_leave_running();
    let world = World::on(world.url.clone()).await;
    world.work().await;
    assert_all_handled_in_order(&world, events).await;
    println!("{events} deliveries, all answered with 204; all {events} events handled once and in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_journal_the_same_is_answered_with_503_and_loses_nothing_that_was_acknowledged() {
    let (mut postgres, world) = World::on_its_own_postgres().await;
    let ingest = Process::ingest(&world.url, &[("RESTANTE_INGEST_WAIT_SECONDS", "1")]).await;
    let stream = Stream::start(&Sender::to(ingest.address()), 50);
    stream.until_sent(25).await;
    postgres.kill_hard().unwrap();
    let seen = Arc::clone(&stream.answers);
    eventually("a 503", async || seen.lock().unwrap().contains_key(&503).then_some(())).await;
    let (status, ready) = ingest.ops("/readyz").await;
    assert!(status == 503 && !ready.contains("journal"), "{status} {ready}");

    postgres.restart().unwrap();
    let (events, answers) = stream.ended().await;

    assert_eq!(answers.keys().copied().collect::<Vec<_>>(), [204, 503]);
    world.may_leave_running();
    let world = World::on(world.url.clone()).await;
    world.work().await;
    assert_all_handled_in_order(&world, events).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replayed_has_the_time_of_its_delivery_and_each_event_of_it_is_stored_once() {
    let world = World::new().await;
    let new = |id: &str, key: &str| -> NewEvent { world.new_event(id, key, 1, json!({})) };
    world.receive_all(&[new("known", "k")]).await;
    let events = [new("known", "k"), new("e1", "k"), new("e2", "k"), new("e3", ""), new("e1", "k")];
    let at = |second: i64| chrono::DateTime::from_timestamp(1_793_534_400 + second, 0).unwrap();

    let stored =
        outbox::insert_journaled(&world.pool, &events, &[at(0), at(1), at(2), at(3), at(4)]).await.unwrap();

    let mut again: Vec<_> = stored.duplicates.iter().map(|duplicate| duplicate.event_id.as_str()).collect();
    again.sort_unstable();
    assert_eq!((stored.new, again), (3, vec!["e1", "known"]));
    let times = "select string_agg(event_id || ' ' || extract(epoch from received_at)::bigint - 1793534400, ', ' order by event_id)
                   from restante.outbox where event_id <> 'known'";
    assert_eq!(world.value(times).await, "e1 1, e2 2, e3 3");
    let now =
        "select received_at > now() - interval '1 minute' from restante.outbox where event_id = 'known'";
    assert_eq!(world.value(now).await, "true", "the time of an event that was there already stays");
    let of_the_future = [new("e4", "k")];
    outbox::insert_journaled(&world.pool, &of_the_future, &[chrono::DateTime::<chrono::Utc>::MAX_UTC])
        .await
        .unwrap();
    let future = "select received_at <= clock_timestamp() from restante.outbox where event_id = 'e4'";
    assert_eq!(world.value(future).await, "true", "a clock of ingest that is ahead counts for nothing");
    world.work().await;
    assert_eq!(world.ledger().await.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_starts_without_its_database_and_tells_what_waits_until_it_is_back() {
    let (mut postgres, world) = World::on_its_own_postgres().await;
    let folder = TempDir::new().unwrap();
    postgres.kill_hard().unwrap();
    let ingest = Process::ingest(&world.url, &journaled(folder.path())).await;
    let sender = Sender::to(ingest.address());

    for number in 0..3 {
        assert_eq!(sender.status(&delivery(number)).await, 204);
    }

    let (_, ready) = ingest.ops("/readyz").await;
    assert!(ready.contains("3 events") && ready.contains("wait in the journal for the database"), "{ready}");
    assert_eq!(ingest.metric("restante_journal_events").await, 3.0);
    assert!(ingest.metric("restante_journal_bytes").await > 100.0);
    assert!(ingest.metric("restante_journal_writes_total").await >= 1.0);
    let told = |command: &str, variables: &[(&str, &str)]| {
        let output =
            std::process::Command::new(tool()).arg(command).envs(variables.iter().copied()).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let folder_text = folder.path().to_str().unwrap();
    let journal = ("RESTANTE_JOURNAL_DIR", folder_text);
    let database = ("DATABASE_URL", world.url.expose_secret());
    for said in [told("doctor", &[journal]), told("status", &[journal, database])] {
        assert!(said.contains("3 events") && said.contains("wait in the journal"), "{said}");
    }
    let ops = ingest.logged_address("answering /livez").to_string();
    let said = told("healthcheck", &[("RESTANTE_OPS_LISTEN", &ops)]);
    assert!(said.contains("ready\n  note: journal: journaling since"), "{said}");

    postgres.restart().unwrap();
    until_replayed(&ingest).await;
    eventually("deliveries go to the database again", async || {
        (!ingest.ops("/readyz").await.1.contains("journaling")).then_some(())
    })
    .await;
    world.may_leave_running();
    let world = World::on(world.url.clone()).await;
    assert_eq!(world.value("select count(*) from restante.outbox").await, "3");
    assert_eq!(sender.status(&delivery(3)).await, 204);
    assert_eq!(world.value("select count(*) from restante.outbox").await, "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_tells_the_database_of_its_journal_and_one_that_is_killed_leaves_word_of_it() {
    let world = World::new().await;
    let folder = TempDir::new().unwrap();
    let told = "select string_agg(split_part(place, ':', 2) || ' ' || events || ' ' || (ended_at is null), ', ') from restante.journal";
    let expected = format!("{} 0 true", folder.path().display());
    let is_told = async || (world.value(told).await == expected).then_some(());

    let mut killed = Process::ingest(&world.url, &journaled(folder.path())).await;
    eventually("the database knows of the journal", is_told).await;
    killed.kill_hard();
    let identity = "select journal from restante.journal";
    let known = world.value(identity).await;
    world.sql("update restante.journal set reported_at = now() - interval '1 hour'").await;
    let silent = "select state from restante.health where question = 'journal'";
    assert_eq!(world.value(silent).await, "act", "the killed one leaves word of its journal");

    let moved = TempDir::new().unwrap();
    let elsewhere = moved.path().join("journal");
    fs::rename(folder.path(), &elsewhere).unwrap();
    let mut next = Process::ingest(&world.url, &journaled(&elsewhere)).await;
    eventually("the journal is heard of again", async || (world.value(silent).await == "ok").then_some(()))
        .await;
    assert_eq!(world.value(identity).await, known, "it is the same journal wherever its folder is");
    assert_eq!(next.stopped().await, Some(0));
    assert_eq!(world.value("select count(*) from restante.journal").await, "0", "nothing is left in it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ingest_on_the_folder_of_another_ends_and_says_why_and_one_after_a_kill_takes_over() {
    let world = World::new().await;
    let folder = TempDir::new().unwrap();
    let variables = journaled(folder.path());
    let mut first = Process::ingest(&world.url, &variables).await;
    let key = signing_key();
    let given = [
        ("DATABASE_URL", world.url.expose_secret()),
        ("ANTHROPIC_WEBHOOK_SIGNING_KEY", key.as_str()),
        ("RESTANTE_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
    ];

    let mut second = Process::start(INGEST, &[&given[..], &variables[..]].concat());

    assert_eq!(second.ended().await.code(), Some(1));
    let log = second.log();
    assert!(log.contains("another ingest uses the folder") && log.contains("a folder of its own"), "{log}");
    first.kill_hard();
    let third = Process::ingest(&world.url, &variables).await;
    assert_eq!(Sender::to(third.address()).status(&delivery(1)).await, 204);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_journal_from_yesterday_is_replayed_before_what_comes_today() {
    let (mut postgres, world) = World::on_its_own_postgres().await;
    let folder = TempDir::new().unwrap();
    postgres.kill_hard().unwrap();
    let mut yesterday = Process::ingest(&world.url, &journaled(folder.path())).await;
    assert_eq!(Sender::to(yesterday.address()).status(&delivery(1)).await, 204);
    assert_eq!(yesterday.stopped().await, Some(0));
    let bytes = fs::read(folder.path().join("0000000001.journal")).unwrap();
    // Half of a further event, as a kill in the middle of a write leaves it.
    fs::write(folder.path().join("0000000001.journal"), [&bytes[..], &bytes[20..60]].concat()).unwrap();
    postgres.restart().unwrap();

    let today = Process::ingest(&world.url, &journaled(folder.path())).await;
    assert_eq!(Sender::to(today.address()).status(&delivery(2)).await, 204);
    until_replayed(&today).await;

    assert!(today.log().contains("the last write to the journal did not reach its end"), "{}", today.log());
    world.may_leave_running();
    let world = World::on(world.url.clone()).await;
    eventually("both events stored", async || {
        let stored = "select string_agg(event_id, ' ' order by id) from restante.outbox";
        (world.value(stored).await == format!("{} {}", id(1), id(2))).then_some(())
    })
    .await;
}

/// The envelope of the deliveries here is one that ingest reads as they mean it.
#[test]
fn the_deliveries_of_these_tests_have_a_key_and_grow_older() {
    let read = |number| envelope::read(&delivery(number).body, None, 0).unwrap();
    assert_eq!(read(21).key.as_deref(), Some("k1"));
    assert!(read(59_999).created_at < read(60_000).created_at);
    assert!(read(119_999).created_at < read(120_000).created_at);
}
