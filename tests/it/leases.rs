//! A lease is the right to run and settle an event. An attempt that has lost it cannot settle the event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use expect_test::expect;
use restante::internals::outbox::lease::renew;
use restante::internals::outbox::outcome::{Failure, Fault, Finish, Verdict};
use restante::internals::outbox::settle::{Finished, fail, finish, hand_back};
use restante::internals::outbox::{Claimed, Lease};
use restante::registry::Registry;
use restante::worker;
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::world::no_api;
use crate::support::{Ledger, World, eventually};

fn done(lease: Lease) -> Finished {
    Finished { lease, finish: Finish::Done, result: None, delivered: None }
}

async fn claimed_twice(world: &World) -> (Claimed, Claimed) {
    world.receive("a", "k", 0, json!({})).await;
    let late = world.claim(1).await.remove(0);
    world.let_leases_run_out().await;
    let current = world.claim_as("somebody else", 1).await.remove(0);
    (late, current)
}

#[tokio::test]
async fn a_lease_that_ran_out_is_claimed_again_and_counted_as_a_crash() {
    let world = World::new().await;
    let (late, current) = claimed_twice(&world).await;

    assert_eq!((late.event.attempt, current.event.attempt), (1, 2));
    assert_eq!(current.crashes, 1);
    assert!(current.lease.token > late.lease.token);
    assert_eq!(world.value("select outcome || ' ' || attempt from restante.failure").await, "crashed 1");
}

#[tokio::test]
async fn a_late_attempt_can_not_finish_the_event_alone_or_with_others() {
    for others in [&[][..], &["b"]] {
        let world = World::new().await;
        let (late, current) = claimed_twice(&world).await;
        for other in others {
            world.receive(other, "", 1, json!({})).await;
        }
        let others: Vec<i64> = world.claim(2).await.iter().map(|claimed| claimed.lease.id).collect();
        let finish_with_others = async |lease: Lease| {
            let others = others.iter().map(|id| done(Lease { id: *id, token: 1 }));
            let attempts: Vec<_> = others.chain([done(lease)]).collect();
            finish(&world.pool, &attempts, None).await.unwrap().finished
        };

        assert_eq!(finish_with_others(late.lease).await, others);
        assert!(world.outbox().await.starts_with("a running, attempt 2\n"));

        assert_eq!(finish_with_others(current.lease).await, [current.lease.id]);
        assert!(world.outbox().await.starts_with("a done, attempt 2\n"));
        assert!(finish_with_others(current.lease).await.is_empty(), "nor twice");
    }
}

