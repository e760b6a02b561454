//! Every type of event that the API sends: the worker requests the right object, and stores the answer.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use restante::{api, handlers, worker};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::api::{Answer, ScriptedApi};

/// A type of event, the path that the worker must request, and the beta that it must name. No path: it may request nothing.
type Expected = (&'static str, Option<&'static str>, Option<&'static str>, &'static str);

const MA: Option<&str> = Some("managed-agents-2026-04-01");
const EFS: Option<&str> = Some("efs-2026-10-01");
const MEM: Option<&str> = Some("agent-memory-2026-07-22");
const SESSION: Option<&str> = Some("/v1/sessions/sesn_1");
const THREAD: Option<&str> = Some("/v1/sessions/sesn_1/threads/sthr_1");
const VAULT: Option<&str> = Some("/v1/vaults/vlt_1");
const CREDENTIAL: Option<&str> = Some("/v1/vaults/vlt_1/credentials/vcrd_1");
const AGENT: Option<&str> = Some("/v1/agents/agent_1");
const DEPLOYMENT: Option<&str> = Some("/v1/deployments/depl_1");
const RUN: Option<&str> = Some("/v1/deployment_runs/drun_1");
const ENVIRONMENT: Option<&str> = Some("/v1/environments/env_1");
const STORE: Option<&str> = Some("/v1/memory_stores/memstore_1");
const PROFILE: Option<&str> = Some("/v1/user_profiles/uprof_1");
// An ARN, with slashes and colons in it.
const STORAGE_ID: &str = "arn:aws:s3:::bucket/events";
const STORAGE: Option<&str> = Some("/v1/organizations/external_storage/arn:aws:s3:::bucket%2Fevents");
const KEY: Option<&str> = Some("/v1/organizations/external_keys/ekey_1");

/// The 51 types of the official Python SDK 2.14.0.
const TYPES: [Expected; 51] = [
    ("session.created", SESSION, MA, "session"),
    ("session.pending", SESSION, MA, "session"),
    ("session.running", SESSION, MA, "session"),
    ("session.idled", SESSION, MA, "session"),
    ("session.requires_action", SESSION, MA, "session"),
    ("session.archived", SESSION, MA, "session"),
    ("session.updated", SESSION, MA, "session"),
    ("session.deleted", None, None, "session"),
    ("session.budget_reached", SESSION, MA, "session"),
    ("session.status_run_started", SESSION, MA, "session"),
    ("session.status_idled", SESSION, MA, "session"),
    ("session.status_rescheduled", SESSION, MA, "session"),
    ("session.status_terminated", SESSION, MA, "session"),
    ("session.thread_created", THREAD, MA, "session_thread"),
    ("session.thread_idled", THREAD, MA, "session_thread"),
    ("session.thread_terminated", THREAD, MA, "session_thread"),
    ("session.outcome_evaluation_ended", SESSION, MA, "session"),
    ("vault.created", VAULT, MA, "vault"),
    ("vault.archived", VAULT, MA, "vault"),
    ("vault.deleted", None, None, "vault"),
    ("vault_credential.created", CREDENTIAL, MA, "vault_credential"),
    ("vault_credential.archived", CREDENTIAL, MA, "vault_credential"),
    ("vault_credential.deleted", None, None, "vault_credential"),
    ("vault_credential.refresh_failed", CREDENTIAL, MA, "vault_credential"),
    ("agent.created", AGENT, MA, "agent"),
    ("agent.updated", AGENT, MA, "agent"),
    ("agent.archived", AGENT, MA, "agent"),
    ("agent.deleted", None, None, "agent"),
    ("deployment.created", DEPLOYMENT, MA, "deployment"),
    ("deployment.updated", DEPLOYMENT, MA, "deployment"),
    ("deployment.paused", DEPLOYMENT, MA, "deployment"),
    ("deployment.unpaused", DEPLOYMENT, MA, "deployment"),
    ("deployment.archived", DEPLOYMENT, MA, "deployment"),
    ("deployment.deleted", None, None, "deployment"),
    ("deployment_run.started", RUN, MA, "deployment_run"),
    ("deployment_run.succeeded", RUN, MA, "deployment_run"),
    ("deployment_run.failed", RUN, MA, "deployment_run"),
    ("environment.created", ENVIRONMENT, MA, "environment"),
    ("environment.updated", ENVIRONMENT, MA, "environment"),
    ("environment.archived", ENVIRONMENT, MA, "environment"),
    ("environment.deleted", None, None, "environment"),
    ("memory_store.created", STORE, MEM, "memory_store"),
    ("memory_store.archived", STORE, MEM, "memory_store"),
    ("memory_store.deleted", None, None, "memory_store"),
    ("user_profile.enforcement_action_opened", PROFILE, None, "user_profile"),
    ("user_profile.enforcement_action_resolved", PROFILE, None, "user_profile"),
    ("user_profile.program_status_updated", PROFILE, None, "user_profile"),
    ("external_key.failed", KEY, None, "external_key"),
    ("external_key.recovered", KEY, None, "external_key"),
    ("external_storage.failed", STORAGE, EFS, "external_storage"),
    ("external_storage.recovered", STORAGE, EFS, "external_storage"),
];

