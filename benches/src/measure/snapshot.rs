//! Snapshot: what an event costs while an old transaction stays open.

use super::{counting, product};
use crate::Bench;
use crate::figures::Table;

/// Measures before, during and after a long snapshot, with one worker all the time.
pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Table> {
    let cluster = counting::start(bench).await?;
    let (database, entered) = counting::database(&cluster).await?;
    let counted = bench.scale.counted;
    let worker = product::work(bench, &entered, usize::MAX, &[])?;
    counting::pass(bench, &database, "warm-up", counted).await?;
    let before = counting::pass(bench, &database, "before", counted).await?;

    let mut reader = database.pool.begin_with("begin isolation level repeatable read").await?;
    sqlx::query("select count(*) from restante.outbox").execute(&mut *reader).await?;
    let start = counting::pass(bench, &database, "held, at its start", counted).await?;
    let between = bench.scale.snapshot.saturating_sub(2 * counted);
    counting::pass(bench, &database, "between", between).await?;
    let end = counting::pass(bench, &database, "held, at its end", counted).await?;
    reader.rollback().await?;

    // Does what autovacuum would do within a minute.
    database.run("vacuum restante.outbox_live").await?;
    let after = counting::pass(bench, &database, "after", counted).await?;
    worker.stop()?;
    database.drop().await?;
    Ok(Table {
        title: "Snapshot held",
        about: format!(
            "The same while a transaction with an old snapshot stays open and {} events pass, so that vacuum can remove \
             nothing; and after it has ended.",
            bench.scale.snapshot
        ),
        compared: None,
        figures: vec![before, start, end, after],
    })
}
