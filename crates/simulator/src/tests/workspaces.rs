//! Several workspaces: each is seen by its own key only, and sends its own webhooks.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::{Settings, Simulator};
use super::world::{World, at_once};

fn settings(workspaces: &[&str]) -> Settings {
    let workspaces = workspaces.iter().map(|workspace| workspace.parse().unwrap()).collect();
    Settings { workspaces, api_key: Some("sk-a".to_owned().into()), ..at_once() }
}

async fn call(world: &World, key: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
    let request = (world.client.request(method, format!("{}{path}", world.origin)))
        .header("x-api-key", key)
        .header("anthropic-version", "2023-06-01")
        .json(body);
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test]
async fn each_key_sees_its_own_workspace_only() {
    let world = World::new(settings(&["staging:sk-b"])).await;
    let mut ids = Vec::new();
    for key in ["sk-a", "sk-b"] {
        let (status, batch) =
            call(&world, key, Method::POST, "/_simulator/batches", &json!({ "requests": 1 })).await;
        assert_eq!(status, 200);
        ids.push(batch["id"].as_str().unwrap().to_owned());
    }

    for (nth, key) in ["sk-a", "sk-b"].into_iter().enumerate() {
        for (other, id) in ids.iter().enumerate() {
            for path in ["", "/results"] {
                let path = format!("/v1/messages/batches/{id}{path}");
                let answer = world.client.get(format!("{}{path}", world.origin));
                let answer = answer.header("x-api-key", key).header("anthropic-version", "2023-06-01");
                let status = answer.send().await.unwrap().status().as_u16();
                assert_eq!(status, if nth == other { 200 } else { 404 }, "{key} {path}");
            }
        }
        let (_, list) = call(&world, key, Method::GET, "/v1/messages/batches", &json!(null)).await;
        assert_eq!((&list["data"][0]["id"], list["data"].as_array().unwrap().len()), (&json!(ids[nth]), 1));
    }
    let (status, _) = call(&world, "sk-c", Method::GET, "/v1/messages/batches", &json!(null)).await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn a_workspace_has_faults_and_an_id_of_its_own() {
    let world = World::new(settings(&["staging:sk-b"])).await;
    let faults = json!({ "overloaded_share": 1.0 });
    call(&world, "sk-b", Method::POST, "/_simulator/faults", &faults).await;

    let list = "/v1/messages/batches";
    assert_eq!(call(&world, "sk-b", Method::GET, list, &json!(null)).await.0, 529);
    assert_eq!(call(&world, "sk-a", Method::GET, list, &json!(null)).await.0, 200);
    for (key, id) in [("sk-a", "wrkspc_01simulated"), ("sk-b", "wrkspc_01staging")] {
        let request = world.client.get(format!("{}{list}", world.origin)).header("x-api-key", key);
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["anthropic-workspace-id"], id);
    }
}

#[tokio::test]
async fn webhooks_of_a_workspace_go_to_its_own_address_with_its_own_key() {
    let heard = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let hear = {
        let heard = heard.clone();
        move |uri: axum::http::Uri, headers: axum::http::HeaderMap, body: axum::body::Bytes| async move {
            heard.lock().unwrap().push((uri.path().to_owned(), headers, body));
        }
    };
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(hear)).await.unwrap() });
    let keys = ["whsec_Zmlyc3QgZmlyc3QgZmlyc3QgZmlyc3Q=", "whsec_c2Vjb25kIHNlY29uZCBzZWNvbmQgc2U="];
    let workspace = format!("staging:sk-b:{origin}/webhooks/staging:{}", keys[1]);
    let mut settings = settings(&[&workspace]);
    settings.webhook_url = Some(format!("{origin}/webhook"));
    settings.signing_key = Some(keys[0].to_owned().into());
    let world = World::new(settings).await;

    for key in ["sk-a", "sk-b"] {
        let event =
            json!({ "type": "session.updated", "id": "sesn_example", "event_id": format!("whe_{key}") });
        assert_eq!(call(&world, key, Method::POST, "/_simulator/events", &event).await.0, 200);
    }
    while heard.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }

    let mut heard = heard.lock().unwrap().clone();
    heard.sort_by_key(|(path, ..)| path.clone());
    for (nth, (path, headers, body)) in heard.iter().enumerate() {
        assert_eq!(path, ["/webhook", "/webhooks/staging"][nth]);
        let event_id = headers["webhook-id"].to_str().unwrap();
        assert_eq!(event_id, ["whe_sk-a", "whe_sk-b"][nth]);
        let timestamp = headers["webhook-timestamp"].to_str().unwrap().parse().unwrap();
        let signed = super::super::sign::standard(&keys[nth].to_owned().into(), event_id, timestamp, body);
        let (_, signature) =
            signed.unwrap().into_iter().find(|(name, _)| *name == "webhook-signature").unwrap();
        assert_eq!(headers["webhook-signature"], signature);
        let body: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(body["data"]["workspace_id"], ["wrkspc_01simulated", "wrkspc_01staging"][nth]);
    }
}

#[tokio::test]
async fn two_workspaces_of_one_key_are_refused() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let simulator = Simulator::new(settings(&["staging:sk-a"]));
    let error = simulator.serve(listener, tokio_util::sync::CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "two workspaces have the same API key");
}
