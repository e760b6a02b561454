//! The password of the database: a new one is used once the database takes it, whichever was changed first.

use secrecy::ExposeSecret;
use url::Url;

use super::{Folder, OLD, delivery, hang_up};
use crate::support::processes::{API_KEY, INGEST, WORKER};
use crate::support::sender::signing_key_of;
use crate::support::{Process, Sender, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_is_used_once_the_database_takes_it_and_no_delivery_is_lost() {
    let world = World::new().await;
    let login = world.value("select 'keys_' || replace(gen_random_uuid()::text, '-', '')").await;
    world.sql(&format!("create role {login} login superuser password 'the first canary'")).await;
    let url = |password: &str| {
        let mut url: Url = world.url.expose_secret().parse().unwrap();
        url.set_username(&login).unwrap();
        url.set_password(Some(password)).unwrap();
        url.to_string()
    };
    let folder = Folder::new();
    folder.put("url", &url("the first canary"));
    let file = folder.text("url");
    let signing_key = signing_key_of(OLD);
    let variables = [
        ("DATABASE_URL_FILE", file.as_str()),
        ("ANTHROPIC_WEBHOOK_SIGNING_KEY", signing_key.as_str()),
        ("ANTHROPIC_API_KEY", API_KEY),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9"),
        ("RESTANTE_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_LINGER_SECONDS", "0"),
    ];
    let mut ingest = Process::start(INGEST, &variables);
    ingest.until_logged("receiving deliveries").await;
    let mut worker = Process::start(WORKER, &variables);
    worker.until_logged("the worker starts").await;
    let sender = Sender::to(ingest.address());
    assert_eq!(sender.status(&delivery(OLD, "evt_1")).await, 204);

    // First in the file: the database does not take it yet.
    folder.put("url", &url("the second canary"));
    for process in [&mut ingest, &mut worker] {
        hang_up(process);
        process.until_logged("the former one stays in use, and the new one is tried").await;
        let (status, page) = process.ops("/readyz").await;
        assert_eq!(status, 200, "{page}");
        assert!(page.contains("the new login of DATABASE_URL is not in use yet"), "{page}");
    }
    assert_eq!(sender.status(&delivery(OLD, "evt_2")).await, 204);
    world.sql(&format!("alter role {login} password 'the second canary'")).await;
    for process in [&mut ingest, &mut worker] {
        process.until_logged("new connections use it").await;
        assert!(!process.ops("/readyz").await.1.contains("not in use yet"));
    }

    // Every connection is a new one from here on, so each has to know the new password.
    let cut =
        format!("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = '{login}'");
    world.value(&cut).await;
    eventually("a delivery over a new connection", async || {
        (sender.status(&delivery(OLD, "evt_3")).await == 204).then_some(())
    })
    .await;
    let done = "select count(*) = 3 from restante.outbox where status = 'ignored'";
    eventually("the worker goes on", async || (world.value(done).await == "true").then_some(())).await;

    // Another database is no new login.
    let elsewhere = url("the second canary").replace("?", "_other?");
    let elsewhere = if elsewhere.contains('?') { elsewhere } else { format!("{elsewhere}_other") };
    folder.put("url", &elsewhere);
    hang_up(&ingest);
    ingest.until_logged("names another server or database").await;
    assert_eq!(sender.status(&delivery(OLD, "evt_4")).await, 204);

    for process in [&mut ingest, &mut worker] {
        assert_eq!(process.stopped().await, Some(0), "{}", process.log());
        assert!(!process.log().contains("canary"), "{}", process.log());
        let warned = process.log().matches("the former one stays in use, and the new one is tried").count();
        assert_eq!(warned, 1, "{}", process.log());
    }
}
