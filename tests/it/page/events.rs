//! What the page finds and tells of one event, and of one message.

use super::{dead_letter, get, get_with, panel, worker};
use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_by_its_identifier_number_key_type_time_and_error() {
    let world = World::new().await;
    let id = dead_letter(&world, "evt_dead", "sesn_1").await;
    world.receive("evt_done", "sesn_2", 1, serde_json::json!({})).await;
    world.work().await;
    let worker = worker(&world, &[]).await;

    for (query, finds) in [
        ("find=evt_dead", true),
        (&*format!("find={id}"), true),
        ("find=sesn_1", true),
        ("find=evt_done", false),
        ("type=test.ledger", true),
        ("type=test.*", true),
        ("type=other.*", false),
        ("since=2020-01-01T00:00", true),
        ("since=2120-01-01T00:00", false),
        ("until=2020-01-01T00:00", false),
        ("error=NEVER+WORK", true),
        ("error=nothing+like+that", false),
    ] {
        let found = get(&worker, &format!("/events?{query}")).await.text;
        assert_eq!(found.contains(&format!("href=\"/events/{id}\"")), finds, "{query}: {found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_tells_the_life_of_an_event_as_the_hand_tool_does_and_its_body_only_when_asked() {
    let world = World::new().await;
    let id = dead_letter(&world, "evt_dead", "sesn_1").await;
    let worker = worker(&world, &[]).await;

    let life = get(&worker, &format!("/events/{id}")).await.text;
    for step in [
        "It was received",
        "For the handler of its type",
        "Attempts that failed",
        "It waits",
        "it was given up",
    ] {
        assert!(life.contains(step), "{step}: {life}");
    }
    assert!(!life.contains("permanent&quot;: true") && !life.contains("&quot;permanent&quot;"), "{life}");

    let payload = get(&worker, &format!("/events/{id}/payload")).await.text;
    assert!(payload.contains("&quot;permanent&quot;"), "{payload}");
    assert!(worker.log().contains("somebody read the payload of an event"), "{}", worker.log());
    assert_eq!(get(&worker, &format!("/events/{id}/payload")).await.header("cache-control"), "no-store");
    assert_eq!(get(&worker, "/events/987654321/payload").await.status, 404);
    let nothing = get(&worker, "/events/987654321").await.text;
    assert!(
        nothing.contains("There is no event of this number.") && !nothing.contains("payload"),
        "{nothing}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_shows_its_notifications_their_attempts_and_the_next_one() {
    let world = World::new().await;
    world
        .sql("insert into restante.endpoint (name, url, event_types) values ('crm', 'https://crm.example/', '{order.*}'), ('audit', 'https://audit.example/', '{order.*}')")
        .await;
    for event_id in ["o''\\\"1", "o''\\\"12"] {
        world
            .sql(&format!("select restante.enqueue('order.placed', '{{}}', event_id => '{event_id}')"))
            .await;
    }
    world
        .sql("update restante.outbox_live set status = 'retry', attempt = 2, run_at = '2126-01-01 12:00:00Z', lane = 'l', lease_token = lease_token + 1 where type = 'notify.crm'")
        .await;
    world
        .sql("insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, took, status, error)
              select 'crm', o.id, o.event_id, 'order.placed', n, '1 s', 500 + n, 'it answered ' || 500 + n
                from restante.outbox as o, generate_series(1, 2) as n where o.type = 'notify.crm' order by n")
        .await;
    let id = world.value("select min(id)::text from restante.outbox where type = 'order.placed'").await;
    let crm = world.value("select min(id)::text from restante.outbox where type = 'notify.crm'").await;
    let worker = worker(&world, &[]).await;

    let life = get(&worker, &format!("/events/{id}")).await.text;

    let told = life.split("<li>").find(|step| step.contains("Its notifications")).expect("the step");
    assert_eq!(told.matches("data-name=\"endpoint\"").count(), 2, "those of this event alone: {told}");
    let crm_told = told.split("<tr>").find(|one| one.contains(">crm<")).unwrap();
    for fact in ["> retry<", "data-name=\"attempt\">2<", "2126-01-01 12:00:00<", "502<", "it answered 502"] {
        assert!(crm_told.contains(fact), "{fact}: {crm_told}");
    }
    assert!(crm_told.contains(&format!("href=\"/events/{crm}\"")), "{crm_told}");
    assert!(told.contains(">audit<") && told.contains(&format!("restante.notifications_of({id})")), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_shows_how_far_it_is_and_what_it_says_so_far_only_when_asked() {
    let world = World::new().await;
    world.sql("select restante.send_message('{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{}]}', partial => true)").await;
    world.sql("update restante.message set status = 'sending', attempt = 1, sent_at = now()").await;
    world.sql("update restante.outbox set status = 'cancelled' where finished_at = 'infinity'").await;
    world.sql("insert into restante.message_chunk (message, attempt, seq, events, text) values (1, 1, 2, '[]', 'kept '), (1, 1, 5, '[]', 'until called for')").await;
    let worker = worker(&world, &[]).await;

    let hidden = get(&worker, "/messages/1").await.text;
    let shown = get(&worker, "/messages/1?text=shown").await.text;

    assert!(hidden.contains("is being answered") && !hidden.contains("until called"), "{hidden}");
    assert!(shown.contains("kept until called for"), "{shown}");
    let again = get_with(&worker, "/messages/1?text=shown", ("if-none-match", "\"x\"")).await;
    assert_eq!(again.header("cache-control"), "no-store", "no browser keeps what it says");
    let told = worker.log().matches("somebody reads the text of a message").count();
    assert_eq!(told, 1, "each person once: {}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_waits_for_the_end_of_some_trouble_is_found_by_what_it_says_and_each_event_once() {
    let world = World::new().await;
    let dead = dead_letter(&world, "evt_dead", "sesn_1").await;
    for event in ["evt_refused", "evt_fine", "evt_both"] {
        world.receive(event, event, 1, serde_json::json!({})).await;
    }
    let id = async |event: &str| {
        world.value(&format!("select id from restante.outbox where event_id = '{event}'")).await
    };
    let [refused, fine, both] = [id("evt_refused").await, id("evt_fine").await, id("evt_both").await];
    // As an attempt leaves it that ended by trouble, and one that failed before that.
    world
        .sql(&format!(
            "update restante.outbox_live set status = 'retry', run_at = now() + interval '1 hour', started_at = now(), outcome = 'trouble',
                    kind = 'key_refused', last_error = 'The API refuses the KEY of anthropic' where id in ({refused}, {both})"
        ))
        .await;
    for attempt in 1..=2 {
        world
            .sql(&format!(
                "insert into restante.failure (outbox_id, event_id, type, attempt, outcome, error, kind, failed_at)
                 select id, event_id, type, {attempt}, 'retryable', 'the key is not there', 'handler', now() - interval '1 minute' from restante.outbox_live
                  where id = {both}"
            ))
            .await;
    }
    let worker = worker(&world, &[]).await;

    for (query, expected) in [
        ("error=refuses+the+key", vec![&both, &refused]),
        ("error=the+key", vec![&both, &refused]),
        ("error=the+key+is+not", vec![&both]),
        ("error=the+key&type=test.ledger", vec![&both, &refused]),
        ("error=the+key&type=other.*", vec![]),
        ("error=the+key&since=2120-01-01T00:00", vec![]),
        ("error=the+key&until=2020-01-01T00:00", vec![]),
        ("error=NEVER+WORK", vec![&dead]),
        ("error=", vec![&dead, &both, &fine, &refused]),
    ] {
        let found = get(&worker, &format!("/events?{query}")).await.text;
        let mut found: Vec<&str> =
            found.split("href=\"/events/").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        found.sort_unstable();
        let mut expected: Vec<&str> = expected.into_iter().map(String::as_str).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "{query}");
    }
    let found = get(&worker, "/events?error=the+key").await.text;
    assert!(found.contains("key_refused") && !found.contains("is not there"), "what each said last: {found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_by_error_reads_no_more_beside_a_long_history() {
    let world = World::new().await;
    let fill = async |status: &str, finished_at: &str, error: &str| {
        world
            .sql(&format!(
                "insert into restante.outbox (event_id, type, payload, status, run_at, started_at, last_error, finished_at)
                 select '{status}_' || n, 'test.flat', '{{}}', '{status}', now(), now(), '{error}', {finished_at}
                   from generate_series(1, 20000) as n"
            ))
            .await;
        world.sql("vacuum analyze restante.outbox").await;
    };
    fill("retry", "'infinity'", "the API answers 503").await;
    let worker = worker(&world, &[]).await;
    let page = get(&worker, "/events?error=nothing+like+that").await.text;
    drop(worker);
    let (_, sql) = panel(&page, "events").split_once("<code>").unwrap();
    let sql = sql.split(";</code>").next().unwrap().replace("&lt;", "<").replace("&gt;", ">");
    let buffers = async || {
        let explain = format!("explain (analyze, buffers, format json) {sql}");
        let plan: serde_json::Value =
            sqlx::query_scalar(sqlx::AssertSqlSafe(explain)).fetch_one(&world.pool).await.unwrap();
        let plan = &plan[0]["Plan"];
        plan["Shared Hit Blocks"].as_u64().unwrap() + plan["Shared Read Blocks"].as_u64().unwrap()
    };
    let before = buffers().await;

    fill("done", "clock_timestamp()", "it is over").await;

    let after = buffers().await;
    assert!(after < before + before / 10 + 10, "{after} after {before}");
}
