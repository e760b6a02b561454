//! Many events of one object are settled by few requests, and their order decides nothing.

use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use restante::{handlers, worker};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::api::{Answer, ScriptedApi};
use crate::support::{World, eventually};

fn told(event_id: &str, second: usize, data: Value) -> Value {
    let created_at = format!("2026-11-01T12:{:02}:{:02}Z", second / 60 % 60, second % 60);
    json!({ "type": "event", "id": event_id, "created_at": created_at, "data": data })
}

async fn work_with(world: &World, api: &ScriptedApi) {
    let settings = handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: false,
    };
    let registry = handlers::registry(settings);
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry, api.client())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_thousand_events_of_one_session_take_few_requests_and_all_are_settled() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    let session = json!({ "id": "sesn_1", "type": "session", "status": "running", "updated_at": "2026-11-01T13:00:00Z" });
    api.answer("/v1/sessions/sesn_1", Answer::json(&session));
    let types = ["session.status_run_started", "session.status_idled", "session.updated"];
    let bodies: Vec<Value> = (0..1000)
        .map(|n| told(&format!("whe_{n}"), n, json!({ "type": types[n % 3], "id": "sesn_1" })))
        .collect();
    world.receive_bodies(&bodies).await;

    work_with(&world, &api).await;

    assert!(api.requests().len() <= 20, "{} requests", api.requests().len());
    let settled = "select concat_ws(' ', count(*) filter (where status = 'done'), count(*) filter (where result->>'settled_by' = 'whe_0'))
                     from restante.outbox";
    assert_eq!(world.value(settled).await, "1000 999");
    assert_eq!(
        world.value("select status || ' ' || updated_at from restante.resource").await,
        "running 2026-11-01 13:00:00+00"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_arrives_while_a_worker_runs_takes_four_requests_a_second_at_most() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    let session = json!({ "id": "sesn_1", "type": "session", "status": "running", "updated_at": "2026-11-01T13:00:00Z" });
    api.answer("/v1/sessions/sesn_1", Answer::json(&session));
    let stop = CancellationToken::new();
    let settings = handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: false,
    };
    let (registry, pool) = (handlers::registry(settings), world.pool.clone());
    let running = worker::run(world.worker_settings(), pool, registry, api.client(), stop.clone());
    let running = tokio::spawn(running);
    let began = Instant::now();

    for part in 0..50 {
        let told = |n: usize| {
            told(
                &format!("whe_{part}_{n}"),
                part * 20 + n,
                json!({ "type": "session.updated", "id": "sesn_1" }),
            )
        };
        let bodies: Vec<Value> = (0..20).map(told).collect();
        world.receive_bodies(&bodies).await;
    }
    let done = "select count(*) from restante.outbox where status = 'done'";
    eventually("all are settled", async || (world.value(done).await == "1000").then_some(())).await;

    // However long it took: the bound is that of the pauses.
    let at_most = began.elapsed().as_millis() / 250 + 2;
    let requests = api.requests().len() as u128;
    assert!(requests <= at_most, "{requests} requests, and there was time for {at_most}");
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_is_final_or_of_another_object_is_not_settled_by_the_fetch() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    for (path, kind) in [("sesn_1", "session"), ("sesn_1/threads/sthr_1", "session_thread")] {
        let id = path.rsplit('/').next().unwrap();
        let object =
            json!({ "id": id, "type": kind, "status": "running", "updated_at": "2026-11-01T13:00:00Z" });
        api.answer(&format!("/v1/sessions/{path}"), Answer::json(&object));
    }
    world
        .receive_bodies(&[
            told("whe_1", 1, json!({ "type": "session.updated", "id": "sesn_1" })),
            told(
                "whe_2",
                2,
                json!({ "type": "session.thread_created", "id": "sesn_1", "session_thread_id": "sthr_1" }),
            ),
            told("whe_3", 3, json!({ "type": "session.updated", "id": "sesn_1" })),
            told("whe_4", 4, json!({ "type": "session.deleted", "id": "sesn_1" })),
        ])
        .await;

    work_with(&world, &api).await;

    let settled = "select string_agg(concat_ws(' ', event_id, status, result->>'settled_by'), ', ' order by event_id) from restante.outbox";
    assert_eq!(world.value(settled).await, "whe_1 done, whe_2 done, whe_3 done whe_1, whe_4 done");
    let gone =
        "select string_agg(concat_ws(' ', type, gone_because), ', ' order by type) from restante.resource";
    assert_eq!(world.value(gone).await, "session deleted, session_thread");
}

