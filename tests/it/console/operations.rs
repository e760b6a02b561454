//! What people do leaves a row that says who, when, what and how many. What programs do leaves none.

use expect_test::expect;
use restante::internals::outbox::upkeep::let_held_go;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::lines;
use crate::roles::Login;
use crate::support::World;

/// What is noted, without the times.
const NOTED: &str = "select what, of_what, how_many, reason, arguments from restante.operation order by id";

/// Three dead letters, two of which have a key of their own, and one event that waits.
async fn dead_letters() -> World {
    let world = World::new().await;
    for (event_id, key) in [("a", "j"), ("b", "k"), ("c", "")] {
        world.receive(event_id, key, 0, json!({ "permanent": true })).await;
    }
    world.work().await;
    world.receive("waits", "m", 1, json!({})).await;
    world
}

#[tokio::test]
async fn a_statement_by_hand_leaves_one_row_with_what_became_what() {
    let world = dead_letters().await;

    world.sql("update restante.outbox set status = 'pending' where status = 'dead'").await;
    world.sql("update restante.outbox set status = 'paused' where event_id = 'a'").await;
    world.sql("update restante.outbox set status = 'pending' where event_id = 'a'").await;
    world.sql("update restante.outbox set run_at = now() + interval '1 hour' where event_id = 'b'").await;
    world.sql("update restante.outbox set max_attempts = 7 where event_id = 'b'").await;
    world.sql("update restante.outbox set status = 'cancelled'").await;
    world.sql("delete from restante.outbox where event_id in ('a', 'b')").await;

    expect![[r#"
        {"what":"replay","of_what":"test.ledger","how_many":3,"reason":null,"arguments":{"dead to pending": 3}}
        {"what":"pause","of_what":"a","how_many":1,"reason":null,"arguments":{"pending to paused": 1}}
        {"what":"let go","of_what":"a","how_many":1,"reason":null,"arguments":{"paused to pending": 1}}
        {"what":"reschedule","of_what":"b","how_many":1,"reason":null,"arguments":{"pending to pending": 1}}
        {"what":"allow attempts","of_what":"b","how_many":1,"reason":null,"arguments":{"pending to pending": 1}}
        {"what":"cancel","of_what":"test.ledger","how_many":4,"reason":null,"arguments":{"pending to cancelled": 4}}
        {"what":"delete","of_what":"test.ledger","how_many":2,"reason":null,"arguments":{"cancelled": 2}}
    "#]]
    .assert_eq(&lines(&world, NOTED).await);
}

#[tokio::test]
async fn a_statement_that_changes_nothing_leaves_no_row() {
    let world = dead_letters().await;

    world.sql("update restante.outbox set status = 'pending' where event_id = 'nobody'").await;
    world.sql("update restante.outbox set status = status").await;
    world.sql("delete from restante.outbox where event_id = 'nobody'").await;

    assert_eq!(lines(&world, NOTED).await, "");
}

#[tokio::test]
async fn a_call_leaves_one_row_with_its_arguments_and_none_for_its_statements() {
    let world = dead_letters().await;

    world.value("select restante.pause('test.*', 'the tools are down')").await;
    world.value("select restante.resume('test.*')").await;
    world.value("select restante.pause(key => 'm', reason => 'a look at it')").await;
    world.value("select restante.resume(key => 'm')").await;
    world.value("select restante.pause(subscriber => 'billing')").await;
    world
        .value(
            "select restante.replay(type => 'test.*', name => 'again', reason => 'mended', dry_run => false)",
        )
        .await;
    world.sql("update restante.replay set status = 'cancelled' where name = 'again'").await;
    world.sql("select restante.budget('night', 100)").await;

    expect![[r#"
        {"what":"pause","of_what":"test.*","how_many":1,"reason":"the tools are down","arguments":{"type": "test.*"}}
        {"what":"resume","of_what":"test.*","how_many":1,"reason":null,"arguments":{"type": "test.*"}}
        {"what":"pause","of_what":"m","how_many":1,"reason":"a look at it","arguments":{"key": "m", "keys_of": "anthropic"}}
        {"what":"resume","of_what":"m","how_many":1,"reason":null,"arguments":{"key": "m", "keys_of": "anthropic"}}
        {"what":"pause","of_what":"subscriber:billing","how_many":0,"reason":null,"arguments":{"subscriber": "billing"}}
        {"what":"replay","of_what":"again","how_many":3,"reason":"mended","arguments":{"name": "again", "type": "test.*", "status": "dead"}}
        {"what":"replay","of_what":"again","how_many":3,"reason":null,"arguments":{"status": "cancelled"}}
        {"what":"budget","of_what":"night","how_many":1,"reason":null,"arguments":{"per": "month", "amount": 100}}
    "#]]
    .assert_eq(&lines(&world, NOTED).await);
}

#[tokio::test]
async fn what_a_person_changes_of_submissions_and_batches_leaves_a_row() {
    let world = World::new().await;
    let submit = r#"select restante.submit_batch('[{"custom_id":"a","params":{}}]', name => 'nightly')"#;
    world.value(submit).await;
    world.sql("update restante.submission_part set status = 'sending'").await;
    world.sql("truncate restante.operation").await;

    world.sql("update restante.submission_part set status = 'uncertain' where submission = 'nightly'").await;
    world
        .sql("update restante.submission_part set batch_id = 'msgbatch_1' where submission = 'nightly'")
        .await;
    world.sql("update restante.batch set given_up_because = 'not wanted' where id = 'msgbatch_1'").await;
    world.sql("insert into restante.batch (id, account) values ('msgbatch_2', 'staging')").await;
    world.sql("update restante.submission set status = 'cancelled' where name = 'nightly'").await;

    expect![[r#"
        {"what":"part","of_what":"nightly","how_many":1,"reason":null,"arguments":{"status": "uncertain"}}
        {"what":"part","of_what":"nightly","how_many":1,"reason":null,"arguments":{"status": "submitted", "batch_id": "msgbatch_1"}}
        {"what":"batch","of_what":"msgbatch_1","how_many":1,"reason":null,"arguments":{"given_up_because": "not wanted"}}
        {"what":"watch","of_what":"msgbatch_2","how_many":1,"reason":null,"arguments":{"account": "staging"}}
        {"what":"submission","of_what":"nightly","how_many":1,"reason":null,"arguments":{"status": "cancelled"}}
    "#]]
    .assert_eq(&lines(&world, NOTED).await);
}

#[tokio::test]
async fn the_row_names_the_login_whatever_role_it_has_taken_and_the_reason_of_its_session() {
    let world = dead_letters().await;
    let login = Login::new(&world, &["restante_operator"]).await;
    let as_operator = World::on(login.url.clone()).await;
    let mut connection = as_operator.pool.acquire().await.unwrap();

    // That it is noted already is not for the session to say.
    for statement in [
        "set role restante_operator",
        "set restante.reason = 'ticket 4711'",
        "set restante.operation = '1'",
        "set application_name = 'restante-worker'",
        "update restante.outbox set status = 'cancelled' where status = 'dead'",
    ] {
        connection.execute(statement).await.unwrap();
    }

    let noted = "select (who = '{login}') || ' ' || what || ' ' || how_many || ' ' || reason || ' ' || (now() - at < interval '1 hour') from restante.operation";
    assert_eq!(world.value(&noted.replace("{login}", &login.name)).await, "true cancel 3 ticket 4711 true");
    connection.close().await.unwrap();
    as_operator.pool.close().await;
    login.drop(&world).await;
}

#[tokio::test]
async fn what_is_rolled_back_is_not_noted() {
    let world = dead_letters().await;
    let mut connection = world.pool.acquire().await.unwrap();

    let mut tx = connection.begin().await.unwrap();
    tx.execute("update restante.outbox set status = 'cancelled'").await.unwrap();
    tx.rollback().await.unwrap();

    assert_eq!(lines(&world, NOTED).await, "");
}

#[tokio::test]
async fn what_a_worker_does_with_its_own_login_or_a_superusers_leaves_no_row() {
    let world = dead_letters().await;
    let login = Login::new(&world, &["restante_worker"]).await;
    let as_worker = World::on(login.url.clone()).await;
    world.value("select restante.pause('test.*')").await;
    world.receive("held", "k", 2, json!({})).await;
    world.receive("held too", "m", 3, json!({})).await;
    // As if they were stored while the pause was being ended.
    world.sql("delete from restante.paused_type").await;
    world.value("select restante.replay(name => 'again', dry_run => false)").await;
    world.sql("insert into restante.batch (id) values ('msgbatch_1')").await;
    world.sql("update restante.outbox set status = 'dead' where type = 'batch.poll'").await;
    world.sql("truncate restante.operation").await;

    let let_one_go = "select restante.let_held_go(1)";
    sqlx::query(AssertSqlSafe(let_one_go)).execute(&world.pool).await.unwrap();
    assert_eq!(let_held_go(&as_worker.pool).await.unwrap(), 2);
    for duty in [
        "select restante.replay_portion()",
        "select restante.ensure_standing_jobs(array['batch.poll'])",
        "select restante.add_up_hour()",
        "insert into restante.batch (id) values ('msgbatch_2')",
        "update restante.batch set given_up_because = 'vanished' where id = 'msgbatch_2'",
    ] {
        as_worker.pool.execute(AssertSqlSafe(duty)).await.unwrap();
    }
    as_worker.work().await;

    assert_eq!(lines(&world, NOTED).await, "");
    assert_eq!(world.value("select replayed from restante.replay").await, "3");
    assert_eq!(world.value("select count(*) from restante.outbox where event_id = 'batch.poll:msgbatch_1' and status <> 'dead'").await, "1");
    as_worker.pool.close().await;
    login.drop(&world).await;
}
