//! Whom the page lets in, and as whom it asks the database.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Answer, PASSWORD, at, client, get, login_url, users, worker};
use crate::support::World;

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
