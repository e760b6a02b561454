//! Whose fault is it? An event becomes a dead letter only because of its own content. With any other fault it waits, without
//! counting attempts, until the fault is fixed.

use std::time::Duration;

use restante::handler::{self, Context, Error, Handler};
use restante::registry::Registry;
use restante::{api, handlers, retry, worker};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::api::{Answer, KEY, ScriptedApi};
use crate::support::world::no_api;
use crate::support::{World, eventually};

fn built_in() -> Registry {
    let every = Duration::from_secs(60);
    handlers::registry(handlers::Settings {
        batch_poll: every,
        reconcile: Some(every),
        allow_private_endpoints: false,
    })
}

async fn work(world: &World, api: api::Client) {
    work_with(world, api, built_in()).await;
}

async fn work_with(world: &World, api: api::Client, registry: Registry) {
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry, api).await.unwrap();
}

async fn tell(world: &World, event_type: &str, id: &str) {
    tell_of(world, &json!({ "type": event_type, "id": id })).await;
}

async fn tell_of(world: &World, data: &Value) {
    let event_id = format!("wevt_{}_{}", data["type"].as_str().unwrap(), data["id"].as_str().unwrap());
    let body = json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z", "data": data });
    assert_eq!(world.receive_body(&body).await, 1);
}

/// Events for a session, an ended batch, a watched batch and the search, and the API's answers to them.
async fn one_of_each(world: &World, api: &ScriptedApi, name: &str) {
    let session = format!("sesn_{name}");
    api.answer(
        &format!("/v1/sessions/{session}"),
        Answer::json(&json!({ "type": "session", "id": session })),
    );
    let (heard, watched) = (format!("heard_{name}"), format!("watched_{name}"));
    let result = format!("{}\n", json!({ "custom_id": "a", "result": { "type": "expired" } }));
    for id in [&heard, &watched] {
        api.batch(&api.ended(id, [0, 0, 0, 1]));
        api.results(id, Answer::stream(result.clone()));
    }
    api.answer("/v1/messages/batches?limit=1000", Answer::json(&json!({ "data": [], "has_more": false })));
    tell(world, "session.updated", &session).await;
    tell(world, "batch.completed", &heard).await;
    world.sql(&format!("insert into restante.batch (id) values ('{watched}')")).await;
    world.sql("select restante.ensure_standing_jobs(array['batch.reconcile'])").await;
}

/// Asserts that no event is dead, no attempt was counted, and every event says why it waits, and that it is not for long.
async fn assert_all_wait(world: &World, why: &str) {
    let otherwise = "select string_agg(concat_ws(' ', event_id, status, attempt, last_error), '; ') from restante.outbox
                      where status <> 'retry' or attempt <> 0 or last_error is null or run_at > now() + interval '80 seconds'";
    assert_eq!(world.value(otherwise).await, "null", "{why}");
    assert_eq!(world.value("select count(*) from restante.failure").await, "0", "{why}");
}

/// Asserts that every event comes to its end, except the search, which has none.
async fn assert_all_heal(world: &World, api: &ScriptedApi) {
    for _ in 0..2 {
        world.wait_for_retries().await;
        work(world, api.client()).await;
    }
    assert_eq!(
        world.value("select string_agg(event_id, ' ') from restante.outbox_live").await,
        "batch.reconcile"
    );
    let incomplete = "select string_agg(id, ' ') from restante.batch where complete_at is null";
    assert_eq!(world.value(incomplete).await, "null");
    assert_eq!(world.value("select count(*) from restante.resource where gone_at is not null").await, "0");
    assert_eq!(
        world.value("select string_agg(distinct status, ' ') from restante.outbox").await,
        "done retry"
    );
}

