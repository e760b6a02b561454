//! What the page finds and tells of one event, and of one message.

use super::{dead_letter, get, get_with, worker};
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
