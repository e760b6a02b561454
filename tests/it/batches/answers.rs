//! Answers of the API that are not results, and what happens to the event then.

use super::*;
use crate::support::api::{Answer, ago, results_path};

/// In how many whole seconds the event runs again.
async fn waits_seconds(world: &World, event_id: &str) -> i64 {
    let query = format!(
        "select floor(extract(epoch from run_at - clock_timestamp())) from restante.outbox where event_id = '{event_id}'"
    );
    world.value(&query).await.parse().unwrap()
}

/// Stores the event of a webhook about a batch whose object and results are fine.
async fn hear_of_a_fine_batch(world: &World, api: &ScriptedApi, id: &str) {
    set_right(api, id);
    hear_of(world, id).await;
}

fn set_right(api: &ScriptedApi, id: &str) {
    api.batch(&api.ended(id, ONE_OF_EACH));
    api.results(id, Answer::stream(one_of_each()));
}

fn object_path(id: &str) -> String {
    format!("/v1/messages/batches/{id}")
}

/// Makes a path from the id of a batch.
type Path = fn(&str) -> String;

/// The paths that the worker requests for a batch, in order.
const PATHS: [Path; 2] = [object_path, results_path];

#[tokio::test]
async fn compressed_answers_are_read() {
    let (world, api) = start().await;
    hear_of_a_fine_batch(&world, &api, "b").await;
    api.answer(&object_path("b"), Answer::gzip(api.ended("b", ONE_OF_EACH).to_string()));
    api.results("b", Answer::gzip(one_of_each()));

    work(&world, &api).await;

    assert!(stored(&world, "b").await.starts_with("complete, 4 results"));
    assert!(api.heads()[0].contains("\r\naccept-encoding: gzip\r\n"), "{}", api.heads()[0]);
}

#[tokio::test]
async fn a_key_that_is_refused_costs_no_attempt_and_the_batch_completes_once_it_works() {
    let (world, api) = start().await;
    let refusals = [(401, "authentication_error"), (402, "billing_error"), (403, "permission_error")];
    for (status, kind) in refusals {
        for (nth, path) in PATHS.into_iter().enumerate() {
            let id = format!("{status}-{nth}");
            hear_of_a_fine_batch(&world, &api, &id).await;
            api.answer(&path(&id), Answer::refusal(status, kind, ""));
        }
    }

    work(&world, &api).await;

    for (status, kind) in refusals {
        for nth in 0..PATHS.len() {
            let event_id = format!("wevt_{status}-{nth}");
            let expected =
                format!("retry: the API does not serve this key or account: {status} {kind}: scripted");
            assert_eq!(fate(&world, &event_id).await, expected);
            assert_eq!(failures(&world, &event_id).await, "0");
            assert!(waits_seconds(&world, &event_id).await < 7, "the repair is noticed within seconds");
            set_right(&api, &format!("{status}-{nth}"));
        }
    }

    work_later(&world, &api).await;

    assert_eq!(complete(&world).await, "6");
}

#[tokio::test]
async fn what_is_not_found_for_a_while_is_asked_for_again() {
    let (world, api) = start().await;
    // Also for the results alone: the API has been seen to answer like this for a batch that was fine.
    for (nth, path) in PATHS.into_iter().enumerate() {
        let id = format!("b{nth}");
        hear_of_a_fine_batch(&world, &api, &id).await;
        api.answer(&path(&id), Answer::refusal(404, "not_found_error", ""));
    }

    for _ in 0..5 {
        work_later(&world, &api).await;
        for event_id in ["wevt_b0", "wevt_b1"] {
            let expected = "retry: the API does not find it: 404 not_found_error: scripted";
            assert_eq!(fate(&world, event_id).await, expected);
        }
    }

    for id in ["b0", "b1"] {
        set_right(&api, id);
    }
    work_later(&world, &api).await;
    assert_eq!(complete(&world).await, "2");
}

#[tokio::test]
async fn a_wait_that_the_api_asks_for_is_kept() {
    for (status, kind, headers, seconds) in [
        (429, "rate_limit_error", "retry-after: 120\r\n", 115),
        (429, "rate_limit_error", "retry-after-ms: 90000.5\r\n", 85),
        (429, "rate_limit_error", "", 25),
        (529, "overloaded_error", "retry-after: 120\r\n", 115),
        (503, "api_error", "retry-after: 3000\r\n", 2995),
    ] {
        let (world, api) = start().await;
        for (id, path) in ["0", "1"].into_iter().zip(PATHS) {
            hear_of_a_fine_batch(&world, &api, id).await;
            api.answer(&path(id), Answer::refusal(status, kind, headers));
        }

        work(&world, &api).await;

        for (id, path) in ["0", "1"].into_iter().zip(PATHS) {
            let event_id = format!("wevt_{id}");
            assert!(fate(&world, &event_id).await.starts_with("retry: the API "));
            assert_eq!(failures(&world, &event_id).await, "0", "{status} {headers}");
            // A little less if this test is slow, and up to a fifth more, so that not all events come back at once.
            let waits = waits_seconds(&world, &event_id).await;
            assert!((seconds..seconds * 6 / 5 + 8).contains(&waits), "{status} {headers}: {waits}");
            assert_eq!(api.times_asked(&path(id)), 1);
        }
    }
}

