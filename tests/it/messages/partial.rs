//! Partial text: the rows that show what a message says while it is being written.

use std::sync::Arc;

use serde_json::{Value, json};
use sqlx::Row;
use tokio::sync::Semaphore;

use super::{PATH, api_at, events, registry, send, state, work, work_to_rest, written};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::{SimulatedApi, World, eventually};

/// All events that are kept of a message, with the number that each has by the last of its row.
async fn kept(world: &World, id: i64) -> Vec<(i64, Value)> {
    let rows = sqlx::query(
        "select seq, events::text from restante.message_chunk where message = $1 order by attempt, seq",
    )
    .bind(id)
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let of_row = |row: &sqlx::postgres::PgRow| {
        let events: Vec<Value> = serde_json::from_str(row.get(1)).unwrap();
        let first = row.get::<i64, _>(0) - i64::try_from(events.len()).unwrap() + 1;
        (first..).zip(events).collect::<Vec<_>>()
    };
    rows.iter().flat_map(of_row).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_but_pings_is_kept_in_order_with_its_number() {
    let api = ScriptedApi::new().await;
    let mut said = events(&["One ", "two ", "three."]);
    said.insert(5, json!({ "type": "new_kind", "text": "not of the answer" }));
    api.answer(PATH, Answer::events(written(&said)));
    let world = World::new().await;
    let id = send(&world, "Hi", ", partial => true").await;

    work(&world, &api_at(&api.origin)).await;

    said.retain(|event| event["type"] != "ping");
    assert_eq!(kept(&world, id).await, (1..).zip(said).collect::<Vec<_>>());
    let text = "select string_agg(text, '' order by seq) from restante.message_chunk";
    assert_eq!(world.value(text).await, "One two three.");
    assert_eq!(state(&world, id).await, "done 1 One two three.");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_kept_in_parts_only_on_request() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;

    work(&world, &api_at(&api.url)).await;

    assert!(state(&world, id).await.starts_with("done 1 You wrote: Hi"), "{}", state(&world, id).await);
    assert_eq!(world.value("select count(*) from restante.message_chunk").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_shown_while_the_rest_of_the_answer_is_still_to_come_and_told_by_a_notification() {
    let api = ScriptedApi::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let answer = written(&events(&["Early ", "late."]));
    let held = answer.windows(5).position(|bytes| bytes == b"late.").unwrap();
    api.answer(PATH, Answer::events(answer).held_at(held, &gate));
    let world = Arc::new(World::new().await);
    let id = send(&world, "Hi", ", partial => true").await;
    let mut listener = sqlx::postgres::PgListener::connect_with(&world.pool).await.unwrap();
    listener.listen("restante_message").await.unwrap();
    let working = tokio::spawn({
        let (world, api) = (Arc::clone(&world), api_at(&api.origin));
        async move { work(&world, &api).await }
    });

    let hint = listener.recv().await.unwrap();

    assert_eq!(hint.payload(), id.to_string());
    // The recipe of the README, with nothing seen yet.
    let recipe = format!(
        "select string_agg(c.text, '' order by c.seq) from restante.message_chunk as c
           join restante.message as m on m.id = c.message and m.attempt = c.attempt
          where m.id = {id} and (c.attempt, c.seq) > (0, 0)"
    );
    eventually("the first text", async || (world.value(&recipe).await == "Early ").then_some(())).await;
    assert_eq!(state(&world, id).await, "sending 1");
    gate.add_permits(1);
    working.await.unwrap();
    assert_eq!(state(&world, id).await, "done 1 Early late.");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_at_once_share_their_inserts() {
    const MESSAGES: usize = 40;
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    for n in 0..MESSAGES {
        send(&world, &format!("number {n}"), ", partial => true").await;
    }
    let settings = restante::worker::Settings { concurrency: MESSAGES, ..world.worker_settings() };

    restante::worker::run_until_idle(settings, world.pool.clone(), registry(), api_at(&api.url))
        .await
        .unwrap();

    let whole = "select count(*) from restante.message as m where m.status = 'done' and m.text =
                   (select string_agg(c.text, '' order by c.seq) from restante.message_chunk as c where c.message = m.id)";
    assert_eq!(world.value(whole).await, MESSAGES.to_string());
    let shared = "select count(distinct c.xmin::text) < count(*) from restante.message_chunk as c";
    assert_eq!(world.value(shared).await, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_text_is_deleted_an_hour_after_its_end_and_not_while_it_is_being_written() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    let [done, young, sending] = ["done", "young", "sending"].map(|prompt| (prompt, ", partial => true"));
    let done = send(&world, done.0, done.1).await;
    let young = send(&world, young.0, young.1).await;
    work_to_rest(&world, &api_at(&api.url)).await;
    let sending = send(&world, sending.0, sending.1).await;
    world
        .sql(&format!("update restante.message set status = 'sending', attempt = 1 where id = {sending}"))
        .await;
    let left =
        "select string_agg(distinct message::text, ' ' order by message::text) from restante.message_chunk";
    // An old row of one that is being sent, and one of a message that is not there any more.
    world
        .sql(&format!(
            "insert into restante.message_chunk (message, attempt, seq, events)
             select m, 1, 1, '[]' from unnest(array[{sending}, 0, 999999]::bigint[]) as m where m > 0"
        ))
        .await;
    let forget = "select concat_ws(' ', messages, next_after) from restante.forget_chunks(0)";
    assert_eq!(world.value(forget).await, "0");

    let an_hour =
        "update restante.message_chunk set stored_at = stored_at - interval '61 minutes' where message <> ";
    world.sql(&format!("{an_hour} {young}")).await;
    assert_eq!(world.value(forget).await, "1");
    assert_eq!(world.value(left).await, format!("{young} {sending} 999999"));
    world.sql("update restante.message_chunk set stored_at = stored_at - interval '61 minutes'").await;
    assert_eq!(world.value(forget).await, "2");

    assert_eq!(world.value(left).await, sending.to_string());
    assert!(state(&world, done).await.starts_with("done 1 You wrote: done"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_deletes_old_partial_text_by_itself() {
    let world = World::new().await;
    world
        .sql(
            "insert into restante.message_chunk (message, attempt, seq, events, stored_at)
             select n, 1, 1, '[]', now() - interval '2 hours' from generate_series(1, 450) as n",
        )
        .await;
    let _worker = crate::support::Process::worker(&world.url, "http://127.0.0.1:9", &[]).await;

    eventually("no partial text", async || {
        (world.value("select count(*) from restante.message_chunk").await == "0").then_some(())
    })
    .await;
}
