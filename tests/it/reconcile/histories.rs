//! Histories of sessions that the API does not give, or not at once, or on very many pages.

use super::*;
use crate::support::api::{Answer, ScriptedApi, ago};

/// An API that lists nothing.
async fn scripted() -> (World, ScriptedApi) {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    world.sql("create table heard (event_id text, type text, subject text, source text)").await;
    for kind in
        ["sessions", "vaults", "agents", "deployments", "deployment_runs", "environments", "memory_stores"]
    {
        api.answer(&format!("/v1/{kind}"), page(&[], None));
    }
    (world, api)
}

fn page(data: &[Value], next_page: Option<&str>) -> Answer {
    Answer::json(&json!({ "data": data, "next_page": next_page }))
}

fn session(number: usize, status: &str, created_at: &str) -> Value {
    json!({ "type": "session", "id": format!("sesn_{number}"), "status": status, "created_at": created_at, "updated_at": ago(30),
            "archived_at": null })
}

fn history_path(number: usize) -> String {
    format!("/v1/sessions/sesn_{number}/events")
}

/// It ran, and is idle.
fn events(number: usize) -> Vec<Value> {
    let stop_reason = json!({ "type": "requires_action" });
    vec![
        json!({ "id": format!("sevt_{number}a"), "type": "session.status_running", "processed_at": ago(40) }),
        json!({ "id": format!("sevt_{number}b"), "type": "session.status_idle", "processed_at": ago(30), "stop_reason": stop_reason }),
    ]
}

fn overloaded() -> Answer {
    Answer::refusal(529, "overloaded_error", "")
}

/// The list of sessions, and what belongs to each.
fn show(api: &ScriptedApi, sessions: &[Value]) {
    let pages: Vec<&[Value]> = sessions.chunks(100).collect();
    for (number, objects) in pages.iter().enumerate() {
        let next = (number + 1 < pages.len()).then(|| format!("p{}", number + 1));
        let cursor = if number == 0 { String::new() } else { format!("&page=p{number}") };
        api.answer(
            &format!("/v1/sessions?limit=100&include_archived=true{cursor}"),
            page(objects, next.as_deref()),
        );
    }
    for session in sessions {
        let id = session["id"].as_str().unwrap();
        let number = id.trim_start_matches("sesn_").parse().unwrap();
        api.answer(&format!("/v1/sessions/{id}"), Answer::json(session));
        api.answer(&format!("/v1/sessions/{id}/threads"), page(&[], None));
        api.answer(&history_path(number), page(&events(number), None));
    }
}

fn idle(sessions: usize) -> Vec<Value> {
    (0..sessions).map(|number| session(number, "idle", &ago(60))).collect()
}

/// One look at each kind.
async fn look(world: &World, api: &ScriptedApi) {
    world.value("select restante.ensure_account_jobs('resource.reconcile', array['anthropic'])").await;
    world.sql("update restante.reconcile_state set tried_at = tried_at - every").await;
    world.wait_for_retries().await;
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry(), api.client())
        .await
        .unwrap();
}

/// How many changes of sessions were noticed, by type.
async fn noticed(world: &World) -> String {
    world
        .value(
            "select string_agg(type || ' ' || n, ', ' order by type)
               from (select type, count(*) as n from restante.missed_change group by type) as m",
        )
        .await
}

async fn explained(world: &World) -> String {
    world
        .value("select count(*) from restante.reconciled where kind = 'session' and updated_at is not null")
        .await
}

async fn fault(world: &World) -> String {
    world
        .value("select coalesce(max(fault), 'none') from restante.reconcile_state where kind = 'session'")
        .await
}

/// How often looks asked for the histories of these. Handlers ask for the newest event first.
fn histories_asked(api: &ScriptedApi, sessions: std::ops::Range<usize>) -> usize {
    let paths: Vec<String> =
        sessions.map(|number| format!("GET {}?order=asc&", history_path(number))).collect();
    api.requests().iter().filter(|head| paths.iter().any(|path| head.starts_with(path))).count()
}

#[tokio::test]
async fn a_few_calls_that_fail_delay_no_page_and_no_history_is_asked_for_twice() {
    let (world, api) = scripted().await;
    show(&api, &idle(200));
    let mut failing = 0;
    for number in (0..200).step_by(30) {
        api.answer_once(&history_path(number), [overloaded()]);
        failing += 1;
    }

    look(&world, &api).await;

    assert_eq!(fault(&world).await, "none");
    assert_eq!(explained(&world).await, "200");
    assert_eq!(
        noticed(&world).await,
        "session.created 200, session.status_idled 200, session.status_run_started 200"
    );
    assert_eq!(histories_asked(&api, 0..200), 200 + failing);
}

