//! What becomes of a message when its batch has ended.

use super::{IN_AN_HOUR, attempts, count_by, pack, pass, send, told, unpack};
use crate::support::World;

/// Packs the messages that wait, as batch `b`, which the API has.
async fn packed(world: &World) {
    pass(world, 6).await;
    pack(world).await;
    world.sql("update restante.submission_part set batch_id = 'b'").await;
}

/// Stores what the batch says of a message.
async fn result(world: &World, message: i64, outcome: &str, error_type: Option<&str>, line: &str) {
    sqlx::query(
        "insert into restante.batch_result (batch_id, custom_id, outcome, error_type, line, model, text, stop_reason, input_tokens, output_tokens)
         values ('b', 'm' || $1, $2, $3, $4, 'claude-opus-5-5', 'a text', 'end_turn', 10, 5)",
    )
    .bind(message)
    .bind(outcome)
    .bind(error_type)
    .bind(line)
    .execute(&world.pool)
    .await
    .unwrap();
}

/// A line with a message that has this text, as JSON has it.
fn line(message: i64, text: &str) -> String {
    format!(
        r#"{{"custom_id":"m{message}","result":{{"type":"succeeded","message":{}}}}}"#,
        message_with(text)
    )
}

fn message_with(text: &str) -> String {
    format!(
        r#"{{ "id":"msg_1",  "type":"message", "n": 1.0e0, "content":[{{"type":"text","text":"{text}"}}] }}"#
    )
}

async fn complete(world: &World) {
    world.sql("update restante.batch set complete_at = clock_timestamp() where id = 'b'").await;
}

/// Each message: its number, its state, how its way and its alarm are.
async fn look(world: &World) -> String {
    world
        .value(
            "select string_agg(concat_ws(' ', m.id, m.status, m.lane, coalesce(m.error_type, '-'),
                                         case when l.id is null then 'no alarm' when l.lane = 'r' then 'alarm now' else 'alarm later' end), ', ' order by m.id)
               from restante.message as m left join restante.outbox_live as l on l.id = m.alarm",
        )
        .await
}

