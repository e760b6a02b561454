//! An API that refuses or is away, with many events waiting: nothing is buried or counted, `status` says why in a line, and all of it
//! goes on soon after the repair.
//!
//! Among the other tests each outage lasts for a moment; `make crowd-test` lets it last for ten minutes with 2,000 events, and
//! prints how soon the first event was done and the last. `RESTANTE_OUTAGE_ONLY` names one of them.

use std::time::{Duration, Instant};

use secrecy::ExposeSecret;
use serde_json::json;

use crate::support::api::{Answer, ScriptedApi};
use crate::support::forwarder::Forwarder;
use crate::support::processes::{Process, tool};
use crate::support::{World, eventually};

/// Nobody listens there.
const CLOSED_PORT: u16 = 9;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_api_buries_and_counts_nothing_and_its_end_is_noticed_at_once() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let lasts = Duration::from_secs(number("RESTANTE_OUTAGE_SECONDS").unwrap_or(2));
    let events = number("RESTANTE_OUTAGE_EVENTS").unwrap_or(100);
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let port = api.origin.rsplit(':').next().unwrap().parse().unwrap();
    let way = Forwarder::to(port).await;
    let origin = format!("http://127.0.0.1:{}", way.port);
    let _worker = Process::worker(&world.url, &origin, &[]).await;
    let session = |id: &str| Answer::json(&json!({ "type": "session", "id": id, "status": "idle" }));

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

fn world_event(id: &str) -> serde_json::Value {
    json!({ "type": "event", "id": format!("wevt_{id}"), "created_at": "2026-11-01T12:00:00Z",
            "data": { "type": "session.updated", "id": id } })
}

/// What `restante status` says.
fn told(world: &World) -> String {
    let status = std::process::Command::new(tool())
        .arg("status")
        .env("DATABASE_URL", world.url.expose_secret())
        .output()
        .unwrap();
    String::from_utf8(status.stdout).unwrap()
}
