//! How far a submission is, in words.

use super::cost::result;
use crate::support::World;

#[tokio::test]
async fn the_overview_says_in_words_how_far_a_submission_is_and_when_it_is_likely_to_end() {
    let world = World::new().await;
    world
        .value(
            r#"select restante.submit_batch('[{"custom_id":"a","params":{"model":"m-1"}}]', name => 's') > 0"#,
        )
        .await;
    let look = "select concat_ws(' | ', state, parts, waiting, submitted, succeeded, results_stored || '/' || results_ready,
                                 coalesce(round(extract(epoch from likely_end_at - clock_timestamp()) / 60)::text, '-'),
                                 coalesce(round(extract(epoch from expires_in) / 3600)::text, '-'),
                                 coalesce(round(extract(epoch from results_vanish_in) / 86400)::text, '-'))
                  from restante.submission_overview";
    assert_eq!(world.value(look).await, "waits to be sent | 1 | 1 | 0 | 0 | 0/0 | - | - | -");

    world.sql("update restante.submission_part set batch_id = 'b'").await;
    world
        .sql(
            "update restante.batch set processing = 1, created_at = now() - interval '10 minutes', expires_at = now() + interval '23 hours'",
        )
        .await;
    assert_eq!(world.value(look).await, "the API works on it | 1 | 0 | 1 | 0 | 0/0 | - | 23 | 29");

    // Of those that took longer than ten minutes, half had ended after an hour. A much larger batch says nothing of this one.
    world
        .sql(
            "insert into restante.batch (id, succeeded, created_at, ended_at, complete_at)
             select 'h' || n, case n when 600 then 4 else 1 end, now() - interval '2 days', now() - interval '2 days' + n * interval '1 minute', now()
               from unnest(array[1, 2, 3, 4, 30, 60, 90, 600]) as n",
        )
        .await;
    assert_eq!(world.value(look).await, "the API works on it | 1 | 0 | 1 | 0 | 0/0 | 50 | 23 | 29");

    world
        .sql("update restante.batch set processing = 0, succeeded = 1, ended_at = now(), download_started_at = now() where id = 'b'")
        .await;
    assert_eq!(world.value(look).await, "is being downloaded | 1 | 0 | 1 | 0 | 0/1 | - | - | 29");
    result(&world, "b", "a", [1, 1, 0, 0], "{}").await;
    world.sql("update restante.batch set results_stored = 1, complete_at = now() where id = 'b'").await;
    assert_eq!(world.value(look).await, "complete | 1 | 0 | 0 | 1 | 1/1 | - | - | -");
}
