//! Streams that break off: a download that ends early never counts as complete.

use super::*;
use crate::support::api::Answer;

/// Five short results, so that a test can afford to cut at every byte.
fn five() -> String {
    let line = r#"{"custom_id":"e","result":{"type":"succeeded","message":{"content":[{"type":"text","text":"é\u00e9"}]}}}"#;
    [bare("a", "expired"), bare("b", "canceled"), bare("c", "expired"), bare("d", "new"), format!("{line}\n")]
        .concat()
}

/// Serves each answer as the results of its own batch. None of these may become complete. Then all of them get the whole
/// stream, and must look like a batch whose stream was never cut.
async fn none_of_these_is_complete(cut: impl Iterator<Item = Answer>) {
    let (world, api) = start().await;
    let mut batches = 0;
    for answer in cut {
        let id = format!("b{batches}");
        api.batch(&api.ended(&id, [1, 0, 2, 2]));
        api.results(&id, answer);
        hear_of(&world, &id).await;
        batches += 1;
    }
    let statuses = "select string_agg(distinct status, ', ') from restante.outbox";

    work(&world, &api).await;

    assert_eq!(complete(&world).await, "0");
    assert_eq!(world.value(statuses).await, "retry");
    let miscounted = "select count(*) from restante.batch as b where results_stored <>
                        (select count(*) from restante.batch_result where batch_id = b.id)";
    assert_eq!(world.value(miscounted).await, "0", "what came before the cut is counted");

    for batch in 0..batches {
        api.results(&format!("b{batch}"), Answer::stream(five()));
    }
    api.batch(&api.ended("uncut", [1, 0, 2, 2]));
    api.results("uncut", Answer::stream(five()));
    hear_of(&world, "uncut").await;
    work_later(&world, &api).await;

    assert_eq!(world.value(statuses).await, "done");
    assert_eq!(complete(&world).await, (batches + 1).to_string());
    let different = "select count(distinct rows) || ' of ' || sum(n)
                       from (select string_agg((to_jsonb(r) - 'batch_id' - 'stored_at')::text, ' ' order by custom_id) as rows,
                                    count(*) as n
                               from restante.batch_result as r group by batch_id) as batch";
    assert_eq!(world.value(different).await, format!("1 of {}", 5 * (batches + 1)));
    let totals = "select count(distinct (results_stored, bytes_stored)) from restante.batch";
    assert_eq!(world.value(totals).await, "1");
}

/// The answer cut at every byte of the body except the last `uncut_from` ones. The last byte is the end of the last line,
/// without which the line is whole.
fn each_cut(whole: &Answer, uncut_from: usize) -> impl Iterator<Item = Answer> + '_ {
    (0..whole.body_bytes() - uncut_from).map(|bytes| whole.cut_at(bytes))
}

#[tokio::test]
async fn a_stream_that_ends_quietly_at_any_byte_is_not_complete() {
    none_of_these_is_complete(each_cut(&Answer::stream(five()), 1)).await;
}

#[tokio::test]
async fn a_stream_that_properly_ends_too_early_is_not_complete() {
    let whole = five();
    let between_lines = whole.match_indices('\n').map(|(end, _)| end + 1).take(4);
    none_of_these_is_complete([0].into_iter().chain(between_lines).flat_map(|end| {
        let part = &whole[..end];
        [Answer::chunked(part), Answer::of_length(part), Answer::gzip(part)]
    }))
    .await;
}

#[tokio::test]
async fn a_connection_that_is_reset_leaves_the_batch_to_be_completed_later() {
    let whole = Answer::stream(five());
    none_of_these_is_complete(each_cut(&whole, 1).step_by(11).map(Answer::then_reset)).await;
}

#[tokio::test]
async fn an_announced_length_or_end_that_does_not_come_is_not_complete() {
    let (length, chunks) = (Answer::of_length(five()), Answer::chunked(five()));
    none_of_these_is_complete(each_cut(&length, 1).step_by(13).chain(each_cut(&chunks, 16).step_by(23)))
        .await;
}

#[tokio::test]
async fn a_compressed_stream_that_breaks_off_is_not_complete() {
    // The trailer of eight bytes follows after all the data.
    none_of_these_is_complete(each_cut(&Answer::gzip(five()), 9).step_by(3)).await;
}

#[tokio::test]
async fn a_connection_that_breaks_is_the_reason_and_what_came_before_is_kept() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [1, 0, 2, 2]));
    api.results("b", Answer::of_length(five()).cut_at(five().len() - 20));
    hear_of(&world, "b").await;

    work(&world, &api).await;

    let reason = fate(&world, "wevt_b").await;
    assert!(reason.starts_with("retry: the connection to the API failed: "), "{reason}");
    assert!(stored(&world, "b").await.starts_with("incomplete, 4 results"));
}

#[tokio::test]
async fn the_next_download_stores_only_what_is_missing() {
    let (world, api) = start().await;
    let (first, second) = ([bare("a", "expired"), bare("b", "expired")].concat(), bare("c", "expired"));
    api.batch(&api.ended("b", [0, 0, 0, 3]));
    api.results("b", Answer::stream(first.clone()));
    hear_of(&world, "b").await;
    work(&world, &api).await;
    assert!(fate(&world, "wevt_b").await.starts_with("retry: 2 of 3 results are here"));
    let begun = format!("incomplete, 2 results, {} bytes\n", first.len() - 2);
    assert!(stored(&world, "b").await.starts_with(&begun));
    world.sql("update restante.batch_result set stored_at = '2026-01-01T00:00Z'").await;

    // In another order too: the API promises none.
    let all = second + &first;
    api.results("b", Answer::stream(all.clone()));
    work_later(&world, &api).await;

    let ended = format!("complete, 3 results, {} bytes\n", all.len() - 3);
    assert!(stored(&world, "b").await.starts_with(&ended));
    let untouched = "select count(*) from restante.batch_result where stored_at = '2026-01-01T00:00Z'";
    assert_eq!(world.value(untouched).await, "2");
}
