//! Two workspaces and another company's sender, through the real programs and one configuration file.

use std::time::Instant;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::api::{Answer, ScriptedApi};
use crate::support::sender::signing_key_of;
use crate::support::{Delivery, Process, Sender, World, eventually};

const STAGING_OLD: &[u8] = b"canary: the old key of staging...";
const STAGING_NEW: &[u8] = b"canary: the new key of staging...";
const OPENAI: &[u8] = b"canary: the key of another one...";

/// The programs with their file, and the API of each account.
struct Company {
    world: World,
    folder: TempDir,
    production: ScriptedApi,
    staging: ScriptedApi,
    ingest: Process,
    worker: Process,
    sender: Sender,
}

impl Company {
    async fn open() -> Self {
        let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
        let (production, staging) = (ScriptedApi::new().await, ScriptedApi::new().await);
        let put = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        put("staging-signing", &signing_key_of(STAGING_OLD));
        put("openai-signing", &signing_key_of(OPENAI));
        put("staging-api", "sk-ant-canary-of-staging");
        put(
            "restante.toml",
            &format!(
                "[sender.staging]\nsigning_keys_file = \"staging-signing\"\naccount = \"staging\"\n\
                 [sender.openai]\nsigning_keys_file = \"openai-signing\"\ntype_prefix = \"openai.\"\n\
                 [account.staging]\napi_key_file = \"staging-api\"\nbase_url = \"{}\"\n",
                staging.origin
            ),
        );
        let file = folder.path().join("restante.toml").to_str().unwrap().to_owned();
        let ingest = Process::ingest(&world.url, &[("RESTANTE_CONFIG", &file)]).await;
        let own = [("RESTANTE_CONFIG", file.as_str()), ("ANTHROPIC_API_KEY", "sk-ant-canary-of-production")];
        let worker = Process::worker(&world.url, &production.origin, &own).await;
        let sender = Sender::to(ingest.address());
        Self { world, folder, production, staging, ingest, worker, sender }
    }

    /// An event of a session that both workspaces have.
    fn session(event_id: &str, number: usize) -> Value {
        json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z",
                "data": { "type": "session.updated", "id": format!("sesn_{number}") } })
    }

    async fn post(&self, name: &str, delivery: &Delivery) -> u16 {
        self.sender.post_at(&format!("/webhooks/{name}"), delivery).await.unwrap().status
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_is_verified_fetched_and_stored_under_its_own_workspace_while_a_key_is_rotated() {
    const EVENTS: usize = 60;
    let mut company = Company::open().await;
    for number in 0..EVENTS {
        let path = format!("/v1/sessions/sesn_{number}");
        for (api, of) in [(&company.production, "production"), (&company.staging, "staging")] {
            api.answer(
                &path,
                Answer::json(&json!({ "type": "session", "id": format!("sesn_{number}"), "title": of })),
            );
        }
    }
    let rotated = [signing_key_of(STAGING_OLD), signing_key_of(STAGING_NEW)].join(" ");

    for number in 0..EVENTS {
        let event_id = format!("whe_{number}");
        let body = Company::session(&event_id, number).to_string();
        let of_openai = json!({ "id": event_id, "object": "event", "created_at": 1_793_534_400, "type": "batch.completed",
                                "data": { "id": format!("sesn_{number}") } });
        let openai = Delivery::signed_with(OPENAI, &event_id, of_openai.to_string());
        let key = if number < EVENTS / 2 { STAGING_OLD } else { STAGING_NEW };
        let staging = Delivery::signed_with(key, &event_id, body.clone());
        if number == EVENTS / 2 {
            std::fs::write(company.folder.path().join("staging-signing"), &rotated).unwrap();
            eventually("the new key counts", async || {
                (company.post("staging", &staging).await == 204).then_some(())
            })
            .await;
        }

        assert_eq!(company.post("anthropic", &Delivery::new(&event_id, body)).await, 204);
        assert_eq!(company.post("staging", &staging).await, 204);
        assert_eq!(company.post("openai", &openai).await, 204);
        // Nobody gets in with the key of another.
        assert_eq!(company.post("anthropic", &staging).await, 401);
        assert_eq!(company.post("openai", &staging).await, 401);
        assert_eq!(company.post("staging", &openai).await, 401);
    }
    let world = &company.world;
    eventually("all of them are dealt with", async || {
        let open =
            "select count(*) from restante.outbox where source = 'webhook' and finished_at = 'infinity'";
        (world.value(open).await == "0").then_some(())
    })
    .await;

    let stored = "select string_agg(concat_ws(' ', sender, coalesce(account, '-'), type, status, n), ', ' order by sender)
                    from (select sender, account, type, status, count(*) as n from restante.outbox where source = 'webhook'
                           group by 1, 2, 3, 4) as s";
    assert_eq!(
        world.value(stored).await,
        "anthropic anthropic session.updated done 60, openai - openai.batch.completed ignored 60, \
         staging staging session.updated done 60"
    );
    let kept = "select string_agg(concat_ws(' ', account, title, n), ', ' order by account)
                  from (select account, body->>'title' as title, count(*) as n from restante.resource group by 1, 2) as r";
    assert_eq!(world.value(kept).await, "anthropic production 60, staging staging 60");
    for (api, own) in [(&company.production, "canary-of-production"), (&company.staging, "canary-of-staging")]
    {
        let requests = api.requests();
        assert!(requests.len() >= EVENTS, "{own}");
        for request in requests {
            assert_eq!(
                (request.matches("canary").count(), request.matches(own).count()),
                (1, 1),
                "{request}"
            );
        }
    }
    for process in [&mut company.ingest, &mut company.worker] {
        assert_eq!(process.stopped().await, Some(0), "{}", process.log());
        assert!(!process.log().contains("canary") && !process.log().contains("whsec_"), "{}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_in_trouble_is_no_trouble_of_another() {
    let company = Company::open().await;
    for number in 0..100 {
        let answer = json!({ "type": "session", "id": format!("sesn_{number}") });
        company.production.answer(&format!("/v1/sessions/sesn_{number}"), Answer::json(&answer));
    }
    let done = async |first: usize, last: usize| {
        let began = Instant::now();
        for number in first..last {
            let event_id = format!("whe_{number}");
            let body = Company::session(&event_id, number % 100).to_string();
            assert_eq!(company.post("anthropic", &Delivery::new(&event_id, body)).await, 204);
            let status = format!(
                "select coalesce(min(status::text), '') from restante.outbox where event_id = '{event_id}' and sender = 'anthropic'"
            );
            eventually("it is done", async || (company.world.value(&status).await == "done").then_some(()))
                .await;
        }
        began.elapsed() / u32::try_from(last - first).unwrap()
    };
    let calm = done(0, 30).await;
    company.staging.answer_all(Some(Answer::refusal(401, "authentication_error", "")));
    for number in 0..300 {
        let event_id = format!("whe_{number}");
        let body = Company::session(&event_id, number).to_string();
        assert_eq!(company.post("staging", &Delivery::signed_with(STAGING_OLD, &event_id, body)).await, 204);
    }

    let beside = done(30, 60).await;

    println!(
        "an event is done after {calm:?} in the calm, and after {beside:?} beside 300 events in trouble"
    );
    // Those that were not tried before the breaker opened are pending.
    let waiting = "select count(*) from restante.outbox
                    where sender = 'staging' and status in ('pending', 'retry') and attempt = 0";
    eventually("the others wait, and nothing is counted", async || {
        (company.world.value(waiting).await == "300").then_some(())
    })
    .await;
}
