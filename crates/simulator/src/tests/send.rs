//! One event sent by hand.

use clap::Parser;
use serde_json::json;

use super::super::send::{self, Error, SendArgs};
use super::super::sign;
use super::webhooks::{KEY, Receiver};

#[derive(Parser)]
struct Send {
    #[command(flatten)]
    args: SendArgs,
}

fn args(receiver: &Receiver) -> SendArgs {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let line =
        ["send", "--url", &receiver.url, "--signing-key", KEY, "--type", "vault.created", "--id", "vlt_1"];
    Send::parse_from(line).args
}

#[tokio::test]
async fn an_event_is_sent_with_the_signature_of_its_bytes() {
    let mut receiver = Receiver::new(vec![]).await;

    send::run(args(&receiver)).await.unwrap();
    let (headers, body) = receiver.next_bytes().await;

    let header = |name: &str| headers[name].to_str().unwrap();
    let timestamp = header("webhook-timestamp").parse().unwrap();
    let signed = sign::standard(&KEY.to_owned().into(), header("webhook-id"), timestamp, &body).unwrap();
    let event: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(signed[2].1, header("webhook-signature"));
    assert_eq!(event["data"], json!({"type": "vault.created", "id": "vlt_1"}));
}

#[tokio::test]
async fn an_answer_that_is_no_2xx_is_an_error() {
    for status in [401, 308] {
        let receiver = Receiver::new(vec![status]).await;

        let error = send::run(args(&receiver)).await.unwrap_err();

        assert!(matches!(error, Error::Refused(refused) if refused.as_u16() == status));
    }
}
