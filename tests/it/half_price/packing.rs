//! Which messages wait for a batch, and when they are packed.

use serde_json::json;

use super::{IN_AN_HOUR, api_with_slow_batches, count_by, pack, pass, seen, send, told, work};
use crate::support::World;

/// The packers: how many there are of each state.
async fn packers(world: &World) -> String {
    let query = "select coalesce(string_agg(status || ' ' || count, ', ' order by status), 'none')
                   from (select status, count(*) as count from restante.outbox_live where type = 'message.pack' group by 1) as c";
    world.value(query).await
}

/// A finished batch, for the history.
async fn history(world: &World, minutes: u32, requests: u32) {
    world
        .sql(&format!(
            "insert into restante.batch (id, succeeded, created_at, ended_at, complete_at)
             select 'h' || gen_random_uuid(), {requests}, now() - interval '2 hours', now() - interval '1 hour',
                    now() - interval '2 hours' + interval '{minutes} minutes'"
        ))
        .await;
}

#[tokio::test]
async fn only_what_has_time_and_what_a_batch_can_answer_waits_for_one() {
    for (arguments, lane) in [
        (IN_AN_HOUR, "batch"),
        ("deliver_by => now() + interval '1 hour', key => 'k'", "batch"),
        ("deliver_by => now() + interval '3 days', tag => 't', callback => 'https://example.com/x'", "batch"),
        ("tag => 't'", "direct"),
        ("deliver_by => now() + interval '58 minutes'", "direct"),
        ("deliver_by => now()", "direct"),
        ("deliver_by => now() - interval '1 day'", "direct"),
        ("deliver_by => now() + interval '1 hour', partial => true", "direct"),
    ] {
        let world = World::new().await;
        send(&world, 1, 1, arguments).await;
        assert_eq!(count_by(&world, "lane").await, format!("{lane} 1"), "{arguments}");
        let due = "select run_at <= now() from restante.outbox where type = 'message.send'";
        assert_eq!(world.value(due).await, (lane == "direct").to_string(), "{arguments}");
        assert_eq!(packers(&world).await, if lane == "batch" { "pending 1" } else { "none" }, "{arguments}");
    }
    let world = World::new().await;
    for member in ["stream", "speed"] {
        let request = json!({ "model": "m", "max_tokens": 1, "messages": [{ "role": "user", "content": "x" }], member: true });
        world.value(&format!("select restante.send_message('{request}', {IN_AN_HOUR})")).await;
    }
    assert_eq!(count_by(&world, "lane").await, "direct 2");
}

