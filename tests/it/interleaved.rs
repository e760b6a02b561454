//! Services, people and applications act at random at the same time, with transactions that are left open. After each commit every
//! key has its rightful head or is noted, no service waits, and in the end no event is lost, doubled or forgotten.
//!
//! `RESTANTE_INTERLEAVED_SECONDS` makes this test longer than the few seconds that it normally takes.

mod actor;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use restante::internals::outbox;
use restante::internals::outbox::claim::Ask;
use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::World;
use actor::{Actor, KEYS};

const ACTORS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_does_what_in_which_order_each_key_keeps_its_order_and_nobody_waits() {
    let seconds = std::env::var("RESTANTE_INTERLEAVED_SECONDS").ok().and_then(|text| text.parse().ok());
    let seed: u64 =
        std::env::var("RESTANTE_INTERLEAVED_SEED").map_or_else(|_| rand::random(), |s| s.parse().unwrap());
    println!("RESTANTE_INTERLEAVED_SEED={seed}");
    let world = World::new().await;
    world.sql("insert into restante.subscription (subscriber, type) values ('audit', 'random.b')").await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut actors = Vec::new();
    for number in 0..ACTORS {
        let actor = Actor::new(&world, number, seed.wrapping_add(number)).await;
        actors.push(tokio::spawn(actor.act_until(Arc::clone(&stop))));
    }

    watch(&world, Duration::from_secs(seconds.unwrap_or(8))).await;
    stop.store(true, Ordering::Relaxed);
    let mut stored = 0;
    for actor in actors {
        stored += actor.await.unwrap();
    }

    come_to_rest(&world).await;
    let rows = world
        .value("select count(*) from restante.outbox where subscriber = '' and type like 'random.%'")
        .await;
    let deleted = world.value("select count(*) from deleted where subscriber = ''").await;
    let (rows, deleted): (u64, u64) = (rows.parse().unwrap(), deleted.parse().unwrap());
    assert_eq!(rows + deleted, stored, "what was committed is there, once");
    let twice = "select count(*) from (select from restante.outbox group by event_id, subscriber having count(*) > 1) as t";
    assert_eq!(world.value(twice).await, "0");
    let unfinished =
        "select coalesce(string_agg(format('%s %s', event_id, status), ', '), 'none') from restante.outbox
                       where finished_at = 'infinity' and status not in ('paused', 'dead')";
    assert_eq!(world.value(unfinished).await, "none");
    assert!(stored > 20, "so few: {stored}");
    println!("{stored} events of {KEYS} keys came through");
}

/// Finds what must never be committed, whatever is in progress. It reads one snapshot.
const BROKEN: &str = "
    with noted as (select distinct key, subscriber from restante.key_unsettled),
    waiting as (
      select distinct on (key, subscriber) key, subscriber, created_at, id, event_id from restante.outbox_live
       where lane = 'b' order by key, subscriber, created_at, id),
    head as (
      select key, subscriber, created_at, id, status, event_id from restante.outbox_live where key is not null and lane in ('r', 'l')),
    broken as (
      select w.key, w.subscriber, format('key %s of \"%s\" waits with %s and has no head', w.key, w.subscriber, w.event_id) as fault
        from waiting as w left join head as h using (key, subscriber) where h.id is null
      union all
      select w.key, w.subscriber, format('%s of key %s comes before %s, which is older', h.event_id, w.key, w.event_id)
        from waiting as w join head as h using (key, subscriber)
       where h.status = 'pending' and (h.created_at, h.id) > (w.created_at, w.id)
      union all
      select l.key, l.subscriber, format('%s is %s in lane %s', l.event_id, l.status, l.lane)
        from restante.outbox_live as l where l.lane <> restante.lane(l.status, l.run_at, l.holds_key)
      union all
      select l.key, l.subscriber, format('%s is in retry forever', l.event_id)
        from restante.outbox_live as l where l.status in ('pending', 'retry', 'blocked') and l.run_at = 'infinity')
    select coalesce(string_agg(b.fault, E'\\n'), '') from broken as b
     where not exists (select from noted as n where n.key = b.key and n.subscriber = b.subscriber)";

/// Finds services that have waited for a lock for a second. People may wait for each other.
const WAITING: &str = "
    select coalesce(string_agg(query, E'\\n'), '') from pg_locks as l join pg_stat_activity as a using (pid)
     where datname = current_database() and application_name = 'service' and not l.granted
       and clock_timestamp() - l.waitstart > interval '1 second'";

async fn watch(world: &World, time: Duration) {
    let mut connection = PgConnection::connect(world.url.expose_secret()).await.unwrap();
    let end = Instant::now() + time;
    while Instant::now() < end {
        for question in [BROKEN, WAITING] {
            let fault: String =
                sqlx::query_scalar(AssertSqlSafe(question)).fetch_one(&mut connection).await.unwrap();
            assert_eq!(fault, "");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs all events that can run, as workers do.
async fn come_to_rest(world: &World) {
    world.sql("delete from restante.paused_type").await;
    // Dead letters that hold their keys wait for a person.
    world.sql("update restante.outbox set status = 'cancelled' where status = 'dead' and holds_key").await;
    for round in 0.. {
        world.wait_for_retries().await;
        world.let_leases_run_out().await;
        let subscribers = [String::new(), "audit".to_owned()];
        let lease = Duration::from_secs(30);
        let ask =
            Ask { owner: "last", subscribers: &subscribers, limit: 500, lease, cursor: None, settles: true };
        let claimed = outbox::claim(&world.pool, ask).await.unwrap().claimed;
        let noted = world.value("select count(*) from restante.key_unsettled").await;
        if claimed.is_empty() && noted == "0" {
            break;
        }
        let mut leases: Vec<_> =
            claimed.iter().map(|claimed| (claimed.lease.id, claimed.lease.token)).collect();
        while let Some((id, token)) = leases.pop() {
            // Finishes each event along with the lease of its successor, and so on to the end of its key.
            let done = "select (next).id, (next).lease_token
                          from restante.finish_event($1, $2, 'done', null, 'last', '30 s', 'infinity') where (next).id is not null";
            let next = sqlx::query_as(done).bind(id).bind(token).fetch_all(&world.pool).await.unwrap();
            leases.extend::<Vec<(i64, i64)>>(next);
        }
        assert!(round < 10_000, "it does not come to rest");
    }
    let fault: String = sqlx::query_scalar(BROKEN).fetch_one(&world.pool).await.unwrap();
    assert_eq!(fault, "");
}