#[tokio::test]
async fn a_late_attempt_can_not_fail_the_event_nor_hand_it_back_nor_renew_its_lease() {
    let world = World::new().await;
    let (late, current) = claimed_twice(&world).await;

    let failure = Failure { fault: Fault::Permanent, kind: "handler", reason: "no".to_owned() };
    let verdict = Verdict::Dead { failure, holds_key: false };
    assert!(!fail(&world.pool, late.lease, &verdict).await.unwrap());
    assert_eq!(hand_back(&world.pool, &[late.lease]).await.unwrap(), 0);
    let ours = renew(&world.pool, &[late.lease, current.lease], Duration::from_secs(30)).await.unwrap();

    assert_eq!((ours.renewed, ours.locked), (vec![current.lease], vec![]));
    expect![["a running, attempt 2\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test]
async fn what_a_late_attempt_wrote_is_rolled_back_and_a_checkpoint_of_it_never_begins() {
    for checkpoint in [false, true] {
        let world = World::new().await;
        world.receive("a", "", 0, json!({})).await;
        world.may_leave_running();
        let began = Arc::new(AtomicBool::new(false));
        let stolen = stolen::Stolen { pool: world.pool.clone(), checkpoint, began: Arc::clone(&began) };

        world.work_with(Registry::new().register(stolen)).await;

        assert!(!began.load(Ordering::SeqCst), "its checkpoint began");
        assert!(world.ledger().await.is_empty(), "checkpoint: {checkpoint}");
        expect![["a running, attempt 2\n"]].assert_eq(&world.outbox().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_whose_event_somebody_has_locked_is_committed_when_he_lets_go_unless_he_took_it() {
    for (change, outbox, ledger) in [
        ("select", "a done, attempt 1\n", &["a"][..]),
        ("update restante.outbox set status = 'cancelled'", "a cancelled, attempt 1\n", &[]),
    ] {
        let world = World::new().await;
        world.receive("a", "", 0, json!({})).await;
        let (pool, (somebody, mut has_locked)) = (world.pool.clone(), mpsc::channel(1));
        let registry = Registry::new().register(locked::Locked { pool, somebody });
        let (settings, pool) = (world.worker_settings(), world.pool.clone());
        let working = tokio::spawn(worker::run_until_idle(settings, pool, registry, no_api()));

        let mut somebody = has_locked.recv().await.unwrap();
        eventually("the attempt asking whether the event is still its own", async || {
            let asked = "select exists (select from pg_stat_activity where datname = current_database()
                                           and state = 'idle in transaction' and query like '%as \"ours!\"%')";
            (world.value(asked).await == "true").then_some(())
        })
        .await;
        sqlx::query(change).execute(&mut *somebody).await.unwrap();
        somebody.commit().await.unwrap();

        assert_eq!(working.await.unwrap().unwrap(), 1);
        assert_eq!(world.outbox().await, outbox);
        assert_eq!(world.ledger().await, ledger);
    }
}

mod locked {
    use restante::handler::{self, Context, Handler};
    use sqlx::{PgPool, Postgres, Transaction};
    use tokio::sync::mpsc::Sender;

    /// Writes, and returns once another session has locked its event.
    pub struct Locked {
        pub pool: PgPool,
        pub somebody: Sender<Transaction<'static, Postgres>>,
    }

    impl Handler for Locked {
        const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
        type Payload = serde_json::Value;

        async fn handle(&self, cx: &mut Context<'_>, _: Self::Payload) -> handler::Result {
            let write = sqlx::query("insert into ledger (event_id) values ($1)").bind(&cx.event.event_id);
            write.execute(cx.tx().await?).await?;
            let mut somebody = self.pool.begin().await?;
            sqlx::query("select from restante.outbox_live for update").execute(&mut *somebody).await?;
            let _heard = self.somebody.send(somebody).await;
            Ok(())
        }
    }
}

#[tokio::test]
async fn an_event_that_kills_its_workers_is_given_up() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({})).await;
    for worker in ["first", "second", "third"] {
        assert_eq!(world.claim_as(worker, 1).await.len(), 1);
        world.let_leases_run_out().await;
    }

    world.work().await;

    expect![["a dead, attempt 4\n"]].assert_eq(&world.outbox().await);
    let error = world.value("select last_error from restante.outbox_dead").await;
    assert_eq!(error, "given up: 3 workers vanished while they ran the event");
    assert!(world.ledger().await.is_empty());
}

#[tokio::test]
async fn a_handed_back_event_can_be_claimed_at_once_and_the_attempt_does_not_count() {
    let world = World::new().await;
    world.receive("a", "k", 0, json!({})).await;
    let claimed = world.claim(1).await;

    assert_eq!(hand_back(&world.pool, &[claimed[0].lease]).await.unwrap(), 1);

    expect![["a pending, attempt 0\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.claim(1).await.len(), 1);
}

#[tokio::test]
async fn a_handler_that_blocks_its_thread_keeps_its_lease_within_its_timeout() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({})).await;
    let (release, released) = std::sync::mpsc::channel();
    let settings = worker::Settings { lease: Duration::from_secs(2), ..world.worker_settings() };
    let registry = Registry::new().register(stuck::Blocking { released: released.into() });
    let blocked = in_a_runtime_of_its_own(settings, world.url.clone(), registry);
    let lease_until = async || world.value("select max(lease_until) from restante.outbox_running").await;
    let first =
        eventually("a first lease", async || Some(lease_until().await).filter(|lease| lease != "null"));
    let first = first.await;

    // A lease is renewed three times within its length, so four renewals take longer than the first lease lasts.
    let mut last = first;
    for _ in 0..4 {
        last =
            eventually("a renewed lease", async || Some(lease_until().await).filter(|lease| *lease != last))
                .await;
    }
    assert!(world.claim(1).await.is_empty(), "nobody else may have it");
    release.send(()).unwrap();

    assert_eq!(blocked.join().unwrap(), 1);
    expect![["a done, attempt 1\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
}

/// A worker that works through the outbox once, in a runtime that its handler blocks completely.
fn in_a_runtime_of_its_own(
    settings: worker::Settings,
    url: SecretString,
    registry: Registry,
) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let pool = World::on(url).await.pool;
            worker::run_until_idle(settings, pool, registry, no_api()).await.unwrap()
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_hands_back_what_does_not_end_in_time() {
    let world = World::new().await;
    world.receive("a", "k", 0, json!({ "hang": true })).await;
    let stop = CancellationToken::new();
    let settings = worker::Settings { drain: Duration::from_millis(50), ..world.worker_settings() };
    let registry = Registry::new().register(Ledger);
    let worker = tokio::spawn(worker::run(settings, world.pool.clone(), registry, no_api(), stop.clone()));
    eventually("the event runs", async || {
        (world.value("select count(*) from restante.outbox_running").await != "0").then_some(())
    })
    .await;

    stop.cancel();
    let handed_back = worker.await.unwrap().unwrap();

    assert_eq!(handed_back, 1);
    expect![["a pending, attempt 0\n"]].assert_eq(&world.outbox().await);
    assert!(world.ledger().await.is_empty());
}

#[tokio::test]
async fn an_attempt_that_stands_still_in_its_transaction_loses_its_event_after_its_timeout() {
    let world = World::new().await;
    world.receive("a", "k", 0, json!({})).await;
    let settings = worker::Settings { lease: Duration::from_millis(300), ..world.worker_settings() };
    let (release, released) = std::sync::mpsc::channel();
    let registry = Registry::new().register(stuck::Stuck { released: released.into() });
    let late = in_a_runtime_of_its_own(settings.clone(), world.url.clone(), registry);
    eventually("a first attempt that stands still", async || {
        let open = "select count(*) from pg_stat_activity
                     where datname = current_database() and state = 'idle in transaction'";
        (world.value(open).await == "1").then_some(())
    })
    .await;

    eventually("a second attempt", async || {
        let registry = Registry::new().register(Ledger);
        let attempts =
            worker::run_until_idle(settings.clone(), world.pool.clone(), registry, no_api()).await.unwrap();
        (attempts > 0).then_some(())
    })
    .await;
    release.send(()).unwrap();
    assert_eq!(late.join().unwrap(), 1);

    expect![["a done, attempt 2\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.ledger().await, ["a"], "what the late one wrote was rolled back");
}

mod stuck {
    use std::sync::Mutex;
    use std::sync::mpsc::Receiver;
    use std::time::Duration;

    use restante::handler::{self, Context, Handler};

    /// Blocks its thread until it is released.
    pub struct Blocking {
        pub released: Mutex<Receiver<()>>,
    }

    impl Handler for Blocking {
        const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
        type Payload = serde_json::Value;

        async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result {
            let _ = self.released.lock().unwrap().recv();
            Ok(())
        }
    }

    /// Writes through its transaction, and then blocks its thread until it is released.
    pub struct Stuck {
        pub released: Mutex<Receiver<()>>,
    }

    impl Handler for Stuck {
        const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
        /// Longer than a slow machine takes to write, shorter than `eventually` waits for the next attempt.
        const TIMEOUT: Duration = Duration::from_secs(2);
        type Payload = serde_json::Value;

        async fn handle(&self, cx: &mut Context<'_>, _: Self::Payload) -> handler::Result {
            sqlx::query("insert into ledger (event_id) values ('late')").execute(cx.tx().await?).await?;
            let _ = self.released.lock().unwrap().recv();
            Ok(())
        }
    }
}

mod stolen {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use restante::handler::{self, Context, Handler};
    use restante::internals::outbox::claim::Ask;
    use sqlx::PgPool;

    /// Writes only after another worker has claimed its event: through its transaction, or in a checkpoint.
    pub struct Stolen {
        pub pool: PgPool,
        pub checkpoint: bool,
        /// Set once its checkpoint is open.
        pub began: Arc<AtomicBool>,
    }

    impl Handler for Stolen {
        const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
        const TIMEOUT: Duration = Duration::from_secs(5);
        type Payload = serde_json::Value;

        async fn handle(&self, cx: &mut Context<'_>, _: Self::Payload) -> handler::Result {
            sqlx::query("update restante.outbox_live set lease_until = clock_timestamp()")
                .execute(&self.pool)
                .await?;
            let (subscribers, lease) = ([String::new()], Duration::from_secs(30));
            let ask = Ask {
                owner: "thief",
                subscribers: &subscribers,
                limit: 1,
                lease,
                cursor: None,
                settles: true,
            };
            restante::internals::outbox::claim(&self.pool, ask).await?;
            let write = sqlx::query("insert into ledger (event_id) values ('late')");
            if self.checkpoint {
                let mut checkpoint = cx.checkpoint().await?;
                self.began.store(true, Ordering::SeqCst);
                write.execute(&mut *checkpoint).await?;
                checkpoint.commit().await?;
            } else {
                write.execute(cx.tx().await?).await?;
            }
            Ok(())
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_was_open_for_longer_than_the_lease_begins_it_anew() {
    let world = World::new().await;
    world.receive("a", "", 0, json!({})).await;

    world.work_with(Registry::new().register(long_part::LongPart)).await;

    expect![["a done, attempt 1\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.value("select result from restante.outbox").await, r#"{"leased":true}"#);
}

mod long_part {
    use restante::handler::{self, Context, Handler};

    /// Commits a part during which its lease runs out.
    pub struct LongPart;

    impl Handler for LongPart {
        const EVENT_TYPES: &'static [&'static str] = &["test.ledger"];
        type Payload = serde_json::Value;

        async fn handle(&self, cx: &mut Context<'_>, _: Self::Payload) -> handler::Result {
            let mut checkpoint = cx.checkpoint().await?;
            sqlx::query("update restante.outbox_live set lease_until = clock_timestamp()")
                .execute(&mut *checkpoint)
                .await?;
            checkpoint.commit().await?;

            let leased = "select bool_and(lease_until > clock_timestamp()) from restante.outbox_live";
            let leased: bool = sqlx::query_scalar(leased).fetch_one(cx.pool()).await?;
            cx.set_result(&serde_json::json!({ "leased": leased }));
            Ok(())
        }
    }
}
