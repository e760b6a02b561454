//! Several accounts of the API, each with a key, tables and troubles of its own; and senders that are not the Claude API.

use std::time::Duration;

use restante::api::{Account, Accounts, Settings};
use restante::event::{ANTHROPIC, NewEvent};
use restante::internals::envelope;
use restante::internals::outbox::trouble::most_frequent;
use restante::{Registry, handlers, worker};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::batches::succeeded;
use crate::support::api::{Answer, ScriptedApi};
use crate::support::{Process, SimulatedApi, World, eventually};

/// What the clients of each account must show, and nobody else may see.
fn key_of(account: &str) -> String {
    format!("sk-ant-canary-of-{account}")
}

fn admin_key_of(account: &str) -> String {
    format!("sk-ant-admin-canary-of-{account}")
}

/// An account whose API is this one.
fn account(name: &str, api: &ScriptedApi) -> Account {
    let admin_key = Some(admin_key_of(name).into());
    Account { name: name.to_owned(), settings: Settings { admin_key, ..api.settings(&key_of(name)) } }
}

/// The APIs of accounts with these names.
async fn apis<const N: usize>(names: [&'static str; N]) -> ([ScriptedApi; N], Accounts) {
    let mut apis = Vec::new();
    for _ in names {
        apis.push(ScriptedApi::new().await);
    }
    let accounts = names.iter().zip(&apis).map(|(name, api)| account(name, api)).collect();
    let accounts = Accounts::new(accounts).unwrap();
    (apis.try_into().unwrap_or_else(|_| unreachable!("one for each name")), accounts)
}

fn built_in() -> Registry {
    let every = Duration::from_secs(60);
    handlers::registry(handlers::Settings {
        batch_poll: every,
        reconcile: Some(every),
        allow_private_endpoints: false,
    })
}

/// Runs a worker with the built-in handlers until no event may run now.
async fn work(world: &World, accounts: &Accounts) {
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), built_in(), accounts.clone())
        .await
        .unwrap();
}

/// A worker that runs until it is stopped, with all that it does beside its events.
struct Running(CancellationToken, JoinHandle<()>);

impl Running {
    fn start(world: &World, accounts: &Accounts) -> Self {
        let (stop, settings) = (CancellationToken::new(), world.worker_settings());
        let running = worker::run(settings, world.pool.clone(), built_in(), accounts.clone(), stop.clone());
        Self(stop, tokio::spawn(async move { assert_eq!(running.await.unwrap(), 0) }))
    }

    async fn stop(self) {
        self.0.cancel();
        self.1.await.unwrap();
    }
}

/// An event of this account, which a sender of the same name has sent.
fn event(account: &str, event_id: &str, data: &Value) -> NewEvent {
    let body = json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z", "data": data });
    let event = envelope::read(body.to_string().as_bytes(), None, 0).unwrap();
    NewEvent { sender: account.to_owned(), account: Some(account.to_owned()), ..event }
}

async fn receive(world: &World, account: &str, event_id: &str, data: &Value) {
    assert_eq!(world.receive_all(&[event(account, event_id, data)]).await, 1, "{account} {event_id}");
}

fn session(id: &str, status: &str) -> Answer {
    Answer::json(&json!({ "type": "session", "id": id, "status": status }))
}

/// Each API has seen the keys of its own account, and no other.
fn assert_keys_stay_at_home(names: &[&str], apis: &[ScriptedApi]) {
    for (name, api) in names.iter().zip(apis) {
        let requests = api.requests();
        assert!(!requests.is_empty(), "{name}");
        for request in requests {
            let path = request.split(' ').nth(1).unwrap();
            let own = if path.starts_with("/v1/organizations/") { admin_key_of(name) } else { key_of(name) };
            assert_eq!(request.matches("canary").count(), 1, "{name}: {request}");
            assert!(request.contains(&format!("\r\nx-api-key: {own}\r\n")), "{name}: {request}");
        }
    }
}

#[tokio::test]
async fn events_of_two_accounts_are_fetched_with_the_key_of_their_own_only() {
    let world = World::new().await;
    let names = [ANTHROPIC, "staging"];
    let (apis, accounts) = apis(names).await;
    for (name, api) in names.iter().zip(&apis) {
        api.answer("/v1/sessions/s", session("s", &format!("of_{name}")));
        let key = json!({ "type": "external_key", "id": "k", "status": format!("key_of_{name}") });
        api.answer("/v1/organizations/external_keys/k", Answer::json(&key));
        // The same identifiers everywhere.
        receive(&world, name, "whe_1", &json!({ "type": "session.updated", "id": "s" })).await;
        receive(&world, name, "whe_2", &json!({ "type": "external_key.failed", "id": "k" })).await;
    }

    work(&world, &accounts).await;

    let kept = "select string_agg(concat_ws(' ', account, type, id, status), ', ' order by account, type) from restante.resource";
    assert_eq!(
        world.value(kept).await,
        "anthropic external_key k key_of_anthropic, anthropic session s of_anthropic, \
         staging external_key k key_of_staging, staging session s of_staging"
    );
    assert_keys_stay_at_home(&names, &apis);
}

