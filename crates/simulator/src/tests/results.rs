//! Downloads of results, whole and cut.

use futures_util::StreamExt;
use reqwest::Method;
use serde_json::json;

use super::super::Shares;
use super::world::{World, at_once};

#[tokio::test]
async fn a_hundred_thousand_results_arrive_whole() {
    let mut settings = at_once();
    settings.text_bytes = 100;
    let world = World::new(settings).await;
    let made = world.post("/_simulator/batches", json!({"requests": 100_000})).await;
    let path = format!("/v1/messages/batches/{}/results", made["id"].as_str().unwrap());

    let mut stream = world.send(Method::GET, &path, None).await.bytes_stream();
    let mut lines = 0;
    while let Some(piece) = stream.next().await {
        lines += piece.unwrap().iter().filter(|&&byte| byte == b'\n').count();
    }

    assert_eq!(lines, 100_000);
}

#[tokio::test]
async fn a_download_is_cut_once_and_the_next_one_is_whole() {
    let mut settings = at_once();
    settings.faults.results_cut_lines = Some(3);
    let world = World::new(settings).await;
    let made = world.post("/_simulator/batches", json!({"requests": 10})).await;
    let path = format!("/v1/messages/batches/{}/results", made["id"].as_str().unwrap());

    let mut stream = world.send(Method::GET, &path, None).await.bytes_stream();
    let piece = stream.next().await.unwrap().unwrap();
    let error = stream.next().await.unwrap();
    let whole = world.send(Method::GET, &path, None).await.text().await.unwrap();

    assert_eq!(piece.iter().filter(|&&byte| byte == b'\n').count(), 3);
    assert!(error.is_err());
    assert_eq!(whole.lines().count(), 10);
}

#[tokio::test]
async fn a_quiet_cut_at_a_byte_looks_like_the_end() {
    let mut settings = at_once();
    (settings.faults.results_cut_bytes, settings.faults.results_cut_quietly) = (Some(1000), true);
    let world = World::new(settings).await;
    let made = world.post("/_simulator/batches", json!({"requests": 10})).await;
    let path = format!("/v1/messages/batches/{}/results", made["id"].as_str().unwrap());

    let cut = world.send(Method::GET, &path, None).await.bytes().await.unwrap();

    assert_eq!(cut.len(), 1000);
}

#[tokio::test]
async fn results_can_be_said_to_lie_elsewhere() {
    let mut settings = at_once();
    settings.faults.results_origin = Some("http://evil.example".to_owned());
    settings.faults.results_redirect = Some("http://evil.example/results".to_owned());
    let world = World::new(settings).await;
    let id =
        world.post("/_simulator/batches", json!({"requests": 1})).await["id"].as_str().unwrap().to_owned();

    let batch = world.get(&format!("/v1/messages/batches/{id}")).await;
    let redirect = world.send(Method::GET, &format!("/v1/messages/batches/{id}/results"), None).await;

    assert_eq!(batch["results_url"], format!("http://evil.example/v1/messages/batches/{id}/results"));
    assert_eq!(
        (redirect.status().as_u16(), &redirect.headers()["location"]),
        (302, &"http://evil.example/results".parse().unwrap())
    );
}

#[tokio::test]
async fn a_result_can_be_huge() {
    let mut settings = at_once();
    (settings.shares, settings.huge_share, settings.huge_text_bytes) = (Shares::FLAWLESS, 1.0, 1 << 20);
    let world = World::new(settings).await;
    let made = world.post("/_simulator/batches", json!({"requests": 2})).await;
    let path = format!("/v1/messages/batches/{}/results", made["id"].as_str().unwrap());

    let results = world.send(Method::GET, &path, None).await.text().await.unwrap();

    assert!(results.lines().all(|line| line.len() > 1 << 20));
}