#[tokio::test]
async fn operators_say_how_far_ahead_and_how_long_before_the_deadline() {
    let world = World::new().await;
    world.sql("update restante.message_lane_setting set ahead = '10 minutes', reserve = '3 minutes'").await;

    send(&world, 1, 1, "deliver_by => now() + interval '11 minutes'").await;

    assert_eq!(count_by(&world, "lane").await, "batch 1");
    let alarm = "select m.deliver_by - l.run_at from restante.outbox_live as l join restante.message as m on m.alarm = l.id";
    assert_eq!(world.value(alarm).await, "00:03:00");
    for wrong in [
        "ahead = '1 minute'",
        "reserve = '0'",
        "pack_after = '0'",
        "requests_max = 0",
        "bytes_max = 256000000",
        "is_the_one = false",
    ] {
        let update = format!("update restante.message_lane_setting set {wrong}");
        let error = sqlx::query(sqlx::AssertSqlSafe(update)).execute(&world.pool).await;
        assert!(error.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn if_sending_takes_long_the_message_is_sent_earlier() {
    let world = World::new().await;
    send(&world, 1, 20, "tag => 'slow'").await;
    world
        .sql("insert into restante.message_attempt (message, attempt, sent_at, ended_at, outcome)
              select id, 1, now() - interval '10 minutes', now() - interval '5 minutes', 'answered' from restante.message")
        .await;

    send(&world, 21, 21, IN_AN_HOUR).await;

    let alarm = "select m.deliver_by - l.run_at from restante.outbox_live as l join restante.message as m on m.alarm = l.id";
    assert_eq!(world.value(alarm).await, "00:05:00");
}

#[tokio::test]
async fn messages_are_packed_by_age_by_number_by_size_and_before_their_deadline_and_not_earlier() {
    for (setting, minutes, packed) in [
        ("requests_max = 10000", 0, "0 0 t"),
        ("requests_max = 10000", 4, "0 0 t"),
        ("requests_max = 10000", 5, "5 0 t"),
        ("requests_max = 5", 0, "5 0 t"),
        ("requests_max = 3", 0, "3 0 t"),
        // Each is some 170 bytes.
        ("bytes_max = 600", 0, "3 0 t"),
        ("bytes_max = 1", 0, "1 0 t"),
        // The last moment is half a minute later, and the next look would be too late.
        ("pack_after = '1 hour', reserve = '2 minutes 32 seconds'", 56, "0 0 t"),
        ("pack_after = '1 hour', reserve = '2 minutes 32 seconds'", 57, "5 0 t"),
    ] {
        let world = World::new().await;
        world.sql(&format!("update restante.message_lane_setting set {setting}")).await;
        send(&world, 1, 5, IN_AN_HOUR).await;
        pass(&world, minutes).await;

        assert_eq!(pack(&world).await, packed, "{setting}, {minutes} minutes");
    }
}

#[tokio::test]
async fn what_our_history_says_of_batches_decides_when_to_pack_and_what_is_sent_by_itself() {
    // Half an hour is time enough. What takes 54 minutes must begin within four and a half.
    for (takes, passed, expected) in
        [(30, 4, "0 0 t"), (30, 5, "2 0 t"), (54, 3, "0 0 t"), (54, 4, "2 0 t"), (59, 0, "0 2 t")]
    {
        let world = World::new().await;
        history(&world, takes, 3).await;
        // A much larger batch says nothing of this one.
        history(&world, 500, 1000).await;
        send(&world, 1, 2, "deliver_by => clock_timestamp() + interval '60 minutes 28 seconds'").await;
        pass(&world, passed).await;

        assert_eq!(pack(&world).await, expected, "{takes} minutes, {passed} minutes later");
        if expected == "0 2 t" {
            assert_eq!(
                count_by(&world, "concat_ws(' ', lane, reason)").await,
                "direct batches have lately taken too long for its deadline 2"
            );
            let due = "select bool_and(lane = 'r') from restante.outbox_live where type = 'message.send'";
            assert_eq!(world.value(due).await, "true");
        }
    }
    let world = World::new().await;
    history(&world, 59, 3).await;
    world.sql("update restante.batch set complete_at = complete_at - interval '8 days', created_at = created_at - interval '8 days'").await;
    send(&world, 1, 2, IN_AN_HOUR).await;
    pass(&world, 5).await;
    assert_eq!(pack(&world).await, "2 0 t", "what is long ago does not count");
}

#[tokio::test]
async fn messages_of_other_models_betas_and_accounts_are_packed_apart() {
    let world = World::new().await;
    for (model, more) in [
        ("a", ""),
        ("a", ", betas => array['x-1','y-2']"),
        ("a", ", betas => array['y-2','x-1']"),
        ("b", ""),
        ("b", ", account => 'staging'"),
    ] {
        for _ in 0..2 {
            let request =
                json!({ "model": model, "max_tokens": 9, "messages": [{ "role": "user", "content": "x" }] });
            world.value(&format!("select restante.send_message('{request}', {IN_AN_HOUR}{more})")).await;
        }
    }
    pass(&world, 5).await;
    pack(&world).await;

    let parts = "select string_agg(concat_ws(' ', p.account, p.betas, p.requests), ', ' order by min)
                   from restante.submission_part as p
                   join (select submission, min(id) from restante.message group by submission) as m using (submission)";
    assert_eq!(
        world.value(parts).await,
        "anthropic {} 2, anthropic {x-1,y-2} 4, anthropic {} 2, staging {} 2"
    );
    let sent = "select bool_and(r.params::text = m.request::text and r.custom_id = 'm' || m.id)
                  from restante.message as m left join restante.batch_request as r on r.submission = m.submission and r.custom_id = 'm' || m.id";
    assert_eq!(world.value(sent).await, "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_sent_with_the_beta_features_of_its_messages() {
    let world = World::new().await;
    send(&world, 1, 2, &format!("{IN_AN_HOUR}, betas => array['y-2','x-1']")).await;
    pass(&world, 5).await;
    pack(&world).await;
    let api = api_with_slow_batches().await;

    work(&world, &api).await;

    let seen = seen(&api).await;
    let created = seen
        .iter()
        .find(|request| request["method"] == "POST" && request["path"] == "/v1/messages/batches")
        .unwrap();
    assert_eq!(created["betas"], json!("x-1,y-2"));
    assert_eq!(
        world.value("select count(*) from restante.submission_part where batch_id is not null").await,
        "1"
    );
    assert_eq!(told(&world).await, "message.completed 2", "nobody is told of the batch");
}

#[tokio::test]
async fn a_packer_is_there_while_messages_wait_and_no_longer() {
    let world = World::new().await;
    let packs = async |world: &World| {
        world
            .work_with(restante::Registry::new().register(restante::handlers::message_pack::MessagePack))
            .await
    };
    send(&world, 1, 3, IN_AN_HOUR).await;
    send(&world, 4, 5, IN_AN_HOUR).await;
    assert_eq!(packers(&world).await, "pending 1");

    packs(&world).await;
    assert_eq!(packers(&world).await, "retry 1");
    pass(&world, 5).await;
    packs(&world).await;
    assert_eq!(count_by(&world, "submission is not null").await, "true 5");
    world.wait_for_retries().await;
    packs(&world).await;
    assert_eq!(packers(&world).await, "none");

    // It does not end while somebody stores a message, and nobody waits for anybody.
    send(&world, 6, 6, IN_AN_HOUR).await;
    let mut application = world.pool.begin().await.unwrap();
    let store = "select restante.send_message('{\"model\":\"claude-opus-5-5\",\"max_tokens\":1,\"messages\":[1]}', deliver_by => now() + interval '1 hour')";
    sqlx::query(store).execute(&mut *application).await.unwrap();
    pass(&world, 5).await;
    packs(&world).await;
    world.wait_for_retries().await;
    packs(&world).await;
    assert_eq!(packers(&world).await, "retry 1");
    application.commit().await.unwrap();
    pass(&world, 5).await;
    packs(&world).await;
    assert_eq!(count_by(&world, "submission is not null").await, "true 7");
    world.wait_for_retries().await;
    packs(&world).await;
    assert_eq!(packers(&world).await, "none");
}

#[tokio::test]
async fn what_is_called_off_while_it_waits_is_never_sent_and_one_that_is_wanted_again_is() {
    let world = World::new().await;
    send(&world, 1, 3, IN_AN_HOUR).await;
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("update restante.message set tag = 'mine' where id = 3").execute(&mut *person).await.unwrap();
    world.sql("update restante.message set status = 'cancelled' where id = 1").await;
    let alarms = "select count(*) from restante.outbox_live where type = 'message.send'";
    assert_eq!(world.value(alarms).await, "2");
    // Nobody can move the time of a locked row, so it is the number that makes them due.
    world.sql("update restante.message_lane_setting set requests_max = 2").await;

    assert_eq!(pack(&world).await, "1 0 t", "a person is changing one, and one was called off");
    person.commit().await.unwrap();

    world.sql("update restante.message set status = 'waiting' where id = 1").await;
    assert_eq!(world.value(alarms).await, "3");
    assert_eq!(count_by(&world, "concat_ws(' ', lane, submission is null)").await, "batch f 1, batch t 2");
    pass(&world, 5).await;
    assert_eq!(pack(&world).await, "2 0 t");
}

#[tokio::test]
async fn people_see_where_a_message_waits() {
    let world = World::new().await;
    let look = "select concat_ws(' | ', m.state, m.lane, m.submission = s.submission, s.for_messages)
                  from restante.message_overview as m left join restante.submission_overview as s on true";
    send(&world, 1, 1, IN_AN_HOUR).await;
    assert_eq!(world.value(look).await, "waits to be packed | batch");

    pass(&world, 5).await;
    pack(&world).await;
    assert_eq!(world.value(look).await, "is in a batch | batch | t | t");
    assert_eq!(told(&world).await, "null");
}
