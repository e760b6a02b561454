//! Batches, from their creation to their results.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::{Outcome, Shares};
use super::world::{SEED, World, at_once};

fn item(custom_id: &str) -> Value {
    let message = json!({"role": "user", "content": "hello"});
    json!({"custom_id": custom_id, "params": {"model": "claude-opus-5-5", "max_tokens": 9, "messages": [message]}})
}

async fn lines(world: &World, id: &str) -> Vec<Value> {
    let response = world.send(Method::GET, &format!("/v1/messages/batches/{id}/results"), None).await;
    assert_eq!(response.headers()["content-type"], "application/x-jsonl");
    let text = response.text().await.unwrap();
    text.split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_batch_has_the_outcomes_that_its_seed_foretells() {
    let settings = at_once();
    let shares = settings.shares;
    let world = World::new(settings).await;

    let made = world.post("/_simulator/batches", json!({"requests": 1000, "custom_id_prefix": "r-"})).await;
    let id = made["id"].as_str().unwrap();
    let ended = world.get(&format!("/v1/messages/batches/{id}")).await;
    let lines = lines(&world, id).await;

    let foretold = |outcome: Outcome| {
        (0..1000).filter(|n| shares.outcome(SEED, &format!("r-{n:06}")) == outcome).count()
    };
    assert_eq!(made["processing_status"], "in_progress");
    assert_eq!(made["request_counts"]["processing"], 1000);
    assert_eq!(ended["processing_status"], "ended");
    for (name, outcome) in [
        ("succeeded", Outcome::Succeeded),
        ("errored", Outcome::Errored),
        ("canceled", Outcome::Canceled),
        ("expired", Outcome::Expired),
    ] {
        assert_eq!(ended["request_counts"][name], foretold(outcome), "{name}");
        assert_eq!(lines.iter().filter(|line| line["result"]["type"] == name).count(), foretold(outcome));
    }
}

#[tokio::test]
async fn results_come_shuffled_and_each_once() {
    let world = World::new(at_once()).await;
    let made = world.post("/_simulator/batches", json!({"requests": 300})).await;

    let ids: Vec<String> = lines(&world, made["id"].as_str().unwrap())
        .await
        .iter()
        .map(|line| line["custom_id"].to_string())
        .collect();

    let mut sorted = ids.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), 300);
    assert_ne!(sorted, ids);
}

#[tokio::test]
async fn what_is_wrong_with_params_comes_out_in_the_results_two_levels_deep() {
    let mut settings = at_once();
    settings.shares = Shares::FLAWLESS;
    let world = World::new(settings).await;
    let mut wrong = item("b");
    wrong["params"]["max_tokens"] = json!("many");

    let batch = world.post("/v1/messages/batches", json!({"requests": [item("a"), wrong]})).await;
    let lines = lines(&world, batch["id"].as_str().unwrap()).await;

    let result = |id: &str| &lines.iter().find(|line| line["custom_id"] == id).unwrap()["result"];
    assert_eq!(result("a")["message"]["content"][0]["text"].as_str().unwrap().len(), 400);
    assert_eq!(result("b")["error"]["type"], "error");
    assert_eq!(result("b")["error"]["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn a_batch_that_breaks_a_rule_is_refused_at_once() {
    let world = World::new(at_once()).await;
    let refused = [
        json!({"requests": []}),
        json!({"requests": [item("a"), item("a")]}),
        json!({"requests": [item("a b")]}),
        json!({"requests": [item(&"a".repeat(65))]}),
        json!({"requests": [{"custom_id": "a"}]}),
        json!({"requests": [item("a")], "webhook_url": "https://example.com"}),
    ];

    for body in refused {
        let (status, answer) = world.call(Method::POST, "/v1/messages/batches", Some(body)).await;
        assert_eq!((status, &answer["error"]["type"]), (400, &json!("invalid_request_error")), "{answer}");
    }
}

#[tokio::test]
async fn lists_turn_their_pages_in_both_directions() {
    let world = World::new(at_once()).await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.post("/_simulator/batches", json!({"requests": 1})).await["id"].clone());
    }
    let page = async |query: String| {
        let page = world.get(&format!("/v1/messages/batches?{query}")).await;
        let ids: Vec<Value> =
            page["data"].as_array().unwrap().iter().map(|batch| batch["id"].clone()).collect();
        (ids, page["has_more"].as_bool().unwrap())
    };
    let id = |n: usize| ids[n].as_str().unwrap();

    assert_eq!(page("limit=2".into()).await, (vec![ids[4].clone(), ids[3].clone()], true));
    assert!(!page(format!("limit=3&after_id={}", id(3))).await.1);
    assert_eq!(
        page(format!("limit=2&after_id={}", id(2))).await,
        (vec![ids[1].clone(), ids[0].clone()], false)
    );
    assert_eq!(
        page(format!("limit=2&before_id={}", id(1))).await,
        (vec![ids[3].clone(), ids[2].clone()], true)
    );
}

#[tokio::test]
async fn a_cancelled_batch_ends_with_its_requests_cancelled() {
    let mut settings = at_once();
    settings.batch_seconds = 1e6;
    settings.cancel_seconds = 1e6;
    let world = World::new(settings).await;
    let batch = world.post("/v1/messages/batches", json!({"requests": [item("a"), item("b")]})).await;
    let path = format!("/v1/messages/batches/{}", batch["id"].as_str().unwrap());

    let early = world.call(Method::GET, &format!("{path}/results"), None).await;
    let undeletable = world.call(Method::DELETE, &path, None).await;
    let canceling = world.post(&format!("{path}/cancel"), json!({})).await;
    let id = batch["id"].as_str().unwrap();
    let ended = world.post(&format!("/_simulator/batches/{id}/end"), json!({})).await;
    let deleted = world.call(Method::DELETE, &path, None).await;
    let gone = world.call(Method::GET, &path, None).await;

    assert_eq!((early.0, undeletable.0), (400, 400));
    assert_eq!(canceling["processing_status"], "canceling");
    assert_eq!(
        (&canceling["results_url"], &canceling["request_counts"]["processing"]),
        (&Value::Null, &json!(2))
    );
    assert_eq!(ended["request_counts"]["canceled"], 2);
    assert_eq!(ended["results_url"], format!("{}{path}/results", world.origin));
    assert_eq!(deleted, (200, json!({"id": id, "type": "message_batch_deleted"})));
    assert_eq!((gone.0, &gone.1["error"]["type"]), (404, &json!("not_found_error")));
}

#[tokio::test]
async fn results_are_gone_after_29_days() {
    let world = World::new(at_once()).await;
    let old = json!({"requests": 1, "age_seconds": 29 * 86_400});
    let id = world.post("/_simulator/batches", old).await["id"].as_str().unwrap().to_owned();

    let batch = world.get(&format!("/v1/messages/batches/{id}")).await;
    let (status, _) = world.call(Method::GET, &format!("/v1/messages/batches/{id}/results"), None).await;

    assert_eq!((&batch["results_url"], batch["archived_at"].is_string()), (&Value::Null, true));
    assert_eq!(status, 404);
}
