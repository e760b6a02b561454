//! Conversations with the database that are cut in the middle: no other user reads the rest of their answers.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use restante::handler::{self, Context, Handler};
use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::eventually;

type Cut = fn(&mut PgConnection) -> BoxFuture<'_, sqlx::Result<()>>;

/// What can be in progress on a connection when its user is dropped.
const CUTS: &[(&str, Cut)] = &[
    ("a statement", |connection| {
        Box::pin(async move {
            sqlx::query("select 'stale' from pg_sleep(0.01)").execute(connection).await.map(drop)
        })
    }),
    ("a statement with a value", |connection| {
        Box::pin(async move {
            let stale =
                sqlx::query_scalar::<_, i64>("select $1 + 1000").bind(7_i64).fetch_one(connection).await;
            stale.map(drop)
        })
    }),
    ("many rows", |connection| {
        Box::pin(async move {
            sqlx::query("select generate_series(1, 9999)").fetch_all(connection).await.map(drop)
        })
    }),
    ("the begin of a transaction", |connection| {
        Box::pin(async move {
            let transaction = connection.begin().await?;
            tokio::task::yield_now().await;
            drop(transaction);
            Ok(())
        })
    }),
    ("a transaction", |connection| {
        Box::pin(async move {
            let mut transaction = connection.begin().await?;
            sqlx::query("insert into ledger (event_id) values ('stale')").execute(&mut *transaction).await?;
            sqlx::query("select 'stale' from pg_sleep(0.01)").execute(&mut *transaction).await?;
            tokio::task::yield_now().await;
            transaction.rollback().await
        })
    }),
    ("a failed transaction", |connection| {
        Box::pin(async move {
            let mut transaction = connection.begin().await?;
            let _failed = sqlx::query("select 1 / 0").execute(&mut *transaction).await;
            tokio::task::yield_now().await;
            transaction.rollback().await
        })
    }),
    ("a copy", |connection| {
        Box::pin(async move {
            let mut copy = connection.copy_in_raw("copy ledger (event_id) from stdin").await?;
            for _ in 0..3 {
                copy.send(b"stale\n".as_slice()).await?;
                tokio::task::yield_now().await;
            }
            copy.finish().await.map(drop)
        })
    }),
    ("a copy within a transaction", |connection| {
        Box::pin(async move {
            let mut transaction = connection.begin().await?;
            let mut copy = transaction.copy_in_raw("copy ledger (event_id) from stdin").await?;
            copy.send(b"stale\n".as_slice()).await?;
            copy.finish().await?;
            tokio::task::yield_now().await;
            transaction.rollback().await
        })
    }),
    ("a copy that the database refuses", |connection| {
        Box::pin(async move {
            let mut copy = connection.copy_in_raw("copy ledger (attempt) from stdin").await?;
            copy.send(b"no number\n".as_slice()).await?;
            copy.finish().await.map(drop)
        })
    }),
    ("a copy to us", |connection| {
        Box::pin(async move {
            use futures_util::TryStreamExt;
            let copy = connection.copy_out_raw("copy (select generate_series(1, 9999)) to stdout").await?;
            copy.try_for_each(async |_| Ok(())).await
        })
    }),
];

/// Polls a conversation until it waits for the `waits`th time, and drops it there. Returns whether it got that far.
async fn cut(mut conversation: BoxFuture<'_, sqlx::Result<()>>, waits: usize) -> bool {
    let mut waited = 0;
    poll_fn(|context| {
        if conversation.as_mut().poll(context).is_ready() {
            return Poll::Ready(false);
        }
        waited += 1;
        if waited == waits { Poll::Ready(true) } else { Poll::Pending }
    })
    .await
}

/// Asserts that each of several different queries gets its own answer.
async fn is_answered(pool: &PgPool, lines: i64) {
    for number in 0..5_i64 {
        let echoed: i64 = sqlx::query_scalar("select $1::bigint").bind(number).fetch_one(pool).await.unwrap();
        assert_eq!(echoed, number);
        let mut transaction = pool.begin().await.unwrap();
        let doubled: i64 = sqlx::query_scalar("select $1::bigint * 2")
            .bind(number)
            .fetch_one(&mut *transaction)
            .await
            .unwrap();
        assert_eq!(doubled, 2 * number);
        let stale: i64 =
            sqlx::query_scalar("select count(*) from ledger").fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(stale, lines);
        transaction.commit().await.unwrap();
    }
}