/// The data of an event of a type, as the real API fills it in.
fn data(event_type: &str) -> Value {
    let (kind, what) = event_type.split_once('.').unwrap();
    let id = match kind {
        "session" => "sesn_1",
        "vault" => "vlt_1",
        "vault_credential" => "vcrd_1",
        "agent" => "agent_1",
        "deployment" => "depl_1",
        "deployment_run" => "drun_1",
        "environment" => "env_1",
        "memory_store" => "memstore_1",
        "user_profile" => "uprof_1",
        "external_key" => "ekey_1",
        "external_storage" => STORAGE_ID,
        _ => panic!("{event_type}"),
    };
    let mut data = json!({ "type": event_type, "id": id, "organization_id": "org_1" });
    if !matches!(kind, "user_profile" | "external_key" | "external_storage") {
        data["workspace_id"] = json!("wrkspc_1");
    }
    if what.starts_with("thread_") {
        data["session_thread_id"] = json!("sthr_1");
    }
    if kind == "vault_credential" {
        data["vault_id"] = json!("vlt_1");
    }
    data
}

/// A requested path, and the beta that was named.
type Question = (String, Option<String>);

/// The requests to the API since the last call.
fn asked(api: &ScriptedApi) -> Vec<Question> {
    let question = |head: &String| {
        let beta = head.lines().find_map(|line| line.strip_prefix("anthropic-beta: "));
        (head.split(' ').nth(1).unwrap().to_owned(), beta.map(str::to_owned))
    };
    api.take_requests().iter().map(question).collect()
}

async fn work(world: &World, api: &api::Client) {
    let settings = handlers::Settings {
        batch_poll: std::time::Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: false,
    };
    let registry = handlers::registry(settings);
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry, api.clone()).await.unwrap();
}

fn body(event_id: &str, second: u32, data: &Value) -> Value {
    let created_at = format!("2026-11-01T12:00:{second:02}Z");
    json!({ "type": "event", "id": event_id, "created_at": created_at, "data": data })
}

async fn receive(world: &World, event_id: &str, second: u32, data: &Value) {
    world.receive_body(&body(event_id, second, data)).await;
}

#[tokio::test]
async fn each_of_the_51_types_asks_the_right_question_and_keeps_the_answer() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let client = api.admin_client();
    for (event_type, path, beta, resource) in TYPES {
        world.sql("truncate restante.resource").await;
        if let Some(path) = path {
            api.answer(path, Answer::json(&json!({ "type": resource, "id": "x", "status": "kept", "updated_at": "2026-11-01T12:00:00Z" })));
        }
        receive(&world, event_type, 0, &data(event_type)).await;

        work(&world, &client).await;

        let questions: Vec<Question> =
            path.map(|path| (path.to_owned(), beta.map(str::to_owned))).into_iter().collect();
        assert_eq!(asked(&api), questions, "{event_type}");
        let row =
            world.value("select concat_ws(' ', type, status, gone_because) from restante.resource").await;
        let kept = if path.is_some() { "kept" } else { "deleted" };
        assert_eq!(row, format!("{resource} {kept}"), "{event_type}");
        let status = format!("select status from restante.outbox where event_id = '{event_type}'");
        assert_eq!(world.value(&status).await, "done", "{event_type}");
    }
}

