//! apalis as a queue.

use apalis::prelude::*;
use apalis_postgres::{Config, PgPool, PostgresStorage};
use restante_bench_peers::{Arguments, count_handled, say_begin};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Bench {
    number: u64,
    count: u64,
}

async fn bench(job: Bench) -> Result<(), BoxDynError> {
    count_handled(job.count);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let pool = PgPool::connect(&std::env::var("DATABASE_URL")?).await?;
    let config = Config::default().queue("bench").batch_size(100).lock_tasks(false);
    if arguments.is_fill {
        PostgresStorage::setup(&pool).await?;
    }
    let mut storage = PostgresStorage::<Bench>::new(&pool).with_config(config);
    if !arguments.is_fill {
        say_begin();
        let worker = WorkerBuilder::new("bench")
            .backend(storage)
            .concurrency(arguments.concurrency)
            .parallelize(tokio::spawn)
            .build(bench);
        return Ok(worker.run().await?);
    }
    let count = arguments.count;
    for first in (0..count).step_by(1000) {
        let jobs = (first..count.min(first + 1000)).map(|number| Bench { number, count }).collect();
        storage.push_bulk(jobs).await?;
    }
    Ok(())
}
