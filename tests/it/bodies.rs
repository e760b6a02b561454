//! Odd bodies, from their signed delivery to the end of their event: ingest and handlers read them the same way.

use axum::Router;
use axum::extract::State;
use axum::http::Uri;
use expect_test::expect;
use restante::registry::Registry;
use restante::{api, handlers, worker};
use secrecy::SecretString;
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;

use crate::support::{Delivery, Ledger, Process, Sender, World};

/// The paths that were requested from the API.
type Asked = Arc<Mutex<Vec<String>>>;

/// An API that has every object, and records the requested paths.
async fn api_that_has_everything() -> (api::Client, Asked) {
    async fn answer(State(asked): State<Asked>, uri: Uri) -> axum::Json<serde_json::Value> {
        asked.lock().unwrap().push(uri.path().to_owned());
        axum::Json(json!({ "id": "x", "status": "running", "processing_status": "in_progress" }))
    }
    let asked = Asked::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let router = Router::new().fallback(answer).with_state(Arc::clone(&asked));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let settings = api::Settings::new(base_url, SecretString::from("sk-test-key"));
    (api::Client::new(settings).unwrap(), asked)
}

/// Runs the built-in handlers on all events, and returns the paths requested from the API.
async fn worked(world: &World) -> Vec<String> {
    let (api, asked) = api_that_has_everything().await;
    let settings = handlers::Settings {
        batch_poll: Duration::from_secs(60),
        reconcile: None,
        allow_private_endpoints: false,
    };
    let registry = handlers::registry(settings);
    worker::run_until_idle(world.worker_settings(), world.pool.clone(), registry, api).await.unwrap();
    std::mem::take(&mut *asked.lock().unwrap())
}