#[tokio::test]
async fn whatever_the_api_answers_instead_of_an_answer_buries_nothing_and_heals() {
    let page = |status| Answer::new(status, "content-type: text/html\r\n", "<html>blocked by policy</html>");
    let refusal = |status, message: &str, code: &str| {
        let error =
            json!({ "type": "invalid_request_error", "message": message, "details": { "error_code": code } });
        Answer::new(status, "", json!({ "type": "error", "error": error }).to_string())
    };
    let answers = [
        refusal(400, "This organization has been disabled.", ""),
        refusal(400, "anthropic-workspace-id is required", ""),
        refusal(400, "Unexpected value(s) for the anthropic-beta header", ""),
        refusal(400, "Your credit balance is too low", ""),
        refusal(400, "anthropic-version: \"2023-06-10\" is not a valid version", ""),
        refusal(400, "no", "claude_code_key_creator_not_member"),
        refusal(400, "no", "organization_on_hold"),
        refusal(400, "no", "cmek_key_disabled"),
        refusal(400, "no", "a_code_of_next_year"),
        refusal(503, "no", "authorization_check_unavailable"),
        page(400),
        page(404),
        page(410),
        page(200),
        page(503),
        Answer::new(404, "content-type: application/json\r\n", r#"{"detail":"Not Found"}"#),
        Answer::redirect(302, "/login"),
        Answer::json(&json!([])),
        Answer::new(200, "", ""),
        Answer::refusal(429, "rate_limit_error", ""),
    ];
    let statuses =
        [401, 402, 403, 405, 407, 408, 409, 413, 418, 421, 422, 423, 426, 431, 451, 499, 500, 529, 599];
    let plain = statuses.map(|status| Answer::refusal(status, "some_error", ""));
    let final_word =
        [400, 409, 429, 500].map(|status| Answer::refusal(status, "x", "x-should-retry: false\r\n"));
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    for (nth, answer) in answers.into_iter().chain(plain).chain(final_word).enumerate() {
        one_of_each(&world, &api, &nth.to_string()).await;
        api.answer_all(Some(answer));
        // Each time by a new worker, which does not know of the trouble yet and so calls the API.
        work(&world, api.client()).await;
        assert_all_wait(&world, &format!("answer {nth}")).await;
    }
    api.answer_all(None);
    assert_all_heal(&world, &api).await;
}

#[tokio::test]
async fn an_api_that_cannot_be_reached_or_does_not_answer_costs_no_attempt() {
    let impatient = |api: &ScriptedApi| {
        let settings = api::Settings::new(api.origin.parse().unwrap(), KEY.into());
        api::Client::new(api::Settings { idle_timeout: Duration::from_millis(50), ..settings }).unwrap()
    };
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    one_of_each(&world, &api, "1").await;
    work(&world, no_api()).await;
    assert_all_wait(&world, "refused").await;

    world.wait_for_retries().await;
    let never = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    api.answer_all(Some(Answer::json(&json!({ "id": "never" })).held_at(3, &never)));
    work(&world, impatient(&api)).await;
    assert_all_wait(&world, "silent").await;

    api.answer_all(None);
    assert_all_heal(&world, &api).await;
}

#[tokio::test]
async fn trouble_is_waited_out_for_a_week_and_then_counts() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    api.answer_all(Some(Answer::refusal(400, "invalid_request_error", "")));
    tell(&world, "session.updated", "sesn_1").await;
    world.sql("update restante.outbox_live set received_at = now() - interval '6 days'").await;
    work(&world, api.client()).await;
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");

    world
        .sql("update restante.outbox_live set received_at = now() - interval '8 days', max_attempts = 1")
        .await;
    world.wait_for_retries().await;
    work(&world, api.client()).await;

    let fate = world.value("select status || ': ' || last_error from restante.outbox").await;
    let expected = "dead: the trouble lasted longer than 7 days: the API refused the request: 400 invalid_request_error: scripted";
    assert_eq!(fate, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_asks_an_api_in_trouble_little_and_goes_on_at_once_when_it_answers() {
    const EVENTS: usize = 600;
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    api.answer_all(Some(Answer::refusal(401, "authentication_error", "")));
    let bodies: Vec<Value> = (0..EVENTS)
        .map(|nth| {
            api.answer(&format!("/v1/agents/agent_{nth}"), Answer::json(&json!({ "id": format!("agent_{nth}") })));
            let data = json!({ "type": "agent.updated", "id": format!("agent_{nth}") });
            json!({ "type": "event", "id": format!("wevt_{nth}"), "created_at": "2026-11-01T12:00:00Z", "data": data })
        })
        .collect();
    world.receive_bodies(&bodies).await;
    let stop = CancellationToken::new();
    let client = api.client();
    let running = tokio::spawn(worker::run(
        world.worker_settings(),
        world.pool.clone(),
        built_in(),
        client.clone(),
        stop.clone(),
    ));

    let counted =
        async |what: &str| world.value(&format!("select count(*) from restante.outbox where {what}")).await;
    eventually("the API was tried while the others wait unclaimed", async || {
        (world.value("select probes > 1 from restante.api_breaker where opened_at is not null").await
            == "true")
            .then_some(())
    })
    .await;
    let spoilt = "select string_agg(concat_ws(' ', event_id, status, attempt, crashes, last_error), '; ') from restante.outbox
                   where status in ('dead', 'done') or attempt > 1";
    assert_eq!(world.value(spoilt).await, "null");
    assert!(client.trouble().unwrap().starts_with("the API does not serve this key or account: 401"));
    let asked = api.heads().iter().filter(|head| head.contains("/v1/agents/")).count();
    assert!(asked < EVENTS / 4, "{asked} requests for nothing");
    // Those that went into trouble would wait for minutes, if an answer of the API did not wake them.
    api.answer("/v1/messages/batches?limit=1", Answer::json(&json!({ "data": [], "has_more": false })));
    api.answer_all(None);

    eventually("everything is done", async || {
        (counted("type = 'agent.updated' and status = 'done'").await == EVENTS.to_string()).then_some(())
    })
    .await;
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
    assert!(api.times_asked("/v1/messages/batches?limit=1") >= 2, "at the start, and after the trouble");
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_object_that_was_never_seen_is_found_by_a_query_and_replays() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    api.answer("/v1/agents/seen", Answer::json(&json!({ "id": "seen" })));
    tell(&world, "agent.created", "seen").await;
    work(&world, api.client()).await;
    api.answer("/v1/agents/seen", Answer::refusal(404, "not_found_error", ""));
    tell(&world, "agent.updated", "seen").await;
    tell(&world, "agent.updated", "unseen").await;
    tell(&world, "agent.deleted", "deleted").await;
    world.sql("update restante.outbox_live set received_at = now() - interval '61 seconds'").await;
    work(&world, api.client()).await;

    let never_seen = "select string_agg(concat_ws(' ', type, id), ', ') from restante.resource_never_seen";
    assert_eq!(world.value(never_seen).await, "agent unseen");
    assert_eq!(
        world.value("select count(*) from restante.resource where gone_because = 'not_found'").await,
        "2"
    );

    api.answer("/v1/agents/unseen", Answer::json(&json!({ "id": "unseen" })));
    let replayed = world
        .sql(
            "update restante.outbox set status = 'pending'
              where status = 'done' and result->>'gone' is not null and finished_at > now() - interval '7 days'
                and key in (select id from restante.resource_never_seen)",
        )
        .await;
    assert_eq!(replayed, 1);
    work(&world, api.client()).await;
    assert_eq!(world.value(never_seen).await, "null");
    let there =
        "select count(*) from restante.resource where id = 'unseen' and body is not null and gone_at is null";
    assert_eq!(world.value(there).await, "1");
}

#[tokio::test]
async fn an_event_whose_object_the_key_of_another_workspace_does_not_find_says_so() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    for (id, workspace_id) in [("a", "wrkspc_theirs"), ("b", "wrkspc_ours")] {
        let header = format!("anthropic-workspace-id: {workspace_id}\r\n");
        api.answer(&format!("/v1/agents/{id}"), Answer::refusal(404, "not_found_error", &header));
        tell_of(&world, &json!({ "type": "agent.updated", "id": id, "workspace_id": "wrkspc_ours" })).await;
    }
    world.sql("update restante.outbox_live set received_at = now() - interval '61 seconds'").await;

    work(&world, api.client()).await;

    let said = "select string_agg(concat_ws(' ', key, result->>'reason', result->>'key_workspace'), '; ' order by key)
                  from restante.outbox where result->>'gone' is not null";
    let expected = "a ANTHROPIC_API_KEY is of another workspace than the event wrkspc_theirs; b";
    assert_eq!(world.value(said).await, expected);
    assert_eq!(world.value("select count(*) from restante.resource_never_seen").await, "2");
}

#[tokio::test]
async fn what_is_below_the_organization_ends_with_a_sentence_if_there_is_no_admin_key() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    tell(&world, "external_storage.failed", "arn:aws:s3:::bucket/path").await;
    tell(&world, "external_key.failed", "ekey_1").await;

    work(&world, api.client()).await;

    assert_eq!(api.requests(), Vec::<String>::new(), "the answer is known before it is asked");
    let sentence =
        "is below /v1/organizations/, which the API shows to an Admin key only, and none is configured";
    for what in ["external_storage", "external_key"] {
        let dead =
            format!("select count(*) from restante.outbox_dead where last_error = 'a {what} {sentence}'");
        assert_eq!(world.value(&dead).await, "1", "{what}");
    }
}