#[tokio::test]
async fn batches_of_two_accounts_with_the_same_ids_complete_each_under_its_own() {
    let world = World::new().await;
    let names = [ANTHROPIC, "staging"];
    let (apis, accounts) = apis(names).await;
    for (nth, api) in apis.iter().enumerate() {
        let results = nth + 1;
        let text = |custom_id: &str| succeeded(custom_id, &format!("of {}", names[nth]));
        let lines: String = ["a", "b"][..results].iter().map(|custom_id| text(custom_id)).collect();
        for id in ["found", "watched"] {
            api.batch(&api.ended(id, [results as u32, 0, 0, 0]));
            api.results(id, Answer::stream(lines.clone()));
        }
        let list = json!({ "data": [api.ended("found", [results as u32, 0, 0, 0])], "has_more": false });
        api.answer("/v1/messages/batches", Answer::json(&list));
    }
    for name in names {
        world.sql(&format!("insert into restante.batch (id, account) values ('watched', '{name}')")).await;
    }
    let all = "select restante.ensure_standing_jobs(array['batch.poll', 'batch.ended', 'batch.reconcile'], array['anthropic', 'staging'])";
    assert_eq!(world.value(all).await, "2", "a search for each account");

    work(&world, &accounts).await;

    let batches =
        "select string_agg(concat_ws(' ', account, id, progress, results_stored), ', ' order by account, id)
                     from restante.batch_overview";
    assert_eq!(
        world.value(batches).await,
        "anthropic found complete 1, anthropic watched complete 1, staging found complete 2, staging watched complete 2"
    );
    let astray = "select count(*) from restante.batch_result where text <> 'of ' || account";
    assert_eq!(world.value(astray).await, "0");
    let jobs = "select string_agg(distinct concat_ws(' ', sender, account, event_id), ', ') from restante.outbox
                 where sender is distinct from account or event_id !~ '^batch[.](poll|ended|reconcile)(:(found|watched))?$'";
    assert_eq!(world.value(jobs).await, "null");
    assert_eq!(world.value(all).await, "0", "nothing is missing");
    assert_keys_stay_at_home(&names, &apis);
}

#[tokio::test]
async fn one_account_is_refused_another_overloaded_and_a_third_does_not_wait() {
    let world = World::new().await;
    let names = ["refused", "overloaded", "well"];
    let (apis, accounts) = apis(names).await;
    let [refused, overloaded, well] = &apis;
    refused.answer_all(Some(Answer::refusal(401, "authentication_error", "")));
    overloaded.answer_all(Some(Answer::refusal(529, "overloaded_error", "")));
    for name in names {
        for nth in 0..20 {
            let id = format!("sesn_{nth}");
            well.answer(&format!("/v1/sessions/{id}"), session(&id, "running"));
            receive(&world, name, &format!("whe_{nth}"), &json!({ "type": "session.updated", "id": id }))
                .await;
        }
    }
    let states = "select string_agg(concat_ws(' ', account, status, attempt, n), ', ' order by account)
                    from (select account, status, attempt, count(*) as n from restante.outbox
                           where type like 'session%' group by 1, 2, 3) as s";

    work(&world, &accounts).await;

    assert_eq!(
        world.value(states).await,
        "overloaded retry 0 20, refused retry 0 20, well done 1 20",
        "the third account does not wait for the others"
    );
    let causes = "select string_agg(distinct account, ', ') from restante.outbox_trouble";
    assert_eq!(world.value(causes).await, "overloaded, refused");
    let cause = most_frequent(&world.pool).await.unwrap().unwrap();
    assert!(["overloaded", "refused"].contains(&cause.account.as_deref().unwrap()), "{cause:?}");

    // Each event alone would wait for an hour. A repair of one account lets its events go, and no others.
    world
        .sql("update restante.outbox_live set run_at = now() + interval '1 hour' where status = 'retry'")
        .await;
    refused.answer_all(None);
    for nth in 0..20 {
        refused.answer(&format!("/v1/sessions/sesn_{nth}"), session(&format!("sesn_{nth}"), "running"));
    }
    let worker = Running::start(&world, &accounts);
    eventually("the events of the repaired account are done", async || {
        (world.value(states).await == "overloaded retry 0 20, refused done 1 20, well done 1 20")
            .then_some(())
    })
    .await;
    worker.stop().await;
    let untried = "select count(*) from restante.outbox where account = 'overloaded' and run_at > now() + interval '50 minutes'";
    assert!(world.value(untried).await.parse::<u32>().unwrap() >= 15, "few of them were tried");
    assert_keys_stay_at_home(&names, &apis);
}

