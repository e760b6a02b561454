//! A key that is refused while much waits: what needs the API is not claimed, and the repair brings no rush.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use tokio::time::Instant;

use super::{Company, LIMIT};
use crate::support::eventually;

const SAYS_TROUBLE: &str = "the API does not answer as it should";
const SAYS_REPAIR: &str = "the API answers again";

/// How many times the line is in the logs of these workers together.
fn lines(workers: &[crate::support::Process], text: &str) -> usize {
    workers.iter().map(|worker| worker.log().matches(text).count()).sum()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_stops_claims_uses_no_attempt_and_its_repair_brings_no_rush() {
    let events = number("RESTANTE_REFUSED_EVENTS").unwrap_or(1000);
    let seconds = number("RESTANTE_REFUSED_SECONDS").unwrap_or(3);
    let company = Company::with_events(usize::try_from(events).unwrap()).await;
    let world = &company.world;
    company.api.faults(json!({ "outages": [{ "seconds": 100_000, "error": "401" }] })).await;
    let workers = company.workers(4).await;

    let is_open = format!(
        "select count(*) from restante.api_breaker where opened_at < clock_timestamp() - interval '{seconds} s' and probes > 0"
    );
    let patience = Instant::now() + Duration::from_secs(seconds + 60);
    while world.value(&is_open).await != "1" {
        assert!(Instant::now() < patience, "the breaker is not open");
        // What needs no API goes on.
        world.value("select restante.enqueue('greeting.sent', '{}')").await;
        eventually("an event that needs no API", async || {
            let waits = "select count(*) from restante.outbox_live where type = 'greeting.sent'";
            (world.value(waits).await == "0").then_some(())
        })
        .await;
    }
    let waiting = "select count(*) filter (where status = 'pending') || ' wait unclaimed, ' || count(*) filter (where outcome = 'trouble')
                     || ' were claimed before' from restante.outbox_live where type = 'session.updated'";
    println!("while the key is refused: {}", world.value(waiting).await);
    let unclaimed = "select count(*) filter (where status = 'pending') from restante.outbox_live where type = 'session.updated'";
    assert!(world.value(unclaimed).await.parse::<u64>().unwrap() > events / 2, "claims have stopped");
    let said = "select state || ': ' || subject from restante.health_finding where question = 'trouble'";
    assert_eq!(world.value(said).await, "act: anthropic");
    assert_eq!(world.value("select state from restante.health where question = 'workers'").await, "ok");

    for worker in &workers {
        let is_told = |text: &str| {
            text.contains("what needs the API is not claimed: sessions of the account anthropic")
        };
        let (status, ready) = worker.ops("/readyz").await;
        assert!(status == 200 && is_told(&ready), "{status} {ready}");
        eventually("the metric", async || {
            (worker.metric("restante_api_breaker_open{account=\"anthropic\"}").await == 1.0).then_some(())
        })
        .await;
    }

    let repair = Utc::now();
    company.api.faults(json!({ "outages": [] })).await;
    let patience = Instant::now() + Duration::from_secs(60 + events / u64::from(LIMIT) * 3);
    let done = "select count(*) from restante.outbox where type = 'session.updated' and status = 'done'";
    while world.value(done).await != events.to_string() {
        if Instant::now() >= patience {
            let why = "select string_agg(l, E'\\n') from (select format('%s %s %s in %s s: %s; %s', count(*), status, outcome, round(extract(epoch from max(run_at) filter (where run_at > '-infinity') - clock_timestamp())), last_error, max(lease_owner)) as l
                         from restante.outbox_live where type = 'session.updated' group by status, outcome, last_error) as g";
            panic!("{} are done:\n{}\n{}", world.value(done).await, world.value(why).await, workers[0].log());
        }
        eventually("one more event", async || {
            let now = world.value(done).await;
            (now != "0").then_some(())
        })
        .await;
        tokio::task::yield_now().await;
    }

    let seen = company.seen_since(repair).await;
    seen.print("after the repair");
    let first = *seen.at.iter().min().unwrap() - repair;
    println!("the first call came {} ms after the repair", first.num_milliseconds());
    let first_done = "select min(finished_at)::text from restante.outbox where type = 'session.updated' and status = 'done'";
    println!("the first event was done at {}, the repair was at {repair}", world.value(first_done).await);
    seen.keeps_to_the_limit();
    let attempts = "select max(attempt) || ' ' || (select count(*) from restante.failure) from restante.outbox where type = 'session.updated'";
    assert_eq!(world.value(attempts).await, "1 0", "no attempt was used");
    assert_eq!(lines(&workers, SAYS_TROUBLE), 1, "one alarm over all workers");
    assert_eq!(lines(&workers, SAYS_REPAIR), 1, "and one end");
    let stands =
        "select times_opened || ' ' || (opened_at is null) || ' ' || is_releasing from restante.api_breaker";
    assert_eq!(world.value(stands).await, "1 true false");
    if std::env::var_os("RESTANTE_GOVERNOR_ALONE").is_some() {
        assert!(first < chrono::TimeDelta::seconds(10));
        assert_eq!(seen.limited, 0, "not one 429");
    }
}
