//! Traces: one for each delivery, from ingest to the last call that it causes, and nothing that depends on them.

mod collector;

use std::collections::BTreeSet;

use restante::event::{ANTHROPIC, NewEvent};
use restante::internals::outbox::{Source, insert_events};
use serde_json::json;
use tokio::net::TcpListener;

use crate::endpoints::{SECRET, receiver::Receiver};
use crate::support::processes::API_KEY;
use crate::support::sender::Delivery;
use crate::support::{Process, Sender, SimulatedApi, World, eventually};
use collector::{Collector, Kept};

/// The trace of somebody who calls ingest, which asks to be kept.
const OUTSIDE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A time that no test lasts: what was not sent by then is sent at the end.
const ONLY_AT_THE_END: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "600000");

async fn until_done(world: &World, events: u32) {
    eventually("everything is dealt with", async || {
        let waiting = "select (count(*) filter (where status in ('done', 'ignored')) >= $1
                                and count(*) filter (where status in ('pending', 'running', 'blocked')) = 0)::text
                         from restante.outbox";
        let waiting = waiting.replace("$1", &events.to_string());
        (world.value(&waiting).await == "true").then_some(())
    })
    .await;
}

/// Makes it so that a batch was submitted from here, and that nobody looks after it but the webhook.
async fn submitted_as(world: &World, batch: &str) {
    let requests = r#"[{"custom_id":"1","params":{"model":"m","max_tokens":1,"messages":[]}}]"#;
    sqlx::query("select restante.submit_batch($1::json, name => 'night')")
        .bind(requests)
        .execute(&world.pool)
        .await
        .unwrap();
    let sent = "do $$ begin
                  set local session_replication_role = replica;
                  update restante.submission_part set status = 'submitted', submitted_at = now(), batch_id = '$1';
                  delete from restante.outbox_live where type = 'batch.submit';
                end $$";
    world.sql(&sent.replace("$1", batch)).await;
}