#[tokio::test]
async fn the_events_of_a_removed_account_wait_with_that_reason_and_go_on_when_it_returns() {
    let world = World::new().await;
    let names = [ANTHROPIC, "staging"];
    let (apis, accounts) = apis(names).await;
    let [anthropic, staging] = &apis;
    accounts.replace(vec![account(ANTHROPIC, anthropic)]).unwrap();
    for api in &apis {
        api.answer("/v1/sessions/s", session("s", "running"));
        let list = json!({ "data": [], "has_more": false });
        api.answer("/v1/messages/batches", Answer::json(&list));
    }
    staging.batch(&staging.in_progress("b", 1));
    receive(&world, "staging", "asks", &json!({ "type": "session.updated", "id": "s" })).await;
    receive(&world, "staging", "asks_nobody", &json!({ "type": "agent.deleted", "id": "a" })).await;
    receive(&world, ANTHROPIC, "another", &json!({ "type": "session.updated", "id": "s" })).await;
    world.sql("insert into restante.batch (id, account) values ('b', 'staging')").await;
    let worker = Running::start(&world, &accounts);
    let state =
        "select string_agg(concat_ws(' ', event_id, status, outcome, attempt), ', ' order by event_id)
                   from restante.outbox where type !~ '[.]reconcile$'";
    let waiting = "another done 1, asks retry trouble 0, asks_nobody done 1, batch.poll:b retry trouble 0";
    eventually("what needs the account waits", async || (world.value(state).await == waiting).then_some(()))
        .await;

    let reason = "the account `staging` is not configured: what belongs to it waits until the file of RESTANTE_CONFIG has an [account.staging]";
    let told = "select concat_ws('; ', account, events, cause, next_attempt_at > now() + interval '5 minutes') from restante.outbox_trouble";
    assert_eq!(world.value(told).await, format!("staging; 2; {reason}; t"));
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
    assert!(staging.requests().is_empty());

    accounts.replace(vec![account(ANTHROPIC, anthropic), account("staging", staging)]).unwrap();

    eventually("the events go on, and the account has its search", async || {
        let searches =
            "select count(*) from restante.outbox where type = 'batch.reconcile' and outcome = 'snoozed'";
        let done = "another done 1, asks done 1, asks_nobody done 1, batch.poll:b retry snoozed 0";
        (world.value(state).await == done && world.value(searches).await == "2").then_some(())
    })
    .await;
    worker.stop().await;
    assert_keys_stay_at_home(&names, &apis);
}

