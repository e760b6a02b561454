//! Several batches at once, and downloads that a person ends: what is held in memory, and what stays stored.

use std::sync::Arc;

use tokio::join;
use tokio::sync::Semaphore;

use super::*;
use crate::support::api::{Answer, results_path};
use crate::support::eventually;

#[tokio::test]
async fn a_few_batches_are_stored_at_once_and_the_others_wait_for_their_turn() {
    const BATCHES: usize = 8;
    const TURNS: usize = 2;
    let (world, api) = start().await;
    let gate = Arc::new(Semaphore::new(0));
    for batch in 0..BATCHES {
        let id = format!("b{batch}");
        api.batch(&api.ended(&id, ONE_OF_EACH));
        api.results(&id, Answer::stream(one_of_each()).held_at(0, &gate));
        hear_of(&world, &id).await;
    }
    let begun =
        || (0..BATCHES).filter(|batch| api.times_asked(&results_path(&format!("b{batch}"))) > 0).count();

    let each_ends_in_its_turn = async {
        for ended in 0..BATCHES {
            let running = BATCHES.min(ended + TURNS);
            eventually(&format!("{running} begun"), async || (begun() == running).then_some(())).await;
            gate.add_permits(1);
        }
    };
    join!(work(&world, &api), each_ends_in_its_turn);

    assert_eq!(complete(&world).await, BATCHES.to_string());
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
}

#[tokio::test]
async fn a_download_that_is_called_off_ends_and_what_it_stored_stays() {
    let (world, api) = start().await;
    let gate = Arc::new(Semaphore::new(0));
    // A whole part, which is stored while the API is silent in the middle of the next one.
    let large = succeeded("large", &"x".repeat(5 << 20));
    let held_at = large.len() + 10;
    api.batch(&api.ended("b", [1, 0, 0, 1]));
    api.results("b", Answer::stream(large + &bare("late", "expired")).held_at(held_at, &gate));
    hear_of(&world, "b").await;

    let call_off = async {
        eventually("the first part is stored", async || {
            (world.value("select coalesce(max(results_stored), 0) from restante.batch").await == "1")
                .then_some(())
        })
        .await;
        world.sql("update restante.outbox set status = 'cancelled' where event_id = 'wevt_b'").await;
    };
    // A worker checks three times within a lease whether the event is still its own.
    let worker = worker::Settings { lease: Duration::from_secs(3), ..world.worker_settings() };
    join!(work_as(worker, &world, &api), call_off);

    assert_eq!(fate(&world, "wevt_b").await, "cancelled");
    assert!(stored(&world, "b").await.starts_with("incomplete, 1 results"));
}

#[tokio::test]
async fn a_part_is_not_stored_where_its_event_was_called_off_while_it_was_written() {
    let (world, api) = start().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(one_of_each()));
    hear_of(&world, "b").await;
    let mut reader = world.pool.begin().await.unwrap();
    sqlx::query("lock table restante.batch_result in share mode").execute(&mut *reader).await.unwrap();

    let call_off = async {
        world.somebody_waits_for_a_lock().await;
        // The person need not wait until the part is written.
        world.sql("update restante.outbox set status = 'cancelled' where event_id = 'wevt_b'").await;
        reader.commit().await.unwrap();
    };
    join!(work(&world, &api), call_off);

    assert_eq!(fate(&world, "wevt_b").await, "cancelled");
    assert_eq!(stored(&world, "b").await, "incomplete, 0 results, 0 bytes\n");
}
