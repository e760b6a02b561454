//! Whom the page lets in, and as whom it asks the database.

use std::io::Write as _;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use restante::internals::page::User;

use super::{Answer, PASSWORD, at, client, get, login_url, users, worker};
use crate::support::World;
use crate::support::processes::WORKER;

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_this_machine_the_page_is_closed_without_users_and_health_is_not() {
    let world = World::new().await;
    let worker = worker(&world, &[("RESTANTE_OPS_LISTEN", "0.0.0.0:0")]).await;

    for path in ["/", "/events", "/events/1/payload", "/assets/page.css"] {
        let closed = get(&worker, path).await;
        assert_eq!(closed.status, 403, "{path}");
        assert!(closed.text.contains("RESTANTE_OPS_USERS_FILE"), "{}", closed.text);
    }
    for path in ["/livez", "/readyz", "/metrics"] {
        assert_eq!(get(&worker, path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_users_everybody_shows_a_password_and_health_asks_for_none() {
    let world = World::new().await;
    let users = users();
    let worker =
        worker(&world, &[("RESTANTE_OPS_LISTEN", "0.0.0.0:0"), ("RESTANTE_OPS_USERS", &users)]).await;
    let ask = |header: String| Answer::of(client().get(at(&worker, "/")).header("authorization", header));

    let asked = get(&worker, "/").await;
    assert_eq!(asked.status, 401);
    assert!(asked.header("www-authenticate").starts_with("Basic realm="));
    for wrong in [basic("ada", "wrong"), basic("bob", PASSWORD), "Bearer x".to_owned()] {
        assert_eq!(ask(wrong.clone()).await.status, 401, "{wrong}");
    }
    let seen = ask(basic("ada", PASSWORD)).await;
    assert_eq!(seen.status, 200);
    assert!(seen.text.contains(">ada<"), "whose page it is stands on it");
    assert_eq!(get(&worker, "/livez").await.status, 200);
    assert!(!worker.log().contains(PASSWORD) && !worker.log().contains("$2"), "{}", worker.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_users_the_page_answers_only_under_a_name_of_this_machine() {
    let world = World::new().await;
    let worker = worker(&world, &[]).await;
    let ask = |host: &'static str| Answer::of(client().get(at(&worker, "/")).header("host", host));

    for host in ["localhost:9092", "127.0.0.1"] {
        assert_eq!(ask(host).await.status, 200, "{host}");
    }
    for host in ["evil.example", "evil.example:9092"] {
        assert_eq!(ask(host).await.status, 403, "a name that somebody else points here: {host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_reads_with_a_login_that_has_its_role_alone_and_says_what_another_lacks() {
    let world = World::new().await;
    let (reads, url) = login_url(&world, &["restante_page"]).await;
    {
        let worker = worker(&world, &[("RESTANTE_OPS_DATABASE_URL", &url)]).await;
        for path in ["/", "/events", "/batches", "/messages", "/notifications", "/dead"] {
            let text = get(&worker, path).await.text;
            assert!(!text.contains("class=\"problem\""), "{path}: {text}");
        }
    }
    let (stranger, url) = login_url(&world, &["restante_ingest"]).await;
    {
        let worker = worker(&world, &[("RESTANTE_OPS_DATABASE_URL", &url)]).await;
        let text = get(&worker, "/").await.text;
        assert!(text.contains("grant restante_page"), "{text}");
        assert_eq!(get(&worker, "/livez").await.status, 200);
    }
    reads.drop(&world).await;
    stranger.drop(&world).await;
}

/// The commands `htpasswd ...` that a text tells people, whatever it wraps its lines with.
fn commands(text: &str) -> Vec<String> {
    let words = text.split_whitespace().filter(|word| *word != "#").collect::<Vec<_>>().join(" ");
    words.split('`').filter(|part| part.starts_with("htpasswd ")).map(str::to_owned).collect()
}

/// What a command prints for a password; nothing where it is not installed.
fn printed(command: &str) -> Option<String> {
    let mut words = command.split(' ');
    // It is asked for on a terminal otherwise.
    let mut run = Command::new(words.next().unwrap());
    run.arg("-i").args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut run = run.spawn().ok()?;
    run.stdin.take().unwrap().write_all(PASSWORD.as_bytes()).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success(), "{command}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_does_what_the_texts_say_is_let_in() {
    let world = World::new().await;
    let closed = worker(&world, &[("RESTANTE_OPS_LISTEN", "0.0.0.0:0")]).await;
    let of_worker = |arguments: &[&str]| {
        let output =
            Command::new(WORKER).args(arguments).env("RESTANTE_OPS_USERS", "ada:$2y$05$weak").output();
        let output = output.unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let texts = [
        ("the README", include_str!("../../../README.md").to_owned()),
        (".env.example", include_str!("../../../.env.example").to_owned()),
        ("--help", of_worker(&["--help"])),
        ("the remedy", of_worker(&[])),
        ("the page", get(&closed, "/").await.text),
    ];

    let mut lines = Vec::new();
    for (place, text) in texts {
        let told = commands(&text);
        assert!(!told.is_empty(), "{place} names no command: {text}");
        for command in told {
            let (command, name) = command.rsplit_once(' ').unwrap();
            assert_eq!(Some(command), User::MADE_WITH.strip_suffix(" NAME"), "{place}");
            let name = name.to_lowercase();
            let Some(line) = printed(&format!("{command} {name}")) else {
                let rounds: u32 = command.rsplit(' ').next().unwrap().parse().unwrap();
                lines.push(format!("{name}:{}", bcrypt::hash(PASSWORD, rounds).unwrap()));
                continue;
            };
            User::read(line.trim()).unwrap_or_else(|problem| panic!("{place}: {command}: it {problem}"));
            lines.push(line.trim().to_owned());
        }
    }
    let users = lines.join("\n");
    let open = worker(&world, &[("RESTANTE_OPS_LISTEN", "0.0.0.0:0"), ("RESTANTE_OPS_USERS", &users)]).await;
    for name in ["ada", "name"] {
        let header = basic(name, PASSWORD);
        let seen = Answer::of(client().get(at(&open, "/")).header("authorization", header)).await;
        assert_eq!(seen.status, 200, "{name}");
    }
}