#[tokio::test]
async fn the_status_of_external_storage_is_read_out_of_its_object() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let client = api.admin_client();
    api.answer(
        STORAGE.unwrap(),
        Answer::json(
            &json!({ "id": STORAGE_ID, "status": { "type": "failed", "since": 1 }, "healthy": true }),
        ),
    );
    receive(&world, "whe_1", 0, &data("external_storage.failed")).await;

    work(&world, &client).await;

    let row = world.value("select concat_ws(' ', id, status) from restante.resource").await;
    assert_eq!(row, format!("{STORAGE_ID} failed"));
}

#[tokio::test]
async fn an_idle_session_says_what_it_waits_for() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let client = api.client();
    api.answer(
        "/v1/sessions/sesn_1",
        Answer::json(&json!({ "type": "session", "id": "sesn_1", "status": "idle" })),
    );
    let event = json!({ "type": "session.status_idle", "stop_reason": { "type": "requires_action", "event_ids": [] } });
    api.answer("/v1/sessions/sesn_1/events", Answer::json(&json!({ "data": [event], "next_page": null })));
    receive(&world, "whe_1", 0, &data("session.status_idled")).await;

    work(&world, &client).await;

    let row =
        world.value("select stop_reason || ' ' || waits_for_a_person from restante.session_overview").await;
    assert_eq!(row, "requires_action true");
    assert_eq!(
        asked(&api)[1].0,
        "/v1/sessions/sesn_1/events?types%5B%5D=session.status_idle&order=desc&limit=1"
    );
}

#[tokio::test]
async fn an_idle_session_says_what_it_waits_for_behind_empty_pages() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let client = api.client();
    let session = json!({ "type": "session", "id": "sesn_1", "status": "idle" });
    api.answer("/v1/sessions/sesn_1", Answer::json(&session));
    let page = |data: &[Value], next: Option<&str>| Answer::json(&json!({ "data": data, "next_page": next }));
    let event = json!({ "type": "session.status_idle", "stop_reason": { "type": "requires_action" } });
    api.answer_once(
        "/v1/sessions/sesn_1/events",
        [page(&[], Some("p1")), page(&[], Some("p2")), page(&[], Some("p3"))],
    );
    api.answer("/v1/sessions/sesn_1/events", page(&[event], None));
    receive(&world, "whe_1", 0, &data("session.status_idled")).await;

    work(&world, &client).await;

    assert_eq!(world.value("select stop_reason from restante.resource").await, "requires_action");
    let events = "/v1/sessions/sesn_1/events?types%5B%5D=session.status_idle&order=desc";
    let expected = ["&limit=1", "&limit=100", "&limit=100&page=p2", "&limit=100&page=p3"];
    let asked: Vec<String> = asked(&api)[1..].iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(asked, expected.map(|rest| format!("{events}{rest}")));
}

#[tokio::test]
async fn what_people_have_to_know_is_in_columns() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let client = api.client();
    let evaluation = |iteration: u32, result: &str| json!({ "outcome_id": "outc_1", "iteration": iteration, "result": result });
    api.answer(
        "/v1/sessions/sesn_1",
        Answer::json(
            &json!({ "status": "running", "outcome_evaluations": [evaluation(0, "needs_revision")] }),
        ),
    );
    api.answer("/v1/deployment_runs/drun_1", Answer::json(&json!({ "deployment_id": "depl_1", "error": { "type": "session_rate_limited_error", "message": "slow down" } })));
    api.answer(
        "/v1/vaults/vlt_1/credentials/vcrd_1",
        Answer::json(&json!({ "updated_at": "2026-11-01T11:00:00Z" })),
    );
    receive(&world, "whe_1", 0, &data("session.outcome_evaluation_ended")).await;
    receive(&world, "whe_2", 1, &data("deployment_run.failed")).await;
    receive(&world, "whe_3", 2, &data("vault_credential.refresh_failed")).await;
    work(&world, &client).await;
    api.answer(
        "/v1/sessions/sesn_1",
        Answer::json(&json!({ "status": "running", "outcome_evaluations": [evaluation(1, "satisfied")] })),
    );
    receive(&world, "whe_4", 3, &data("session.outcome_evaluation_ended")).await;
    work(&world, &client).await;

    let results = "select string_agg(iteration || ' ' || result, ', ' order by iteration) from restante.outcome_evaluation";
    assert_eq!(world.value(results).await, "0 needs_revision, 1 satisfied");
    let run = "select concat_ws(' ', id, deployment_id, error_type) from restante.deployment_run_failed";
    assert_eq!(world.value(run).await, "drun_1 depl_1 session_rate_limited_error");
    assert_eq!(world.value("select id from restante.credential_refresh_failed").await, "vcrd_1");
}