#[tokio::test]
async fn an_admin_key_that_is_refused_buries_nothing_and_its_repair_heals() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    for (status, kind) in [(401, "authentication_error"), (402, "billing_error"), (403, "permission_error")] {
        api.answer_all(Some(Answer::refusal(status, kind, "")));
        tell(&world, "external_key.failed", &format!("ekey_{status}")).await;
        work(&world, api.admin_client()).await;
        let said = format!(
            "select concat_ws(' ', status, attempt, last_error like 'with the Admin key: the API does not serve %')
               from restante.outbox where event_id like '%{status}'"
        );
        assert_eq!(world.value(&said).await, "retry 0 t");
    }

    let key = Answer::json(&json!({ "id": "ekey", "status": "failed" }));
    api.answer_all(Some(key));
    world.wait_for_retries().await;
    work(&world, api.admin_client()).await;
    assert_eq!(world.value("select count(*) from restante.resource where status = 'failed'").await, "3");
}

#[tokio::test]
async fn a_session_whose_events_are_not_found_is_there_all_the_same() {
    let (world, api) = (World::new().await, ScriptedApi::new().await);
    api.answer("/v1/sessions/s", Answer::json(&json!({ "id": "s", "status": "idle" })));
    tell(&world, "session.updated", "s").await;

    work(&world, api.client()).await;

    assert_eq!(
        world.value("select concat_ws(' ', status, gone_because) from restante.resource").await,
        "idle"
    );
}