#[tokio::test]
async fn whoever_comes_after_a_cut_reads_the_answer_to_what_he_asked() {
    let world = World::new().await;
    let pool = database::pool(&world.url, "cut", 1).unwrap();
    let mut cuts = 0;
    for (what, conversation) in CUTS {
        for waits in 1.. {
            let mut connection: PoolConnection<Postgres> = pool.acquire().await.unwrap();
            let was_cut = cut(conversation(&mut connection), waits).await;
            drop(connection);
            pool.acquire().await.unwrap();
            // A COPY that commits by itself may have completed nevertheless.
            let lines: i64 = world.value("select count(*) from ledger").await.parse().unwrap();
            assert!(
                lines == 0 || !what.contains("transaction"),
                "{what}, cut at wait {waits}, left something"
            );
            let answered = std::panic::AssertUnwindSafe(is_answered(&pool, lines)).catch_unwind().await;
            assert!(answered.is_ok(), "after {what}, cut at wait {waits}");
            world.sql("delete from ledger").await;
            if !was_cut {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts >= CUTS.len(), "{cuts} cuts are too few to prove anything");
}

#[tokio::test]
async fn a_loan_that_was_cut_is_closed_and_one_that_was_given_back_is_used_again() {
    let world = World::new().await;
    let pool = database::pool(&world.url, "loan", 1).unwrap();
    let backend = async |connection: &mut PgConnection| {
        sqlx::query_scalar::<_, i32>("select pg_backend_pid()").fetch_one(connection).await.unwrap()
    };
    let mut loan = database::Loan::of(&pool).await.unwrap();
    let first = backend(&mut loan).await;
    loan.give_back();
    let mut loan = database::Loan::of(&pool).await.unwrap();
    assert_eq!(backend(&mut loan).await, first);

    // The cut statement is harmless in itself, but the pool does not know that.
    assert!(cut(CUTS[0].1(&mut loan), 1).await);
    drop(loan);

    assert_ne!(backend(&mut database::Loan::of(&pool).await.unwrap()).await, first);
    let is_gone = format!("select not exists (select from pg_stat_activity where pid = {first})");
    eventually("its session has ended", async || (world.value(&is_gone).await == "true").then_some(())).await;
}

#[tokio::test]
async fn a_transaction_that_was_cut_closes_its_connection_and_one_that_has_ended_passes_it_on() {
    let world = World::new().await;
    let pool = database::pool(&world.url, "owned", 1).unwrap();
    let mut cuts = 0;
    for statement in ["commit", "rollback"] {
        for waits in 1.. {
            let mut loan = database::Loan::of(&pool).await.unwrap();
            let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *loan).await.unwrap();
            let conversation = Box::pin(async move {
                let mut tx = database::OwnedTransaction::begin(loan, "begin".to_owned()).await?;
                tx.execute("insert into ledger (event_id) values ('stale')").await?;
                // Makes the conversation wait: a statement that is answered at once may be read without any wait.
                tx.execute("select pg_sleep(0.005)").await?;
                let ended = if statement == "commit" { tx.commit().await? } else { tx.roll_back().await? };
                ended.give_back();
                Ok(())
            });
            let was_cut = cut(conversation, waits).await;
            let mut next = database::Loan::of(&pool).await.unwrap();
            let next_pid: i32 =
                sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *next).await.unwrap();
            next.give_back();
            if !was_cut {
                assert_eq!(next_pid, pid, "after a {statement}");
                break;
            }
            cuts += 1;
            assert_ne!(next_pid, pid, "{statement}, cut at wait {waits}");
            let is_gone = format!("select not exists (select from pg_stat_activity where pid = {pid})");
            eventually("its session has ended", async || {
                (world.value(&is_gone).await == "true").then_some(())
            })
            .await;
        }
    }
    assert!(cuts >= 2, "{cuts} cuts are too few to prove anything");
}

/// A handler that records the session of its transaction, and never returns.
struct Hangs {
    pids: Arc<Mutex<Vec<i32>>>,
    in_a_checkpoint: bool,
}

impl Handler for Hangs {
    const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
    /// Enough for a slow machine to open the transaction.
    const TIMEOUT: Duration = Duration::from_secs(2);
    type Payload = serde_json::Value;

