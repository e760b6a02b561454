//! sqlxmq as a queue.

use std::error::Error;
use std::fs;

use restante_bench_peers::{Arguments, count_handled, say_begin};
use sqlx_mq::Executor;
use sqlx_mq::postgres::PgPoolOptions;
use sqlxmq::{CurrentJob, JobRegistry, job};

#[job("bench", channel_name = "bench")]
async fn bench(mut job: CurrentJob, count: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
    job.complete().await?;
    count_handled(count);
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::read()?;
    let pool = PgPoolOptions::new().max_connections(20).connect(&std::env::var("DATABASE_URL")?).await?;
    if !arguments.is_fill {
        say_begin();
        let mut registry = JobRegistry::new(&[bench]);
        registry.set_context(arguments.count);
        let _runner = registry
            .runner(&pool)
            .set_concurrency(arguments.concurrency / 2, arguments.concurrency)
            .run()
            .await?;
        return std::future::pending().await;
    }
    let mut migrations: Vec<_> = fs::read_dir(env!("SQLXMQ_MIGRATIONS"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    migrations.retain(|path| path.to_string_lossy().ends_with(".up.sql"));
    migrations.sort();
    for migration in migrations {
        pool.execute(fs::read_to_string(migration)?.as_str()).await?;
    }
    // As `JobBuilder::spawn` does it, for all jobs in one statement.
    sqlx_mq::query(
        "select mq_insert(array_agg((uuid_generate_v4(), interval '0', 4, interval '1 second', 'bench', '', null, false,
                                     'bench', null, null)::mq_new_t))
           from generate_series(1, $1::bigint) as n",
    )
    .bind(i64::try_from(arguments.count)?)
    .execute(&pool)
    .await?;
    Ok(())
}
