//! The API refuses requests or is away while many events wait: no event becomes a dead letter, no attempt counts, `status` says why
//! in a line, and all events go on soon after the outage ends.
//!
//! In the normal tests each outage is short. `make crowd-test` lets it last for ten minutes with 2,000 events, and prints how soon
//! the first and the last event were done. `RESTANTE_OUTAGE_ONLY` names a single outage. The last kind is a database that takes no
//! writes.

use std::time::{Duration, Instant};

use restante::database;
use restante_playground::process::Signal;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::support::api::{Answer, ScriptedApi};
use crate::support::forwarder::Forwarder;
use crate::support::processes::{Process, tool};
use crate::support::servers::Server;
use crate::support::{World, eventually};

/// A port on which nothing listens.
const CLOSED_PORT: u16 = 9;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_api_buries_and_counts_nothing_and_its_end_is_noticed_at_once() {
    let (lasts, events) = scale();
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let port = api.origin.rsplit(':').next().unwrap().parse().unwrap();
    let way = Forwarder::to(port).await;
    let origin = format!("http://127.0.0.1:{}", way.port);
    let _worker = Process::worker(&world.url, &origin, &[]).await;

    let refused = |status, kind| Some(Answer::refusal(status, kind, ""));
    let outages = [
        ("refused_400", "400 invalid_request_error", refused(400, "invalid_request_error")),
        ("refused_401", "401 authentication_error", refused(401, "authentication_error")),
        ("overloaded", "529 overloaded_error", refused(529, "overloaded_error")),
        ("unreachable", "", None),
    ];
    let only = std::env::var("RESTANTE_OUTAGE_ONLY").ok();
    let mut before = 0;
    for (name, why, answer) in outages {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        match &answer {
            Some(_) => api.answer_all(answer),
            None => way.moved_to(CLOSED_PORT),
        }
        let mut waiting = Vec::new();
        for n in 0..events {
            let id = format!("sesn_{name}_{n}");
            api.answer(&format!("/v1/sessions/{id}"), session(&id));
            waiting.push(world_event(&id));
        }
        world.receive_bodies(&waiting).await;
        tokio::time::sleep(lasts).await;

        let buried = "select count(*) from restante.outbox where type = 'session.updated' and (attempt > 1 or status = 'dead')";
        assert_eq!(world.value(buried).await, "0", "{name}");
        assert_eq!(world.value("select count(*) from restante.failure").await, "0", "{name}");
        eventually("status says why", async || {
            let status = told(&world);
            (status.contains("because of us") && status.contains(why)).then_some(())
        })
        .await;

        let mended = Instant::now();
        api.answer_all(None);
        way.moved_to(port);
        let done = async |at_least: u64| {
            let done =
                "select count(*) from restante.outbox where type = 'session.updated' and status = 'done'";
            (world.value(done).await.parse::<u64>().unwrap() >= at_least).then_some(())
        };
        eventually(&format!("the first event done after {name}"), async || done(before + 1).await).await;
        println!("{name}: the first of {events} events done {:?} after the repair", mended.elapsed());
        for quarter in 1..=4 {
            eventually(&format!("{quarter} quarters of the events done after {name}"), async || {
                done(before + events * quarter / 4).await
            })
            .await;
        }
        println!("{name}: all of them done {:?} after the repair", mended.elapsed());
        before += events;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_no_writes_for_a_while_buries_and_counts_nothing_and_its_return_is_noticed_at_once()
 {
    let (lasts, events) = scale();
    let mut server = Server::primary().await;
    database::migrate(&server.url()).await.unwrap();
    let api = ScriptedApi::new().await;
    let mut worker = Process::worker(&server.url(), &api.origin, &[]).await;
    let world = World::on(server.url()).await;
    // The worker is stopped until the database is read-only, so that all events wait through the outage.
    worker.signal(Signal::Stop);
    let mut waiting = Vec::new();
    for n in 0..events {
        let id = format!("sesn_{n}");
        api.answer(&format!("/v1/sessions/{id}"), session(&id));
        waiting.push(world_event(&id));
    }
    world.receive_bodies(&waiting).await;
    world.pool.close().await;
    server.stop().await;
    server.takes_no_writes();
    server.start().await;
    worker.signal(Signal::Continue);
    // Our own pools accept no connection to a standby, so this one is plain.
    let mut world = World::on(server.url()).await;
    world.pool = sqlx::PgPool::connect(server.url().expose_secret()).await.unwrap();
    tokio::time::sleep(lasts).await;

    let touched =
        "select count(*) from restante.outbox where attempt > 0 or status not in ('pending', 'blocked')";
    assert_eq!(world.value(touched).await, "0");
    let said = told(&world);
    assert!(said.contains("the database takes no writes, because this server is a standby"), "{said}");
    let (status, ready) = worker.ops("/readyz").await;
    assert_eq!(status, 503, "{ready}");

    let mended = Instant::now();
    server.promote().await;
    let done = "select count(*) from restante.outbox where status = 'done'";
    eventually("the first event done", async || (world.value(done).await != "0").then_some(())).await;
    let first = mended.elapsed();
    println!("read_only: the first of {events} events done {first:?} after the repair");
    assert!(first < Duration::from_secs(10), "{first:?}");
    eventually("all events done", async || (world.value(done).await == events.to_string()).then_some(()))
        .await;
    println!("read_only: all of them done {:?} after the repair", mended.elapsed());
    assert_eq!(world.value("select max(attempt) from restante.outbox").await, "1");
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
    assert_eq!(worker.stopped().await, Some(0));
}

/// How long an outage lasts, and how many events wait through it.
fn scale() -> (Duration, u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    (
        Duration::from_secs(number("RESTANTE_OUTAGE_SECONDS").unwrap_or(2)),
        number("RESTANTE_OUTAGE_EVENTS").unwrap_or(100),
    )
}

fn session(id: &str) -> Answer {
    Answer::json(&json!({ "type": "session", "id": id, "status": "idle" }))
}

fn world_event(id: &str) -> serde_json::Value {
    json!({ "type": "event", "id": format!("wevt_{id}"), "created_at": "2026-11-01T12:00:00Z",
            "data": { "type": "session.updated", "id": id } })
}

/// The output of `restante status`.
fn told(world: &World) -> String {
    let status = std::process::Command::new(tool())
        .arg("status")
        .env("DATABASE_URL", world.url.expose_secret())
        .output()
        .unwrap();
    String::from_utf8(status.stdout).unwrap()
}
