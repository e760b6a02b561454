//! What ingest reports of its keys: which it has, which a delivery fitted, and which was needed.

use std::time::Duration;

use secrecy::SecretSlice;

use super::super::fake::FakeStore;
use super::super::{Limits, Sender, Senders};
use super::deliveries::{KEY, body, signature_by};
use super::door::{Door, statuses};
use crate::key_use::{Fingerprint, Use};
use crate::signature::Keys;

const OTHER: &[u8] = b"the other key, in rotation";

fn anthropic(keys: &[&[u8]]) -> Sender {
    let standard = keys.iter().map(|key| SecretSlice::from(key.to_vec())).collect();
    Sender::anthropic(Keys { standard, ..Keys::default() })
}

/// Posts a delivery that these keys have signed.
async fn post(door: &Door, keys: &[&[u8]]) -> Vec<u16> {
    let body = body("whe_1");
    let signatures: Vec<String> =
        keys.iter().map(|key| signature_by(key, "webhook", body.as_bytes())).collect();
    // The lines of each are the same but for the signature.
    let lists =
        signatures.iter().filter_map(|lines| lines.rsplit_once("webhook-signature: ")).collect::<Vec<_>>();
    let head = lists[0].0;
    let list: Vec<&str> = lists.iter().map(|(_, signature)| signature.trim_end()).collect();
    let request = format!(
        "POST /webhook HTTP/1.1\r\nhost: restante\r\nconnection: close\r\n{head}webhook-signature: {}\r\ncontent-length: {}\r\n\r\n{body}",
        list.join(" "),
        body.len()
    );
    statuses(&door.send(request).await)
}

/// What was reported of a key in all: whether ingest has it at the end, its uses, and whether it was needed.
fn reported(uses: &[Use], key: &[u8]) -> (bool, i64, bool) {
    let of_key: Vec<&Use> = uses.iter().filter(|used| used.key.fingerprint == Fingerprint::of(key)).collect();
    let is_needed = of_key.iter().any(|used| used.last_needed_at.is_some());
    let is_held = of_key.last().is_some_and(|used| used.is_held);
    (is_held, of_key.iter().map(|used| used.uses).sum(), is_needed)
}

#[tokio::test]
async fn a_delivery_that_both_keys_have_signed_uses_both_and_needs_neither() {
    let limits = Limits { linger: Duration::ZERO, ..Limits::default() };
    let (senders, replace) = Senders::new(vec![anthropic(&[KEY, OTHER])]);
    let door = Door::of(senders, limits, FakeStore::new()).await;

    assert_eq!(post(&door, &[KEY, OTHER]).await, [204]);
    assert_eq!(post(&door, &[OTHER]).await, [204]);
    replace.send_replace([anthropic(&[OTHER])].into());
    assert_eq!(post(&door, &[KEY]).await, [401]);
    let Door { store, stop, running, .. } = door;
    stop.cancel();
    assert!(running.await.unwrap());

    let uses = store.key_uses();
    assert_eq!(reported(&uses, KEY), (false, 1, false));
    assert_eq!(reported(&uses, OTHER), (false, 2, true), "at the stop it has no key any more");
    let had =
        |key: &[u8]| uses.iter().any(|used| used.is_held && used.key.fingerprint == Fingerprint::of(key));
    assert!(had(OTHER));
}