/// Runs the SQL of the event.
struct Statement;

#[derive(Debug, Deserialize)]
struct Sql {
    sql: String,
    value: Option<String>,
}

impl Handler for Statement {
    const EVENT_TYPES: &'static [&'static str] = &["test.sql"];
    type Payload = Sql;

    async fn handle(&self, cx: &mut Context<'_>, Sql { sql, value }: Sql) -> handler::Result {
        let statement = sqlx::query(sqlx::AssertSqlSafe(sql));
        match value {
            Some(value) => statement.bind(value).execute(cx.tx().await?).await?,
            None => statement.execute(cx.tx().await?).await?,
        };
        Ok(())
    }
}

#[tokio::test]
async fn what_a_refusal_of_the_database_means_follows_from_its_sqlstate() {
    let world = World::new().await;
    world.sql("create table word (word text collate \"C\" primary key)").await;
    let raise = |state: &str| format!("do $$ begin raise exception 'x' using errcode = '{state}'; end $$");
    let long = "insert into word select string_agg(md5(n::text), '') from generate_series(1, 400) as n";
    let mut cases: Vec<(&str, String, Option<&str>)> = vec![
        ("dead 1", "insert into word values ($1)".to_owned(), Some("a\0b")),
        ("dead 1", "select 'x'::integer".to_owned(), None),
        ("dead 1", "select 1 / 0".to_owned(), None),
        ("dead 1", "select '{\"a\":\"\\u0000\"}'::json->>'a'".to_owned(), None),
        ("dead 1", "select '290000-01-01'::timestamptz + interval '9999 years'".to_owned(), None),
        ("dead 1", long.to_owned(), None),
        ("retry 0", "select * from not_there".to_owned(), None),
        ("retry 0", "select not_there from word".to_owned(), None),
        ("retry 0", "select * from not_there.word".to_owned(), None),
        ("retry 0", "select not_there(1)".to_owned(), None),
        ("retry 1", "insert into word values ('twice'), ('twice')".to_owned(), None),
        ("retry 1", "select 1 from pg_class where oid = (select oid from pg_class)".to_owned(), None),
    ];
    for state in ["22000", "22023", "54000", "54001"] {
        cases.push(("dead 1", raise(state), None));
    }
    for state in [
        "40001", "40P01", "55P03", "57014", "57P03", "53100", "53200", "53300", "25006", "08006", "42501",
        "58030",
    ] {
        cases.push(("retry 0", raise(state), None));
    }
    for state in ["23505", "23503", "P0001", "XX000"] {
        cases.push(("retry 1", raise(state), None));
    }
    for (expected, sql, value) in cases {
        world.sql("delete from restante.outbox").await;
        let payload = json!({ "sql": sql, "value": value }).to_string();
        sqlx::query(
            "select restante.enqueue('test.sql', $1::text::json, event_id => 'e' || gen_random_uuid())",
        )
        .bind(&payload)
        .execute(&world.pool)
        .await
        .unwrap();
        // One retry at most, because the first wait may be zero.
        world.sql("update restante.outbox set max_attempts = 2").await;

        work_once(&world).await;

        let fate = world.value("select concat_ws(' ', status, attempt) from restante.outbox").await;
        assert_eq!(fate, expected, "{sql}: {}", world.value("select last_error from restante.outbox").await);
    }
    let room = "select extract(epoch from run_at - now()) > 20 from restante.outbox";
    world.sql("delete from restante.outbox").await;
    let full = json!({ "sql": raise("53100"), "value": null }).to_string().replace('\'', "''");
    world.sql(&format!("select restante.enqueue('test.sql', '{full}')")).await;
    work_once(&world).await;
    assert_eq!(world.value(room).await, "true", "a full disk is not written to every second");
}

