//! What has to stand in the code and in the database: the two agree, so that a word added to one of them alone is a red test.

use std::collections::BTreeSet;

use chrono::Utc;
use restante::internals::batch;
use restante::internals::outbox::outcome::Finish;
use restante::internals::outbox::settle::{Finished, Next, finish};
use restante::internals::outbox::status::{FINISHED, STATES, UNFINISHED};
use restante::internals::outbox::upkeep::count_unfinished;
use restante::internals::outbox::{Claimed, Source};
use serde_json::json;
use sqlx::AssertSqlSafe;
use std::time::Duration;

use crate::support::World;

async fn words_of(world: &World, query: &str) -> BTreeSet<String> {
    let words: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&world.pool).await.unwrap();
    words.into_iter().collect()
}

/// The words that the check of a domain lists.
async fn words_of_domain(world: &World, constraint: &str) -> BTreeSet<String> {
    let query = format!(
        "select w[1] from pg_constraint as c, regexp_matches(pg_get_constraintdef(c.oid), '''([^'']+)''', 'g') as w
          where c.conname = '{constraint}'"
    );
    words_of(world, &query).await
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[tokio::test]
async fn the_code_and_the_database_know_the_same_words() {
    let world = World::new().await;

    let statuses = words(UNFINISHED.into_iter().chain(FINISHED));
    assert_eq!(words_of_domain(&world, "event_status_known").await, statuses);
    assert_eq!(words_of_domain(&world, "event_source_known").await, words(Source::ALL.map(Source::as_str)));
    assert_eq!(words_of(&world, "select type from restante.standing_job").await, words(batch::STANDING));
    assert_eq!(words_of_domain(&world, "standing_job_known").await, words(batch::STANDING));
}

/// An event in each unfinished status, and where a status has two lanes, in each of them.
const IN_EVERY_LANE: &str = "
    insert into restante.outbox (event_id, type, payload, lease_owner, status, run_at, holds_key, lane)
    select 'e' || row_number() over (), 'owl.arrived', '{}', 'somebody', s.status, r.run_at, h.holds_key, restante.lane(s.status, r.run_at, h.holds_key)
      from unnest($1::text[]) as s (status)
      cross join (values ('-infinity'::timestamptz), (now() + interval '1 hour')) as r (run_at)
      cross join (values (false), (true)) as h (holds_key)";

#[tokio::test]
async fn every_lane_but_that_of_the_finished_is_counted() {
    let world = World::new().await;
    world.may_leave_running();
    let inserted = sqlx::query(IN_EVERY_LANE).bind(&UNFINISHED[..]).execute(&world.pool).await.unwrap();

    let counted = count_unfinished(&world.pool, 1000).await.unwrap();

    assert_eq!(counted.iter().map(|state| state.events).sum::<i64>(), inserted.rows_affected() as i64);
    assert!(counted.iter().all(|state| STATES.contains(&state.status.as_str())), "{counted:?}");
    assert_eq!(
        words_of(&world, "select distinct lane::text from restante.outbox_live").await,
        words(["r", "l", "b", "p"])
    );
    for status in FINISHED {
        assert_eq!(world.value(&format!("select restante.lane('{status}', '-infinity', true)")).await, "f");
    }
}

#[tokio::test]
async fn an_event_is_the_same_whether_it_is_claimed_or_leased_as_a_successor() {
    let world = World::new().await;
    for event_id in ["first", "second"] {
        let body = json!({ "type": "owl.arrived", "id": event_id, "created_at": "2026-11-01T12:00:00Z",
                           "data": { "id": "owl_1", "workspace_id": "wrkspc_1" } });
        world.receive_body(&body).await;
    }
    let look =
        |claimed: &Claimed| format!("{:?} {:?} {}", claimed.event, claimed.max_attempts, claimed.crashes);
    let first = world.claim(1).await.remove(0);
    let done = |claimed: &Claimed| Finished {
        lease: claimed.lease,
        finish: Finish::Done,
        result: None,
        delivered: None,
    };
    let next = Next { owner: "somebody", lease: Duration::from_secs(30), until: Utc::now() };

    let leased = finish(&world.pool, &[done(&first)], Some(next)).await.unwrap().next.remove(0);
    world.let_leases_run_out().await;
    world.sql("update restante.outbox set status = 'pending', attempt = 0, crashes = 0 where event_id = 'second'").await;
    let claimed = world.claim(1).await.remove(0);

    assert_eq!(look(&leased), look(&claimed));
    assert_eq!(leased.event.event_id, "second");
    finish(&world.pool, &[done(&claimed)], None).await.unwrap();
}
