//! Several senders: a path and keys for each, and what their events are told apart by.

use secrecy::SecretSlice;

use super::super::fake::FakeStore;
use super::super::{Limits, Sender, Senders};
use super::deliveries::{KEY, body, signature_by};
use super::door::{Door, statuses};
use crate::signature::Keys;

const STAGING: &[u8] = b"the key of another workspace";
const OPENAI: &[u8] = b"the key of another company..";

fn keys(key: &[u8]) -> Vec<SecretSlice<u8>> {
    vec![SecretSlice::from(key.to_vec())]
}

fn three() -> Vec<Sender> {
    let sender = |name: &str, keys: Keys, prefix: &str, account: Option<&str>| Sender {
        name: name.to_owned(),
        keys,
        type_prefix: prefix.to_owned(),
        account: account.map(str::to_owned),
    };
    vec![
        Sender::anthropic(Keys { standard: keys(KEY), ..Keys::default() }),
        sender("staging", Keys { standard: keys(STAGING), ..Keys::default() }, "", Some("staging")),
        sender("openai", Keys { svix: keys(OPENAI), ..Keys::default() }, "openai.", None),
    ]
}

async fn post(door: &Door, path: &str, signature: &str, body: &[u8]) -> Vec<u16> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: restante\r\nconnection: close\r\n{signature}content-length: {length}\r\n\r\n"
    );
    statuses(&door.send([head.as_bytes(), body].concat()).await)
}

#[tokio::test]
async fn a_delivery_is_verified_by_the_keys_and_the_header_names_of_its_path_only() {
    let door = Door::of(Senders::new(three()).0, Limits::default(), FakeStore::new()).await;
    let body = body("whe_1");
    let own = [("anthropic", KEY, "webhook"), ("staging", STAGING, "webhook"), ("openai", OPENAI, "svix")];

    for (name, _, _) in own {
        for (of, key, prefix) in own {
            for prefix in ["webhook", "svix"].into_iter().chain([prefix]) {
                let is_right = name == of && own.contains(&(name, key, prefix));
                for path in [format!("/webhooks/{name}"), format!("/webhooks/{name}/")] {
                    let answer =
                        post(&door, &path, &signature_by(key, prefix, body.as_bytes()), body.as_bytes())
                            .await;
                    assert_eq!(
                        answer,
                        [if is_right { 204 } else { 401 }],
                        "{path} by the key of {of} as {prefix}-*"
                    );
                }
            }
        }
    }
    assert_eq!(door.stored(), ["openai\u{1f}whe_1", "staging\u{1f}whe_1", "whe_1"]);
}

#[tokio::test]
async fn an_event_has_the_name_the_account_and_the_types_of_its_sender() {
    let door = Door::of(Senders::new(three()).0, Limits::default(), FakeStore::new()).await;
    for (name, key, prefix) in [("staging", STAGING, "webhook"), ("openai", OPENAI, "svix")] {
        for body in [body("e1"), "no JSON".to_owned()] {
            let signature = signature_by(key, prefix, body.as_bytes());
            assert_eq!(post(&door, &format!("/webhooks/{name}"), &signature, body.as_bytes()).await, [204]);
        }
    }

    let mut stored: Vec<_> = door
        .store
        .stored()
        .into_values()
        .map(|event| (event.sender, event.account, event.event_type))
        .collect();
    stored.sort();
    let of = |sender: &str, account: Option<&str>, event_type: &str| {
        (sender.to_owned(), account.map(str::to_owned), event_type.to_owned())
    };
    assert_eq!(
        stored,
        [
            of("openai", None, "openai.session.status_idled"),
            of("openai", None, "unreadable"),
            of("staging", Some("staging"), "session.status_idled"),
            of("staging", Some("staging"), "unreadable"),
        ]
    );
}

#[tokio::test]
async fn a_name_that_no_sender_has_is_found_nowhere() {
    let door = Door::of(Senders::new(three()).0, Limits::default(), FakeStore::new()).await;
    for (line, expected) in [
        ("GET /webhooks/staging", 200),
        ("GET /webhooks/openai/", 200),
        ("PUT /webhooks/openai", 405),
        ("GET /webhooks/nobody", 404),
        ("PUT /webhooks/nobody", 404),
        ("POST /webhooks/nobody", 404),
        ("POST /webhooks/Staging", 404),
        ("POST /webhooks/stag%69ng", 404),
        ("POST /webhooks/staging//", 404),
        ("POST /staging-webhook", 404),
    ] {
        let answer =
            door.send(format!("{line} HTTP/1.1\r\nhost: restante\r\nconnection: close\r\n\r\n")).await;
        assert_eq!(statuses(&answer), [expected], "{line}");
    }
}

#[tokio::test]
async fn new_keys_and_new_senders_count_from_the_next_delivery_on() {
    let (senders, replace) = Senders::new(three());
    let door = Door::of(senders, Limits::default(), FakeStore::new()).await;
    let staging = async |key: &[u8]| {
        let body = body("whe_1");
        post(&door, "/webhooks/staging", &signature_by(key, "webhook", body.as_bytes()), body.as_bytes())
            .await
    };
    assert_eq!((staging(STAGING).await, staging(OPENAI).await), (vec![204], vec![401]));

    let mut rotated = three();
    rotated[1].keys.standard = [keys(STAGING), keys(OPENAI)].concat();
    replace.send(rotated.into()).unwrap();
    assert_eq!((staging(STAGING).await, staging(OPENAI).await), (vec![204], vec![204]));

    let mut without = three();
    without.remove(1);
    replace.send(without.into()).unwrap();
    assert_eq!(staging(STAGING).await, [404]);
}