#[tokio::test]
async fn an_account_that_another_worker_has_is_not_tried_by_one_that_has_it_not() {
    let world = World::new().await;
    let (apis, both) = apis([ANTHROPIC, "staging"]).await;
    let one = Accounts::new(vec![account(ANTHROPIC, &apis[0])]).unwrap();
    apis[1].answer("/v1/sessions/s", session("s", "running"));
    receive(&world, "staging", "whe_1", &json!({ "type": "session.updated", "id": "s" })).await;
    work(&world, &one).await;
    assert_eq!(world.value("select status from restante.outbox").await, "retry");

    let worker = Running::start(&world, &both);
    eventually("the worker that has the account lets the event go at its start", async || {
        (world.value("select status from restante.outbox where event_id = 'whe_1'").await == "done")
            .then_some(())
    })
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn an_event_of_another_sender_never_reaches_a_built_in_handler() {
    let world = World::new().await;
    let ([api], accounts) = apis([ANTHROPIC]).await;
    let types = ["batch.completed", "batch.ended", "session.updated", "agent.deleted", "external_key.failed"];
    let events: Vec<_> = types
        .iter()
        .map(|event_type| NewEvent {
            sender: "openai".to_owned(),
            account: None,
            ..event("openai", &format!("evt_{event_type}"), &json!({ "type": event_type, "id": "x" }))
        })
        .collect();
    assert_eq!(world.receive_all(&events).await, events.len() as u64);

    work(&world, &accounts).await;

    assert_eq!(world.value("select string_agg(distinct status, ', ') from restante.outbox").await, "ignored");
    assert!(api.requests().is_empty());
    let kept = "select (select count(*) from restante.batch) + (select count(*) from restante.resource)";
    assert_eq!(world.value(kept).await, "0");
}

#[tokio::test]
async fn each_account_has_standing_jobs_and_those_of_one_that_is_not_configured_are_left_alone() {
    let world = World::new().await;
    for (id, account) in [("b", ANTHROPIC), ("b", "staging")] {
        world
            .sql(&format!(
                "insert into restante.batch (id, account, ended_at) values ('{id}', '{account}', now())"
            ))
            .await;
    }
    let ensure = async |accounts: &str| {
        let types = "array['batch.poll', 'batch.ended', 'batch.reconcile']";
        world.value(&format!("select restante.ensure_standing_jobs({types}{accounts})")).await
    };
    let jobs = "select string_agg(concat_ws(' ', account, event_id, key), ', ' order by account, event_id) from restante.outbox_live";

    assert_eq!(ensure("").await, "2", "programs of the release before name no account");
    assert_eq!(world.value(jobs).await, "anthropic batch.ended:b b, anthropic batch.reconcile");
    assert_eq!(ensure(", array['anthropic', 'staging']").await, "2");
    let all = "anthropic batch.ended:b b, anthropic batch.reconcile, staging batch.ended:b b, staging batch.reconcile";
    assert_eq!(world.value(jobs).await, all);

    world.sql("delete from restante.outbox").await;
    assert_eq!(ensure(", array['anthropic']").await, "2", "those of the other account are not missed");
    assert_eq!(ensure(", array['anthropic']").await, "0");
    assert_eq!(ensure(", array['staging']").await, "2");
}

#[tokio::test]
async fn what_a_sender_is_about_to_do_for_one_account_does_not_stand_for_another() {
    let world = World::new().await;
    for account in [ANTHROPIC, "staging"] {
        world
            .sql(&format!(
                "insert into restante.batch (id, account, ended_at) values ('b', '{account}', now())"
            ))
            .await;
    }
    receive(&world, "staging", "whe_1", &json!({ "type": "batch.completed", "id": "b" })).await;

    let made = "select restante.ensure_standing_jobs(array['batch.ended'], array['anthropic', 'staging'])";
    assert_eq!(world.value(made).await, "1");
    let job = "select account from restante.outbox where event_id = 'batch.ended:b'";
    assert_eq!(world.value(job).await, ANTHROPIC);
}

#[tokio::test]
async fn two_workspaces_of_a_simulated_api_are_kept_apart_all_the_way() {
    let world = World::new().await;
    let keys = [ANTHROPIC, "staging"].map(key_of);
    let workspace = format!("staging:{}", keys[1]).parse().unwrap();
    let api = SimulatedApi::start_with(restante_simulator::Settings {
        batch_seconds: 0.0,
        seed: Some(7),
        api_key: Some(keys[0].clone().into()),
        workspaces: vec![workspace],
        ..restante_simulator::Settings::default()
    })
    .await;
    let accounts = [ANTHROPIC, "staging"].into_iter().zip(&keys).map(|(name, key)| {
        let settings = Settings::new(api.url.parse().unwrap(), key.as_str().into());
        Account { name: name.to_owned(), settings }
    });
    let accounts = Accounts::new(accounts.collect()).unwrap();
    let batches = [api.batch_of(&keys[0], 3).await, api.batch_of(&keys[1], 5).await];
    world
        .sql("select restante.ensure_standing_jobs(array['batch.reconcile'], array['anthropic', 'staging'])")
        .await;

    work(&world, &accounts).await;

    let stored = "select string_agg(concat_ws(' ', account, id, results_stored, progress), ', ' order by account) from restante.batch_overview";
    let [first, second] = batches;
    assert_eq!(
        world.value(stored).await,
        format!("anthropic {first} 3 complete, staging {second} 5 complete")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_names_each_account_in_its_lines_and_none_has_a_key() {
    let world = World::new().await;
    let ([anthropic, staging], _) = apis([ANTHROPIC, "staging"]).await;
    let list = json!({ "data": [], "has_more": false });
    anthropic.answer("/v1/messages/batches", Answer::json(&list));
    staging.answer_all(Some(Answer::refusal(401, "authentication_error", "")));
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("restante.toml");
    let table =
        format!("[account.staging]\napi_key_env = \"STAGING_KEY\"\nbase_url = \"{}\"\n", staging.origin);
    std::fs::write(&config, table).unwrap();
    let key = key_of("staging");
    let more = [("RESTANTE_CONFIG", config.to_str().unwrap()), ("STAGING_KEY", key.as_str())];

    let mut worker = Process::worker(&world.url, &anthropic.origin, &more).await;
    worker.until_logged("the API accepts the key").await;
    worker.until_logged("the check of the API failed").await;

    let log = worker.log();
    for (said, account) in
        [("the API accepts the key", ANTHROPIC), ("the check of the API failed", "staging")]
    {
        let line = log.lines().find(|line| line.contains(said)).unwrap();
        assert!(line.contains(&format!("\"account\":\"{account}\"")), "{line}");
    }
    assert!(!log.contains("canary"), "{log}");
    let list = anthropic.requests().concat();
    assert!(!list.contains("canary-of-staging"), "{list}");
    assert_eq!(worker.stopped().await, Some(0));
}