/// A webhook tells of a batch, its results are fetched, and an endpoint is told that they are there.
#[tokio::test(flavor = "multi_thread")]
async fn one_trace_reaches_a_collector_with_every_span_from_delivery_to_notification() {
    let (world, api, collector) = (World::new().await, SimulatedApi::start().await, Collector::start().await);
    let receiver = Receiver::start().await;
    let insert = "insert into restante.endpoint (name, url, secret, event_types) values ('shop', $1, $2, '{batch.results_ready}')";
    sqlx::query(insert).bind(receiver.url("/hook")).bind(SECRET).execute(&world.pool).await.unwrap();
    let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), ONLY_AT_THE_END];
    let mut ingest = Process::ingest(&world.url, &traced).await;
    let more = [("RESTANTE_ALLOW_PRIVATE_ENDPOINTS", "true"), ("RUST_LOG", "restante=debug")];
    let mut worker = Process::worker(&world.url, &api.url, &[&traced[..], &more].concat()).await;
    let sender = Sender::to(ingest.address());
    let batch = api.batch(3).await;
    submitted_as(&world, &batch).await;
    let told = |mut delivery: Delivery| {
        delivery.headers.push(("traceparent", OUTSIDE.to_owned()));
        delivery
    };

    let forged = Delivery::signed_with(b"some other key of 32 bytes, hmm!", "whe_0", "{\"canary\":1}");
    assert_eq!(sender.status(&told(forged)).await, 401);
    assert_eq!(sender.status(&told(Delivery::event("whe_1", "batch.completed", &batch))).await, 204);
    eventually("the endpoint was told", async || (!receiver.arrived().is_empty()).then_some(())).await;
    until_done(&world, 3).await;
    assert!(collector.spans().is_empty(), "the spans that follow came at the end");
    assert_eq!((ingest.stopped().await, worker.stopped().await), (Some(0), Some(0)));
    let log = worker.log();

    let spans = collector.spans();
    let one = |title: &str| -> Kept {
        let found: Vec<_> = spans.iter().filter(|kept| kept.title() == title).collect();
        assert_eq!(found.len(), 1, "{title}: {:?}", spans.iter().map(Kept::title).collect::<Vec<_>>());
        found[0].clone()
    };
    let delivery = one("delivery");
    let (attempt, told) = (one("attempt batch.completed"), one("attempt notify.shop"));
    let (commit, notification) = (one("commit"), one("notification"));
    assert_eq!(delivery.parent(), "", "what somebody outside says is no parent");
    assert_ne!(delivery.trace(), &OUTSIDE[3..35]);
    assert_eq!(hex::encode(&delivery.span.links[0].span_id), &OUTSIDE[36..52]);
    for (part, whole) in
        [(&commit, &delivery), (&attempt, &delivery), (&told, &attempt), (&notification, &told)]
    {
        assert_eq!(part.parent(), whole.id(), "{} is a part of {}", part.title(), whole.title());
        assert_eq!(part.trace(), delivery.trace());
    }
    let of_trace = |name: &str| {
        let named = spans.iter().filter(move |kept| kept.span.name == name);
        named.filter(|kept| kept.trace() == delivery.trace()).map(Kept::parent).collect::<BTreeSet<_>>()
    };
    assert_eq!(of_trace("api call"), [attempt.id()].into());
    let settled = of_trace("settle");
    assert!(settled.contains(&attempt.id()) && settled.contains(&told.id()), "{settled:?}");
    assert_eq!(
        receiver.arrived()[0].header("traceparent"),
        format!("00-{}-{}-01", delivery.trace(), notification.id())
    );
    assert_eq!((delivery.service.as_str(), attempt.service.as_str()), ("restante-ingest", "restante-worker"));
    assert_eq!(attempt.attribute("restante.outcome"), "done");
    assert_eq!(delivery.attribute("restante.event.id"), "whe_1");
    assert_eq!(notification.attribute("http.response.status_code"), "204");
    let line = log.lines().find(|line| line.contains("attempt ended") && line.contains("whe_1")).expect(&log);
    assert!(line.contains(&delivery.trace()), "{line}");

    let secrets = [API_KEY, SECRET, "canary", "wrkspc_1", receiver.origin.as_str(), "whe_0"];
    for secret in secrets {
        assert!(!collector.text().contains(secret), "{secret} is in a span");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sampler_leaves_out_stays_out_in_every_program() {
    let (world, api, collector) = (World::new().await, SimulatedApi::start().await, Collector::start().await);
    let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), ONLY_AT_THE_END];
    let never = [("OTEL_TRACES_SAMPLER", "always_off")];
    let mut ingest = Process::ingest(&world.url, &[&traced[..], &never].concat()).await;
    let mut worker = Process::worker(&world.url, &api.url, &traced).await;
    let sender = Sender::to(ingest.address());
    let mut asks = Delivery::event("whe_1", "order.placed", "k");
    asks.headers.push(("traceparent", OUTSIDE.to_owned()));

    assert_eq!(sender.status(&asks).await, 204);
    until_done(&world, 1).await;
    assert_eq!((ingest.stopped().await, worker.stopped().await), (Some(0), Some(0)));

    let kept = world.value("select traceparent from restante.outbox where event_id = 'whe_1'").await;
    assert!(kept.ends_with("-00"), "{kept}");
    let of_event = |kept: &&Kept| kept.attribute("restante.event.id") == "whe_1";
    assert_eq!(collector.spans().iter().filter(of_event).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_silent_costs_spans_and_nothing_else() {
    let (world, api) = (World::new().await, SimulatedApi::start().await);
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", silent.local_addr().unwrap());
    let soon = ("OTEL_BSP_SCHEDULE_DELAY", "20");
    let mut ingest =
        Process::ingest(&world.url, &[("OTEL_EXPORTER_OTLP_ENDPOINT", silent.as_str()), soon]).await;
    let away = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), soon];
    let mut worker = Process::worker(&world.url, &api.url, &away).await;
    let sender = Sender::to(ingest.address());
    let failed = async || worker.metric(r#"restante_trace_exports_total{result="failure"}"#).await;

    for number in 0..20 {
        let delivery = Delivery::event(&format!("whe_{number}"), "order.placed", &format!("k{number}"));
        assert_eq!(sender.status(&delivery).await, 204);
    }
    until_done(&world, 20).await;
    eventually("several batches of spans are lost", async || (failed().await >= 2.0).then_some(())).await;

    assert_eq!(worker.log().matches("spans cannot be sent").count(), 1, "{}", worker.log());
    assert_eq!((ingest.stopped().await, worker.stopped().await), (Some(0), Some(0)));
}

