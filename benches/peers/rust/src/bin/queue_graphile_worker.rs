//! graphile_worker as a queue.

use std::time::Duration;

use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
};
use restante_bench_peers::{Arguments, count_handled, say_begin};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Deserialize, Serialize)]
struct Bench {
    number: u64,
    count: u64,
}

impl TaskHandler for Bench {
    const IDENTIFIER: &'static str = "bench";

    async fn run(self, _: WorkerContext) -> impl IntoTaskHandlerResult {
        count_handled(self.count);
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let worker = WorkerOptions::default()
        .database_url(&std::env::var("DATABASE_URL")?)
        .max_pg_conn(10)
        .schema("graphile_worker")
        .concurrency(arguments.concurrency)
        .local_queue(LocalQueueConfig::default().with_size(500))
        .complete_job_batch_delay(Duration::from_millis(5))
        .define_job::<Bench>()
        .init()
        .await?;
    if !arguments.is_fill {
        say_begin();
        return Ok(worker.run().await?);
    }
    let utils = worker.create_utils();
    let count = arguments.count;
    for first in (0..count).step_by(1000) {
        let jobs: Vec<RawJobSpec> = (first..count.min(first + 1000))
            .map(|number| RawJobSpec {
                identifier: "bench".into(),
                payload: json!({ "number": number, "count": count }),
                spec: JobSpec::default(),
            })
            .collect();
        utils.add_raw_jobs(&jobs).await?;
    }
    Ok(())
}
