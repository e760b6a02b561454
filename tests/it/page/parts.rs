//! What each part of the page shows.

use super::{Answer, dead_letter, get, get_with, worker};
use crate::support::{Process, World, eventually};

/// Every part of the page that the menu names, and the panels on it.
const PARTS: [(&str, &[&str]); 6] = [
    ("/", &["safe", "work", "last-day", "waits", "failures", "subscribers", "keys", "operations"]),
    ("/events", &["events"]),
    ("/batches", &["submissions", "batches", "budgets"]),
    ("/messages", &["messages"]),
    ("/notifications", &["endpoints", "deliveries"]),
    ("/dead", &["dead-kinds", "dead", "replays"]),
];

/// What a browser loads for a part of the page at most.
const BYTES_MAX: usize = 100_000;

async fn something_of_everything(world: &World) {
    dead_letter(world, "evt_dead", "sesn_1").await;
    world.receive("evt_done", "sesn_2", 1, serde_json::json!({})).await;
    world.work().await;
    world
        .sql(
            "insert into restante.batch (id, status, succeeded, results_stored, created_at)
              values ('msgbatch_1', 'ended', 10, 4, now() - interval '1 hour')",
        )
        .await;
    for call in [
        "select restante.submit_batch('[{\"custom_id\":\"a\",\"params\":{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{}]}}]', name => 'letters')",
        "select restante.send_message('{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{}]}', tag => 'night')",
        "insert into restante.endpoint (name, url) values ('billing', 'https://b.example/hook')",
        "insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, took, status) values ('billing', 1, 'ntf_1', 'order.placed', 1, '20 ms', 204)",
        "select restante.budget('night', 10)",
    ] {
        world.sql(call).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_part_of_the_page_has_its_panels_each_with_its_answer_and_the_sql_behind_it() {
    let world = World::new().await;
    something_of_everything(&world).await;
    let worker = worker(&world, &[]).await;

    for (path, panels) in PARTS {
        let part = get(&worker, path).await;
        assert_eq!(part.status, 200, "{path}");
        assert!(!part.text.contains("class=\"problem\""), "{path}: {}", part.text);
        for panel in panels {
            let (_, from) = part
                .text
                .split_once(&format!("id=\"{panel}\""))
                .unwrap_or_else(|| panic!("{path} lacks {panel}"));
            let panel_text = from.split("</section>").next().unwrap();
            assert!(panel_text.contains("<code>select "), "{path}, {panel}: no SQL");
        }
    }
    for (path, said) in [
        ("/", "No. 1 of 10 answers needs you to act now."),
        ("/events", "evt_done"),
        ("/batches", "msgbatch_1"),
        ("/batches", "letters"),
        ("/batches", "4 of 10"),
        ("/messages", "message 1"),
        ("/notifications", "billing"),
        ("/dead", "evt_dead"),
    ] {
        assert!(get(&worker, path).await.text.contains(said), "{path} does not say {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sql_that_is_shown_is_what_a_person_with_the_role_of_the_page_can_ask() {
    let world = World::new().await;
    something_of_everything(&world).await;
    let worker = worker(&world, &[]).await;
    let mut connection = restante::database::connect(&world.url, "test").await.unwrap();
    sqlx::query("set role restante_page").execute(&mut connection).await.unwrap();

    let mut asked = 0;
    for path in [
        "/",
        "/events?type=test.*&since=2026-01-01T00:00",
        "/events?find=evt_dead",
        "/events?error=told",
        "/batches",
        "/dead",
    ] {
        let text = get(&worker, path).await.text;
        for shown in text.split("<code>").skip(1) {
            let sql = shown
                .split("</code>")
                .next()
                .unwrap()
                .replace("&lt;", "<")
                .replace("&gt;", ">")
                .replace("&amp;", "&");
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone()))
                .execute(&mut connection)
                .await
                .unwrap_or_else(|error| panic!("{sql}: {error}"));
            asked += 1;
        }
    }
    assert!(asked > 14, "only {asked} statements were found: the test looks in the wrong place");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_page_with_all_that_it_loads_is_small_and_comes_from_here_alone() {
    let world = World::new().await;
    something_of_everything(&world).await;
    let worker = worker(&world, &[]).await;

    for (path, _) in PARTS {
        let part = get(&worker, path).await;
        is_small(&worker, path, &part).await;
        let policy = part.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        for outside in ["src=\"http", "href=\"http", "url(", "<script>", " onclick=", " style="] {
            assert!(!part.text.contains(outside), "{path}: {outside}");
        }
    }
}

/// Asserts that a part of the page is small with all that it loads.
async fn is_small(worker: &Process, path: &str, part: &Answer) {
    let mut bytes = part.text.len();
    let mut files = 0;
    for asset in part.text.split("\"/assets/").skip(1) {
        let asset = get(worker, &format!("/assets/{}", asset.split('"').next().unwrap())).await;
        assert_eq!(
            (asset.status, asset.header("cache-control")),
            (200, "private, max-age=31536000, immutable")
        );
        bytes += asset.text.len();
        files += 1;
    }
    assert_eq!(files, 3, "{path}");
    assert!(bytes < BYTES_MAX, "{path}: {bytes} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_the_page_is_small_however_long_the_words_are_that_the_database_lets_in() {
    let world = World::new().await;
    // Five or six bytes are written for one, three of a link for each of the last, and the longest error has 8,000 characters.
    for (letter, times) in [("a", 506), ("&", 506), ("\"", 506), ("é", 253)] {
        world
            .sql(&format!(
                "with word as (select repeat('{letter}', {times}) as w, n from generate_series(1, 15) as n),
                      stored as (
                        insert into restante.outbox (event_id, type, key, payload, status, kind, outcome, started_at, last_error, attempt, subscriber)
                        select w || 'e' || n, w || 't' || n, w || 'k' || n, to_json(repeat('{letter}', 200000)),
                               case when n <= 2 then 'retry' else 'dead' end, w, 'dead', now(), repeat('{letter}', 8000), 1, case n % 2 when 0 then w else '' end
                          from word returning *)
                 insert into restante.failure (outbox_id, event_id, type, subscriber, attempt, outcome, error, kind, failed_at)
                 select id, event_id, type, subscriber, attempt, 'retryable', last_error, kind, now() from stored"
            ))
            .await;
        for call in [
            format!("select restante.send_message('{{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{{}}]}}', tag => repeat('{letter}', 100) || n, key => repeat('{letter}', 190) || n) from generate_series(1, 15) as n"),
            format!("select restante.budget(repeat('{letter}', 90) || n, 10) from generate_series(1, 10) as n"),
            format!("insert into restante.operation (who, what, of_what, how_many, reason) select repeat('{letter}', 200), 'replay', repeat('{letter}', 500), 1, repeat('{letter}', 5000) from generate_series(1, 15)"),
            format!("insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, took, status, error)
                     select 'billing', 1, repeat('{letter}', 500), repeat('{letter}', 500), 1, '20 ms', 502, repeat('{letter}', 1000) from generate_series(1, 15)"),
        ] {
            world.sql(&call).await;
        }
    }
    let worker = worker(&world, &[("RESTANTE_OPS_REPLAY", "true")]).await;
    let quoted =
        world.value("select max(id) from restante.outbox where key like '\"%' and status = 'dead'").await;

    for path in PARTS.iter().map(|(path, _)| *path).chain([
        "/events?error=a",
        "/events?error=%22",
        "/events?error=%C3%A9",
        &*format!("/events/{quoted}/payload"),
    ]) {
        let part = get(&worker, path).await;
        assert!(!part.text.contains("class=\"problem\""), "{path}: {}", part.text);
        is_small(&worker, path, &part).await;
    }
    let event = get(&worker, &format!("/events/{quoted}")).await.text;
    assert!(event.contains(&"&quot;".repeat(506)), "the page of an event shows all");
    let payload = get(&worker, &format!("/events/{quoted}/payload")).await.text;
    assert!(payload.contains(" characters of 400,002."), "{payload}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_has_the_page_as_it_is_gets_no_more_than_that() {
    let world = World::new().await;
    let worker = worker(&world, &[]).await;

    // Between two requests there may be a newer answer.
    let known = eventually("a page that stays as it is", async || {
        let tag = get(&worker, "/").await.header("etag").to_owned();
        let again = get_with(&worker, "/", ("if-none-match", &tag)).await;
        (again.status == 304).then_some(again)
    })
    .await;

    assert_eq!(known.text, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_is_shown_as_text_and_found_as_it_is() {
    let world = World::new().await;
    let hostile = "<script>alert(\"1\")</script>' or 1=1 --";
    let id = dead_letter(&world, hostile, "sesn_1").await;
    let quoted = hostile.replace('\'', "''");
    world.sql(&format!("update restante.outbox_live set last_error = '{quoted}', key = '{quoted}'")).await;
    world.sql(&format!("update restante.failure set error = '{quoted}', kind = '<b>'")).await;
    let worker = worker(&world, &[]).await;

    let searched =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("error", "alert(\"1\")").finish();
    for path in [
        "/",
        "/dead",
        "/events",
        &format!("/events/{id}"),
        &format!("/events?{searched}"),
        &format!("/events/{id}/payload"),
    ] {
        let part = get(&worker, path).await;
        assert_eq!(part.status, 200, "{path}");
        assert!(!part.text.contains("<script>alert") && !part.text.contains("<b>"), "{path}");
    }
    assert!(get(&worker, &format!("/events?{searched}")).await.text.contains("&lt;script&gt;alert"));
    for path in [
        "/events?find=%00",
        "/events?since=yesterday",
        "/events?before=x",
        "/events/x",
        "/events/99999999999999999999",
        "/messages/x",
    ] {
        assert!(get(&worker, path).await.status < 500, "{path}");
    }
}