#[tokio::test]
async fn an_attempt_that_fails_settles_nothing() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    api.answer("/v1/vaults/vlt_1", Answer::refusal(500, "api_error", ""));
    for n in 1..=3 {
        world
            .receive_body(&told(&format!("whe_{n}"), n, json!({ "type": "vault.created", "id": "vlt_1" })))
            .await;
    }

    work_with(&world, &api).await;

    let states = "select string_agg(status, ' ' order by event_id) from restante.outbox";
    assert_eq!(world.value(states).await, "retry blocked blocked");
}

#[tokio::test]
async fn what_came_while_the_state_was_asked_for_is_asked_for_again() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    let state = |status: &str, minute: u32| json!({ "id": "depl_1", "type": "deployment", "status": status, "updated_at": format!("2026-11-01T13:{minute:02}:00Z") });
    api.answer("/v1/deployments/depl_1", Answer::json(&state("active", 0)));
    world.receive_body(&told("whe_1", 1, json!({ "type": "deployment.created", "id": "depl_1" }))).await;
    let claimed = world.claim(1).await;
    world.receive_body(&told("whe_2", 2, json!({ "type": "deployment.paused", "id": "depl_1" }))).await;

    let waiting =
        restante::internals::outbox::waiting::behind(&world.pool, &claimed[0].event, None).await.unwrap();

    assert!(waiting.is_empty(), "{waiting:?}");
    world.let_leases_run_out().await;
}

/// The state of all objects after these deliveries.
async fn state_after(bodies: &[Value], api: &ScriptedApi) -> String {
    let world = World::new().await;
    for part in bodies.chunks(500) {
        world.receive_bodies(part).await;
    }
    work_with(&world, api).await;
    assert_eq!(world.value("select count(*) from restante.outbox where status <> 'done'").await, "0");
    world
        .value("select string_agg(concat_ws(' ', id, status, updated_at, gone_because), E'\\n' order by id) from restante.resource")
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn shuffled_and_repeated_deliveries_of_a_thousand_objects_end_in_the_same_state() {
    let api = ScriptedApi::new().await;
    let mut in_order = Vec::new();
    for n in 0..1000 {
        let id = format!("depl_{n:04}");
        let deployment = json!({ "id": id, "type": "deployment", "status": "paused", "updated_at": "2026-11-01T13:00:00Z" });
        api.answer(&format!("/v1/deployments/{id}"), Answer::json(&deployment));
        for (step, change) in ["created", "updated", "paused", "deleted"].into_iter().enumerate() {
            if change != "deleted" || n % 4 == 0 {
                in_order.push(told(
                    &format!("whe_{n}_{step}"),
                    step,
                    json!({ "type": format!("deployment.{change}"), "id": id }),
                ));
            }
        }
    }
    let expected = state_after(&in_order, &api).await;
    assert_eq!(expected.lines().filter(|line| line.ends_with("deleted")).count(), 250);

    for seed in [1, 2] {
        let mut random = StdRng::seed_from_u64(seed);
        let mut bodies: Vec<Value> = in_order.iter().chain(in_order.iter().step_by(3)).cloned().collect();
        bodies.shuffle(&mut random);
        // A deleted object has no last state if its deletion comes first.
        let gone_or_equal = |(one, other): (&str, &str)| {
            one == other || (one.ends_with("deleted") && other.ends_with("deleted"))
        };
        let state = state_after(&bodies, &api).await;
        assert_eq!(state.lines().count(), expected.lines().count(), "seed {seed}");
        assert!(state.lines().zip(expected.lines()).all(gone_or_equal), "seed {seed}");
    }
}
