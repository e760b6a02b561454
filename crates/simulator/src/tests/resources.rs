//! Objects of all kinds, their lists, and the webhooks of their changes.

use reqwest::Method;
use serde_json::{Value, json};

use super::super::kinds::KINDS;
use super::webhooks::{Receiver, delivering_to};
use super::world::{World, at_once};

/// The types and ids of the next webhooks, sorted, because deliveries can overtake each other.
async fn told(receiver: &mut Receiver, count: usize) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for _ in 0..count {
        let data = receiver.next().await.1["data"].clone();
        told.push((data["type"].as_str().unwrap().to_owned(), data["id"].as_str().unwrap().to_owned()));
    }
    told.sort();
    told
}

#[tokio::test]
async fn every_kind_can_be_kept_read_and_lost() {
    let world = World::new(at_once()).await;

    for kind in &KINDS {
        let mut fields = json!({"type": kind.name});
        if let Some(parent) = kind.parent {
            fields[parent] = json!("parent_1");
        }
        let kept = world.post("/_simulator/resources", fields).await;
        let id = kept["id"].as_str().unwrap();
        let collection = kind.path.replace("{parent}", "parent_1");
        assert!(id.starts_with(kind.prefix));
        assert_eq!(world.get(&format!("{collection}/{id}")).await, kept);
        assert_eq!(world.get(&collection).await["data"], json!([kept]));
        world.call(Method::DELETE, &format!("/_simulator/resources/{id}"), None).await;
        assert_eq!(world.call(Method::GET, &format!("{collection}/{id}"), None).await.0, 404);
    }
}

#[tokio::test]
async fn each_kind_has_an_example_that_nobody_made_until_it_is_deleted() {
    let world = World::new(at_once()).await;

    for kind in KINDS.iter().filter(|kind| kind.parent.is_none()) {
        assert_eq!(world.get(kind.path).await["data"], json!([]), "no list has it before it is asked for");
        let path = format!("{}/{}example", kind.path, kind.prefix);
        assert_eq!(world.get(&path).await["type"], kind.name);
        world.call(Method::DELETE, &format!("/_simulator/resources/{}example", kind.prefix), None).await;
        assert_eq!(world.call(Method::GET, &path, None).await.0, 404, "{path}");
    }
    assert_eq!(world.call(Method::GET, "/v1/sessions/sesn_other", None).await.0, 404);
}

#[tokio::test]
async fn a_vault_takes_its_credentials_along_and_each_says_so() {
    let mut receiver = Receiver::new(vec![]).await;
    let world = World::new(delivering_to(&receiver)).await;
    let vault =
        world.post("/v1/vaults", json!({"display_name": "keys"})).await["id"].as_str().unwrap().to_owned();
    let auth = json!({"type": "static_bearer", "mcp_server_url": "https://mcp.example", "token": "hush"});
    let credentials = format!("/v1/vaults/{vault}/credentials");
    let credential = world.post(&credentials, json!({"auth": auth})).await;
    let id = credential["id"].as_str().unwrap().to_owned();

    let created = told(&mut receiver, 2).await;
    world.post(&format!("/v1/vaults/{vault}/archive"), json!({})).await;
    let archived = told(&mut receiver, 2).await;
    let (_, deleted) = world.call(Method::DELETE, &format!("/v1/vaults/{vault}"), None).await;
    let gone = told(&mut receiver, 2).await;

    let both = |change: &str| {
        vec![(format!("vault.{change}"), vault.clone()), (format!("vault_credential.{change}"), id.clone())]
    };
    assert!(!credential.to_string().contains("hush"));
    assert_eq!((created, archived, gone), (both("created"), both("archived"), both("deleted")));
    assert_eq!(deleted, json!({"id": vault, "type": "vault_deleted"}));
}

#[tokio::test]
async fn an_update_that_changes_nothing_is_no_event() {
    let mut receiver = Receiver::new(vec![]).await;
    let world = World::new(delivering_to(&receiver)).await;
    let agent = world.post("/v1/agents", json!({"name": "a", "metadata": {"x": "1"}})).await;
    let path = format!("/v1/agents/{}", agent["id"].as_str().unwrap());

    let same = world.post(&path, json!({"name": "a"})).await;
    let changed = world.post(&path, json!({"metadata": {"x": null, "y": "2"}})).await;
    world.post(&format!("{path}/archive"), json!({})).await;
    let told = told(&mut receiver, 3).await;

    assert_eq!(same, agent);
    assert_eq!((&changed["version"], &changed["metadata"]), (&json!(2), &json!({"y": "2"})));
    let kinds: Vec<&str> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["agent.archived", "agent.created", "agent.updated"]);
}

