//! The way of the webhooks, broken.

use std::net::SocketAddr;

use restante_playground::{Answer, ScriptedApi};
use sqlx::{Connection, PgConnection};

use super::super::finding::rendered;
use super::stand_ins::{ingest, proxy, with_certificate_of_nobody};
use super::{Environment, Subject};

const SECRET: &str = "a-secret-of-more-than-24-bytes";
const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const KEY_TEXT: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SUBJECT: &str = "public url";

/// An environment for an ingest whose public URL is this.
async fn at(url: &str) -> Environment {
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let environment = Environment::new().await.about(Some(Subject::Ingest));
    environment.with("RESTANTE_PUBLIC_URL", url)
}

fn url_of(address: SocketAddr) -> String {
    format!("http://{address}/webhooks/anthropic")
}

async fn answering(answer: Answer) -> (ScriptedApi, Environment) {
    let api = ScriptedApi::new().await;
    api.answer_all(Some(answer));
    let environment = at(&format!("{}/webhooks/anthropic", api.origin)).await;
    (api, environment)
}

#[tokio::test]
async fn a_public_url_that_is_neither_encrypted_nor_at_the_usual_port_nor_public() {
    let environment = at("http://unused.invalid/").await;
    let (address, _running) = ingest(&environment.admin_url, SECRET, KEY).await;
    for keys in [("ANTHROPIC_WEBHOOK_SECRET", SECRET), ("ANTHROPIC_WEBHOOK_SIGNING_KEY", KEY_TEXT)] {
        let environment = Environment::of(environment.admin_url.clone(), environment.database.clone());
        let environment = environment.with("ANTHROPIC_WEBHOOK_SECRET", "").with(keys.0, keys.1);
        let environment = environment.with("RESTANTE_PUBLIC_URL", &url_of(address));

        environment.is_told_to(SUBJECT, "is http", "terminate TLS").await;
        environment.is_told_to(SUBJECT, "has the port", "listen at port 443").await;
        environment
            .is_told_to(
                SUBJECT,
                "leads to 127.0.0.1, which is no public address",
                "lead to the public address",
            )
            .await;

        // The probe itself passes, and leaves nothing.
        let told = rendered(&environment.examined().await);
        assert!(told.contains("our ingest answers there, and the signature of a probe is valid"), "{told}");
    }
    let mut connection = PgConnection::connect(&environment.admin_url).await.unwrap();
    let left = "select (select count(*) from restante.outbox_seen) + (select count(*) from restante.refusal)";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_public_url_that_redirects() {
    let (_api, environment) =
        answering(Answer::redirect(308, "https://other.example/webhooks/anthropic")).await;

    environment
        .is_told_to(SUBJECT, "a redirect to other.example", "give the URL that is redirected to")
        .await;
}

#[tokio::test]
async fn a_public_url_where_another_server_says_yes_to_everything() {
    let (_api, environment) = answering(Answer::new(200, "content-length: 2\r\n", "ok")).await;

    environment
        .is_told_to(SUBJECT, "answers 200 to a signed probe", "let the proxy pass on /webhooks/ to ingest")
        .await;
}

#[tokio::test]
async fn a_public_url_with_another_path() {
    let (_api, environment) = answering(Answer::new(404, "content-length: 0\r\n", "")).await;

    environment.is_told_to(SUBJECT, "answers 404", "give the URL https://HOST/webhooks/anthropic").await;
}

#[tokio::test]
async fn a_public_url_behind_a_firewall_that_asks_for_more() {
    let (_api, environment) = answering(Answer::new(403, "content-length: 0\r\n", "")).await;

    environment.is_told_to(SUBJECT, "answers 403", "let POST on /webhooks/ through").await;
}

#[tokio::test]
async fn a_public_url_whose_proxy_does_not_reach_ingest() {
    let (_api, environment) = answering(Answer::new(502, "content-length: 0\r\n", "")).await;

    environment.is_told_to(SUBJECT, "answers 502", "look at the log of the proxy").await;
}

#[tokio::test]
async fn a_public_url_that_has_no_address() {
    let environment = at("https://no-such-host.invalid/webhooks/anthropic").await;

    environment.is_told_to(SUBJECT, "has a host without an address", "make an A or AAAA record").await;
}

#[tokio::test]
async fn a_public_url_where_nothing_listens() {
    let environment = at("https://127.0.0.1:1/webhooks/anthropic").await;

    environment.is_told_to(SUBJECT, "gives no answer", "open port 443").await;
}

#[tokio::test]
async fn a_public_url_with_a_certificate_of_nobody() {
    let address = with_certificate_of_nobody().await;
    let environment = at(&format!("https://{address}/webhooks/anthropic")).await;

    environment.is_told_to(SUBJECT, "certificate", "give the proxy a certificate for this very name").await;
}

/// An environment behind a proxy that changes this in each request.
async fn changed(old: &'static str, new: &'static str) {
    let environment = at("http://unused.invalid/").await;
    let (address, _running) = ingest(&environment.admin_url, SECRET, KEY).await;
    let through = proxy(address, old, new).await;
    let environment = environment.with("RESTANTE_PUBLIC_URL", &url_of(through));

    environment.is_told_to(SUBJECT, "answers 401", "let the proxy pass on body and headers unchanged").await;
}

#[tokio::test]
async fn a_proxy_that_changes_the_body() {
    changed("\"note\"", "\"mote\"").await;
}

#[tokio::test]
async fn a_proxy_that_drops_the_header_of_the_signature() {
    changed("anthropic-signature", "dropped-without-say").await;
}

#[tokio::test]
async fn an_ingest_with_another_secret_than_this_environment() {
    let environment = at("http://unused.invalid/").await;
    let (address, _running) =
        ingest(&environment.admin_url, "another-secret-of-more-than-24-bytes", KEY).await;
    let environment = environment.with("RESTANTE_PUBLIC_URL", &url_of(address));

    environment.is_told_to(SUBJECT, "answers 401", "send one past the proxy, with the keys of ingest").await;
}
