//! The tests kill the real process at chosen points: the tables of the shop and the outbox still agree.

use restante_playground::{Program, eventually};
use secrecy::ExposeSecret;
use sqlx::{Connection, PgConnection};

use crate::desk::{Answer, Desk};
use crate::shop::Shop;

/// Starts the worker as a process. When this returns, its subscriptions are stored.
async fn started(shop: &Shop, desk: &Desk) -> Program {
    // The tests kill it while it works.
    shop.may_leave_running();
    let variables = [
        ("DATABASE_URL", shop.url.expose_secret()),
        ("ANTHROPIC_API_KEY", "sk-test-key"),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9"),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ("RUST_LOG", "info"),
        ("RESTANTE_CONCURRENCY", "4"),
        ("ORDERS_DESK_URL", desk.url.as_str()),
    ];
    let mut worker = Program::start::<&str>(env!("CARGO_BIN_EXE_orders-worker"), &[], &variables);
    worker.until_logged("the worker starts").await;
    worker
}

/// Asserts that the shop and the outbox agree: an event is done exactly if it has one reservation, and the stock lacks exactly
/// the reserved quantity. One statement, so that it sees one moment.
async fn agree(shop: &Shop, stock_at_first: i32) {
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
    assert_eq!(shop.value(&disagreement).await, "none");
}

/// A lock held by the test, which blocks the shop's statements.
struct Barrier(PgConnection);

impl Barrier {
    async fn raise(shop: &Shop) -> Self {
        shop.sql(
            "create function orders.wait() returns trigger language plpgsql as
                 $$ begin perform pg_advisory_xact_lock_shared(4711); return new; end $$",
        )
        .await;
        let mut connection = PgConnection::connect(shop.url.expose_secret()).await.unwrap();
        sqlx::query("select pg_advisory_lock(4711)").execute(&mut connection).await.unwrap();
        Self(connection)
    }

    /// Waits until a statement is blocked by the lock.
    async fn is_reached(&self, shop: &Shop) {
        let waits =
            "select count(*) from pg_locks where locktype = 'advisory' and objid = 4711 and not granted
                        and database = (select oid from pg_database where datname = current_database())";
        eventually("a statement waits", async || (shop.value(waits).await != "0").then_some(())).await;
    }

    async fn fall(self) {
        self.0.close().await.unwrap();
    }
}

/// Waits until no session but the test's own is left.
async fn alone(shop: &Shop) {
    let others = "select count(*) from pg_stat_activity
                   where datname = current_database() and application_name like 'restante-worker%'";
    eventually("the dead worker's sessions have ended", async || {
        (shop.value(others).await == "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn killed_between_two_writes_of_a_handler_it_leaves_neither() {
    let (shop, desk) = (Shop::new().await, Desk::answering(Answer::Status(204)).await);
    shop.stock("tea", 10).await;
    let barrier = Barrier::raise(&shop).await;
    shop.sql("create trigger wait before update on orders.stock for each row execute function orders.wait()")
        .await;
    let mut worker = started(&shop, &desk).await;
    shop.order("o1", "tea", 1).await;

    barrier.is_reached(&shop).await;
    worker.kill_hard();
    barrier.fall().await;
    alone(&shop).await;

    assert_eq!(shop.outbox().await, "placed_o1 running, attempt 1");
    assert_eq!(shop.value("select count(*) from orders.reservation").await, "0");
    agree(&shop, 10).await;
    shop.let_leases_run_out().await;
    let _worker = started(&shop, &desk).await;
    eventually("the order is reserved", async || {
        (shop.outbox().await == "placed_o1 done, attempt 2").then_some(())
    })
    .await;
    agree(&shop, 10).await;
}

#[tokio::test]
async fn killed_while_it_commits_it_leaves_both_or_neither() {
    let (shop, desk) = (Shop::new().await, Desk::answering(Answer::Status(204)).await);
    shop.stock("tea", 10).await;
    let barrier = Barrier::raise(&shop).await;
    // A deferred trigger waits inside the commit, after the transaction has finished the event.
    shop.sql(
        "create constraint trigger wait after insert on orders.reservation deferrable initially deferred
             for each row execute function orders.wait()",
    )
    .await;
    let mut worker = started(&shop, &desk).await;
    shop.order("o1", "tea", 1).await;

    barrier.is_reached(&shop).await;
    worker.kill_hard();
    agree(&shop, 10).await;
    barrier.fall().await;
    alone(&shop).await;

    // The commit was in flight, and its answer was lost.
    assert_eq!(shop.outbox().await, "placed_o1 done, attempt 1");
    agree(&shop, 10).await;
}

#[tokio::test]
async fn killed_while_the_desk_listens_it_tells_it_again_under_the_same_key() {
    let (shop, desk) = (Shop::new().await, Desk::answering(Answer::Hold).await);
    let mut worker = started(&shop, &desk).await;
    shop.session_idled("sesn_1").await;

    eventually("the desk has heard", async || (desk.heard().len() == 1).then_some(())).await;
    worker.kill_hard();
    desk.answers(Answer::Status(204));
    shop.let_leases_run_out().await;
    let _worker = started(&shop, &desk).await;

    eventually("the event is done", async || {
        (shop.outbox().await == "whe_sesn_1 done, attempt 2").then_some(())
    })
    .await;
    let heard = desk.heard();
    assert_eq!((heard.len(), &heard[0]), (2, &heard[1]));
}

#[tokio::test]
async fn killed_at_any_moment_it_reserves_each_order_once() {
    const ORDERS: i32 = 400;
    let (shop, desk) = (Shop::new().await, Desk::answering(Answer::Status(204)).await);
    shop.stock("tea", ORDERS).await;
    let mut worker = started(&shop, &desk).await;
    for order in 0..ORDERS {
        shop.order(&format!("o{order}"), "tea", 1).await;
    }

    // Where the worker is in its work at each kill differs from run to run. The assertions hold in every case.
    let reserved = "select count(*) from orders.reservation";
    for killed_after in [1, 30, 77, 140, 233, 301, 399] {
        eventually("it gets on", async || {
            (shop.value(reserved).await.parse::<i32>().unwrap() >= killed_after).then_some(())
        })
        .await;
        worker.kill_hard();
        agree(&shop, ORDERS).await;
        alone(&shop).await;
        shop.let_leases_run_out().await;
        // An event that ran at three kills would become a dead letter, as one that kills its worker.
        shop.sql("update restante.outbox_live set crashes = 0").await;
        worker = started(&shop, &desk).await;
    }

    let left = "select count(*) from restante.outbox_live where subscriber = 'orders'";
    eventually("every order is reserved", async || (shop.value(left).await == "0").then_some(())).await;
    agree(&shop, ORDERS).await;
    assert_eq!(shop.value(reserved).await, ORDERS.to_string());
    assert_eq!(shop.value("select available from orders.stock").await, "0");
}
