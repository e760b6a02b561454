//! The path of secrets from an operator's file into a program: by the documented recipe, and into no output.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::ExposeSecret;

use crate::support::processes::{INGEST, tool};
use crate::support::sender::{WEBHOOK_SECRET, signing_key};
use crate::support::{Delivery, Process, Sender, World};

/// Runs the recipe of the README on an env file with these lines, and then a command.
fn recipe(env: &str, command: &str) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".env"), env).unwrap();
    let script = format!("set -a; . ./.env; set +a; exec {command}");
    let output = Command::new("/bin/sh")
        .args(["-c", &script])
        .current_dir(directory.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output()
        .unwrap();
    let written = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(written).unwrap())
}

#[test]
fn a_rotation_by_the_documented_recipe_prints_no_key() {
    let (old, new) = (signing_key(), format!("whsec_{}", STANDARD.encode([7; 32])));
    let passphrases = "correct horse battery staple\n$HOME of the second, with a comma";
    let env = format!(
        "DATABASE_URL=postgres://u:hush@localhost/x\n\
         ANTHROPIC_WEBHOOK_SIGNING_KEY={old},{new}\n\
         ANTHROPIC_WEBHOOK_SECRET='{passphrases}'\n"
    );

    let (is_sound, written) = recipe(&env, &format!("{} config ingest", tool()));

    assert!(is_sound, "{written}");
    assert!(written.contains("ANTHROPIC_WEBHOOK_SIGNING_KEY"), "{written}");
    for secret in [&old[6..], &new[6..], "correct", "horse", "HOME", "second", "hush"] {
        assert!(!written.contains(secret), "{secret} is told in:\n{written}");
    }
}

#[test]
fn what_cannot_be_right_is_told_at_the_start_without_being_repeated() {
    let good = signing_key();
    for (line, told) in [
        ("ANTHROPIC_WEBHOOK_SIGNING_KEY=whsec_...".to_owned(), "key 1 is a placeholder"),
        ("ANTHROPIC_WEBHOOK_SECRET=changeme".to_owned(), "secret 1 is a placeholder"),
        (format!("ANTHROPIC_WEBHOOK_SIGNING_KEY='\"{good}\"'"), "it is in quotes"),
        (format!("ANTHROPIC_WEBHOOK_SIGNING_KEY={}", &good[..30]), "key 1 has 18 bytes"),
        ("ANTHROPIC_API_KEY='\"sk-ant-canary\"'".to_owned(), "it is in quotes"),
    ] {
        let env = format!("DATABASE_URL=postgres://u:canary@localhost/x\n{line}\n");
        let (_, written) = recipe(&env, &format!("{} config", tool()));
        assert!(written.contains(told), "{told}: {written}");
        assert!(!written.contains("canary") && !written.contains(&good[6..20]), "{written}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_verifies_as_a_whole_and_no_word_of_it_does() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secrets");
    // As a Windows editor saves it.
    std::fs::write(&file, format!("\u{feff}{WEBHOOK_SECRET}\r\ncorrect horse, battery staple\r\n")).unwrap();
    let variables = [
        ("DATABASE_URL", world.url.expose_secret()),
        ("ANTHROPIC_WEBHOOK_SECRET_FILE", file.to_str().unwrap()),
        ("RESTANTE_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_LINGER_SECONDS", "0"),
    ];
    let mut ingest = Process::start(INGEST, &variables);
    ingest.until_logged("receiving deliveries").await;
    let sender = Sender::to(ingest.address());
    let body = r#"{"type":"a.b","id":"whe_1"}"#;

    assert_eq!(sender.status(&Delivery::older(body)).await, 204);
    assert_eq!(sender.status(&Delivery::older_with("correct horse, battery staple", body)).await, 204);
    for part in ["correct", "horse,", "horse", "correct horse", "battery staple", "battery staple\r"] {
        assert_eq!(sender.status(&Delivery::older_with(part, body)).await, 401, "{part}");
    }
    assert!(ingest.log().contains("a byte order mark before it is ignored"), "{}", ingest.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_of_the_database_url_are_in_no_log_at_any_level() {
    let world = World::new().await;
    let url = world.url.expose_secret();
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{separator}sslpassword=canary-1&unheard_of=canary-2");
    for filter in ["info", "trace", "info,sqlx_postgres::options::parse=trace"] {
        let key = signing_key();
        let mut ingest = Process::start(
            INGEST,
            &[
                ("DATABASE_URL", url.as_str()),
                ("ANTHROPIC_WEBHOOK_SIGNING_KEY", key.as_str()),
                ("RESTANTE_LISTEN", "127.0.0.1:0"),
                ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
                ("RESTANTE_LINGER_SECONDS", "0"),
                ("RUST_LOG", filter),
            ],
        );
        ingest.until_logged("receiving deliveries").await;
        assert_eq!(ingest.stopped().await, Some(0));
        assert!(!ingest.log().contains("canary"), "{}", ingest.log());
    }
}
