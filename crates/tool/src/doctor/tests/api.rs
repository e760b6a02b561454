//! The way to the API, broken.

use restante_playground::{Answer, ScriptedApi};

use super::stand_ins::with_certificate_of_nobody;
use super::{Environment, Subject};

/// An environment for a worker whose API is at this place.
async fn calling(base_url: &str) -> Environment {
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    let environment = Environment::new().await.about(Some(Subject::Worker));
    environment.with("ANTHROPIC_API_KEY", "hush-key").with("ANTHROPIC_BASE_URL", base_url)
}

async fn answering(answer: Answer) -> (ScriptedApi, Environment) {
    let api = ScriptedApi::new().await;
    api.answer_all(Some(answer));
    let environment = calling(&api.origin).await;
    (api, environment)
}

#[tokio::test]
async fn a_key_that_the_api_refuses() {
    let (_api, environment) = answering(Answer::refusal(401, "authentication_error", "")).await;

    environment.is_told_to("api", "401 authentication_error", "give a valid key of the workspace").await;
}

#[tokio::test]
async fn a_base_url_that_redirects() {
    let (_api, environment) = answering(Answer::redirect(301, "https://other.example/")).await;

    environment.is_told_to("api", "the answer was a redirect (301)", "check ANTHROPIC_BASE_URL").await;
}

#[tokio::test]
async fn a_base_url_of_another_server() {
    let page = Answer::new(200, "content-type: text/html\r\ncontent-length: 6\r\n", "<html>");
    let (_api, environment) = answering(page).await;

    environment.is_told_to("api", "the answer is not", "check ANTHROPIC_BASE_URL").await;
}

#[tokio::test]
async fn an_api_that_nobody_answers_for() {
    let environment = calling("http://127.0.0.1:1").await;

    environment.is_told_to("api", "the connection to the API failed", "that this machine may connect").await;
}

#[tokio::test]
async fn a_proxy_that_the_environment_names_and_the_worker_does_not_use() {
    let environment = calling("http://127.0.0.1:1").await.with("HTTPS_PROXY", "http://u:hush@proxy.example");

    let to_do = "HTTPS_PROXY is set, and is not used: name the proxy as `proxy` of the account";
    environment.is_told_to("api", "the connection to the API failed", to_do).await;
}

#[tokio::test]
async fn an_api_with_a_certificate_that_this_machine_does_not_trust() {
    let address = with_certificate_of_nobody().await;
    let environment = calling(&format!("https://{address}")).await;

    environment.is_told_to("api", "certificate", "give this machine the certificates of the authority").await;
}

#[tokio::test]
async fn a_machine_whose_clock_is_an_hour_behind_that_of_the_api() {
    let ahead = (chrono::Utc::now() + chrono::TimeDelta::hours(1)).format("%a, %d %b %Y %H:%M:%S GMT");
    let (_api, environment) =
        answering(Answer::refusal(404, "not_found_error", &format!("date: {ahead}\r\n"))).await;

    environment.is_told_to("clock", "the API's clock and this machine's differ by 3", "run NTP").await;
}
