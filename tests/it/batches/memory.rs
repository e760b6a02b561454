//! A download takes no more memory than its parts, however large it is: seen from outside, on the real worker.

use std::path::Path;

use restante::simulator::{Settings, Simulator};
use restante::tool::process::Launch;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::eventually;

const REQUESTS: usize = 20_000;
/// Of text in most results. All of them together are larger than what the worker may take.
const TEXT_BYTES: usize = 5_500;
const MEMORY_KIB_MAX: u64 = 96 * 1024;

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_stored_exactly_in_little_memory() {
    let world = World::on(cluster::fresh_database().await).await;
    let (origin, batch_id, stop) = simulated_batch().await;
    let _stop = stop.drop_guard();
    let directory = tempfile::tempdir().unwrap();
    let worker = Launch::new(env!("CARGO_BIN_EXE_restante-worker"), directory.path().join("log"))
        .env("DATABASE_URL", world.url.expose_secret())
        .env("ANTHROPIC_API_KEY", "sk-test-key")
        .env("ANTHROPIC_BASE_URL", origin)
        .env("RESTANTE_OPS_LISTEN", "127.0.0.1:0")
        .env("RESTANTE_RECONCILE_SECONDS", "0")
        .spawn()
        .unwrap();
    hear_of(&world, &batch_id).await;

    eventually("every result is stored", async || (complete(&world).await == "1").then_some(())).await;

    let bytes: usize = world.value("select bytes_stored from restante.batch").await.parse().unwrap();
    assert!(bytes / 1024 > usize::try_from(MEMORY_KIB_MAX).unwrap(), "{bytes} bytes prove nothing");
    let status = format!("/proc/{}/status", worker.pid());
    let peak_kib = peak_memory_kib(Path::new(&status));
    assert!(peak_kib <= MEMORY_KIB_MAX, "{peak_kib} KiB for {bytes} bytes of results");

    let counted = "select format('%s %s %s %s', succeeded, errored, canceled, expired) from restante.batch";
    let found = "select format('%s %s %s %s', count(*) filter (where outcome = 'succeeded'),
                               count(*) filter (where outcome = 'errored'), count(*) filter (where outcome = 'canceled'),
                               count(*) filter (where outcome = 'expired'))
                   from restante.batch_result";
    assert_eq!(world.value(found).await, world.value(counted).await);
    let lines = "select format('%s %s', count(*), sum(octet_length(line)) = (select bytes_stored from restante.batch))
                   from restante.batch_result";
    assert_eq!(world.value(lines).await, format!("{REQUESTS} t"));
    let exact = format!(
        "select count(*) from restante.batch_result
          where outcome = 'succeeded' and (octet_length(text) <> {TEXT_BYTES} or text <> line::json #>> '{{result,message,content,0,text}}')"
    );
    assert_eq!(world.value(&exact).await, "0");
    worker.end().unwrap();
}

/// A simulator with one batch that has ended: its origin, the batch's id, and what stops it.
async fn simulated_batch() -> (String, String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let settings =
        Settings { batch_seconds: 0.0, text_bytes: TEXT_BYTES, seed: Some(7), ..Settings::default() };
    let stop = CancellationToken::new();
    tokio::spawn(Simulator::new(settings).serve(listener, stop.clone()));
    // Another test of this process may have chosen it, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let request = reqwest::Client::new()
        .post(format!("{origin}/_simulator/batches"))
        .json(&json!({ "requests": REQUESTS }));
    let batch: Value = request.send().await.unwrap().json().await.unwrap();
    (origin, batch["id"].as_str().unwrap().to_owned(), stop)
}

/// The most that a process has ever held in memory: proc(5).
fn peak_memory_kib(status: &Path) -> u64 {
    let status = std::fs::read_to_string(status).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