fn event(event_id: &str, traceparent: Option<&str>) -> NewEvent {
    let body = json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z",
                       "data": { "type": "order.placed", "id": event_id } });
    let event = restante::internals::envelope::read(body.to_string().as_bytes(), None, 0).unwrap();
    NewEvent { sender: ANTHROPIC.to_owned(), traceparent: traceparent.map(str::to_owned), ..event }
}

const TRACES: &str = "select string_agg(concat_ws(' ', sender, event_id, coalesce(traceparent, 'none')), ', ' order by sender, event_id)
                        from restante.outbox where type = 'order.placed'";

#[tokio::test]
async fn events_that_share_a_commit_keep_a_trace_each_and_their_notifications_go_on_with_it() {
    let trace = |n: u32| format!("00-{n:032x}-{n:016x}-01");
    for together in [false, true] {
        let world = World::new().await;
        let insert = "insert into restante.endpoint (name, url, secret, event_types) values ('shop', 'https://example.com', $1, '{order.*}')";
        sqlx::query(insert).bind(SECRET).execute(&world.pool).await.unwrap();
        let mut events = vec![
            event("a", Some(&trace(1))),
            event("b", None),
            event("b\u{1e}a\u{1e}", Some(&trace(2))),
            event("c", Some("no trace at all")),
        ];
        events.push(NewEvent { sender: "shop".to_owned(), account: None, ..event("a", Some(&trace(3))) });

        for call in events.chunks(if together { events.len() } else { 1 }) {
            insert_events(&world.pool, Source::Webhook, call).await.unwrap();
        }

        let odd = if together { "none".to_owned() } else { trace(2) };
        assert_eq!(
            world.value(TRACES).await,
            format!(
                "anthropic a {}, anthropic b none, anthropic b\u{1e}a\u{1e} {odd}, anthropic c none, shop a {}",
                trace(1),
                trace(3)
            )
        );
        let sent_on = "select string_agg(traceparent, ' ' order by sender) from restante.outbox
                        where type = 'notify.shop' and payload #>> '{body,id}' = 'a'";
        assert_eq!(world.value(sent_on).await, format!("{} {}", trace(1), trace(3)));
    }
}

#[tokio::test]
async fn an_application_may_set_the_trace_of_what_it_stores_and_a_wrong_one_costs_nothing() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.unwrap();
    for (event_id, setting) in
        [("right", OUTSIDE), ("wrong", "'; drop table outbox"), ("cut", &OUTSIDE[..50])]
    {
        sqlx::query("select set_config('restante.traceparent', $1, true)")
            .bind(setting)
            .execute(&mut *tx)
            .await
            .unwrap();
        let enqueue = "select restante.enqueue('order.placed', '{}', event_id => $1)";
        sqlx::query(enqueue).bind(event_id).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    world.sql("select restante.enqueue('order.placed', '{}', event_id => 'without')").await;

    assert_eq!(
        world.value(TRACES).await,
        format!(
            "anthropic cut none, anthropic right {OUTSIDE}, anthropic without none, anthropic wrong none"
        )
    );
}