#[tokio::test]
async fn a_history_that_is_not_given_holds_up_no_other_and_the_next_look_finds_it() {
    let (world, api) = scripted().await;
    // Both are done changing, so that a later look need not come to the second page.
    let mut sessions: Vec<Value> =
        (0..100).map(|number| session(number, "terminated", &ago(3 * 3600))).collect();
    sessions.push(session(100, "terminated", &ago(4 * 3600)));
    show(&api, &sessions);
    api.answer(&history_path(100), overloaded());

    look(&world, &api).await;

    assert_eq!(fault(&world).await, "none");
    assert_eq!(explained(&world).await, "100");
    assert_eq!(noticed(&world).await, "session.status_idled 100, session.status_run_started 100");
    assert_eq!(world.value("select count(*) from restante.resource where id = 'sesn_100'").await, "0");
    assert_eq!(histories_asked(&api, 100..101), 2);

    api.answer(&history_path(100), page(&events(100), None));
    look(&world, &api).await;

    assert_eq!(explained(&world).await, "101");
    assert_eq!(noticed(&world).await, "session.status_idled 101, session.status_run_started 101");
    assert_eq!(world.value("select count(*) from restante.resource where id = 'sesn_100'").await, "1");
    assert_eq!(histories_asked(&api, 0..100), 100);
}

#[tokio::test]
async fn an_api_that_gives_no_history_stops_the_look_and_what_it_gave_before_is_kept() {
    let (world, api) = scripted().await;
    show(&api, &idle(10));
    for number in 5..10 {
        api.answer(&history_path(number), overloaded());
    }

    look(&world, &api).await;

    assert!(fault(&world).await.starts_with("the API cannot answer now"));
    assert_eq!(explained(&world).await, "5");
    assert_eq!(histories_asked(&api, 0..10), 5 + 3, "three in a row are trouble");
    let job = "select concat_ws(' ', status, attempt) from restante.outbox where type = 'resource.reconcile' and subscriber = ''";
    assert_eq!(world.value(job).await, "retry 0");

    show(&api, &idle(10));
    look(&world, &api).await;

    assert_eq!(explained(&world).await, "10");
    assert_eq!(
        noticed(&world).await,
        "session.created 10, session.status_idled 10, session.status_run_started 10"
    );
}

#[tokio::test]
async fn a_history_is_read_to_its_end_over_many_empty_pages() {
    let (world, api) = scripted().await;
    show(&api, &idle(1));
    let empty = |number: usize| page(&[], Some(&format!("p{number}")));
    api.answer_once(&history_path(0), (0..150).map(empty));

    look(&world, &api).await;

    assert_eq!(
        noticed(&world).await,
        "session.created 1, session.status_idled 1, session.status_run_started 1"
    );
    assert_eq!(world.value("select stop_reason from restante.resource").await, "requires_action");
}

#[tokio::test]
async fn a_session_whose_history_does_not_end_stays_unexplained() {
    let (world, api) = scripted().await;
    show(&api, &idle(1));
    let empty = |number: usize| page(&[], Some(&format!("p{number}")));
    api.answer_once(&history_path(0), (0..1000).map(empty));

    look(&world, &api).await;

    assert_eq!(fault(&world).await, "none");
    assert_eq!((explained(&world).await, noticed(&world).await), ("0".into(), "session.created 1".into()));

    look(&world, &api).await;
    assert_eq!(
        noticed(&world).await,
        "session.created 1, session.status_idled 1, session.status_run_started 1"
    );
}

#[tokio::test]
async fn a_history_of_very_many_changes_is_read_by_several_looks() {
    let (world, api) = scripted().await;
    show(&api, &idle(1));
    let (ran, idled) = (events(0)[0].clone(), events(0)[1].clone());
    let full = |number: usize| page(std::slice::from_ref(&ran), Some(&format!("p{number}")));
    api.answer_once(&history_path(0), (0..20).map(full));
    api.answer(&history_path(0), page(&[idled], None));

    look(&world, &api).await;
    assert_eq!(explained(&world).await, "0");
    look(&world, &api).await;

    assert_eq!(explained(&world).await, "1");
    assert_eq!(
        noticed(&world).await,
        "session.created 1, session.status_idled 1, session.status_run_started 1"
    );
}