#[tokio::test]
async fn a_server_error_costs_no_attempt_and_the_batch_completes_once_it_is_over() {
    let (world, api) = start().await;
    let statuses = [408, 409, 500, 502, 503, 504, 529];
    for status in statuses {
        let id = status.to_string();
        hear_of_a_fine_batch(&world, &api, &id).await;
        let page = Answer::new(status, "content-type: text/html\r\n", "<html>busy</html>");
        api.results(&id, page);
    }

    work(&world, &api).await;

    for status in statuses {
        let event_id = format!("wevt_{status}");
        let expected = format!("retry: the API cannot answer now: {status}: <html>busy</html>");
        assert_eq!(fate(&world, &event_id).await, expected);
        assert_eq!(failures(&world, &event_id).await, "0");
        set_right(&api, &status.to_string());
    }

    work_later(&world, &api).await;

    assert_eq!(complete(&world).await, statuses.len().to_string());
}

#[tokio::test]
async fn a_success_that_is_something_else_is_no_result() {
    let (world, api) = start().await;
    let page = Answer::new(200, "content-type: text/html\r\n", "<html>log in</html>");
    let other = json!({ "id": "other", "type": "message_batch", "processing_status": "ended" });
    let answers: [(Path, Answer); 6] = [
        (object_path, page.clone()),
        (object_path, Answer::json(&json!([]))),
        (object_path, Answer::json(&json!({ "processing_status": "ended" }))),
        (object_path, Answer::json(&other)),
        (object_path, Answer::json(&json!({ "id": "b4", "type": "message" }))),
        (results_path, page),
    ];
    for (nth, (path, answer)) in answers.iter().enumerate() {
        let id = format!("b{nth}");
        hear_of_a_fine_batch(&world, &api, &id).await;
        api.answer(&path(&id), answer.clone());
    }

    work(&world, &api).await;

    for nth in 0..answers.len() {
        let reason = fate(&world, &format!("wevt_b{nth}")).await;
        assert!(reason.starts_with("retry: the answer is not "), "{reason}");
    }
    assert_eq!(complete(&world).await, "0");
    assert_eq!(world.value("select count(*) from restante.batch_result").await, "0");
}

#[tokio::test]
async fn the_results_of_an_archived_batch_are_gone_and_the_dead_letter_says_so() {
    let (world, api) = start().await;
    hear_of_a_fine_batch(&world, &api, "b").await;
    let archived = json!({ "archived_at": "2026-11-01T10:00:00Z", "results_url": null });
    api.batch(&with(api.ended("b", ONE_OF_EACH), archived));

    work(&world, &api).await;

    let expected = "dead: the results are gone: the batch was archived at 2026-11-01 10:00:00 UTC";
    assert_eq!(fate(&world, "wevt_b").await, expected);
    assert_eq!(api.times_asked(&results_path("b")), 0);
    assert!(stored(&world, "b").await.starts_with("incomplete, 0 results"));
}

#[tokio::test]
async fn whatever_says_that_a_batch_has_ended_is_believed() {
    let (world, api) = start().await;
    let endings = [
        json!({ "processing_status": "ended", "ended_at": null, "results_url": null }),
        json!({ "processing_status": "completed", "ended_at": null, "results_url": null }),
        json!({ "processing_status": "in_progress" }),
        json!({ "processing_status": null, "results_url": null }),
        json!({ "processing_status": "of_a_new_kind", "ended_at": 7 }),
        json!({ "created_at": null, "expires_at": "never", "type": null, "new": { "a": [1] } }),
    ];
    for (nth, ending) in endings.iter().enumerate() {
        let id = format!("b{nth}");
        api.batch(&with(api.ended(&id, ONE_OF_EACH), ending.clone()));
        api.results(&id, Answer::stream(one_of_each()));
        hear_of(&world, &id).await;
    }

    work(&world, &api).await;

    assert_eq!(complete(&world).await, endings.len().to_string());
}

#[tokio::test]
async fn results_can_be_had_until_they_vanish_29_days_after_the_batch_was_created() {
    let (world, api) = start().await;
    hear_of_a_fine_batch(&world, &api, "b").await;
    api.batch(&with(api.ended("b", ONE_OF_EACH), json!({ "created_at": ago(28 * 86400) })));

    work(&world, &api).await;

    assert_eq!(complete(&world).await, "1");
    let days = "select results_deadline - created_at from restante.batch";
    assert_eq!(world.value(days).await, "29 days");
}
