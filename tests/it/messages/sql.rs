//! What an application calls, and what it is told of a mistake.

use sqlx::AssertSqlSafe;

use super::{request, send};
use crate::support::World;

/// What a call of the function is answered, as the text of its error.
async fn refused(world: &World, call: &str) -> String {
    let error = sqlx::query(AssertSqlSafe(format!("select restante.send_message({call})")))
        .execute(&world.pool)
        .await;
    error.unwrap_err().into_database_error().unwrap().message().to_owned()
}

#[tokio::test]
async fn a_mistake_is_an_error_at_once_that_names_the_argument() {
    let world = World::new().await;
    let good = request("Hi").to_string();
    for (call, expected) in [
        ("null", "request is missing"),
        ("'[]'", "request is no object"),
        (r#"'{"max_tokens":1,"messages":[{}]}'"#, "request has no model"),
        (r#"'{"model":"","max_tokens":1,"messages":[{}]}'"#, "request has no model"),
        (
            r#"'{"model":"m","max_tokens":0,"messages":[{}]}'"#,
            "request has no max_tokens, a whole number of 1 or more",
        ),
        (
            r#"'{"model":"m","max_tokens":1,"messages":[]}'"#,
            "request has no messages, a list of at least one",
        ),
        (&format!("'{good}', key => ''"), "key must have 1 to 400 bytes"),
        (&format!("'{good}', tag => repeat('x', 401)"), "tag must have 1 to 400 bytes"),
        (&format!("'{good}', account => null"), "account must have 1 to 400 bytes"),
        (&format!("'{good}', partial => null"), "partial is null: say true or false"),
        (&format!("'{good}', attempts_max => 0"), "attempts_max must be 1 to 100"),
        (&format!("'{good}', betas => '{{a b}}'"), "betas must be names of beta features"),
        (&format!("'{good}', betas => array[null]"), "betas must be names of beta features"),
        (&format!("'{good}', deliver_by => 'infinity'"), "deliver_by must be a time of the years 1 to 9999"),
    ] {
        assert_eq!(refused(&world, call).await, format!("restante.send_message: {expected}"), "{call}");
    }
    assert_eq!(world.value("select count(*) from restante.message").await, "0");
    assert_eq!(world.value("select count(*) from restante.outbox").await, "0");
}

#[tokio::test]
async fn a_request_that_is_larger_than_the_api_takes_is_refused_at_once() {
    let world = World::new().await;
    let of_bytes = |bytes: usize| {
        let json =
            "json_build_object('model', 'm', 'max_tokens', 1, 'messages', json_build_array(repeat('x', ";
        format!("{json}{bytes})))")
    };

    let refused = refused(&world, &of_bytes(32_000_000)).await;

    assert_eq!(refused, "restante.send_message: request is larger than the API takes (32 MB)");
    let taken = format!("select restante.send_message({}) > 0", of_bytes(31_000_000));
    assert_eq!(world.value(&taken).await, "true");
}

#[tokio::test]
async fn a_message_is_part_of_the_transaction_that_sends_it() {
    let world = World::new().await;
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("select restante.send_message($1::text::json)")
        .bind(request("Hi").to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(world.value("select count(*) from restante.outbox").await, "0");

    send(&world, "Hi", ", key => 'k', tag => 't', account => 'second'").await;

    let event =
        "select concat_ws(' ', type, key, source, account, payload ->> 'message') from restante.outbox";
    let id = world.value("select id from restante.message").await;
    assert_eq!(world.value(event).await, format!("message.send message:k sql second {id}"));
}
