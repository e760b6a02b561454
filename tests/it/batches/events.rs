//! The spellings of the event that says that a batch has ended, and what is stored then.

use expect_test::expect;
use restante::handler::Handler;
use restante::handlers::batch_results::BatchResults;
use serde_json::{Value, json};

use super::*;
use crate::support::api::Answer;

#[tokio::test]
async fn the_official_envelope_has_every_result_stored_with_its_columns() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    expect![[r#"
        complete, 4 results, 562 bytes
        a succeeded 'paid' claude-opus-5-5 end_turn 11 3 0 7
        b errored NULL overloaded_error why
        c canceled NULL
        d expired NULL
    "#]]
    .assert_eq(&stored(&world, "b").await);
    assert_eq!(fate(&world, "wevt_b").await, "done");
    let result: Value =
        world.value("select result from restante.outbox where event_id = 'wevt_b'").await.parse().unwrap();
    assert_eq!(result, json!({ "batch_id": "b", "results": 4, "bytes": one_of_each().len() - 4 }));
}

#[tokio::test]
async fn what_the_api_counts_stands_beside_what_is_stored() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    let overview = "select concat_ws(' ', status, requests, succeeded, errored, canceled, expired, results_stored, progress)
                      from restante.batch_overview";
    assert_eq!(world.value(overview).await, "ended 4 1 1 1 1 4 complete");
    let by_outcome = "select string_agg(outcome || ' ' || n, ', ' order by outcome)
                        from (select outcome, count(*) as n from restante.batch_result group by 1) as r";
    assert_eq!(world.value(by_outcome).await, "canceled 1, errored 1, expired 1, succeeded 1");
    let tokens = "select sum(input_tokens) || ' ' || sum(output_tokens) from restante.batch_result";
    assert_eq!(world.value(tokens).await, "11 3");
}

#[tokio::test]
async fn the_type_at_the_top_and_the_id_as_batch_id_do_as_well() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    let event = json!({ "id": "evt_1", "type": "batch.completed", "data": { "batch_id": "b" } });
    world.receive_body(&event).await;

    work(&world, &api).await;

    assert_eq!(fate(&world, "evt_1").await, "done");
    assert!(stored(&world, "b").await.starts_with("complete, 4 results"));
}

#[tokio::test]
async fn every_spelling_of_the_event_is_understood() {
    let (world, api) = start().await;
    let spellings: [fn(&str, &str) -> Value; 5] = [
        |kind, id| json!({ "type": "event", "data": { "type": kind, "id": id } }),
        |kind, id| json!({ "type": "event", "data": { "type": kind, "id": id, "batch_id": "another", "new": [1] } }),
        |kind, id| json!({ "type": "event", "data": { "type": kind, "id": null, "batch_id": id } }),
        |kind, id| json!({ "type": kind, "data": { "id": id } }),
        |kind, id| json!({ "type": kind, "data": { "batch_id": id }, "new": {} }),
    ];
    let mut batches = 0;
    for kind in BatchResults::EVENT_TYPES {
        for spelling in spellings {
            let id = format!("b{batches}");
            api.batch(&api.ended(&id, ONE_OF_EACH));
            api.results(&id, Answer::stream(one_of_each()));
            world.receive_body(&with(spelling(kind, &id), json!({ "id": format!("evt_{batches}") }))).await;
            batches += 1;
        }
    }

    work(&world, &api).await;

    assert_eq!(complete(&world).await, batches.to_string());
    assert_eq!(world.value("select string_agg(distinct status, ', ') from restante.outbox").await, "done");
}

#[tokio::test]
async fn an_event_that_names_no_batch_is_a_dead_letter_that_says_so() {
    let (world, api) = start().await;
    world.receive_body(&json!({ "type": "batch.completed", "id": "evt_1", "data": {} })).await;

    work(&world, &api).await;

    let expected = "dead: the event names no batch: neither `id` nor `batch_id`";
    assert_eq!(fate(&world, "evt_1").await, expected);
}

#[tokio::test]
async fn an_id_that_would_be_another_path_is_asked_for_by_nobody() {
    let (world, api) = start().await;
    for (nth, id) in ["..", ".", "..;x", "a\nb"].into_iter().enumerate() {
        let event = json!({ "type": "batch.completed", "id": format!("evt_{nth}"), "data": { "id": id } });
        world.receive_body(&event).await;
    }
    let event = json!({ "type": "batch.completed", "id": "evt_slash", "data": { "id": "../models?x#y" } });
    world.receive_body(&event).await;

    work(&world, &api).await;

    assert_eq!(world.value("select count(*) from restante.outbox where status = 'dead'").await, "4");
    assert!(fate(&world, "evt_slash").await.starts_with("retry: the API does not find it"));
    let heads = api.heads();
    assert!(!heads.is_empty());
    for head in heads {
        assert!(head.starts_with("get /v1/messages/batches/..%2fmodels%3fx%23y http/1.1\r\n"), "{head}");
    }
}

#[tokio::test]
async fn errors_are_read_at_their_depth_and_other_outcomes_have_none() {
    let (world, api) = start().await;
    let lines = [
        r#"{"custom_id":"nested","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","message":"too large"},"request_id":null}}}"#,
        r#"{"custom_id":"flat","result":{"type":"errored","error":{"type":"api_error","message":"oops"}}}"#,
        r#"{"custom_id":"canceled","result":{"type":"canceled"}}"#,
        r#"{"custom_id":"expired","result":{"type":"expired","error":null}}"#,
    ];
    api.batch(&api.ended("b", [0, 2, 1, 1]));
    api.results("b", Answer::stream(lines.join("\n")));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    expect![[r#"
        complete, 4 results, 367 bytes
        canceled canceled NULL
        expired expired NULL
        flat errored NULL api_error oops
        nested errored NULL invalid_request_error too large
    "#]]
    .assert_eq(&stored(&world, "b").await);
}

#[tokio::test]
async fn a_batch_that_was_cancelled_keeps_what_had_succeeded() {
    let (world, api) = start().await;
    api.batch(&with(api.ended("b", [1, 0, 2, 0]), json!({ "cancel_initiated_at": "2026-11-01T10:05:00Z" })));
    let lines = [bare("x", "canceled"), succeeded("y", "in time"), bare("z", "canceled")].concat();
    api.results("b", Answer::stream(lines));
    world
        .receive_body(&json!({ "type": "batch.canceled", "id": "evt_1", "data": { "batch_id": "b" } }))
        .await;

    work(&world, &api).await;

    expect![[r#"
        complete, 3 results, 423 bytes
        x canceled NULL
        y succeeded 'in time' claude-opus-5-5 end_turn 11 3 0 7
        z canceled NULL
    "#]]
    .assert_eq(&stored(&world, "b").await);
}
