//! Everything about one object.

use super::{lines, receive_type};
use crate::support::World;
use expect_test::expect;
use restante::internals::outbox::outcome::{Failure, Fault, Verdict};
use restante::internals::outbox::settle::fail;

#[tokio::test]
async fn the_history_of_a_session_has_its_events_attempts_states_and_what_people_did() {
    let world = World::new().await;
    receive_type(&world, "first", "session.created", "sesn_1").await;
    world.work().await;
    receive_type(&world, "second", "session.status_idled", "sesn_1").await;
    let claimed = world.claim(1).await;
    let failure = Failure { fault: Fault::Permanent, kind: "handler", reason: "no such order".to_owned() };
    fail(&world.pool, claimed[0].lease, &Verdict::Dead { failure, holds_key: false }).await.unwrap();
    world
        .sql(
            "insert into restante.resource (type, id, parent_id, body, status, stop_reason, observed_at)
             values ('session', 'sesn_1', null, '{}', 'idle', 'requires_action', clock_timestamp()),
                    ('session_thread', 'sthr_1', 'sesn_1', '{}', 'idle', null, clock_timestamp())",
        )
        .await;
    world.sql("update restante.outbox set status = 'pending' where event_id = 'second'").await;
    receive_type(&world, "third", "session.deleted", "sesn_1").await;
    receive_type(&world, "elsewhere", "session.created", "sesn_2").await;

    let shown = r"select what, event_id, type, regexp_replace(detail, 'it happened.*|took [0-9:.]+|changed at.*|^\w+: replay', '..') as detail
                    from restante.history('sesn_1')";
    expect![[r#"
        {"what":"received","event_id":"first","type":"session.created","detail":"by webhook from anthropic; .."}
        {"what":"done","event_id":"first","type":"session.created","detail":"attempt 1 .."}
        {"what":"received","event_id":"second","type":"session.status_idled","detail":"by webhook from anthropic; .."}
        {"what":"attempt 1 permanent","event_id":"second","type":"session.status_idled","detail":"handler: no such order"}
        {"what":"fetched","event_id":null,"type":"session","detail":"sesn_1, idle, requires_action"}
        {"what":"fetched","event_id":null,"type":"session_thread","detail":"sthr_1, idle"}
        {"what":"operator","event_id":null,"type":null,"detail":".. second {\"dead to pending\": 1}"}
        {"what":"received","event_id":"third","type":"session.deleted","detail":"by webhook from anthropic; .."}
        {"what":"now pending","event_id":"second","type":"session.status_idled","detail":"the next worker with a free place claims it"}
        {"what":"now blocked","event_id":"third","type":"session.deleted","detail":"an older event of its key comes first"}
    "#]]
    .assert_eq(&lines(&world, shown).await);
}

#[tokio::test]
async fn the_history_of_a_batch_begins_with_its_submission_and_ends_with_its_results() {
    let world = World::new().await;
    world
        .value(r#"select restante.submit_batch('[{"custom_id":"a","params":{}}]', name => 'nightly')"#)
        .await;
    world.sql("update restante.submission_part set status = 'sending'").await;
    world.sql("update restante.submission_part set batch_id = 'msgbatch_1'").await;
    world
        .sql(
            "update restante.batch set created_at = clock_timestamp(), ended_at = clock_timestamp(), succeeded = 1, results_stored = 1,
                                       complete_at = clock_timestamp() where id = 'msgbatch_1'",
        )
        .await;

    let shown =
        "select what, event_id is not null as is_event, type, detail from restante.history('msgbatch_1')
                  where what not in ('received', 'operator')";
    expect![[r#"
        {"what":"submitted","is_event":false,"type":null,"detail":"part 1 of nightly, requests: 1"}
        {"what":"batch created","is_event":false,"type":null,"detail":"anthropic"}
        {"what":"batch ended","is_event":false,"type":null,"detail":"1 succeeded, 0 errored, 0 expired"}
        {"what":"results complete","is_event":false,"type":null,"detail":"1 results"}
        {"what":"now blocked","is_event":true,"type":"batch.results_ready","detail":"an older event of its key comes first"}
        {"what":"now pending","is_event":true,"type":"batch.submitted","detail":"the next worker with a free place claims it"}
    "#]]
    .assert_eq(&lines(&world, shown).await);
}

#[tokio::test]
async fn an_object_that_nobody_knows_has_no_history() {
    let world = World::new().await;
    assert_eq!(world.value("select count(*) from restante.history('sesn_unknown')").await, "0");
}
