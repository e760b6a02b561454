//! What an application calls, and what it is told of a mistake.

use sqlx::AssertSqlSafe;

use super::{api_at, batches_of, requests, submit, work_to_rest};
use crate::support::{SimulatedApi, World, eventually};

/// What a call of the function is answered, as the text of its error.
async fn refused(world: &World, call: &str) -> String {
    let error = sqlx::query(AssertSqlSafe(format!("select restante.submit_batch({call})")))
        .execute(&world.pool)
        .await;
    error.unwrap_err().into_database_error().unwrap().message().to_owned()
}

#[tokio::test]
async fn a_mistake_is_an_error_at_once_that_names_the_request_and_the_rule() {
    let world = World::new().await;
    for (call, expected) in [
        ("'[]'", "there are no requests"),
        ("name => 'nothing'", "there are no requests under the name nothing"),
        ("'7'", "requests is no list"),
        ("'{}'", "requests is no list"),
        (r#"'[{"custom_id":"a","params":{}}]', name => ''"#, "name must have 1 to 200 bytes"),
        (r#"'[{"custom_id":"a","params":{}}]', tag => ''"#, "tag must have 1 to 200 bytes"),
        (r#"'[{"custom_id":"a","params":{}}]', account => null"#, "account must have 1 to 200 bytes"),
        (r#"'[7]'"#, "request 1: it is no object with custom_id and params"),
        (r#"'[{"params":{}}]'"#, "request 1: custom_id is missing"),
        (
            r#"'[{"custom_id":"a","params":{}},{"custom_id":"a b","params":{}}]'"#,
            "request 2: custom_id \"a b\" must have 1 to 64 of the characters a-z A-Z 0-9 _ -",
        ),
        (
            r#"'[{"custom_id":7,"params":{}}]'"#,
            "request 1: custom_id 7 must have 1 to 64 of the characters a-z A-Z 0-9 _ -",
        ),
        (
            r#"'[{"custom_id":"\u0000","params":{}}]'"#,
            "request 1: it has an escape that no text of Postgres can hold (\\u0000, or half of a surrogate pair): write it into restante.batch_request instead",
        ),
        (r#"'[{"custom_id":"a"}]'"#, "request 1: params is missing"),
        (r#"'[{"custom_id":"a","params":[]}]'"#, "request 1: params is no object"),
        (
            r#"'[{"custom_id":"a","params":{}},{"custom_id":"b","params":{}},{"custom_id":"a","params":{}}]'"#,
            "request 3: custom_id \"a\" is there twice",
        ),
    ] {
        assert_eq!(refused(&world, call).await, format!("restante.submit_batch: {expected}"), "{call}");
    }
    assert_eq!(world.value("select count(*) from restante.batch_request").await, "0");
    assert_eq!(world.value("select count(*) from restante.outbox").await, "0");
}

#[tokio::test]
async fn rows_that_were_written_under_a_name_are_submitted_with_it_and_none_later() {
    let world = World::new().await;
    world
        .sql("insert into restante.batch_request (submission, custom_id, params) select 'nightly', 'r' || n, '{\"n\": 1}' from generate_series(1, 3) as n")
        .await;
    for wrong in ["'a b', '{}'", "'', '{}'", "'a', '[]'", "'r1', '{}'"] {
        let insert = format!(
            "insert into restante.batch_request (submission, custom_id, params) values ('nightly', {wrong})"
        );
        assert!(sqlx::query(AssertSqlSafe(insert)).execute(&world.pool).await.is_err(), "{wrong}");
    }

    assert_eq!(world.value("select restante.submit_batch(name => 'nightly') > 0").await, "true");

    let of = "select concat_ws(' ', status, requests, bytes) from restante.submission";
    // {"requests":[{"custom_id":"r1","params":{"n": 1}},...]}
    assert_eq!(world.value(of).await, "waiting 3 111");
    assert_eq!(
        refused(&world, "name => 'nightly'").await,
        "restante.submit_batch: there is a submission named nightly already"
    );
    let late =
        "insert into restante.batch_request (submission, custom_id, params) values ('nightly', 'late', '{}')";
    let error = sqlx::query(late).execute(&world.pool).await.unwrap_err();
    assert!(error.to_string().contains("has been submitted already"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_submitted_goes_out_exactly_and_every_answer_is_found_under_its_name() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    submit(&world, "invoices", &requests(1, 300)).await;

    work_to_rest(&world, &api_at(&api.url)).await;

    assert_eq!(batches_of(&api.url).await, [300]);
    let outcomes = "select string_agg(distinct concat_ws(' ', r.status, r.status = a.outcome, r.batch_id = a.batch_id), ', ')
                      from restante.batch_request as r
                      join restante.batch_result as a on a.batch_id = r.batch_id and a.custom_id = r.custom_id
                     where r.submission = 'invoices'";
    assert_eq!(world.value(outcomes).await, "canceled t t, errored t t, expired t t, succeeded t t");
    assert_eq!(world.value("select count(*) from restante.batch_result").await, "300");
    let told = "select string_agg(type, ' ' order by id) from restante.outbox where type in ('batch.submitted', 'batch.results_ready')";
    assert_eq!(world.value(told).await, "batch.submitted batch.results_ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_is_read_once_whatever_the_statistics_say() {
    const REQUESTS: i64 = 3_000;
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    world
        .sql(&format!(
            "insert into restante.batch_request (submission, custom_id, params) select 's', 'r' || n, '{{}}' from generate_series(1, {REQUESTS}) as n"
        ))
        .await;
    // By these, no request is of any part.
    world.sql("analyze restante.batch_request").await;
    let read = "select idx_tup_fetch + seq_tup_read from pg_stat_user_tables where relid = 'restante.batch_request'::regclass";
    world.value("select restante.submit_batch(name => 's') > 0").await;
    world.pool.close().await;
    let world = World::on(world.url.clone()).await;
    let read_before: i64 = world.value(read).await.parse().unwrap();

    let sending = World::on(world.url.clone()).await;
    super::work(&sending, &api_at(&api.url)).await;
    // A session says what it has read when it ends, at the latest.
    sending.pool.close().await;

    assert_eq!(batches_of(&api.url).await, [REQUESTS]);
    let mut reads = REQUESTS;
    eventually("the statistics are in", async || {
        reads = world.value(read).await.parse::<i64>().unwrap() - read_before;
        (reads >= REQUESTS).then_some(())
    })
    .await;
    assert!(reads < 20 * REQUESTS, "{reads} rows were read to send and settle {REQUESTS}");
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_submits_nothing() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("select restante.submit_batch($1::json)")
        .bind(requests(1, 2).to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.rollback().await.unwrap();

    for table in ["submission", "submission_part", "batch_request", "outbox"] {
        assert_eq!(world.value(&format!("select count(*) from restante.{table}")).await, "0", "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_writes_and_its_submission_are_both_there_or_neither_after_a_crash_of_the_database()
 {
    let (mut postgres, world) = World::on_its_own_postgres().await;
    world.sql("create table invoice (id integer)").await;
    for (number, is_committed) in [(1, false), (2, true), (3, false)] {
        let world = World::on(world.url.clone()).await;
        let mut tx = world.pool.begin().await.unwrap();
        sqlx::query("insert into invoice values ($1)").bind(number).execute(&mut *tx).await.unwrap();
        sqlx::query("select restante.submit_batch($1::json, name => $2)")
            .bind(requests(1, 2).to_string())
            .bind(format!("s{number}"))
            .execute(&mut *tx)
            .await
            .unwrap();
        if is_committed {
            tx.commit().await.unwrap();
            postgres.kill_hard().unwrap();
        } else {
            postgres.kill_hard().unwrap();
            drop(tx);
        }
        postgres.restart().unwrap();
    }

    let world = World::on(world.url).await;
    let there = "select concat_ws(' ', (select string_agg(id::text, ',') from invoice), (select string_agg(name, ',') from restante.submission),
                                  (select count(*) from restante.batch_request), (select count(*) from restante.submission_part),
                                  (select count(*) from restante.outbox where type = 'batch.submit'))";
    assert_eq!(world.value(there).await, "2 s2 2 1 1");
}

#[tokio::test]
async fn more_than_the_api_takes_at_once_becomes_several_parts() {
    let world = World::new().await;
    world
        .sql(
            "insert into restante.batch_request (submission, custom_id, params)
              select 'many', 'r' || n, '{}' from generate_series(1, 100001) as n",
        )
        .await;
    world
        .sql("insert into restante.batch_request (submission, custom_id, params)
              select 'large', 'r' || n, json_build_object('x', repeat('x', 90000000)) from generate_series(1, 3) as n")
        .await;

    world
        .value(
            "select restante.submit_batch(name => 'many') > 0 and restante.submit_batch(name => 'large') > 0",
        )
        .await;

    let parts = "select string_agg(requests::text, ' ' order by number) from restante.submission_part where submission = ";
    assert_eq!(world.value(&format!("{parts} 'many'")).await, "100000 1");
    assert_eq!(world.value(&format!("{parts} 'large'")).await, "2 1");
    assert_eq!(
        world.value("select bool_and(bytes <= 256000000) from restante.submission_part").await,
        "true"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_is_called_off_before_it_is_sent_costs_nothing() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    submit(&world, "s", &requests(1, 2)).await;

    world.sql("update restante.submission set status = 'cancelled'").await;
    work_to_rest(&world, &api_at(&api.url)).await;

    assert_eq!(batches_of(&api.url).await, Vec::<i64>::new());
    let statuses = "select concat_ws(' ', s.status, p.status, r.status) from restante.submission as s, restante.submission_part as p,
                           restante.batch_request as r limit 1";
    assert_eq!(world.value(statuses).await, "cancelled cancelled cancelled");
}