/// Runs the events that may run now, but not those that become due meanwhile.
async fn work_once(world: &World) {
    let registry = Registry::new().register(Statement);
    let stop = CancellationToken::new();
    let running = tokio::spawn(worker::run(
        worker::Settings { poll: Duration::from_secs(600), ..world.worker_settings() },
        world.pool.clone(),
        registry,
        no_api(),
        stop.clone(),
    ));
    eventually("the attempt has ended", async || {
        (world.value("select count(*) from restante.outbox where last_error is not null").await == "1")
            .then_some(())
    })
    .await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Asks in each possible way for a wait that is too long to add to a time.
struct Endless;

#[derive(Debug, Deserialize)]
struct Way {
    way: String,
}

impl Handler for Endless {
    const EVENT_TYPES: &'static [&'static str] = &["test.endless"];
    const RETRY: retry::Policy = retry::Policy { max_attempts: 9, first: Duration::MAX, cap: Duration::MAX };
    const TIMEOUT: Duration = Duration::MAX;
    const PATIENCE: Duration = Duration::MAX;
    type Payload = Way;

    async fn handle(&self, cx: &mut Context<'_>, Way { way }: Way) -> handler::Result {
        cx.tx().await?;
        cx.progress();
        let reason = || anyhow::anyhow!("endless");
        match way.as_str() {
            "snooze" => Err(Error::Snooze(Duration::MAX, "endless".into())),
            "defer" => Err(Error::Defer(Duration::MAX, "endless".into())),
            "trouble" => Err(Error::Trouble(Duration::MAX, reason())),
            "retry_after" => Err(Error::RetryAfter(Duration::MAX, reason())),
            "retry" => Err(Error::Retryable(reason())),
            _ => Ok(()),
        }
    }
}

#[tokio::test]
async fn no_duration_of_a_handler_breaks_the_worker() {
    let world = World::new().await;
    for way in ["snooze", "defer", "trouble", "retry_after", "retry", "none"] {
        let enqueue =
            format!("select restante.enqueue('test.endless', '{{\"way\":\"{way}\"}}', event_id => '{way}')");
        world.sql(&enqueue).await;
    }

    work_with(&world, no_api(), Registry::new().register(Endless)).await;

    let waiting = "select count(*) from restante.outbox where status = 'retry'
                    and run_at < now() + interval '800 days' and last_error = 'endless'";
    assert_eq!(world.value(waiting).await, "5");
    assert_eq!(world.value("select status from restante.outbox where event_id = 'none'").await, "done");
}