#[tokio::test]
async fn archived_objects_are_listed_only_when_asked_for() {
    let world = World::new(at_once()).await;
    let store = world.post("/v1/memory_stores", json!({"name": "m"})).await;
    world.post(&format!("/v1/memory_stores/{}/archive", store["id"].as_str().unwrap()), json!({})).await;

    assert_eq!(world.get("/v1/memory_stores").await["data"], json!([]));
    assert_eq!(world.get("/v1/memory_stores?include_archived=true").await["data"][0]["id"], store["id"]);
}

#[tokio::test]
async fn without_its_beta_header_a_path_does_not_exist() {
    let world = World::new(at_once()).await;
    let get = |path: &str| {
        let request = world.client.get(format!("{}{path}", world.origin));
        request.header("x-api-key", "k").header("anthropic-version", "2026-10-21").send()
    };

    assert_eq!(get("/v1/vaults").await.unwrap().status(), 404);
    assert_eq!(get("/v1/user_profiles").await.unwrap().status(), 200);
}

#[tokio::test]
async fn only_runs_by_schedule_are_told() {
    let mut receiver = Receiver::new(vec![]).await;
    let world = World::new(delivering_to(&receiver)).await;
    let id =
        world.post("/v1/deployments", json!({"name": "nightly"})).await["id"].as_str().unwrap().to_owned();

    let by_hand = world.post(&format!("/v1/deployments/{id}/run"), json!({})).await;
    let failed = json!({"error": "session_rate_limited_error"});
    let failed = world.post(&format!("/_simulator/deployments/{id}/run"), failed).await;
    let paused = world.post(&format!("/v1/deployments/{id}/pause"), json!({})).await;
    let told = told(&mut receiver, 5).await;
    let listed = world.get(&format!("/v1/deployment_runs?deployment_id={id}&has_error=true")).await;

    let run = failed["id"].as_str().unwrap();
    assert!(by_hand["error"].is_null());
    assert_eq!(paused["paused_reason"], json!({"type": "manual"}));
    assert_eq!(listed["data"], json!([failed]));
    let by_hand = by_hand["session_id"].as_str().unwrap();
    let expected = [
        ("deployment.created", &*id),
        ("deployment.paused", &*id),
        ("deployment_run.failed", run),
        ("deployment_run.started", run),
        ("session.created", by_hand),
    ];
    assert_eq!(told, expected.map(|(kind, id)| (kind.to_owned(), id.to_owned())));
}

#[tokio::test]
async fn a_page_that_is_no_cursor_is_refused() {
    let world = World::new(at_once()).await;

    let (status, answer) = world.call(Method::GET, "/v1/agents?page=nonsense", None).await;

    assert_eq!((status, &answer["error"]["type"]), (400, &Value::from("invalid_request_error")));
}

/// The ids of all pages of a list, and how many pages there were.
async fn listed(world: &World, path: &str) -> (Vec<Value>, usize) {
    let (mut ids, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = world.get(&format!("{path}?limit=2{cursor}")).await;
        pages += 1;
        ids.extend(page["data"].as_array().unwrap().iter().map(|object| object["id"].clone()));
        cursor = match (page["next_page"].as_str(), page["has_more"] == true) {
            (Some(next), _) => format!("&page={next}"),
            (None, true) => format!("&after_id={}", page["last_id"].as_str().unwrap()),
            (None, false) => return (ids, pages),
        };
    }
}

#[tokio::test]
async fn every_kind_is_listed_with_either_cursor_and_over_empty_pages() {
    let world = World::new(at_once()).await;

    for kind in &KINDS {
        let mut fields = json!({"type": kind.name});
        if let Some(parent) = kind.parent {
            fields[parent] = json!("parent_1");
        }
        for _ in 0..5 {
            world.post("/_simulator/resources", fields.clone()).await;
        }
        let path = kind.path.replace("{parent}", "parent_1");
        let (ids, pages) = listed(&world, &path).await;
        assert_eq!((ids.len(), pages), (5, 3), "{}", kind.name);

        world.post("/_simulator/faults", json!({"empty_pages": true})).await;
        assert_eq!(listed(&world, &path).await, (ids.clone(), 5), "{}", kind.name);
        world.post("/_simulator/faults", json!({"empty_pages": false, "lists_by_id": true})).await;
        assert_eq!(listed(&world, &path).await, (ids, 3), "{}", kind.name);
        world.post("/_simulator/faults", json!({"lists_by_id": false})).await;
    }
}

#[tokio::test]
async fn as_many_cursors_as_asked_for_are_refused() {
    let world = World::new(at_once()).await;
    for _ in 0..2 {
        world.post("/v1/vaults", json!({})).await;
    }
    let next = world.get("/v1/vaults?limit=1").await["next_page"].as_str().unwrap().to_owned();
    world.post("/_simulator/faults", json!({"cursors_refused": 1})).await;

    let path = format!("/v1/vaults?limit=1&page={next}");
    let statuses =
        [world.call(Method::GET, &path, None).await.0, world.call(Method::GET, &path, None).await.0];

    assert_eq!(statuses, [400, 200]);
}
