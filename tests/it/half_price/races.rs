//! A batch that answers while the message is being sent by itself, and workers that are killed.

use restante::worker;

use super::{
    IN_AN_HOUR, api_with_slow_batches, attempts, batches_of, client_of, count_by,
    each_is_answered_once_and_in_time, end_batches, pack, pass, quick_api, registry, send, told, unpack,
    work,
};
use crate::support::{Process, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_answers_first_ends_the_stream_of_the_same_message_and_nobody_is_told_twice() {
    let api = api_with_slow_batches().await;
    let world = World::new().await;
    // The second batch is slow.
    world.sql("update restante.message_lane_setting set requests_max = 2, reserve = '10 minutes'").await;
    send(&world, 1, 4, IN_AN_HOUR).await;
    work(&world, &api).await;
    assert_eq!(count_by(&world, "status").await, "done 2, waiting 2");
    // The streams take longer than anybody waits.
    api.faults(serde_json::json!({ "stream_pause_milliseconds": 1_000_000 })).await;
    pass(&world, 51).await;
    let working = tokio::spawn({
        let (settings, pool, api) = (world.worker_settings(), world.pool.clone(), client_of(&api));
        worker::run_until_idle(settings, pool, registry(), api)
    });
    eventually("both messages are being sent by themselves", async || {
        (count_by(&world, "status").await == "done 2, sending 2").then_some(())
    })
    .await;

    end_batches(&api).await;
    world.wait_for_retries().await;
    let other = worker::Settings { name: "other".into(), ..world.worker_settings() };
    worker::run_until_idle(other, world.pool.clone(), registry(), client_of(&api)).await.unwrap();
    working.await.unwrap().unwrap();

    assert_eq!(attempts(&world).await, "batch answered paid 4, stream unused paid 2");
    assert_eq!(each_is_answered_once_and_in_time(&world).await, "t t t");
    assert_eq!(told(&world).await, "message.completed 4");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_two_unpack_at_once_gives_each_message_its_answer_once() {
    let api = quick_api().await;
    let world = World::new().await;
    send(&world, 1, 300, IN_AN_HOUR).await;
    pass(&world, 6).await;
    pack(&world).await;
    world.sql("select restante.pause('message.unpack')").await;
    work(&world, &api).await;
    assert_eq!(count_by(&world, "status").await, "waiting 300");

    let once = || {
        let pool = world.pool.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                sqlx::query("select restante.unpack_messages(id, 50) from restante.submission_part")
                    .execute(&pool)
                    .await
                    .unwrap();
            }
        })
    };
    for unpacking in [once(), once(), once()] {
        unpacking.await.unwrap();
    }

    assert_eq!(unpack(&world).await, "0 0");
    assert_eq!(attempts(&world).await, "batch answered paid 300");
    assert_eq!(each_is_answered_once_and_in_time(&world).await, "t t t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_while_it_packs_leaves_each_message_in_one_batch() {
    let api = quick_api().await;
    let world = World::new().await;
    world.may_leave_running();
    send(&world, 1, 50, IN_AN_HOUR).await;
    pass(&world, 6).await;
    // Packing stops at its first, and then at its last table.
    for table in ["batch_request", "message_attempt"] {
        let mut person = world.pool.begin().await.unwrap();
        sqlx::query(sqlx::AssertSqlSafe(format!("lock table restante.{table} in share mode")))
            .execute(&mut *person)
            .await
            .unwrap();
        let mut worker = Process::worker(&world.url, &api.url, &[("RESTANTE_RECONCILE_SECONDS", "0")]).await;
        world.somebody_waits_for_a_lock().await;
        worker.kill_hard();
        person.rollback().await.unwrap();
        eventually("the killed worker's session has ended", async || {
            let sessions = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
            (world.value(sessions).await == "0").then_some(())
        })
        .await;
        world.let_leases_run_out().await;
        assert_eq!(count_by(&world, "submission is null").await, "true 50", "{table}");
    }

    work(&world, &api).await;
    pass(&world, 1).await;
    work(&world, &api).await;

    assert_eq!(batches_of(&api).await.iter().map(|(_, requests)| *requests).collect::<Vec<_>>(), [50]);
    assert_eq!(attempts(&world).await, "batch answered paid 50");
    assert_eq!(each_is_answered_once_and_in_time(&world).await, "t t t");
}
