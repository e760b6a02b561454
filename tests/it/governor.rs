//! Several workers and one limit of the API: together they keep to it, and a repair brings no rush.

mod breaker;
mod refused;
mod sql;

use std::time::Duration;

use chrono::{DateTime, Utc};
use restante_simulator::Settings;
use serde_json::{Value, json};

use crate::support::{Process, SimulatedApi, World, eventually};

/// Requests a second that the API answers.
const LIMIT: u32 = 100;

/// A world whose events are about objects of an API with a limit.
struct Company {
    world: World,
    api: SimulatedApi,
}

/// What the API saw.
struct Seen {
    at: Vec<DateTime<Utc>>,
    limited: usize,
}

impl Company {
    async fn with_events(count: usize) -> Self {
        let mut settings = Settings { seed: Some(7), ..Settings::default() };
        settings.faults.limit_per_second = Some(LIMIT);
        let company = Self { world: World::new().await, api: SimulatedApi::start_with(settings).await };
        let mut events = Vec::new();
        for nth in 0..count {
            let id = format!("sesn_{nth}");
            company.api.resource(json!({ "type": "session", "id": id })).await;
            events.push(
                json!({ "type": "event", "id": format!("e{nth}"), "created_at": "2026-11-01T12:00:00Z",
                                "data": { "type": "session.updated", "id": id } }),
            );
        }
        assert_eq!(company.world.receive_bodies(&events).await, count as u64);
        company
    }

    async fn workers(&self, count: usize) -> Vec<Process> {
        let mut workers = Vec::new();
        for _ in 0..count {
            workers.push(Process::worker(&self.world.url, &self.api.url, &[]).await);
        }
        workers
    }

    async fn until_all_are_done(&self, count: usize) {
        let done = "select count(*) from restante.outbox where type = 'session.updated' and status = 'done'";
        eventually("all events done", async || {
            (self.world.value(done).await == count.to_string()).then_some(())
        })
        .await;
    }

    /// The calls that were answered after this moment, or refused for the limit.
    async fn seen_since(&self, start: DateTime<Utc>) -> Seen {
        let seen = self.api.requests().await;
        let at = |one: &Value| one["at"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
        let after: Vec<&Value> = seen
            .iter()
            .filter(|one| at(one) >= start && one["path"].as_str().unwrap().contains("/v1/sessions/sesn_"))
            .collect();
        Seen {
            at: after.iter().map(|one| at(one)).collect(),
            limited: after.iter().filter(|one| one["status"] == 429).count(),
        }
    }
}

impl Seen {
    /// The most calls within a second that begins with one of them.
    fn most_within_a_second(&self) -> usize {
        let within = |first: &DateTime<Utc>| {
            self.at.iter().filter(|at| *at >= first && **at < *first + Duration::from_secs(1)).count()
        };
        self.at.iter().map(within).max().unwrap_or(0)
    }

    /// A machine that stands still for half a second makes calls arrive together, so how they arrived counts only where nothing else
    /// runs: `make governor-test`. Beside other tests, the limit is at least not ignored.
    fn keeps_to_the_limit(&self) {
        let limited = format!("{} of {} were answered 429", self.limited, self.at.len());
        if std::env::var_os("RESTANTE_GOVERNOR_ALONE").is_some() {
            assert!(self.limited * 100 < self.at.len(), "{limited}");
            assert!(self.most_within_a_second() <= LIMIT as usize * 3 / 2, "{}", self.most_within_a_second());
        } else {
            assert!(self.limited * 2 < self.at.len(), "{limited}");
        }
    }

    fn print(&self, what: &str) {
        let (first, last) = (self.at.iter().min().unwrap(), self.at.iter().max().unwrap());
        let seconds = (*last - *first).as_seconds_f64();
        println!(
            "{what}: {} calls in {seconds:.1} s, {:.0} % of the limit; {} answered 429; at most {} in a second",
            self.at.len(),
            self.at.len() as f64 / seconds / f64::from(LIMIT) * 100.0,
            self.limited,
            self.most_within_a_second(),
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_workers_share_a_limit_and_keep_to_it() {
    const EVENTS: usize = 1000;
    let company = Company::with_events(EVENTS).await;
    let start = Utc::now();
    let _workers = company.workers(4).await;

    company.until_all_are_done(EVENTS).await;

    let seen = company.seen_since(start).await;
    seen.print("four workers");
    let cost = company
        .world
        .value("select statements_per_call from restante.governor_overview where class = 'objects'");
    println!("statements per call: {}", cost.await);
    seen.keeps_to_the_limit();
    assert_eq!(
        company.world.value("select max(attempt) from restante.outbox where status = 'done'").await,
        "1"
    );
    let leases = "select leases < calls_leased and calls_leased > 0 from restante.governor_overview where class = 'objects'";
    assert_eq!(company.world.value(leases).await, "true");
}
