//! What arrives: signed, with the same identifier and the same bytes at every attempt, through rotation.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::json;

use super::receiver::{Receiver, Reply};
use super::{SECRET, add, enqueue, is_signed, work, work_to_rest};
use crate::support::World;

const SECOND: &str = "whsec_dGhlIHNlY29uZCBzZWNyZXQgb2YgdGhlIGVuZHBvaW50";

#[tokio::test]
async fn a_notification_arrives_as_standard_webhooks_says() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/hooks?token=1"), &[]).await;
    enqueue(&world, "order.placed", Some("o1"), "{}").await;
    work(&world).await;

    let [arrived] = &receiver.arrived()[..] else { panic!("one") };
    assert!(arrived.head.starts_with("POST /hooks?token=1 HTTP/1.1\r\n"), "{}", arrived.head);
    assert!(is_signed(arrived, SECRET) && !is_signed(arrived, SECOND));
    assert_eq!(arrived.header("content-type"), "application/json");
    let body = arrived.json();
    assert_eq!((&body["type"], &body["data"]), (&json!("order.placed"), &json!({ "id": "o1" })));
    let stored =
        format!("select status from restante.outbox where event_id = '{}'", arrived.header("webhook-id"));
    assert_eq!(world.value(&stored).await, "done");
    assert!(!arrived.header("webhook-id").contains('.'));
    let log = "select concat_ws(' ', endpoint, type, attempt, status, error, took > '0') from restante.endpoint_delivery";
    assert_eq!(world.value(log).await, "a order.placed 1 204 t");
}

#[tokio::test]
async fn each_attempt_has_the_same_identifier_and_the_same_bytes_and_a_signature_of_its_own() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &["body = 'full'"]).await;
    receiver.reply(Reply::Status(500, "", "no"));
    receiver.reply(Reply::Status(503, "", "no"));
    enqueue(&world, "order.placed", None, r#"{"b": 1.0,  "a": "\u00e9"}"#).await;
    work_to_rest(&world).await;

    let arrived = receiver.arrived();
    assert_eq!(arrived.len(), 3);
    for attempt in &arrived {
        assert_eq!(attempt.header("webhook-id"), arrived[0].header("webhook-id"));
        assert_eq!(attempt.body, arrived[0].body);
        assert!(is_signed(attempt, SECRET));
    }
    assert!(String::from_utf8_lossy(&arrived[0].body).ends_with(r#""data":{"b": 1.0,  "a": "\u00e9"}}"#));
    let log = "select string_agg(concat_ws(' ', attempt, status, error, answer), ', ' order by id) from restante.endpoint_delivery";
    assert_eq!(world.value(log).await, "1 500 it answered 500 no, 2 503 it answered 503 no, 3 204 ");
}

#[tokio::test]
async fn while_a_secret_is_rotated_the_old_and_the_new_one_sign_side_by_side() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "a", &receiver.url("/"), &[]).await;
    let new = world.value("select restante.rotate_secret('a')").await;
    assert!(new.starts_with("whsec_") && new != SECRET);
    enqueue(&world, "order.placed", None, "{}").await;
    work(&world).await;
    world.sql("select restante.rotate_secret('a', drop_old => true)").await;
    enqueue(&world, "order.placed", None, "{}").await;
    work(&world).await;
    world.sql(&format!("select restante.rotate_secret('a', drop_old => true, secret => '{SECOND}')")).await;
    enqueue(&world, "order.placed", None, "{}").await;
    work(&world).await;

    let verified: Vec<_> = receiver
        .arrived()
        .iter()
        .map(|arrived| [SECRET, &new, SECOND].map(|secret| is_signed(arrived, secret)))
        .collect();
    assert_eq!(verified, [[true, true, false], [false, true, false], [false, false, true]]);
}

#[tokio::test]
async fn an_ed25519_key_signs_beside_a_shared_secret() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let pair = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).unwrap();
    let secrets = format!("secret = 'whsk_{}, {SECRET}'", STANDARD.encode([9; 32]));
    add(&world, "a", &receiver.url("/"), &[&secrets]).await;
    enqueue(&world, "order.placed", None, "{}").await;
    work(&world).await;

    let [arrived] = &receiver.arrived()[..] else { panic!("one") };
    assert!(is_signed(arrived, SECRET));
    let asymmetric = arrived.header("webhook-signature").split(' ').find_map(|one| one.strip_prefix("v1a,"));
    let signed = [
        format!("{}.{}.", arrived.header("webhook-id"), arrived.header("webhook-timestamp")).as_bytes(),
        &arrived.body,
    ]
    .concat();
    let key = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
    key.verify(&signed, &STANDARD.decode(asymmetric.unwrap()).unwrap()).unwrap();
}

#[tokio::test]
async fn a_callback_goes_to_its_own_address_with_the_secret_of_its_origin() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    add(&world, "known", &receiver.url("/hooks"), &["event_types = '{}'"]).await;
    let other = Receiver::start().await;
    for url in [receiver.url("/callback"), other.url("/own")] {
        world.sql(&format!("select restante.enqueue('order.placed', '{{}}', callback => '{url}')")).await;
    }
    // As if another transaction had been adding it.
    world.sql("delete from restante.endpoint where name like 'callback-%'").await;
    work(&world).await;

    let [arrived] = &receiver.arrived()[..] else { panic!("one") };
    assert_eq!(arrived.path(), "/callback");
    assert!(is_signed(arrived, SECRET));
    let own = world.value("select secret from restante.endpoint where name like 'callback-%'").await;
    let [arrived] = &other.arrived()[..] else { panic!("one") };
    assert_eq!(arrived.path(), "/own");
    assert!(is_signed(arrived, &own));
}

#[tokio::test]
async fn every_endpoint_gets_its_notifications_whatever_becomes_of_those_of_the_others() {
    let (world, broken, receiver) = (World::new().await, Receiver::start().await, Receiver::start().await);
    broken.reply_always(Reply::Status(500, "", ""));
    add(&world, "broken", &broken.url("/"), &[]).await;
    add(&world, "sound", &receiver.url("/"), &[]).await;
    for n in 1..=5 {
        enqueue(&world, "order.placed", Some("k"), &format!("{{\"n\":{n}}}")).await;
    }
    work(&world).await;
    assert_eq!(receiver.arrived().len(), 5);
    assert_eq!(broken.arrived().len(), 1, "the others wait for the first of their key");
    assert_eq!(
        world
            .value("select string_agg(distinct status, ' ') from restante.outbox where type = 'order.placed'")
            .await,
        "ignored"
    );
}