    async fn handle(&self, cx: &mut Context<'_>, _: Self::Payload) -> handler::Result {
        let mut checkpoint;
        let connection = if self.in_a_checkpoint {
            checkpoint = cx.checkpoint().await?;
            &mut *checkpoint
        } else {
            cx.tx().await?
        };
        let pid = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut *connection).await?;
        self.pids.lock().await.push(pid);
        sqlx::query("select pg_sleep(3600)").execute(connection).await?;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connection_of_a_handler_that_was_cut_is_closed() {
    for in_a_checkpoint in [false, true] {
        let world = World::new().await;
        world.receive("e", "", 1, json!({})).await;
        let pids = Arc::new(Mutex::new(Vec::new()));
        let hangs = Hangs { pids: Arc::clone(&pids), in_a_checkpoint };

        world.work_with(Registry::new().register(hangs)).await;

        let pid = pids.lock().await[0];
        let is_gone = format!("select not exists (select from pg_stat_activity where pid = {pid})");
        eventually("its session has ended", async || (world.value(&is_gone).await == "true").then_some(()))
            .await;
    }
}

/// Rounds of batches, some with several parts. Another session is about to store a result of each part.
const ROUNDS: usize = 12;
const SMALL: usize = 4;
const LARGE_LINE_BYTES: usize = 120_000;
const LARGE_LINES: usize = 70;

fn large() -> String {
    let text = "x".repeat(LARGE_LINE_BYTES);
    (0..LARGE_LINES).map(|line| batches::succeeded(&format!("r{line}"), &text)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_downloads_that_are_cut_in_the_middle_hurt_no_other_event() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let stop = CancellationToken::new();
    let workers: Vec<_> = (0..3)
        .map(|_| {
            let pool = database::pool(&world.url, "cut worker", 12).unwrap();
            let settings = worker::Settings { lease: Duration::from_secs(1), ..world.worker_settings() };
            tokio::spawn(worker::run(settings, pool, registry(), api.client(), stop.clone()))
        })
        .collect();
    // Ordinary traffic at the same time, on the same connections.
    let traffic = tokio::spawn({
        let (pool, stop) = (world.pool.clone(), stop.clone());
        let event =
            |number: u32| world.new_event(&format!("t{number}"), &format!("k{}", number % 5), 1, json!({}));
        let events: Vec<_> = (0..4_000).map(event).collect();
        async move {
            let mut stored = 0;
            for event in events {
                if stop.is_cancelled() {
                    break;
                }
                restante::internals::outbox::insert_events(
                    &pool,
                    restante::internals::outbox::Source::Webhook,
                    &[event],
                )
                .await
                .unwrap();
                stored += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stored
        }
    });
    let large = large();
    let mut cut = 0;
    for round in 0..ROUNDS {
        let ids: Vec<String> = (0..=SMALL).map(|number| format!("b{round}_{number}")).collect();
        let statement = [
            "update restante.outbox set status = 'cancelled'",
            "update restante.outbox set status = 'paused'",
            "update restante.outbox set status = 'pending'",
            // Moves the row, so that a statement that waits for it fails with 40001.
            "update restante.outbox set status = 'done'",
        ][round % 4];
        cut += cut_downloads(&world, &api, &ids, &large, statement).await;
    }
    world.sql("update restante.outbox set status = 'pending' where status in ('paused', 'cancelled')").await;
    world.sql("update restante.outbox set status = 'pending' where status = 'done' and type = 'batch.completed'").await;
    let all = (ROUNDS * (SMALL + 1)).to_string();
    eventually("all is stored", async || (batches::complete(&world).await == all).then_some(())).await;
    stop.cancel();
    let stored: usize = traffic.await.unwrap();
    for worker in workers {
        worker.await.unwrap().unwrap();
    }
    world.work_with(registry()).await;

    assert!(cut >= ROUNDS * 3, "only {cut} downloads were cut in the middle of a COPY");
    let failed =
        "select string_agg(format('%s %s: %s', event_id, outcome, error), '; ') from restante.failure";
    assert_eq!(world.value(failed).await, "null");
    let mut ran = world.ledger().await;
    assert_eq!(ran.len(), stored, "each once");
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(ran.len(), stored);
}

/// Stores the results of batches, and runs the statement while each of their COPYs is in progress. Returns how many COPYs that
/// cut. Asserts that none of their sessions is used again.
async fn cut_downloads(
    world: &World,
    api: &ScriptedApi,
    ids: &[String],
    large: &str,
    statement: &str,
) -> usize {
    let mut somebody = stranger(&world.url).await;
    execute(&mut somebody, "begin").await;
    for (index, id) in ids.iter().enumerate() {
        let (body, lines) = if index == 0 {
            (large.to_owned(), LARGE_LINES)
        } else {
            ((0..3).map(|line| batches::succeeded(&format!("r{line}"), "short")).collect(), 3)
        };
        let lines = u32::try_from(lines).unwrap();
        api.batch(&api.ended(id, [lines, 0, 0, 0]));
        api.results(id, Answer::stream(body));
        // Each part has one of these results, and waits for the end of this transaction.
        for result in (0..lines).step_by(10) {
            let insert = format!(
                "insert into restante.batch_result (batch_id, custom_id, outcome, line) values ('{id}', 'r{result}', 'new', '{{}}')"
            );
            execute(&mut somebody, &insert).await;
        }
    }
    for id in ids {
        batches::hear_of(world, id).await;
    }
    let blocker: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut somebody).await.unwrap();
    // A COPY of an earlier round may wait for a moment too, for room in the table.
    let waiting = "select coalesce(array_agg(pid), '{}') from pg_stat_activity
                    where $1 = any (pg_blocking_pids(pid)) and query like 'copy restante.batch_result%'";
    let pids: Vec<i32> = eventually("downloads in the middle of their COPY", async || {
        let pids: Vec<i32> = sqlx::query_scalar(waiting).bind(blocker).fetch_one(&world.pool).await.unwrap();
        (pids.len() >= ids.len().min(4)).then_some(pids)
    })
    .await;

    let ids: Vec<String> = ids.iter().map(|id| format!("'wevt_{id}'")).collect();
    world.sql(&format!("{statement} where event_id in ({})", ids.join(", "))).await;

    let still = format!(
        "select count(*) from pg_stat_activity where pid = any (array{pids:?}) and datname = current_database()"
    );
    eventually("their sessions have ended", async || (world.value(&still).await == "0").then_some(())).await;
    execute(&mut somebody, "rollback").await;
    somebody.close().await.unwrap();
    pids.len()
}
