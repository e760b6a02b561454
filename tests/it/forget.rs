//! Forget: what a key or a tag left is erased everywhere, and what is delivered again is still known.

mod at_the_api;
mod elsewhere;
mod files;
mod running;

use restante::internals::outbox::retention::{Forgot, forget_portion};
use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::World;

/// Has it forgotten, as an operator.
async fn forget(world: &World, what: &str) {
    let mut operator = PgConnection::connect(world.url.expose_secret()).await.unwrap();
    operator.execute("set role restante_operator").await.unwrap();
    let call = sqlx::AssertSqlSafe(format!("select * from restante.forget({what}, dry_run => false)"));
    sqlx::query(call).execute(&mut operator).await.unwrap();
}

/// Erases until a first look has found nothing.
async fn erase(world: &World) {
    while forget_portion(&world.pool).await.unwrap() != Forgot::Nothing {}
}

/// Erases until it is complete, while time passes. Panics with what it waits for if it does not become complete.
async fn erase_all(world: &World) {
    for _ in 0..20 {
        erase(world).await;
        world
            .sql("update restante.forgetting set due_at = now(), not_before = now() where status = 'erasing'")
            .await;
        if world.value("select count(*) from restante.forgetting where status <> 'done'").await == "0" {
            return;
        }
    }
    panic!(
        "it waits for {}",
        world.value("select string_agg(waits_for, ', ') from restante.forgetting").await
    );
}

#[tokio::test]
async fn a_call_only_counts_until_it_is_told_to_forget() {
    let world = World::new().await;
    world.receive("a", "customer_7", 0, json!({})).await;
    world.receive("b", "customer_8", 1, json!({})).await;
    world.sql("select restante.submit_batch('[{\"custom_id\":\"r\",\"params\":{\"model\":\"m\",\"max_tokens\":1,\"messages\":[]}}]', name => 'n', tag => 'letters')").await;

    let counted = |what: &str| {
        format!(
            "select string_agg(relation || ' ' || rows, ', ' order by relation) from restante.forget({what})"
        )
    };
    assert_eq!(world.value(&counted("key => 'customer_7'")).await, "outbox 1");
    assert_eq!(world.value(&counted("tag => 'letters'")).await, "batch_request 1, outbox 1");

    assert_eq!(forget_portion(&world.pool).await.unwrap(), Forgot::Nothing);
    assert_eq!(world.outbox().await.lines().count(), 3);
    for (call, fault) in [
        ("key => 'a', tag => 'b'", "name either a key or a tag"),
        ("dry_run => false", "name either a key or a tag"),
        ("key => ''", "the key or the tag is empty"),
    ] {
        let call = sqlx::AssertSqlSafe(format!("select * from restante.forget({call})"));
        let error = sqlx::query(call).execute(&world.pool).await.unwrap_err();
        assert!(error.to_string().contains(fault), "{error}");
    }
}

#[tokio::test]
async fn others_keep_what_is_theirs_and_the_receipt_says_what_went() {
    let world = World::new().await;
    for (event, key) in [("a", "customer_7"), ("b", "customer_7"), ("c", "customer_8")] {
        world.receive(event, key, 0, json!({})).await;
    }
    world.work().await;
    world.receive("d", "customer_7", 1, json!({ "permanent": true })).await;
    world.work().await;
    world.receive("e", "customer_7", 2, json!({})).await;
    world.receive("f", "customer_8", 3, json!({})).await;

    forget(&world, "key => 'customer_7', reason => 'ticket 4711'").await;
    erase_all(&world).await;

    assert_eq!(world.outbox().await, "c done, attempt 1\nf pending, attempt 0\n");
    let receipt = "select concat_ws(' ', f.status, f.reason, f.key, f.erased - 'outbox_live' ->> 'failure', f.erased->>'outbox_live',
                                    f.of_what = 'key sha256:' || encode(sha256('customer_7'), 'hex'))
                     from restante.forgetting as f";
    assert_eq!(world.value(receipt).await, "done ticket 4711 1 2 t");
    let noted = "select string_agg(concat_ws(' ', what, how_many), ', ' order by id) from restante.operation where of_what like 'key sha256:%'";
    assert_eq!(world.value(noted).await, "forget 4, forgotten 5");
    for event in ["a", "b", "d", "e"] {
        assert_eq!(world.receive(event, "customer_7", 0, json!({})).await, 0, "{event}");
        assert_eq!(world.receive(event, "customer_7", 0, json!({ "another": "body" })).await, 0, "{event}");
    }
    assert_eq!(world.value("select count(*) from restante.delivery_differs").await, "0");
    assert_eq!(world.receive("g", "customer_7", 4, json!({})).await, 1, "what is new is not refused");
}

#[tokio::test]
async fn a_key_with_many_events_goes_in_portions_and_a_locked_one_is_waited_for() {
    let world = World::new().await;
    let events: Vec<_> =
        (0..450).map(|n| world.new_event(&format!("e{n}"), "customer_7", 0, json!({}))).collect();
    world.receive_all(&events).await;
    let mut person = PgConnection::connect(world.url.expose_secret()).await.unwrap();
    person.execute("begin").await.unwrap();
    person.execute("select from restante.outbox where event_id = 'e7' for update").await.unwrap();

    forget(&world, "key => 'customer_7'").await;
    let mut portions = Vec::new();
    while let Forgot::Rows(rows @ 1..) = forget_portion(&world.pool).await.unwrap() {
        portions.push(rows);
    }

    assert_eq!(portions, [200, 200, 49]);
    let waits = "select concat_ws(': ', status, waits_for) from restante.forget_overview";
    assert_eq!(world.value(waits).await, "erasing: a session that has locked events of it");
    person.execute("rollback").await.unwrap();
    world.sql("update restante.forgetting set due_at = now()").await;
    erase_all(&world).await;
    assert_eq!(world.outbox().await, "");
}
