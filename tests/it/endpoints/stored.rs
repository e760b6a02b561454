//! What is stored: which events are sent on, to whom, and with which bytes.

use serde_json::{Value, json};
use sqlx::Connection;

use super::{add, enqueue};
use crate::support::World;

/// The types of the events that an endpoint is told of, in the order in which they were stored.
async fn told(world: &World, endpoint: &str) -> String {
    let types = format!(
        "select string_agg(payload->'body'->>'type', ' ' order by id) from restante.outbox where type = 'notify.{endpoint}'"
    );
    world.value(&types).await
}

async fn bodies(world: &World, endpoint: &str) -> Vec<Value> {
    let query =
        "select (payload->'body')::text from restante.outbox where type = 'notify.' || $1 order by id";
    let texts: Vec<String> = sqlx::query_scalar(query).bind(endpoint).fetch_all(&world.pool).await.unwrap();
    texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
}

#[tokio::test]
async fn an_event_and_its_notification_are_one_commit() {
    let world = World::new().await;
    add(&world, "a", "https://a.example/", &[]).await;

    let mut connection = restante::database::connect(&world.url, "test").await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    sqlx::query("select restante.enqueue('order.placed', '{}')").execute(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(told(&world, "a").await, "null");

    enqueue(&world, "order.placed", None, "{}").await;
    assert_eq!(told(&world, "a").await, "order.placed");
}

#[tokio::test]
async fn an_event_that_comes_twice_is_sent_on_once() {
    let world = World::new().await;
    add(&world, "a", "https://a.example/", &["event_types = '{*}'"]).await;
    for _ in 0..2 {
        world.sql("select restante.enqueue('order.placed', '{}', event_id => 'order_1')").await;
        world.receive("whe_1", "sesn_1", 1, json!({})).await;
    }
    assert_eq!(told(&world, "a").await, "order.placed test.ledger");
}

#[tokio::test]
async fn without_patterns_an_endpoint_gets_what_applications_store_and_our_own_facts_but_no_job_and_no_webhook()
 {
    let world = World::new().await;
    add(&world, "a", "https://a.example/", &[]).await;
    add(&world, "all", "https://b.example/", &["event_types = '{*}'"]).await;
    add(&world, "orders", "https://c.example/", &["event_types = '{order.*,nothing}'"]).await;

    enqueue(&world, "order.placed", Some("o1"), "{}").await;
    world.receive("whe_1", "sesn_1", 1, json!({})).await;
    world.sql("select restante.submit_batch('[{\"custom_id\":\"a\",\"params\":{}}]', name => 'n')").await;
    world.sql("insert into restante.batch (id) values ('msgbatch_1')").await;
    world.sql("update restante.submission_part set status = 'sending'").await;
    world.sql("update restante.submission_part set status = 'uncertain'").await;

    assert_eq!(told(&world, "a").await, "order.placed batch.uncertain");
    assert_eq!(told(&world, "all").await, "order.placed test.ledger batch.uncertain");
    assert_eq!(told(&world, "orders").await, "order.placed");
    let jobs = "select count(*) from restante.outbox where type in ('batch.poll', 'batch.submit')";
    assert_eq!(world.value(jobs).await, "2", "the jobs are there, and nobody is told of them");
}

#[tokio::test]
async fn webhooks_that_are_stored_together_go_to_the_endpoints_that_name_their_types_and_to_no_other() {
    let world = World::new().await;
    let bodies = |round: &str| {
        ["session.updated", "vault.created", "session.updated"].iter().enumerate().map(|(number, event_type)| {
            json!({ "type": "event", "id": format!("whe_{round}_{number}"), "created_at": "2026-11-01T12:00:00Z",
                    "data": { "type": event_type, "id": format!("{round}_{number}") } })
        }).collect::<Vec<_>>()
    };
    add(&world, "ours", "https://a.example/", &[]).await;
    world.receive_bodies(&bodies("before")).await;

    add(&world, "sessions", "https://b.example/", &["event_types = '{session.*}'"]).await;
    world.receive_bodies(&bodies("after")).await;

    assert_eq!(told(&world, "ours").await, "null");
    assert_eq!(told(&world, "sessions").await, "session.updated session.updated");
}

#[tokio::test]
async fn a_database_without_endpoints_has_no_subscription() {
    let world = World::new().await;
    let subscriptions =
        "select string_agg(type, ' ' order by type) from restante.subscription where subscriber = 'notify'";
    assert_eq!(world.value(subscriptions).await, "null");
    add(&world, "a", "https://a.example/", &["event_types = '{b,c*}'"]).await;
    add(&world, "b", "https://b.example/", &["event_types = '{b,d}'"]).await;
    world.sql("select restante.enqueue('order.placed', '{}', callback => 'https://c.example/')").await;
    assert_eq!(world.value(subscriptions).await, "b c* d");
    world.sql("delete from restante.endpoint where name = 'b'").await;
    assert_eq!(world.value(subscriptions).await, "b c*");
    world.sql("update restante.endpoint set event_types = '{}' where name = 'a'").await;
    assert_eq!(world.value(subscriptions).await, "null");
}

#[tokio::test]
async fn a_thin_body_refers_to_the_event_and_a_full_one_is_its_payload() {
    let world = World::new().await;
    add(&world, "thin", "https://a.example/", &[]).await;
    add(&world, "full", "https://b.example/", &["body = 'full', body_bytes_max = 1024"]).await;
    let odd = r#"{"z": 1.50, "a": "\u0000", "a": "é"}"#;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(2000));
    enqueue(&world, "order.placed", Some("o\"1"), odd).await;
    enqueue(&world, "order.placed", None, &large).await;

    let [first, second] = &bodies(&world, "thin").await[..] else { panic!("two") };
    assert_eq!(first["data"], json!({ "id": "o\"1" }));
    assert_eq!(second["data"], json!({ "id": null }));
    for body in [first, second] {
        let names: Vec<_> = body.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["data", "id", "timestamp", "type"]);
        assert!(
            body["timestamp"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>().is_ok(),
            "{body}"
        );
        let known = format!(
            "select count(*) from restante.outbox where event_id = '{}'",
            body["id"].as_str().unwrap()
        );
        assert_eq!(world.value(&known).await, "1", "the identifier is that of the event");
    }
    let exact = "select payload::text from restante.outbox where type = 'notify.full' order by id limit 1";
    let exact: String = sqlx::query_scalar(exact).fetch_one(&world.pool).await.unwrap();
    assert!(exact.ends_with(&format!(r#","data":{odd}}}}}"#)), "{exact}");
    let second =
        "select payload::text from restante.outbox where type = 'notify.full' order by id desc limit 1";
    let second: String = sqlx::query_scalar(second).fetch_one(&world.pool).await.unwrap();
    assert!(second.ends_with(r#""truncated":true,"data":{"id":null}}}"#), "{second}");
}

#[tokio::test]
async fn a_payload_that_is_nested_as_deeply_as_postgres_can_take_is_stored_and_sent_thin() {
    let world = World::new().await;
    add(&world, "full", "https://b.example/", &["body = 'full'"]).await;
    let fits = |depth: usize| {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let world = &world;
        async move {
            sqlx::query("select restante.enqueue('order.placed', $1::json)")
                .bind(nested)
                .execute(&world.pool)
                .await
                .is_ok()
        }
    };
    // The deepest that Postgres takes without an endpoint.
    let (mut least, mut most) = (1_usize, 1_000_000);
    world.sql("update restante.endpoint set event_types = '{}'").await;
    while most - least > 1 {
        let middle = least.midpoint(most);
        if fits(middle).await { least = middle } else { most = middle }
    }
    world.sql("update restante.endpoint set event_types = null").await;
    // What stores a notification needs some room of its own.
    for depth in (least - 600..least).step_by(15) {
        let is_stored = fits(depth).await;
        assert!(is_stored || depth > least - 150, "{depth} of {least}");
    }
    let told = "select string_agg(distinct coalesce(payload->'body'->>'truncated', 'whole'), ' ')
                  from restante.outbox where type = 'notify.full'";
    assert_eq!(world.value(told).await, "true whole");
}

#[tokio::test]
async fn a_mistake_in_an_endpoint_is_an_error_that_names_it() {
    let world = World::new().await;
    for (columns, values, said) in [
        ("url", "'ftp://a.example/'", "url of endpoint e is no URL"),
        ("url", "'/hooks'", "is no URL that begins with https://"),
        ("url", "'https://user:pw@a.example/'", "has a user or a password"),
        ("url", "'https://a.example/#x'", "has a fragment"),
        ("url", "e'https://a.example/\\r\\nx-evil: 1'", "has a blank"),
        ("url", "'https://a.example/a b'", "has a blank"),
        ("url", "'https:\\\\a.example'", "a backslash"),
        ("url", "'https://bücher.example/'", "beyond ASCII"),
        ("url", "''", "is missing"),
        ("url", "'https://a.example/' || repeat('x', 2048)", "more than 2,048 bytes"),
        ("url, secret", "'https://a.example/', 'hush'", "is no list of secrets"),
        ("url, secret", "'https://a.example/', 'whsec_c2hvcnQ='", "is no list of secrets"),
        ("url, event_types", "'https://a.example/', '{a*b}'", "'a*b' is no type"),
        ("url, event_types", "'https://a.example/', '{\"\"}'", "'' is no type"),
        ("url, per_second", "'https://a.example/', 0", "endpoint_per_second_fits"),
        ("url, status", "'https://a.example/', 'gone'", "endpoint_status_known"),
    ] {
        let insert = format!("insert into restante.endpoint (name, {columns}) values ('e', {values})");
        let error =
            sqlx::query(sqlx::AssertSqlSafe(insert)).execute(&world.pool).await.unwrap_err().to_string();
        assert!(error.contains(said), "{values}: {error}");
    }
    let unnamed = "insert into restante.endpoint (name, url) values ('A b', 'https://a.example/')";
    let error = sqlx::query(unnamed).execute(&world.pool).await.unwrap_err().to_string();
    assert!(error.contains("endpoint_name_fits"), "{error}");
    assert_eq!(world.value("select count(*) from restante.endpoint").await, "0");
}

#[tokio::test]
async fn an_endpoint_without_a_name_and_a_secret_gets_both() {
    let world = World::new().await;
    world
        .sql("insert into restante.endpoint (url) values ('https://a.example/'), ('https://b.example/')")
        .await;
    assert_eq!(
        world.value("select string_agg(name, ' ' order by id) from restante.endpoint").await,
        "endpoint_1 endpoint_2"
    );
    let secrets = "select count(distinct secret) filter (where secret ~ '^whsec_[A-Za-z0-9+/]{43}=$') from restante.endpoint";
    assert_eq!(world.value(secrets).await, "2");
    let renamed =
        sqlx::query("update restante.endpoint set name = 'c' where id = 1").execute(&world.pool).await;
    assert!(renamed.unwrap_err().to_string().contains("cannot be changed"));
}

#[tokio::test]
async fn a_callback_is_told_of_its_event_alone_and_shares_what_its_origin_has() {
    let world = World::new().await;
    add(&world, "known", "https://known.example/hooks", &["event_types = '{}'"]).await;
    let call = async |callback: &str| {
        sqlx::query("select restante.enqueue('order.placed', '{}', key => 'k', callback => $1)")
            .bind(callback)
            .execute(&world.pool)
            .await
    };
    for callback in [
        "https://known.example/hooks",
        "https://known.example:443/other",
        "known",
        "https://own.example/x?y=z",
        "https://own.example/2",
    ] {
        call(callback).await.unwrap();
    }
    enqueue(&world, "order.placed", None, "{}").await;

    let told = "select string_agg(case when type like 'notify.callback-%' then 'own' else type end || ' ' || coalesce(payload->>'url', '-'), ', ' order by id)
                  from restante.outbox where type like 'notify.%'";
    assert_eq!(
        world.value(told).await,
        "notify.known https://known.example/hooks, notify.known https://known.example:443/other, notify.known -, \
         own https://own.example/x?y=z, own https://own.example/2"
    );
    let own = "select concat_ws(' ', count(*), min(url), min(event_types::text)) from restante.endpoint where name like 'callback-%'";
    assert_eq!(world.value(own).await, "1 https://own.example/ {}");
    for (wrong, said) in [
        ("nobody", "there is no endpoint named nobody"),
        ("http//x", "callback is no URL"),
        ("https://a@b/", "a user"),
    ] {
        let error = call(wrong).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert_eq!(world.value("select count(*) from restante.outbox where type = 'order.placed'").await, "6");
}

#[tokio::test]
async fn nobody_waits_for_a_transaction_that_adds_the_endpoint_of_the_same_callback() {
    let world = World::new().await;
    let call = "select restante.enqueue('order.placed', '{}', callback => 'https://own.example/')";
    let mut open = restante::database::connect(&world.url, "test").await.unwrap();
    let mut tx = open.begin().await.unwrap();
    sqlx::query(call).execute(&mut *tx).await.unwrap();
    // It would fail after 2 s if it waited.
    world.sql(call).await;
    tx.rollback().await.unwrap();
    let left = "select concat_ws(' ', (select count(*) from restante.endpoint), count(*)) from restante.outbox where type like 'notify.%'";
    assert_eq!(world.value(left).await, "0 1", "the worker adds the endpoint");
}

#[tokio::test]
async fn the_callback_of_a_submission_is_told_of_each_part_and_of_the_end() {
    let world = World::new().await;
    world
        .sql("select restante.submit_batch('[{\"custom_id\":\"a\",\"params\":{}}]', name => 'n', callback => 'https://own.example/done')")
        .await;
    world.sql("update restante.submission_part set status = 'sending'").await;
    world.sql("update restante.submission_part set batch_id = 'msgbatch_1'").await;
    world
        .sql("insert into restante.batch_result (batch_id, custom_id, outcome, line) values ('msgbatch_1', 'a', 'succeeded', '{}')")
        .await;
    world.sql("update restante.batch set complete_at = now() where id = 'msgbatch_1'").await;

    let told = "select string_agg(concat_ws(' ', payload->'body'->>'type', payload->'body'->'data'->>'id'), ', ' order by id)
                  from restante.outbox where payload->>'url' = 'https://own.example/done'";
    assert_eq!(world.value(told).await, "batch.results_ready msgbatch_1, submission.completed n");
    let wrong = sqlx::query(
        "select restante.submit_batch('[{\"custom_id\":\"a\",\"params\":{}}]', callback => 'x y')",
    );
    assert!(
        wrong
            .execute(&world.pool)
            .await
            .unwrap_err()
            .to_string()
            .contains("restante.submit_batch: callback has a blank")
    );
}

#[tokio::test]
async fn applications_can_not_say_what_we_say() {
    let world = World::new().await;
    for reserved in
        ["notify.a", "message.completed", "message.send", "session_events.send", "submission.completed"]
    {
        let call = sqlx::query("select restante.enqueue($1, '{}')").bind(reserved).execute(&world.pool).await;
        assert!(call.unwrap_err().to_string().contains("type is reserved"), "{reserved}");
    }
    for allowed in ["message.read", "notification.sent", "notify"] {
        enqueue(&world, allowed, None, "{}").await;
    }
}

#[tokio::test]
async fn a_scheduled_event_is_sent_on_when_it_is_due() {
    let world = World::new().await;
    add(&world, "a", "https://a.example/", &[]).await;
    world.sql("select restante.enqueue('order.due', '{}', run_at => now() + interval '1 day')").await;
    let due = "select count(distinct run_at) from restante.outbox where run_at > now() + interval '23 hours'";
    assert_eq!(world.value(due).await, "1");
    assert_eq!(told(&world, "a").await, "order.due");
}
