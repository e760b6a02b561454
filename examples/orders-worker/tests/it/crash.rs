//! The real process, killed at points of the test's choice: the tables of the shop and the outbox agree all the same.

use std::path::PathBuf;

use restante_playground::process::{Guarded, Launch};
use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};

use crate::desk::{Answer, Desk};
use crate::world::{World, eventually};

/// The worker as a process. Dropping it ends it and removes its log.
struct Process {
    guarded: Guarded,
    log: PathBuf,
}

impl Process {
    fn start(world: &World, desk: &Desk) -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        let log = directory.join("log");
        let guarded = Launch::new(env!("CARGO_BIN_EXE_orders-worker"), &log)
            .env("DATABASE_URL", world.url.expose_secret())
            .env("ANTHROPIC_API_KEY", "sk-test-key")
            .env("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
            .env("RESTANTE_OPS_LISTEN", "127.0.0.1:0")
            .env("RUST_LOG", "info")
            .env("RESTANTE_CONCURRENCY", "4")
            .env("ORDERS_DESK_URL", desk.url.as_str())
            .remove_at_end(directory)
            .spawn()
            .unwrap();
        Self { guarded, log }
    }

    /// Started, and the outbox knows its subscriptions.
    async fn started(world: &World, desk: &Desk) -> Self {
        let process = Self::start(world, desk);
        eventually("the worker has started", async || process.log().contains("the worker starts")).await;
        process
    }

    fn kill(mut self) {
        self.guarded.kill_hard().unwrap();
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

/// The shop and the outbox say the same: an event is done where there is one reservation of it, and nowhere else; and
/// what was reserved is missing from the stock, no more and no less. One statement, so one moment.
async fn agree(world: &World, stock_at_first: i32) {
    let disagreement = format!(
        "select coalesce(string_agg(event_id, ', '), 'none') from (
           select event_id from (select event_id, count(*) as times from orders.reservation group by event_id) as r
             full join (select event_id from restante.outbox
                         where subscriber = 'orders' and type = 'order.placed' and status = 'done') as o using (event_id)
            where o is null or r.times is distinct from 1
           union all
           select 'the stock' where {stock_at_first} <> (select sum(available) from orders.stock)
                                                      + (select coalesce(sum(quantity), 0) from orders.reservation)) as d"
    );
    assert_eq!(world.value(&disagreement).await, "none");
}

/// A lock of the test's own, which stands in the way of the shop's statements.
struct Barrier(PgConnection);

impl Barrier {
    async fn raise(world: &World) -> Self {
        world
            .sql(
                "create function orders.wait() returns trigger language plpgsql as
                 $$ begin perform pg_advisory_xact_lock_shared(4711); return new; end $$",
            )
            .await;
        let mut connection = PgConnection::connect(world.url.expose_secret()).await.unwrap();
        sqlx::query("select pg_advisory_lock(4711)").execute(&mut connection).await.unwrap();
        Self(connection)
    }

    /// A statement stands before it.
    async fn is_reached(&self, world: &World) {
        let waits =
            "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted
                        and database = (select oid from pg_database where datname = current_database())";
        eventually("a statement waits", async || world.value(waits).await != "0").await;
    }

    async fn fall(self) {
        self.0.close().await.unwrap();
    }
}

/// No session but the test's own is left.
async fn alone(world: &World) {
    let others = "select count(*) from pg_stat_activity
                   where datname = current_database() and application_name like 'restante-worker%'";
    eventually("the dead worker's sessions have ended", async || world.value(others).await == "0").await;
}

#[tokio::test]
async fn killed_between_two_writes_of_a_handler_it_leaves_neither() {
    let (world, desk) = (World::new().await, Desk::answering(Answer::Status(204)).await);
    world.stock("tea", 10).await;
    let barrier = Barrier::raise(&world).await;
    world
        .sql("create trigger wait before update on orders.stock for each row execute function orders.wait()")
        .await;
    let worker = Process::started(&world, &desk).await;
    world.order("o1", "tea", 1).await;

    barrier.is_reached(&world).await;
    worker.kill();
    barrier.fall().await;
    alone(&world).await;

    assert_eq!(world.outbox().await, "placed_o1 running, attempt 1");
    assert_eq!(world.value("select count(*) from orders.reservation").await, "0");
    agree(&world, 10).await;
    world.let_leases_run_out().await;
    let _worker = Process::started(&world, &desk).await;
    eventually("the order is reserved", async || world.outbox().await == "placed_o1 done, attempt 2").await;
    agree(&world, 10).await;
}

#[tokio::test]
async fn killed_while_it_commits_it_leaves_both_or_neither() {
    let (world, desk) = (World::new().await, Desk::answering(Answer::Status(204)).await);
    world.stock("tea", 10).await;
    let barrier = Barrier::raise(&world).await;
    // At the very end of the transaction, when the event has been finished in it: inside the commit.
    world
        .sql(
            "create constraint trigger wait after insert on orders.reservation deferrable initially deferred
             for each row execute function orders.wait()",
        )
        .await;
    let worker = Process::started(&world, &desk).await;
    world.order("o1", "tea", 1).await;

    barrier.is_reached(&world).await;
    worker.kill();
    agree(&world, 10).await;
    barrier.fall().await;
    alone(&world).await;

    // The commit was on its way, and nobody heard its answer.
    assert_eq!(world.outbox().await, "placed_o1 done, attempt 1");
    agree(&world, 10).await;
}

#[tokio::test]
async fn killed_while_the_desk_listens_it_tells_it_again_under_the_same_key() {
    let (world, desk) = (World::new().await, Desk::answering(Answer::Hold).await);
    let worker = Process::started(&world, &desk).await;
    world.session_idled("sesn_1").await;

    eventually("the desk has heard", async || desk.heard().len() == 1).await;
    worker.kill();
    desk.answers(Answer::Status(204));
    world.let_leases_run_out().await;
    let _worker = Process::started(&world, &desk).await;

    eventually("the event is done", async || world.outbox().await == "whe_sesn_1 done, attempt 2").await;
    let heard = desk.heard();
    assert_eq!((heard.len(), &heard[0]), (2, &heard[1]));
}

#[tokio::test]
async fn killed_at_any_moment_it_reserves_each_order_once() {
    const ORDERS: i32 = 400;
    let (world, desk) = (World::new().await, Desk::answering(Answer::Status(204)).await);
    world.stock("tea", ORDERS).await;
    let mut worker = Process::started(&world, &desk).await;
    for order in 0..ORDERS {
        world.order(&format!("o{order}"), "tea", 1).await;
    }

    // Where it is in its work when a number is reached differs from run to run; what must be true does not.
    let reserved = "select count(*) from orders.reservation";
    for killed_after in [1, 30, 77, 140, 233, 301, 399] {
        eventually("it gets on", async || {
            world.value(reserved).await.parse::<i32>().unwrap() >= killed_after
        })
        .await;
        worker.kill();
        agree(&world, ORDERS).await;
        alone(&world).await;
        world.let_leases_run_out().await;
        // An event that was running at each of three kills would be given up for what kills the worker.
        world.sql("update restante.outbox_live set crashes = 0").await;
        worker = Process::started(&world, &desk).await;
    }

    let left = "select count(*) from restante.outbox_live where subscriber = 'orders'";
    eventually("every order is reserved", async || world.value(left).await == "0").await;
    agree(&world, ORDERS).await;
    assert_eq!(world.value(reserved).await, ORDERS.to_string());
    assert_eq!(world.value("select available from orders.stock").await, "0");
}
