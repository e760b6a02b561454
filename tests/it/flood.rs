//! A flood of bad requests, which anyone can send: what it leaves in the database, in the log and in the metrics.
//!
//! `make test` sends some thousands. `RESTANTE_FLOOD_REQUESTS` sends more, as `make flood-test` does. What a flood costs good
//! deliveries is measured by `make bench ONLY=flood`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use restante_simulator::hostile::{BadRequest, Hostile};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::sender::{now_seconds, signing_key, signing_key_of};
use crate::support::{Delivery, Process, Sender, World};

/// How many connections send bad requests.
const CONNECTIONS: u64 = 16;
/// How many kinds there are. The first of each is sent while ingest still looks at each more closely.
const KINDS: u64 = 18;

/// The reasons that those kinds have at a closer look: fewer, because several kinds are one to ingest.
const REASONS: [&str; 14] = [
    "body_altered",
    "duplicate",
    "future",
    "key_of_another_sender",
    "malformed",
    "mismatch",
    "missing",
    "not_base64",
    "not_found",
    "stale",
    "timestamp",
    "too_large",
    "wrong_header_name",
    "wrong_method",
];

/// A connection that is opened anew where ingest closes it.
struct Connection {
    address: SocketAddr,
    stream: Option<TcpStream>,
}

impl Connection {
    /// Sends a request, and expects its answer.
    async fn send(&mut self, request: &BadRequest) {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect(self.address).await.unwrap(),
        };
        stream.write_all(&request.bytes).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "{:?}: no answer", request.reasons);
        }
        let answer = String::from_utf8(answer).unwrap();
        let status = format!("HTTP/1.1 {} ", request.status);
        assert!(answer.starts_with(&status), "{:?}: {answer}", request.reasons);
        if !answer.contains("connection: close") {
            self.stream = Some(stream);
        }
    }
}

/// The metrics of an ingest with their labels, without their values. Those of keys, which are of the configuration, come with a report.
async fn series(ingest: &Process) -> BTreeSet<String> {
    let (_, text) = ingest.ops("/metrics").await;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.starts_with("restante_key_"));
    lines.filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
}

/// Good deliveries one after the other until `over`. Returns how many there were.
async fn good_until(over: Arc<AtomicBool>, sender: Sender) -> u64 {
    let mut good = 0;
    while !over.load(Ordering::Relaxed) {
        let delivery = Delivery::event(&format!("whe_good_{good}"), "test.ledger", "k");
        assert_eq!(sender.status(&delivery).await, 204, "a good delivery beside the flood");
        good += 1;
    }
    good
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_every_kind_of_bad_request_adds_a_few_dozen_rows_and_no_good_delivery_is_refused() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let requests: u64 = number("RESTANTE_FLOOD_REQUESTS").unwrap_or(5_000);
    let world = World::new().await;
    let another = signing_key_of(b"the key of another sender, long.");
    let folder = tempfile::tempdir().unwrap();
    let (file, key_file) = (folder.path().join("restante.toml"), folder.path().join("key"));
    std::fs::write(&key_file, &another).unwrap();
    let text = format!("[sender.staging]\nscheme = \"standard\"\nsigning_keys_file = {key_file:?}\n");
    std::fs::write(&file, text).unwrap();
    let mut ingest = Process::ingest(
        &world.url,
        &[("RESTANTE_CONFIG", file.to_str().unwrap()), ("ANTHROPIC_WEBHOOK_SECRET", "")],
    )
    .await;
    let (address, began) = (ingest.address(), Instant::now());
    let hostile = Arc::new(Hostile::new(1, signing_key().into(), another.into()));
    let request = |number| hostile.request(number, i64::try_from(now_seconds()).unwrap()).unwrap();

    let mut connection = Connection { address, stream: None };
    for number in 0..KINDS {
        connection.send(&request(number)).await;
    }
    assert_eq!(Sender::to(address).status(&Delivery::event("whe_first", "test.ledger", "k")).await, 204);
    let series_before = series(&ingest).await;
    let over = Arc::new(AtomicBool::new(false));
    let good = tokio::spawn(good_until(Arc::clone(&over), Sender::to(address)));
    let flood = (0..CONNECTIONS).map(|first| {
        let hostile = Arc::clone(&hostile);
        tokio::spawn(async move {
            let mut connection = Connection { address, stream: None };
            for number in (KINDS + first..requests).step_by(usize::try_from(CONNECTIONS).unwrap()) {
                let now = i64::try_from(now_seconds()).unwrap();
                connection.send(&hostile.request(number, now).unwrap()).await;
            }
        })
    });
    for flood in flood.collect::<Vec<_>>() {
        flood.await.unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let good = good.await.unwrap();
    assert_eq!(series(&ingest).await, series_before, "nothing that a request says becomes a metric");
    assert_eq!(ingest.stopped().await, Some(0));

    let sum = "select sum(requests) from restante.refusal";
    assert_eq!(world.value(sum).await, requests.to_string(), "each is counted once");
    let reasons = world.value("select string_agg(distinct reason, ' ') from restante.refusal").await;
    assert_eq!(reasons.split(' ').collect::<BTreeSet<_>>(), BTreeSet::from(REASONS));
    // A reason is of one sender here, and the test may run across the end of an hour.
    let rows: usize = world.value("select count(*) from restante.refusal").await.parse().unwrap();
    let hours = 2 + usize::try_from(began.elapsed().as_secs() / 3600).unwrap();
    assert!(rows <= REASONS.len() * hours, "{rows} rows");
    let unexplained = "select count(*) from restante.refusal_overview where hint is null";
    assert_eq!(world.value(unexplained).await, "0");
    let stored = world.value("select count(*) from restante.outbox").await;
    assert_eq!(stored, (good + 1).to_string(), "each good delivery, and no bad one");

    let log = ingest.log();
    let lines = log.lines().filter(|line| line.contains("refused a delivery")).count();
    let intervals = 2 + usize::try_from(began.elapsed().as_secs() / 10).unwrap();
    assert!(lines <= REASONS.len() * intervals, "{lines} lines of the log for {requests} bad requests");
    println!(
        "{requests} bad requests beside {good} good ones in {:?}: {rows} rows, {lines} lines",
        began.elapsed()
    );
}
