//! `restante rotate`: from the old key to the new one, step by step, without a delivery that is refused.

use std::io::Write;
use std::process::{Command, Stdio};

use restante::internals::key_use::Fingerprint;
use secrecy::ExposeSecret;

use super::{Folder, NEW, OLD, delivery, ingest_of, no_secret_in, until_loaded};
use crate::support::processes::tool;
use crate::support::sender::signing_key_of;
use crate::support::{Sender, World, eventually};

/// Runs `restante rotate` with these arguments, and this on its standard input. Returns its exit code and what it wrote.
fn rotate(world: &World, folder: &Folder, arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut child = Command::new(tool())
        .arg("rotate")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", world.url.expose_secret())
        .env("ANTHROPIC_WEBHOOK_SIGNING_KEY_FILE", folder.path("keys"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that ends early does not read it.
    let _may_be_unread = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hand_tool_leads_from_the_old_key_to_the_new_one() {
    let world = World::new().await;
    let folder = Folder::new();
    folder.put("keys", &signing_key_of(OLD));
    let [old, new] = [OLD, NEW].map(|key| Fingerprint::of(key).to_string());
    let mut said = String::new();
    let mut step = |arguments: &[&str], input: &str, code: i32, expected: &str| {
        let (ended, written) = rotate(&world, &folder, arguments, input);
        assert!(written.contains(expected), "{expected}:\n{written}");
        assert_eq!(ended, Some(code), "{written}");
        said += &written;
    };

    step(&[], "", 0, "no service has reported a key yet");
    step(&["signing"], "", 3, "no running service has a signing key of anthropic");
    let ingest = ingest_of(&world, &folder, &[]).await;
    let sender = Sender::to(ingest.address());
    until_loaded(&world, &[OLD]).await;
    assert_eq!(sender.status(&delivery(OLD, "evt_1")).await, 204);
    step(&["signing"], "", 3, "next: make a new signing key at the sender anthropic");
    step(&["signing", "--wait"], "", 1, "next: make a new signing key at the sender anthropic");
    step(&["signing", "other"], "", 3, "no running service has a signing key of other");
    step(&["signing", "--new-key-file", "-"], "whsec_canary", 1, "key 1 is");

    step(
        &["signing", "--new-key-file", "-"],
        &format!("{}\n", signing_key_of(NEW)),
        3,
        &format!("has the new key {new} now"),
    );
    until_loaded(&world, &[OLD, NEW]).await;
    step(&["signing", "--new", &new], "", 3, &format!("let the sender anthropic sign with {new}"));
    assert_eq!(sender.status(&delivery(NEW, "evt_2")).await, 204);
    let is_used =
        format!("select last_used_at is not null from restante.key_use where fingerprint = '{new}'");
    eventually("its use", async || (world.value(&is_used).await == "true").then_some(())).await;
    step(
        &["signing", "--new", &new, "--drop-old"],
        "",
        3,
        "nothing is taken out of the file as long as that is so",
    );
    step(&["signing"], "", 3, &format!("next: wait until {old} is not needed for 15 min"));

    // A quarter of an hour passes.
    world
        .sql("update restante.key_known set last_needed_at = last_needed_at - interval '16 minutes', first_seen_at = first_seen_at - interval '16 minutes'")
        .await;
    step(&["signing", "--wait", "--new", &new], "", 0, &format!("{old} may go"));
    step(&["signing", "--new", &new, "--drop-old"], "", 0, &format!("has only the key {new} now"));
    assert_eq!(std::fs::read_to_string(folder.path("keys")).unwrap(), format!("{}\n", signing_key_of(NEW)));
    until_loaded(&world, &[NEW]).await;
    step(&["signing"], "", 0, &format!("complete: every running service has {new}"));
    step(&[], "", 0, "no running service has it");
    assert_eq!(sender.status(&delivery(NEW, "evt_3")).await, 204);
    assert_eq!(sender.status(&delivery(OLD, "evt_4")).await, 401);

    assert!(!said.contains("canary"), "{said}");
    no_secret_in(&world, &[&said, &ingest.log()]).await;
}