#[tokio::test]
async fn what_is_not_found_yet_is_asked_for_again_and_is_gone_after_a_minute() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let client = api.client();
    receive(&world, "whe_1", 0, &data("deployment_run.started")).await;

    work(&world, &client).await;
    assert_eq!(world.value("select status || ' ' || attempt from restante.outbox").await, "retry 0");

    world.sql("update restante.outbox_live set received_at = received_at - interval '61 seconds'").await;
    world.wait_for_retries().await;
    work(&world, &client).await;
    assert_eq!(world.value("select gone_because from restante.resource").await, "not_found");

    api.answer("/v1/deployment_runs/drun_1", Answer::json(&json!({ "status": "there after all" })));
    receive(&world, "whe_2", 1, &data("deployment_run.succeeded")).await;
    work(&world, &client).await;
    assert_eq!(
        world.value("select concat_ws(' ', status, gone_because) from restante.resource").await,
        "there after all"
    );
}

#[tokio::test]
async fn a_credential_whose_vault_is_not_named_is_left_unresolved() {
    let world = World::new().await;
    let client = ScriptedApi::new().await.client();
    receive(&world, "whe_1", 0, &json!({ "type": "vault_credential.created", "id": "vcrd_1" })).await;

    work(&world, &client).await;

    assert_eq!(
        world.value("select result->>'unresolved' from restante.outbox").await,
        "the event does not say what it belongs to"
    );
}

#[tokio::test]
async fn an_older_look_never_replaces_a_newer_one() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let client = api.client();
    let session = |status: &str, updated_at: &str| json!({ "status": status, "updated_at": updated_at });
    api.answer("/v1/sessions/sesn_1", Answer::json(&session("newer", "2026-11-01T12:00:09Z")));
    receive(&world, "whe_1", 0, &data("session.updated")).await;
    work(&world, &client).await;

    api.answer("/v1/sessions/sesn_1", Answer::json(&session("older", "2026-11-01T12:00:01Z")));
    receive(&world, "whe_2", 1, &data("session.updated")).await;
    work(&world, &client).await;

    assert_eq!(world.value("select status from restante.resource").await, "newer");
}

/// Deliveries about many objects end in the same state, whether they come in order or shuffled and doubled.
#[tokio::test(flavor = "multi_thread")]
async fn shuffled_and_doubled_deliveries_end_in_the_same_state_as_ordered_ones() {
    const OBJECTS: usize = 1000;
    let api = ScriptedApi::new().await;
    let client = api.client();
    let mut deliveries = Vec::new();
    for n in 0..OBJECTS {
        let id = format!("agent_{n}");
        let mut tell = |what: &str, second| {
            deliveries.push((format!("whe_{n}_{what}"), second, format!("agent.{what}"), id.clone()));
        };
        tell("updated", 1);
        if n % 2 == 0 {
            tell("archived", 2);
        }
        if n % 3 == 0 {
            tell("deleted", 3);
        } else {
            api.answer(
                &format!("/v1/agents/{id}"),
                Answer::json(&json!({ "status": format!("now {n}"), "updated_at": "2026-11-01T12:00:00Z" })),
            );
        }
    }
    let mut shuffled = [deliveries.clone(), deliveries.clone()].concat();
    shuffled.shuffle(&mut StdRng::seed_from_u64(49));

    let mut states = Vec::new();
    for deliveries in [deliveries, shuffled] {
        let world = World::new().await;
        let bodies: Vec<Value> = deliveries
            .iter()
            .map(|(event_id, second, event_type, id)| {
                body(event_id, *second, &json!({ "type": event_type, "id": id }))
            })
            .collect();
        for bodies in bodies.chunks(500) {
            world.receive_bodies(bodies).await;
        }
        work(&world, &client).await;
        assert_eq!(world.value("select count(*) from restante.outbox where status <> 'done'").await, "0");
        states.push(
            world
                .value(
                    "select md5(string_agg(concat_ws(' ', id, status, body::text, gone_at, gone_because), '|' order by id))
                       from restante.resource",
                )
                .await,
        );
        assert_eq!(world.value("select count(*) from restante.resource").await, OBJECTS.to_string());
    }
    assert_eq!(states[0], states[1]);
}
