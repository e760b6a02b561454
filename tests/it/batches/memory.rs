//! A download takes no more memory than its parts, however large it is. Measured from outside, on the real worker.

#![cfg(target_os = "linux")]

use restante_simulator::Settings;

use super::*;
use crate::support::{Process, SimulatedApi, eventually};

const REQUESTS: usize = 20_000;
/// How long the text of most results is. All results together are larger than the memory that the worker may take.
const TEXT_BYTES: usize = 5_500;
const MEMORY_KIB_MAX: usize = 96 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_large_batch_is_stored_exactly_in_little_memory() {
    let world = World::on(cluster::fresh_database().await).await;
    let settings =
        Settings { batch_seconds: 0.0, text_bytes: TEXT_BYTES, seed: Some(7), ..Settings::default() };
    let api = SimulatedApi::start_with(settings).await;
    let batch_id = api.batch(REQUESTS).await;
    let worker = Process::worker(&world.url, &api.url, &[]).await;
    hear_of(&world, &batch_id).await;

    eventually("every result is stored", async || (complete(&world).await == "1").then_some(())).await;

    let bytes: usize = world.value("select bytes_stored from restante.batch").await.parse().unwrap();
    assert!(bytes / 1024 > MEMORY_KIB_MAX, "{bytes} bytes prove nothing");
    let peak_kib = peak_memory_kib(worker.pid());
    assert!(peak_kib <= MEMORY_KIB_MAX, "{peak_kib} KiB for {bytes} bytes of results");

    let found = "select format('%s %s %s %s', count(*) filter (where outcome = 'succeeded'),
                               count(*) filter (where outcome = 'errored'), count(*) filter (where outcome = 'canceled'),
                               count(*) filter (where outcome = 'expired'))
                   from restante.batch_result";
    assert_eq!(world.value(found).await, api.counts(&batch_id).await);
    let lines = "select format('%s %s', count(*), sum(octet_length(line)) = (select bytes_stored from restante.batch))
                   from restante.batch_result";
    assert_eq!(world.value(lines).await, format!("{REQUESTS} t"));
    let different = format!(
        "select count(*) from restante.batch_result
          where outcome = 'succeeded'
            and (octet_length(text) <> {TEXT_BYTES} or text <> line::json #>> '{{result,message,content,0,text}}')"
    );
    assert_eq!(world.value(&different).await, "0");
}

/// The peak memory of a process, see proc(5).
pub(crate) fn peak_memory_kib(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}