#[tokio::test]
async fn what_a_batch_does_not_answer_is_sent_by_itself_at_once_unless_it_is_at_fault() {
    let world = World::new().await;
    send(&world, 1, 6, IN_AN_HOUR).await;
    packed(&world).await;
    result(&world, 1, "succeeded", None, &line(1, "a")).await;
    result(&world, 2, "errored", Some("invalid_request_error"), "{}").await;
    result(&world, 3, "errored", Some("overloaded_error"), "{}").await;
    result(&world, 4, "expired", None, "{}").await;
    result(&world, 5, "canceled", None, "{}").await;
    result(&world, 6, "succeeded", None, r#"{"custom_id":"m6","result":{"type":"succeeded","message":7}}"#)
        .await;
    complete(&world).await;

    assert_eq!(unpack(&world).await, "6 0");

    assert_eq!(
        look(&world).await,
        "1 done batch - no alarm, 2 failed batch invalid_request_error no alarm, 3 waiting direct - alarm now, \
         4 waiting direct - alarm now, 5 waiting direct - alarm now, 6 waiting direct - alarm now"
    );
    assert_eq!(attempts(&world).await, "batch answered paid 1, batch refused 4, batch unused paid 1");
    assert_eq!(told(&world).await, "message.completed 1, message.failed 1");
    let answer = "select concat_ws(' ', text, model, stop_reason, input_tokens, output_tokens, done_at is not null, body->>'id')
                    from restante.message where id = 1";
    assert_eq!(world.value(answer).await, "a text claude-opus-5-5 end_turn 10 5 t msg_1");
    let why = "select string_agg(reason, '; ' order by id) from restante.message where id in (3, 4)";
    assert_eq!(
        world.value(why).await,
        "its batch did not answer it: errored, overloaded_error; its batch did not answer it: expired"
    );

    // What is repeated changes nothing.
    assert_eq!(unpack(&world).await, "0 0");
    assert_eq!(told(&world).await, "message.completed 1, message.failed 1");
}

#[tokio::test]
async fn an_answer_is_exactly_what_its_line_has() {
    let world = World::new().await;
    let texts = [
        "plain",
        r#"\" \\ \/ \b\n\u00e9 é \\u0041"#,
        r"\u0000 and \\\u0000",
        r"\ud800 half",
        r"\\ud800",
        "\u{1f600}",
    ];
    send(&world, 1, texts.len(), IN_AN_HOUR).await;
    packed(&world).await;
    for (message, text) in (1..).zip(texts) {
        result(&world, message, "succeeded", None, &line(message, text)).await;
    }
    complete(&world).await;
    unpack(&world).await;

    for (message, text) in (1..).zip(texts) {
        assert_eq!(
            world.value(&format!("select body::text from restante.message where id = {message}")).await,
            message_with(text)
        );
    }
}

#[tokio::test]
async fn an_answer_that_is_no_text_is_kept_as_bytes() {
    let world = World::new().await;
    send(&world, 1, 1, IN_AN_HOUR).await;
    packed(&world).await;
    result(&world, 1, "succeeded", None, "").await;
    let odd = |text: &str| text.replace('?', "\u{e9}").chars().map(|c| c as u8).collect::<Vec<u8>>();
    sqlx::query("update restante.batch_result set line = null, raw = $1")
        .bind(odd(&line(1, "caf?")))
        .execute(&world.pool)
        .await
        .unwrap();
    complete(&world).await;
    unpack(&world).await;

    let raw: Option<Vec<u8>> =
        sqlx::query_scalar("select raw from restante.message where status = 'done' and body is null")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(raw, Some(odd(&message_with("caf?"))));
}

#[tokio::test]
async fn an_answer_that_comes_too_late_is_not_used_and_its_cost_is_shown() {
    let world = World::new().await;
    send(&world, 1, 4, IN_AN_HOUR).await;
    packed(&world).await;
    // The first was called off, the second was answered by itself, the third is being sent, the fourth failed.
    world.sql("update restante.message set status = 'cancelled' where id = 1").await;
    world
        .sql("update restante.message set status = 'sending', attempt = attempt + 1 where id in (2, 3, 4)")
        .await;
    world.sql("insert into restante.message_attempt (message, attempt) select id, attempt from restante.message where id in (2, 3, 4)").await;
    world.sql("update restante.message set status = 'done', body = '{}', done_at = clock_timestamp() where id = 2").await;
    world.sql("update restante.message set status = 'failed', reason = 'x' where id = 4").await;
    for message in 1..=4 {
        result(&world, message, "succeeded", None, &line(message, "late")).await;
    }
    complete(&world).await;

    assert_eq!(unpack(&world).await, "4 0");

    assert_eq!(count_by(&world, "status").await, "cancelled 1, done 2, failed 1");
    let used = "select string_agg(message || ' ' || outcome, ', ' order by message) from restante.message_attempt where sent_as = 'batch'";
    assert_eq!(world.value(used).await, "1 unused, 2 unused, 3 answered, 4 unused");
    assert_eq!(told(&world).await, "message.cancelled 1, message.completed 2, message.failed 1");
    assert_eq!(world.value("select bool_and(may_be_paid and output_tokens = 5 and batch_id = 'b') from restante.message_attempt where sent_as = 'batch'").await, "true");
    // The worker that sends the third one finds that it has its answer.
    let late = "update restante.message set body = '{\"late\": 1}' where id = 3 and attempt = 2 and status = 'sending'";
    assert_eq!(world.sql(late).await, 0);
}

#[tokio::test]
async fn messages_whose_part_is_refused_or_called_off_are_sent_by_themselves_at_once() {
    for (change, outcome) in [
        (
            "update restante.submission_part set status = 'sending'; update restante.submission_part set status = 'refused', reason = 'too large'",
            "refused",
        ),
        ("update restante.submission set status = 'cancelled'", "not sent"),
    ] {
        let world = World::new().await;
        send(&world, 1, 2, IN_AN_HOUR).await;
        pass(&world, 6).await;
        pack(&world).await;
        for statement in change.split("; ") {
            world.sql(statement).await;
        }

        assert_eq!(unpack(&world).await, "2 0");

        assert_eq!(look(&world).await, "1 waiting direct - alarm now, 2 waiting direct - alarm now");
        assert_eq!(attempts(&world).await, format!("batch {outcome} 2"));
    }
}

#[tokio::test]
async fn a_message_that_somebody_is_changing_gets_its_answer_later_and_the_others_at_once() {
    let world = World::new().await;
    send(&world, 1, 3, IN_AN_HOUR).await;
    packed(&world).await;
    for message in 1..=3 {
        result(&world, message, "succeeded", None, &line(message, "a")).await;
    }
    complete(&world).await;
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("update restante.message set tag = 'mine' where id = 1").execute(&mut *person).await.unwrap();

    assert_eq!(unpack(&world).await, "2 1");
    person.commit().await.unwrap();
    assert_eq!(unpack(&world).await, "1 0");

    assert_eq!(count_by(&world, "status").await, "done 3");
    assert_eq!(told(&world).await, "message.completed 3");
}
