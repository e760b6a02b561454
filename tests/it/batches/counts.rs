//! Completeness: a batch is complete when it has exactly as many different results as the API counts.

use super::*;
use crate::support::api::Answer;

#[tokio::test]
async fn fewer_results_than_the_api_counts_are_not_complete_and_the_reason_names_both_numbers() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [1, 1, 1, 3]));
    api.results("b", Answer::chunked(one_of_each()));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    assert_eq!(fate(&world, "wevt_b").await, "retry: 4 of 6 results are here");
    assert!(stored(&world, "b").await.starts_with("incomplete, 4 results"));
}

#[tokio::test]
async fn more_results_than_the_api_counts_are_not_complete_and_the_reason_names_both_numbers() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [1, 1, 1, 0]));
    api.results("b", Answer::chunked(one_of_each()));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    assert_eq!(fate(&world, "wevt_b").await, "retry: 4 of 3 results are here");
    assert!(stored(&world, "b").await.starts_with("incomplete, 4 results"));
}

#[tokio::test]
async fn a_count_that_never_fits_ends_as_a_dead_letter_with_all_that_came() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [1, 1, 1, 2]));
    api.results("b", Answer::chunked(one_of_each()));
    hear_of(&world, "b").await;
    world.sql("update restante.outbox set max_attempts = 1").await;

    work(&world, &api).await;

    assert_eq!(fate(&world, "wevt_b").await, "dead: 4 of 5 results are here");
    assert_eq!(world.value("select count(*) from restante.batch_result").await, "4");
}

#[tokio::test]
async fn a_count_that_is_mended_completes_the_batch() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [9, 9, 9, 9]));
    api.results("b", Answer::chunked(one_of_each()));
    hear_of(&world, "b").await;
    work(&world, &api).await;

    api.batch(&api.ended("b", ONE_OF_EACH));
    work_later(&world, &api).await;

    assert!(stored(&world, "b").await.starts_with("complete, 4 results"));
}

#[tokio::test]
async fn a_result_that_comes_twice_counts_once() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [2, 0, 0, 1]));
    let twice = [succeeded("a", "first"), succeeded("a", "second"), bare("c", "expired")].concat();
    api.results("b", Answer::chunked(twice));
    hear_of(&world, "b").await;

    work(&world, &api).await;
    assert_eq!(fate(&world, "wevt_b").await, "retry: 2 of 3 results are here");

    api.batch(&api.ended("b", [1, 0, 0, 1]));
    work_later(&world, &api).await;
    let rows = stored(&world, "b").await;
    assert!(rows.starts_with("complete, 2 results") && rows.contains("a succeeded 'first'"), "{rows}");
}

#[tokio::test]
async fn a_result_that_comes_again_after_it_was_committed_counts_once() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [2, 0, 0, 0]));
    // Larger than a part, so that result `a` is already in the database when it comes again.
    let large = succeeded("large", &"x".repeat(5 << 20));
    api.results("b", Answer::stream([succeeded("a", "once"), large, succeeded("a", "again")].concat()));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    assert_eq!(fate(&world, "wevt_b").await, "done");
    let text = world.value("select text from restante.batch_result where custom_id = 'a'").await;
    assert_eq!(text, "once");
}

#[tokio::test]
async fn a_batch_whose_size_the_api_does_not_say_is_not_complete() {
    let (world, api) = start().await;
    let sizes =
        [json!(null), json!({}), json!([]), json!({ "succeeded": "none" }), json!({ "processing": 0 })];
    for (nth, counts) in sizes.into_iter().enumerate() {
        let id = format!("b{nth}");
        api.batch(&with(api.ended(&id, [0; 4]), json!({ "request_counts": counts })));
        // An empty stream, as if it was cut before its first byte.
        api.results(&id, Answer::stream(""));
        hear_of(&world, &id).await;
    }

    work(&world, &api).await;

    assert_eq!(complete(&world).await, "0");
    assert_eq!(world.value("select string_agg(distinct status, ', ') from restante.outbox").await, "retry");
    let reason = fate(&world, "wevt_b0").await;
    assert_eq!(reason, "retry: 0 results are here, and the API does not say how many there are");
}

#[tokio::test]
async fn a_line_that_cannot_be_read_is_named_and_its_neighbours_are_stored() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [0, 0, 1, 2]));
    let lines = [bare("a", "expired"), "<html>gateway timeout</html>\n".to_owned(), bare("c", "canceled")];
    api.results("b", Answer::chunked(lines.concat()));
    hear_of(&world, "b").await;

    work(&world, &api).await;
    assert_eq!(fate(&world, "wevt_b").await, "retry: 2 of 3 results are here; line 2: the line is no JSON");

    api.results(
        "b",
        Answer::chunked([bare("a", "expired"), bare("b", "expired"), bare("c", "canceled")].concat()),
    );
    work_later(&world, &api).await;
    assert_eq!(fate(&world, "wevt_b").await, "done");
}
