//! How the ingest process answers deliveries, and what is in the outbox then.

use expect_test::expect;
use futures_util::future::join_all;
use restante::internals::config::VARIABLES;
use restante_playground::postgres::PrivatePostgres;

use crate::support::sender::envelope;
use crate::support::{Delivery, Process, Sender, World, eventually};

/// The variable that says how long a delivery waits for the database.
const WAIT: &str = "RESTANTE_INGEST_WAIT_SECONDS";

/// A world with an ingest in it.
async fn receiving() -> (World, Process, Sender) {
    let world = World::new().await;
    let ingest = Process::ingest(&world.url, &[]).await;
    let sender = Sender::to(ingest.address());
    (world, ingest, sender)
}

/// The stored bytes of an event.
async fn kept(world: &World, event_id: &str) -> Vec<u8> {
    sqlx::query_scalar(
        "select coalesce(raw, convert_to(payload::text, 'UTF8')) from restante.outbox where event_id = $1",
    )
    .bind(event_id)
    .fetch_one(&world.pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_with_204_is_in_the_outbox_as_it_came() {
    let (world, _ingest, sender) = receiving().await;
    // Spaces, an escape, a number of many digits and a repeated field: a parser would change these.
    let body = r#"{ "type":"event", "id":"whe_1","created_at":"2026-11-01T12:00:00.123456Z",
        "data":{"type":"session.status_idled","id":"sesn_1","workspace_id":"wrkspc_1","n":1.10e2,"n":0.1234567890123456789012,"é":"\u00e9"} }"#;

    assert_eq!(sender.status(&Delivery::new("whe_1", body)).await, 204);

    assert_eq!(kept(&world, "whe_1").await, body.as_bytes());
    let columns = "select concat_ws(' ', event_id, type, key, workspace_id, source, status, attempt,
                                    to_char(created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'))
                     from restante.outbox";
    expect!["whe_1 session.status_idled sesn_1 wrkspc_1 webhook pending 0 2026-11-01 12:00:00.123456"]
        .assert_eq(&world.value(columns).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_by_the_older_scheme_is_taken_too() {
    let (world, _ingest, sender) = receiving().await;
    let body = r#"{"type":"batch.completed","id":"evt_1","data":{"batch_id":"msgbatch_1"}}"#;

    assert_eq!(sender.status(&Delivery::older(body)).await, 204);

    assert_eq!(kept(&world, "evt_1").await, body.as_bytes());
    let columns = "select concat_ws(' ', type, key) from restante.outbox";
    assert_eq!(world.value(columns).await, "batch.completed msgbatch_1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_of_which_one_byte_was_changed_is_refused() {
    let (world, _ingest, sender) = receiving().await;
    let body = r#"{"type":"event","id":"whe_1","data":{"type":"a.b","id":"k"}}"#;

    for delivery in [Delivery::new("whe_1", body), Delivery::older(body)] {
        let edits: Vec<Delivery> = edits(&delivery).collect();
        assert!(edits.len() > 200, "{}", edits.len());
        for edit in edits {
            assert_eq!(sender.status(&edit).await, 401, "{edit:?}");
        }
        assert_eq!(world.value("select count(*) from restante.outbox").await, "0");
    }
    assert_eq!(sender.status(&Delivery::new("whe_1", body)).await, 204, "it is the edits that were refused");
}

/// Copies of the delivery with one bit flipped, at every place of the body and of every header where the result is valid.
fn edits(delivery: &Delivery) -> impl Iterator<Item = Delivery> {
    let in_body = (0..delivery.body.len()).flat_map(|place| [1, 0x80].map(|bit| (None, place, bit)));
    let in_headers = delivery.headers.iter().enumerate().flat_map(|(header, (_, value))| {
        (0..value.len()).flat_map(move |place| [1, 4].map(|bit| (Some(header), place, bit)))
    });
    in_body.chain(in_headers).filter_map(|(header, place, bit)| {
        let mut edit = delivery.clone();
        match header {
            None => edit.body[place] ^= bit,
            Some(header) => {
                let mut value = edit.headers[header].1.clone().into_bytes();
                value[place] ^= bit;
                edit.headers[header].1 = String::from_utf8(value).unwrap();
            }
        }
        let sendable = |(_, value): &(_, String)| value.bytes().all(|byte| byte.is_ascii_graphic());
        edit.headers.iter().all(sendable).then_some(edit)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timestamp_that_is_no_time_is_refused_and_ingest_lives_on() {
    let (_world, ingest, sender) = receiving().await;
    let body = envelope("whe_1", "session.status_idled", "sesn_1");
    let beyond = ["9223372036854775808", "99999999999999999999999999", "99999999999", "1e9", "0x10"];
    let odd =
        ["-9223372036854775808", "-9223372036854775807", "9223372036854775807", "NaN", "inf", "0", "-1"];

    for timestamp in beyond.into_iter().chain(odd) {
        // The signature is right, so ingest refuses the timestamp.
        let standard = Delivery::stamped("whe_1", timestamp, body.clone());
        assert_eq!(sender.status(&standard).await, 401, "{timestamp}");
        let older = Delivery::older_stamped(timestamp, body.clone());
        assert_eq!(sender.status(&older).await, 401, "{timestamp}, older scheme");
    }

    assert_eq!(sender.status(&Delivery::new("whe_1", body)).await, 204);
    assert!(!ingest.log().contains("panicked"), "{}", ingest.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_event_delivered_a_hundred_times_at_once_is_one_row_and_runs_once() {
    let (world, _ingest, sender) = receiving().await;
    let delivery = Delivery::event("whe_1", "test.ledger", "k");

    let statuses = join_all((0..100).map(|_| sender.status(&delivery))).await;

    assert_eq!(statuses, [204; 100]);
    expect![["whe_1 pending, attempt 0\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.work().await, 1);
    assert_eq!(world.ledger().await, ["whe_1"]);
    assert_eq!(sender.status(&delivery).await, 204, "also after it is done");
    assert_eq!(world.work().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_trouble_for_postgres_are_kept_byte_for_byte_beside_their_neighbours() {
    let (world, _ingest, sender) = receiving().await;
    let body = |id: &str, odd: &[u8]| {
        let start =
            format!(r#"{{"type":"event","id":"{id}","data":{{"type":"test.ledger","id":"{id}","odd":"#);
        (id.to_owned(), [start.as_bytes(), odd, b"}}"].concat())
    };
    let nested = ["[".repeat(20_000), "]".repeat(20_000)].concat();
    let mut bodies = vec![
        body("nul", br#""a\u0000b""#),
        body("nul_as_name", br#"{"\u0000":1}"#),
        body("high_surrogate", br#""\ud800""#),
        body("low_surrogate", br#""\udc00 and more""#),
        body("nested", nested.as_bytes()),
        body("no_utf8", b"\"\xff\xfe\xc3\x28\""),
        body("huge_number", b"1e999999"),
        body("long", format!("\"{}\"", "x".repeat(900_000)).as_bytes()),
    ];
    bodies.extend((0..40).map(|number| body(&format!("good_{number}"), b"1")));

    // The lock blocks all commits until every delivery is on its way, so that they share commits.
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("lock table restante.outbox_seen in share mode").execute(&mut *tx).await.unwrap();
    let posts: Vec<_> = bodies
        .iter()
        .map(|(id, body)| {
            let (sender, delivery) = (sender.clone(), Delivery::new(id, body.clone()));
            tokio::spawn(async move { sender.status(&delivery).await })
        })
        .collect();
    world.somebody_waits_for_a_lock().await;
    tx.commit().await.unwrap();

    for post in posts {
        assert_eq!(post.await.unwrap(), 204);
    }
    for (id, body) in &bodies {
        assert!(kept(&world, id).await == *body, "{id}");
    }
    let as_bytes: String = world
        .value(
            "select string_agg(event_id, ' ' order by event_id) from restante.outbox where raw is not null",
        )
        .await;
    assert_eq!(as_bytes, "nested no_utf8", "the others are JSON that can be queried");
    let commits = world.value("select count(distinct xmin::text) from restante.outbox").await;
    assert!(commits.parse::<usize>().unwrap() < bodies.len(), "{commits} commits: none had a neighbour");
}

#[tokio::test(flavor = "multi_thread")]
async fn identifiers_that_no_column_can_hold_as_they_are_do_not_keep_an_event_out() {
    let (world, _ingest, sender) = receiving().await;
    let long = "x".repeat(100_000);
    let bodies = [
        r#"{"type":"event","id":"a\u0000b","data":{"type":"c\u0000d","id":"e\u0000f"}}"#.to_owned(),
        r#"{"type":"event","id":"a\ud800b","data":{"type":"c\udc00d","id":"e\ud800f"}}"#.to_owned(),
        format!(r#"{{"type":"event","id":"{long}","data":{{"type":"{long}","id":"{long}"}}}}"#),
        r#"{"type":"event","id":17,"created_at":"yesterday","data":{"type":"t","id":{"a":1}}}"#.to_owned(),
        r#"{"type":"t","created_at":"+275760-09-13T00:00:00Z","data":null}"#.to_owned(),
    ];

    for (number, body) in bodies.iter().enumerate() {
        let delivery = Delivery::new(&format!("whe_{number}"), body.clone());
        assert_eq!(sender.status(&delivery).await, 204, "{body:.80}");
    }

    let stored: Vec<String> = sqlx::query_scalar("select payload::text from restante.outbox order by id")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert!(stored == bodies, "{stored:.80?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_type_that_nobody_knows_is_kept() {
    let (world, _ingest, sender) = receiving().await;

    assert_eq!(sender.status(&Delivery::event("whe_1", "owl.arrived", "owl_1")).await, 204);

    assert_eq!(world.value("select type || ' ' || status from restante.outbox").await, "owl.arrived pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_the_endpoint_takes_deliveries_with_and_without_a_slash_at_its_end() {
    let (world, _ingest, sender) = receiving().await;
    let paths = ["/webhooks/anthropic", "/webhook", "/anthropic-webhook"];
    let queries = ["", "/", "?from=anthropic", "/?from=anthropic"];

    for (number, (path, query)) in
        paths.iter().flat_map(|path| queries.map(|query| (path, query))).enumerate()
    {
        let delivery = Delivery::event(&format!("whe_{number}"), "session.status_idled", "");
        let answer = sender.post_at(&format!("{path}{query}"), &delivery).await.unwrap();
        assert_eq!(answer.status, 204, "{path}{query}");
    }

    assert_eq!(world.value("select count(*) from restante.outbox").await, "12");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_ever_redirected() {
    let (_world, _ingest, sender) = receiving().await;
    let paths = [
        "/",
        "/webhooks",
        "/webhooks/",
        "/webhooks/anthropic",
        "/webhooks/anthropic/",
        "/webhooks/anthropic//",
        "//webhooks/anthropic",
        "/webhooks//anthropic",
        "/webhooks/./anthropic",
        "/webhooks/../webhook",
        "/webhooks/%61nthropic",
        "/webhooks/anthropic/%2e%2e",
        "/webhook?x=1",
        "/WEBHOOK",
        "/webhook/more",
        "*",
        "http://elsewhere.example/webhook",
        "/webhook#top",
        "/anthropic-webhook",
        "/anthropic-webhook/",
    ];
    let methods =
        ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "POST", "PROPFIND", "CONNECT"];

    for path in paths {
        for method in methods {
            let request = format!("{method} {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
            let status = sender.raw(request.as_bytes()).await;
            assert!(
                [200, 400, 401, 404, 405].contains(&status),
                "{method} {path} was answered with {status}"
            );
        }
        let status = sender.raw(&Delivery::event("whe_1", "session.created", "").to_http(path)).await;
        assert!([204, 400, 404].contains(&status), "a delivery to {path} was answered with {status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_a_mebibyte_is_refused_unread_and_one_of_a_mebibyte_is_taken() {
    const LIMIT: usize = 1 << 20;
    let (world, _ingest, sender) = receiving().await;
    let head = format!("POST /webhook HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n", LIMIT + 1);
    assert_eq!(sender.raw(head.as_bytes()).await, 413);

    let mut body = envelope("whe_1", "session.created", "").into_bytes();
    body.resize(LIMIT, b' ');
    assert_eq!(sender.status(&Delivery::new("whe_1", body.clone())).await, 204);

    assert!(kept(&world, "whe_1").await == body);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_is_counted_with_its_reason() {
    let (_world, ingest, sender) = receiving().await;
    let good = Delivery::event("whe_1", "session.created", "");
    let wrong = Delivery { body: b"{}".to_vec(), ..good.clone() };
    let bare = Delivery { headers: vec![], ..good.clone() };

    for delivery in [&good, &good, &wrong, &bare] {
        sender.status(delivery).await;
    }

    let (_, metrics) = ingest.ops("/metrics").await;
    for line in [
        r#"restante_deliveries_total{answer="204",reason="stored"} 1"#,
        r#"restante_deliveries_total{answer="401",reason="mismatch"} 1"#,
        r#"restante_deliveries_total{answer="401",reason="missing"} 1"#,
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line} is not in:\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shortest_wait_that_can_be_configured_is_enough_where_the_database_is_there() {
    let variable = VARIABLES.iter().find(|variable| variable.name == WAIT).unwrap();
    let shortest = variable.bounds.as_ref().unwrap().start().to_string();
    let world = World::new().await;
    let ingest = Process::ingest(&world.url, &[(WAIT, &shortest)]).await;
    let sender = Sender::to(ingest.address());

    assert_eq!(sender.status(&Delivery::event("whe_1", "session.created", "")).await, 204);

    assert_eq!(world.value("select count(*) from restante.outbox").await, "1");
}

/// A world on a Postgres of its own that can be crashed.
async fn receiving_on_its_own_postgres(wait: &str) -> (PrivatePostgres, World, Process, Sender) {
    let (postgres, world) = World::on_its_own_postgres().await;
    let ingest = Process::ingest(&world.url, &[(WAIT, wait)]).await;
    let sender = Sender::to(ingest.address());
    (postgres, world, ingest, sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_waits_out_a_restart_of_the_database() {
    let (mut postgres, world, mut ingest, sender) = receiving_on_its_own_postgres("30").await;
    assert_eq!(sender.status(&Delivery::event("before", "session.created", "")).await, 204);
    postgres.kill_hard().unwrap();

    let during = tokio::spawn({
        let (sender, delivery) = (sender.clone(), Delivery::event("during", "session.created", ""));
        async move { sender.status(&delivery).await }
    });
    ingest.until_logged("waiting for the database").await;
    postgres.restart().unwrap();

    assert_eq!(during.await.unwrap(), 204);
    let world = World::on(world.url).await;
    expect![["before pending, attempt 0\nduring pending, attempt 0\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_database_ingest_lives_is_not_ready_and_asks_senders_to_come_back() {
    let (mut postgres, world, ingest, sender) = receiving_on_its_own_postgres("1").await;
    let ready = async |status: u16| {
        eventually(&format!("/readyz {status}"), async || {
            (ingest.ops("/readyz").await.0 == status).then_some(())
        })
        .await;
    };
    ready(200).await;
    postgres.kill_hard().unwrap();
    ready(503).await;

    let answer = sender.post(&Delivery::event("whe_1", "session.created", "")).await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.headers["retry-after"], "5");
    assert_eq!(ingest.ops("/livez").await.0, 200);

    postgres.restart().unwrap();
    ready(200).await;
    assert_eq!(sender.status(&Delivery::event("whe_1", "session.created", "")).await, 204);
    let world = World::on(world.url).await;
    expect![["whe_1 pending, attempt 0\n"]].assert_eq(&world.outbox().await);
}
