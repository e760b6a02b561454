//! What is kept of an answer.

use serde_json::{Value, json};

use super::{PATH, api_at, attempts, events, send, state, work, work_to_rest, written};
use crate::support::api::{Answer, ScriptedApi};
use crate::support::{SimulatedApi, World};

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_kept_whole_with_what_it_used_and_an_event_tells_of_it() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, Answer::events(written(&events(&["Hel", "lo."]))));
    let world = World::new().await;
    let id = send(&world, "Hi", ", key => 'k', tag => 't'").await;

    work(&world, &api_at(&api.origin)).await;

    assert_eq!(state(&world, id).await, "done 1 Hello.");
    assert_eq!(attempts(&world, id).await, "answered");
    let columns = format!(
        "select concat_ws(' ', model, stop_reason, input_tokens, output_tokens, body ->> 'id', body -> 'content' -> 0 ->> 'text',
                          done_at >= sent_at, reason)
           from restante.message where id = {id}"
    );
    assert_eq!(world.value(&columns).await, "claude-opus-5-5 end_turn 12 31 msg_scripted Hello. t");
    let attempt =
        "select concat_ws(' ', message_id, model, input_tokens, output_tokens) from restante.message_attempt";
    assert_eq!(world.value(attempt).await, "msg_scripted claude-opus-5-5 12 31");
    let told =
        "select concat_ws(' ', type, key, payload ->> 'id', payload ->> 'tag', payload ->> 'stop_reason')
                  from restante.outbox where type like 'message.%ed'";
    assert_eq!(world.value(told).await, format!("message.completed k {id} t end_turn"));
    assert_eq!(world.value("select count(*) from restante.message_chunk").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_out_byte_for_byte_as_a_stream_with_its_betas() {
    let api = ScriptedApi::new().await;
    api.answer(PATH, Answer::events(written(&events(&["Yes."]))));
    let world = World::new().await;
    let request = r#"{"model": "m", "max_tokens": 5, "messages": [{"content":"\u00e9 \ud83d\ude00", "role":"user"}],  "temperature":1.0e0,
        "stream": false }"#;
    sqlx::query("select restante.send_message($1::json, betas => '{one-beta,another}')")
        .bind(request)
        .execute(&world.pool)
        .await
        .unwrap();

    work(&world, &api_at(&api.origin)).await;

    assert_eq!(api.bodies(), [request.replace("\"stream\": false", "\"stream\": true")]);
    assert!(api.heads()[0].contains("anthropic-beta: one-beta,another\r\n"), "{:?}", api.heads());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_no_json_of_postgres_can_hold_is_kept_as_bytes() {
    const DEPTH: usize = 60_000;
    let api = ScriptedApi::new().await;
    let mut events = events(&["Deep."]);
    let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(DEPTH), "]".repeat(DEPTH));
    let block = json!({ "type": "tool_use", "id": "toolu_1", "name": "lookup", "input": {} });
    let delta = json!({ "type": "input_json_delta", "partial_json": deep });
    let at = events.len() - 2;
    events.splice(
        at..at,
        [
            json!({ "type": "content_block_start", "index": 1, "content_block": block }),
            json!({ "type": "content_block_delta", "index": 1, "delta": delta }),
            json!({ "type": "content_block_stop", "index": 1 }),
        ],
    );
    api.answer(PATH, Answer::events(written(&events)));
    let world = World::new().await;
    let id = send(&world, "Hi", "").await;

    work(&world, &api_at(&api.origin)).await;

    assert_eq!(state(&world, id).await, "done 1 Deep.");
    let kept = format!(
        "select body is null and position(repeat('[', {DEPTH}) in convert_from(raw, 'UTF8')) > 0 from restante.message"
    );
    assert_eq!(world.value(&kept).await, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_key_are_answered_one_after_the_other_and_others_pass_them() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    let mut ids: Vec<Value> = Vec::new();
    for prompt in ["first", "second", "third"] {
        ids.push(send(&world, prompt, ", key => 'talk'").await.into());
    }
    let alone = send(&world, "alone", "").await;
    let waiting = "select count(*) from restante.outbox where status = 'blocked'";
    assert_eq!(world.value(waiting).await, "2");

    work_to_rest(&world, &api_at(&api.url)).await;

    let in_order = "select json_agg(m.id order by m.done_at) from restante.message as m where m.key = 'talk'";
    assert_eq!(serde_json::from_str::<Vec<Value>>(&world.value(in_order).await).unwrap(), ids);
    let overlaps = "select count(*) from restante.message as a join restante.message as b
                      on a.key = b.key and a.id < b.id and b.sent_at < a.done_at";
    assert_eq!(world.value(overlaps).await, "0");
    assert!(state(&world, alone).await.contains("You wrote: alone"), "{}", state(&world, alone).await);
}