async fn receiving() -> (World, Process, Sender) {
    let world = World::new().await;
    let ingest = Process::ingest(&world.url, &[]).await;
    let sender = Sender::to(ingest.address());
    (world, ingest, sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_about_the_object_that_its_body_names_last_however_it_is_written() {
    let (world, _ingest, sender) = receiving().await;
    for (number, members) in [
        r#""id":"whe_own","data":{"id":"sesn_no"},"data":{"id":"sesn_1"}"#,
        r#""id":"whe_own","data":null,"data":{"id":"sesn_no","id":"sesn_1"}"#,
        r#""id":"whe_own","id":"whe_2","data":{"id":"sesn_1"}"#,
        r#""id":17,"data":{"id":"sesn_1"}"#,
        r#""id":"whe_4","\ud800":{"id":"sesn_no"},"data":{"\udfff":1,"id":"sesn_1","x":"\ud800"}"#,
        r#""id":"whe_5","d\u0061ta":{"\u0069d":"sesn_1","n":1e999}"#,
    ]
    .iter()
    .enumerate()
    {
        let body = format!(r#"{{"type":"session.created",{members}}}"#);
        let delivery = Delivery::new(&format!("webhook_{number}"), body.clone());
        assert_eq!(sender.status(&delivery).await, 204, "{body}");
    }
    let marked = "\u{feff}{\"type\":\"session.created\",\"id\":\"whe_6\",\"data\":{\"id\":\"sesn_1\"}}\n\0";
    assert_eq!(sender.status(&Delivery::new("webhook_6", marked)).await, 204);

    let asked = worked(&world).await;

    // `whe_own` was delivered twice, and is one event.
    expect![["whe_own session.created sesn_1 done, whe_2 session.created sesn_1 done, 17 session.created sesn_1 done, \
              whe_4 session.created sesn_1 done, whe_5 session.created sesn_1 done, whe_6 session.created sesn_1 done"]]
    .assert_eq(
        &world
            .value(
                "select string_agg(concat_ws(' ', event_id, type, key, status), ', ' order by id) from restante.outbox",
            )
            .await,
    );
    assert_eq!(asked, ["/v1/sessions/sesn_1"], "one fetch settles all events of an object that wait");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_is_an_identifier_for_the_key_and_for_the_handler() {
    let (world, _ingest, sender) = receiving().await;
    for (id, body) in [
        ("whe_1", r#"{"type":"session.created","id":"whe_1","data":{"id":17}}"#),
        (
            "whe_2",
            r#"{"type":"event","id":"whe_2","data":{"type":"vault_credential.created","id":18,"vault_id":19}}"#,
        ),
        ("whe_3", r#"{"type":"session.thread_idled","id":"whe_3","data":{"id":20,"session_thread_id":21}}"#),
    ] {
        assert_eq!(sender.status(&Delivery::new(id, body)).await, 204, "{body}");
    }

    let mut asked = worked(&world).await;

    asked.sort();
    assert_eq!(asked, ["/v1/sessions/17", "/v1/sessions/20/threads/21", "/v1/vaults/19/credentials/18"]);
    assert_eq!(
        world.value("select string_agg(key || ' ' || status, ', ' order by key) from restante.outbox").await,
        "17 done, 18 done, 20 done"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_names_no_object_is_a_dead_letter_that_says_so_and_asks_for_nothing() {
    let (world, _ingest, sender) = receiving().await;
    let mut number = 0;
    for (event_type, told) in [
        ("session.created", "the event does not say which session"),
        ("batch.completed", "the event names no batch"),
    ] {
        for data in [
            "",
            r#","data":null"#,
            r#","data":{"id":"sesn_1"},"data":null"#,
            r#","data":{}"#,
            r#","data":{"id":null}"#,
            r#","data":{"id":""}"#,
            r#","data":{"id":{"id":"sesn_1"}}"#,
            r#","data":[]"#,
            r#","data":["sesn_1","sesn_1"]"#,
            r#","data":"sesn_1""#,
            r#","data":17"#,
            r#","batch_id":"msgbatch_1""#,
        ] {
            number += 1;
            let body = format!(r#"{{"type":"{event_type}","id":"whe_{number}"{data}}}"#);
            assert_eq!(sender.status(&Delivery::new("webhook", body.clone())).await, 204, "{body}");
            assert_eq!(worked(&world).await, [""; 0], "{body}");
            let (status, key, error): (String, Option<String>, Option<String>) =
                sqlx::query_as("select status, key, last_error from restante.outbox where event_id = $1")
                    .bind(format!("whe_{number}"))
                    .fetch_one(&world.pool)
                    .await
                    .unwrap();
            assert_eq!((status.as_str(), key), ("dead", None), "{body}");
            assert!(error.as_deref().is_some_and(|error| error.contains(told)), "{body}: {error:?}");
        }
    }
    assert_eq!(world.value("select count(*) from restante.resource").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_nobody_can_read_is_kept_and_becomes_a_dead_letter_in_every_worker() {
    let (world, _ingest, sender) = receiving().await;
    let bodies: [(&str, &[u8], &str); 11] = [
        ("empty", b"", "the body is empty"),
        ("blank", b" \n", "the body is empty"),
        ("text", b"no JSON", "the body is no JSON from line 1, column 2 on"),
        ("cut", br#"{"type":"event","id":"w"#, "the body is no JSON from line 1, column 23 on"),
        (
            "nan",
            br#"{"type":"event","id":"whe_1","data":{"type":"a.b","x":NaN}}"#,
            "the body is no JSON from line 1, column 55 on",
        ),
        ("comma", br#"{"type":"a.b","id":"whe_1",}"#, "the body is no JSON from line 1, column 28 on"),
        ("two", br#"{"type":"a.b","id":"whe_1"}{}"#, "the body is no JSON from line 1, column 28 on"),
        ("utf16", b"\xff\xfe{\0\"\0", "the body is no JSON from line 1, column 1 on"),
        ("gzip", b"\x1f\x8b\x08\0\0", "the body is no JSON from line 1, column 1 on"),
        ("array", br#"[{"type":"a.b"}]"#, "the body is no JSON object"),
        ("untyped", br#"{"id":"whe_1","data":{"id":"sesn_1"}}"#, "the body names no event type"),
    ];
    for (id, body, _) in &bodies {
        assert_eq!(sender.status(&Delivery::new(id, *body)).await, 204, "{id}");
        assert_eq!(sender.status(&Delivery::new(id, *body)).await, 204, "{id} again");
    }

    // A worker that handles one type only, and ends all other events as ignored.
    world.work_with(Registry::new().register(Ledger)).await;

    for (id, body, told) in bodies {
        let (event_type, status, attempt, error): (String, String, i32, Option<String>) = sqlx::query_as(
            "select type, status, attempt, last_error from restante.outbox where event_id = $1",
        )
        .bind(id)
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!((event_type.as_str(), status.as_str(), attempt), ("unreadable", "dead", 1), "{id}");
        assert_eq!(error.as_deref(), Some(format!("no envelope can be read: {told}").as_str()), "{id}");
        let kept: Vec<u8> = sqlx::query_scalar(
            "select coalesce(raw, convert_to(payload::text, 'UTF8')) from restante.outbox where event_id = $1",
        )
        .bind(id)
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(kept, body, "{id}");
    }
    assert_eq!(world.value("select count(*) from restante.outbox").await, "11");
    let json = "select string_agg(event_id, ' ' order by id) from restante.outbox where payload is not null";
    assert_eq!(world.value(json).await, "array untyped");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_body_of_the_older_scheme_is_one_event_however_often_it_comes() {
    let (world, _ingest, sender) = receiving().await;

    for body in ["no JSON", "no JSON", "nor this"] {
        assert_eq!(sender.status(&Delivery::older(body)).await, 204);
    }

    let named = "select bool_and(event_id like 'sha256:%' and type = 'unreadable') || ' ' || count(*) from restante.outbox";
    assert_eq!(world.value(named).await, "true 2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_date_is_read_as_it_was_meant_and_every_client_can_select_it() {
    let (world, _ingest, sender) = receiving().await;
    for (id, created_at, stored) in [
        ("seconds", "1793534400", "2026-11-01 12:00:00"),
        ("milliseconds", "1793534400250", "2026-11-01 12:00:00.25"),
        ("no_colon", r#""2026-11-01T14:00:00+0200""#, "2026-11-01 12:00:00"),
        ("no_offset", r#""2026-11-01T12:00:00""#, "2026-11-01 12:00:00"),
        ("before", r#""-0044-03-15T12:00:00Z""#, "0001-01-02 12:00:00"),
        ("year_0", r#""0000-01-01T00:00:00Z""#, "0001-01-02 12:00:00"),
        ("after", r#""+10000-01-01T00:00:00Z""#, "9999-12-30 12:00:00"),
        ("far_after", r#""290000-01-01T00:00:00Z""#, "9999-12-30 12:00:00"),
        ("huge", "1e400", "9999-12-30 12:00:00"),
    ] {
        let body =
            format!(r#"{{"type":"test.ledger","id":"{id}","created_at":{created_at},"data":{{"id":"k"}}}}"#);
        assert_eq!(sender.status(&Delivery::new(id, body)).await, 204, "{id}");
        let query =
            format!("select created_at at time zone 'UTC' from restante.outbox where event_id = '{id}'");
        assert_eq!(world.value(&query).await, stored, "{id}");
    }

    let mut connection = world.pool.acquire().await.unwrap();
    for zone in ["Pacific/Kiritimati", "Etc/GMT+12", "Asia/Manila"] {
        sqlx::query("select set_config('timezone', $1, false)")
            .bind(zone)
            .execute(&mut *connection)
            .await
            .unwrap();
        let foreign: i64 = sqlx::query_scalar(
            "select count(*) from restante.outbox where created_at::text !~ '^[0-9]{4}-' or created_at::text ~ 'BC$'",
        )
        .fetch_one(&mut *connection)
        .await
        .unwrap();
        assert_eq!(foreign, 0, "{zone}");
    }
    sqlx::query("reset timezone").execute(&mut *connection).await.unwrap();
    drop(connection);
    assert_eq!(world.work().await, 9, "they are claimed, decoded and run in order");
    let first_and_last = world.ledger().await;
    assert!(["before", "year_0"].contains(&first_and_last[0].as_str()), "{first_and_last:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_delivery_is_counted_as_one_and_leaves_a_trace_where_it_says_something_else() {
    let (world, ingest, sender) = receiving().await;
    let body =
        |session: &str| format!(r#"{{"type":"session.created","id":"whe_1","data":{{"id":"{session}"}}}}"#);

    for session in ["sesn_1", "sesn_1", "sesn_2", "sesn_2"] {
        assert_eq!(sender.status(&Delivery::new("whe_1", body(session))).await, 204);
    }
    // Also if the deliveries share a commit.
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("lock table restante.outbox_seen in share mode").execute(&mut *tx).await.unwrap();
    let posts: Vec<_> = ["sesn_1", "sesn_1", "sesn_2"]
        .map(|session| Delivery::new("whe_2", body(session).replace("whe_1", "whe_2")))
        .map(|delivery| {
            let sender = sender.clone();
            tokio::spawn(async move { sender.status(&delivery).await })
        })
        .into();
    world.somebody_waits_for_a_lock().await;
    tx.commit().await.unwrap();
    for post in posts {
        assert_eq!(post.await.unwrap(), 204);
    }

    let (_, metrics) = ingest.ops("/metrics").await;
    for line in [
        r#"restante_deliveries_total{answer="204",reason="stored"} 2"#,
        r#"restante_deliveries_total{answer="204",reason="duplicate"} 5"#,
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in:\n{metrics}");
    }
    let differs = "select string_agg(event_id, ' ' order by event_id) from restante.delivery_differs";
    assert_eq!(world.value(differs).await, "whe_1 whe_2");
    assert_eq!(
        world.value("select payload::text from restante.delivery_differs where event_id = 'whe_1'").await,
        body("sesn_2")
    );
    let told = ingest.log().lines().filter(|line| line.contains("a delivery repeats the identifier")).count();
    assert_eq!(told, 1, "once for all of a moment: {}", ingest.log());
    assert!(!ingest.log().contains("sesn_"), "{}", ingest.log());
}
