//! The configuration file: several senders and accounts, and what changes while the programs run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};

use secrecy::ExposeSecret;
use serde_json::json;
use tempfile::TempDir;

use crate::support::api::{Answer, ScriptedApi};
use crate::support::processes::{INGEST, WORKER, tool};
use crate::support::sender::{envelope, signing_key, signing_key_of};
use crate::support::{Delivery, Process, Sender, World, eventually};

const ONE: &[u8] = b"the first key of the first sender";
const TWO: &[u8] = b"the second key of the first one..";
const OTHER: &[u8] = b"the key of another sender, again.";

/// The folder of a configuration file.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a file in the place of another one, as those do who must not be read half-way.
    fn put(&self, name: &str, text: &str) {
        let beside = self.path("beside");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, self.path(name)).unwrap();
    }

    fn config(&self) -> String {
        self.path("restante.toml").to_str().unwrap().to_owned()
    }
}

fn delivery(key: &[u8], event_id: &str) -> Delivery {
    Delivery::signed_with(key, event_id, envelope(event_id, "thing.happened", ""))
}

async fn status(sender: &Sender, path: &str, delivery: &Delivery) -> u16 {
    sender.post_at(path, delivery).await.unwrap().status
}

fn hang_up(process: &Process) {
    let pid = process.pid().to_string();
    assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sender_is_verified_at_its_own_path_by_its_own_keys() {
    let world = World::new().await;
    let folder = Folder::new();
    folder.put("one-keys", &signing_key_of(ONE));
    folder.put(
        "restante.toml",
        "[sender.one]\nsigning_keys_file = \"one-keys\"\ntype_prefix = \"one.\"\n\
         [sender.other]\nsigning_keys_env = \"OTHER_KEYS\"\ntype_prefix = \"other.\"\n",
    );
    let other_keys = signing_key_of(OTHER);
    let more = [("RESTANTE_CONFIG", folder.config()), ("OTHER_KEYS", other_keys)];
    let more: Vec<_> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let ingest = Process::ingest(&world.url, &more).await;
    let sender = Sender::to(ingest.address());

    for (path, key, expected) in [
        ("/webhooks/one", ONE, 204),
        ("/webhooks/one", OTHER, 401),
        ("/webhooks/other", OTHER, 204),
        ("/webhooks/other", ONE, 401),
        ("/webhooks/anthropic", ONE, 401),
        ("/webhook", OTHER, 401),
        ("/webhooks/nobody", ONE, 404),
    ] {
        assert_eq!(status(&sender, path, &delivery(key, "evt_1")).await, expected, "{path}");
    }
    let of_environment = Delivery::event("evt_1", "thing.happened", "");
    assert_eq!(status(&sender, "/webhooks/anthropic", &of_environment).await, 204);
    assert_eq!(status(&sender, "/webhooks/one", &of_environment).await, 401);

    let types = "select string_agg(type, ' ' order by type) from restante.outbox where type like '%.thing.%'";
    assert!(world.value(types).await.starts_with("one.thing.happened"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_of_a_key_file_under_traffic_refuses_nobody_who_has_a_key_of_the_file() {
    let world = World::new().await;
    let folder = Folder::new();
    folder.put("keys", &signing_key_of(ONE));
    folder.put("restante.toml", "[sender.one]\nsigning_keys_file = \"keys\"\ntype_prefix = \"one.\"\n");
    let ingest = Process::ingest(&world.url, &[("RESTANTE_CONFIG", &folder.config())]).await;
    let sender = Sender::to(ingest.address());
    let path = "/webhooks/one";
    assert_eq!(status(&sender, path, &delivery(TWO, "new_0")).await, 401);

    // Whoever has not heard of the rotation yet.
    let (go_on, refused) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let traffic = tokio::spawn({
        let (sender, go_on, refused) = (sender.clone(), Arc::clone(&go_on), Arc::clone(&refused));
        async move {
            let mut number = 0;
            while go_on.load(SeqCst) {
                number += 1;
                if status(&sender, path, &delivery(ONE, &format!("old_{number}"))).await != 204 {
                    refused.fetch_add(1, SeqCst);
                }
            }
            number
        }
    });
    folder.put("keys", &format!("{}\n{}\n", signing_key_of(TWO), signing_key_of(ONE)));
    eventually("the new key beside the old one", async || {
        (status(&sender, path, &delivery(TWO, "new_1")).await == 204).then_some(())
    })
    .await;
    go_on.store(false, SeqCst);
    let sent: u32 = traffic.await.unwrap();
    assert_eq!((refused.load(SeqCst), sent > 10), (0, true), "{sent}");

    // Now in place, as an editor may write it.
    std::fs::write(folder.path("keys"), signing_key_of(TWO)).unwrap();
    eventually("no old key any more", async || {
        assert_eq!(status(&sender, path, &delivery(TWO, "new_2")).await, 204);
        (status(&sender, path, &delivery(ONE, "old_0")).await == 401).then_some(())
    })
    .await;
    let log = ingest.log();
    assert_eq!(log.matches("restante-ingest uses the configuration as it has changed").count(), 2, "{log}");
    for key in [ONE, TWO] {
        assert!(!log.contains(&signing_key_of(key)[6..]), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_file_is_told_once_and_leaves_the_former_one_in_force() {
    let world = World::new().await;
    let folder = Folder::new();
    folder.put("keys", &signing_key_of(ONE));
    let good = "[sender.one]\nsigning_keys_file = \"keys\"\ntype_prefix = \"one.\"\n";
    folder.put("restante.toml", good);
    let mut ingest = Process::ingest(&world.url, &[("RESTANTE_CONFIG", &folder.config())]).await;
    let sender = Sender::to(ingest.address());
    let told = |ingest: &Process| ingest.log().matches("so the former one stays in force").count();

    folder.put(
        "restante.toml",
        &format!("{good}\n[sender.two]\nsigning_keys_file = \"none\"\ncolour = \"red\"\n"),
    );
    hang_up(&ingest);
    ingest.until_logged("so the former one stays in force").await;
    for said in ["restante.toml:6: sender.two.signing_keys_file", "restante.toml:7: sender.two.colour"] {
        assert!(ingest.log().contains(said), "{said}: {}", ingest.log());
    }
    hang_up(&ingest);
    ingest.until_logged("no file of the configuration has changed").await;
    assert_eq!(told(&ingest), 1, "{}", ingest.log());
    assert_eq!(status(&sender, "/webhooks/one", &delivery(ONE, "evt_1")).await, 204);
    assert_eq!(status(&sender, "/webhooks/two", &delivery(OTHER, "evt_2")).await, 404);

    // A file that is gone is wrong too.
    std::fs::remove_file(folder.path("restante.toml")).unwrap();
    hang_up(&ingest);
    eventually("a word about it", async || (told(&ingest) == 2).then_some(())).await;
    assert_eq!(status(&sender, "/webhooks/one", &delivery(ONE, "evt_3")).await, 204);

    folder.put("other-keys", &signing_key_of(OTHER));
    folder.put("restante.toml", "[sender.two]\nsigning_keys_file = \"other-keys\"\ntype_prefix = \"two.\"\n");
    hang_up(&ingest);
    ingest.until_logged("restante-ingest uses the configuration as it has changed").await;
    assert!(ingest.log().contains("anthropic, two"), "{}", ingest.log());
    assert_eq!(status(&sender, "/webhooks/two", &delivery(OTHER, "evt_2")).await, 204);
    assert_eq!(status(&sender, "/webhooks/one", &delivery(ONE, "evt_1")).await, 404);
    assert_eq!(ingest.stopped().await, Some(0), "{}", ingest.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_a_secret_of_the_environment_is_read_again_too() {
    let world = World::new().await;
    let folder = Folder::new();
    // A link that is moved, as Kubernetes does it.
    for (name, key) in [("old", ONE), ("new", TWO)] {
        folder.put(name, &signing_key_of(key));
    }
    let link = |to: &str| {
        std::os::unix::fs::symlink(folder.path(to), folder.path("link")).unwrap();
        std::fs::rename(folder.path("link"), folder.path("key")).unwrap();
    };
    link("old");
    let key = folder.path("key");
    let variables = [
        ("DATABASE_URL", world.url.expose_secret()),
        ("ANTHROPIC_WEBHOOK_SIGNING_KEY_FILE", key.to_str().unwrap()),
        ("RESTANTE_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_LINGER_SECONDS", "0"),
    ];
    let mut ingest = Process::start(INGEST, &variables);
    ingest.until_logged("receiving deliveries").await;
    let sender = Sender::to(ingest.address());
    assert_eq!(sender.status(&delivery(ONE, "evt_1")).await, 204);

    link("new");

    eventually("the new key", async || (sender.status(&delivery(TWO, "evt_2")).await == 204).then_some(()))
        .await;
    assert_eq!(sender.status(&delivery(ONE, "evt_3")).await, 401);
}

/// The keys that the API was asked with since the last call.
fn keys_shown(api: &ScriptedApi) -> BTreeSet<String> {
    let heads = api.take_requests();
    let keys = heads.iter().flat_map(|head| head.lines()).filter_map(|line| line.strip_prefix("x-api-key: "));
    keys.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_calls_the_api_with_the_key_that_the_file_of_its_account_has_now() {
    let world = World::new().await;
    let api = ScriptedApi::new().await;
    let folder = Folder::new();
    folder.put("key", "sk-ant-first\n");
    let account = format!("[account.anthropic]\napi_key_file = \"key\"\nbase_url = \"{}\"\n", api.origin);
    folder.put("restante.toml", &account);
    let config = folder.config();
    let variables = [
        ("DATABASE_URL", world.url.expose_secret()),
        ("RESTANTE_CONFIG", config.as_str()),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_RECONCILE_SECONDS", "0"),
    ];
    let mut worker = Process::start(WORKER, &variables);
    worker.until_logged("the worker starts").await;
    let tell_of = async |session: &str| {
        let object = json!({ "type": "session", "id": session });
        api.answer(&format!("/v1/sessions/{session}"), Answer::json(&object));
        let data = json!({ "type": "session.updated", "id": session });
        let event_id = format!("evt_{session}");
        let body =
            json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z", "data": data });
        assert_eq!(world.receive_body(&body).await, 1);
        let done = format!("select status from restante.outbox where event_id = '{event_id}'");
        eventually("the session", async || (world.value(&done).await == "done").then_some(())).await;
    };

    tell_of("sesn_1").await;
    assert_eq!(keys_shown(&api), BTreeSet::from(["sk-ant-first".to_owned()]));

    folder.put("key", "sk-ant-second\n");
    hang_up(&worker);
    worker.until_logged("restante-worker uses the configuration as it has changed").await;
    tell_of("sesn_2").await;
    assert_eq!(keys_shown(&api), BTreeSet::from(["sk-ant-second".to_owned()]));
    let log = worker.log();
    assert!(!log.contains("sk-ant"), "{log}");
    assert_eq!(worker.stopped().await, Some(0), "{log}");
}

#[test]
fn the_hand_tool_shows_what_each_program_has_and_tells_each_fault() {
    let folder = Folder::new();
    folder.put("keys", &signing_key_of(ONE));
    folder.put("api-key", "sk-ant-canary");
    folder.put(
        "restante.toml",
        "[sender.one]\nscheme = \"svix\"\nsigning_keys_file = \"keys\"\naccount = \"second\"\n\
         [account.second]\napi_key_file = \"api-key\"\nworkspace_id = \"wrkspc_01\"\n",
    );
    let run = |arguments: &[&str], config: &Path| {
        let output = Command::new(tool())
            .args(arguments)
            .env_clear()
            .envs([
                ("DATABASE_URL", "postgres://u:hush@localhost/x"),
                ("ANTHROPIC_API_KEY", "sk-ant-canary-2"),
            ])
            .envs([("ANTHROPIC_WEBHOOK_SIGNING_KEY", signing_key())])
            .env("RESTANTE_CONFIG", config)
            .output()
            .unwrap();
        let written = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        for secret in ["canary", "hush", &signing_key()[6..], &signing_key_of(ONE)[6..]] {
            assert!(!written.contains(secret), "{secret} is told in:\n{written}");
        }
        (output.status.success(), written)
    };

    let (is_sound, written) = run(&["config"], &folder.path("restante.toml"));
    assert!(is_sound, "{written}");
    for said in [
        "sender anthropic: /webhooks/anthropic, standard with 1 key, types as they come, account anthropic",
        "sender one: /webhooks/one, svix with 1 key, types as they come, account second",
        "account anthropic: https://api.anthropic.com/, x-api-key, version 2023-06-01",
        "admin key no, workspace wrkspc_01, proxy -",
    ] {
        assert!(written.contains(said), "{said}:\n{written}");
    }

    folder.put("wrong.toml", "[sender.one]\nsigning_key_file = \"keys\"\n");
    let (is_sound, written) = run(&["config"], &folder.path("wrong.toml"));
    assert!(!is_sound, "{written}");
    assert!(
        written.contains("wrong.toml:2: sender.one.signing_key_file: it is no key of a sender"),
        "{written}"
    );
}
