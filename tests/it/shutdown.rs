//! How the programs start and end: a start that cannot succeed says why, a stop loses nothing, and no output contains a
//! secret.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use expect_test::expect;
use restante_playground::process::Signal;
use restante_simulator::Settings;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;

use crate::support::processes::{API_KEY, INGEST, WORKER};
use crate::support::sender::{WEBHOOK_SECRET, envelope, signing_key};
use crate::support::{Delivery, Process, Sender, SimulatedApi, World, cluster, eventually};

/// Blocks all commits to the outbox until it is dropped.
async fn hold_commits(world: &World) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut tx = world.pool.begin().await.unwrap();
    sqlx::query("lock table restante.outbox_seen in share mode").execute(&mut *tx).await.unwrap();
    tx
}

/// A delivery in progress: its commit has begun, and waits.
async fn under_way(world: &World, sender: &Sender) -> tokio::task::JoinHandle<Option<u16>> {
    let (sender, delivery) = (sender.clone(), Delivery::event("whe_1", "session.created", ""));
    let post = tokio::spawn(async move { sender.post(&delivery).await.map(|answer| answer.status) });
    eventually("a commit under way", async || {
        let waiting = "select exists (select from pg_locks
                                       where relation = 'restante.outbox_seen'::regclass and not granted)";
        (world.value(waiting).await == "true").then_some(())
    })
    .await;
    post
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_ingest_takes_no_more_and_finishes_what_is_under_way() {
    let world = World::new().await;
    let mut ingest = Process::ingest(&world.url, &[]).await;
    let sender = Sender::to(ingest.address());
    let held = hold_commits(&world).await;
    let post = under_way(&world, &sender).await;

    ingest.signal(Signal::Terminate);
    eventually("nobody at the door", async || {
        tokio::net::TcpStream::connect(ingest.address()).await.is_err().then_some(())
    })
    .await;
    let (status, page) = ingest.ops("/readyz").await;
    assert!(status == 503 && page.contains("the process is stopping"), "{page}");
    assert_eq!(ingest.ops("/livez").await.0, 200);
    held.commit().await.unwrap();

    assert_eq!(post.await.unwrap(), Some(204));
    assert_eq!(ingest.ended().await.code(), Some(0));
    expect![["whe_1 pending, attempt 0\n"]].assert_eq(&world.outbox().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_the_end_of_the_drain_cuts_gets_no_2xx_and_ingest_says_so() {
    let world = World::new().await;
    let mut ingest = Process::ingest(&world.url, &[("RESTANTE_DRAIN_SECONDS", "1")]).await;
    let sender = Sender::to(ingest.address());
    let held = hold_commits(&world).await;
    let post = under_way(&world, &sender).await;

    assert_eq!(ingest.stopped().await, Some(1));

    assert_eq!(post.await.unwrap(), None);
    assert!(
        ingest.log().contains("some requests or commits did not end within RESTANTE_DRAIN_SECONDS"),
        "{}",
        ingest.log()
    );
    held.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ingest_that_is_stopped_under_load_answers_2xx_to_exactly_what_it_stored() {
    let world = World::new().await;
    let mut ingest = Process::ingest(&world.url, &[]).await;
    let sender = Sender::to(ingest.address());
    let posters: Vec<_> = (0..8)
        .map(|poster| {
            let sender = sender.clone();
            tokio::spawn(async move {
                let mut taken = Vec::new();
                for number in 0.. {
                    let event_id = format!("whe_{poster}_{number}");
                    match sender.post(&Delivery::event(&event_id, "session.created", "")).await {
                        Some(answer) => assert_eq!(answer.status, 204),
                        None => break,
                    }
                    taken.push(event_id);
                }
                taken
            })
        })
        .collect();
    eventually("some load", async || {
        (world.value("select count(*) >= 50 from restante.outbox").await == "true").then_some(())
    })
    .await;

    assert_eq!(ingest.stopped().await, Some(0));

    let mut taken = Vec::new();
    for poster in posters {
        taken.extend(poster.await.unwrap());
    }
    taken.sort();
    let stored: Vec<String> =
        sqlx::query_scalar("select event_id from restante.outbox order by event_id collate \"C\"")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(taken, stored, "nobody who was told nothing was stored either, since nothing was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_hands_back_its_download_uncharged_and_what_it_stored_stays() {
    let world = World::new().await;
    let api = SimulatedApi::start().await;
    let batch = api.batch(50_000).await;
    api.faults(json!({ "results_pause_milliseconds": 20 })).await;
    world
        .receive_body(&json!({ "type": "batch.completed", "id": "whe_1", "data": { "batch_id": batch } }))
        .await;
    let mut worker = Process::worker(&world.url, &api.url, &[("RESTANTE_DRAIN_SECONDS", "0")]).await;
    eventually("some results", async || {
        let some = "select exists (select from restante.batch where results_stored > 0)";
        (world.value(some).await == "true").then_some(())
    })
    .await;

    assert_eq!(worker.stopped().await, Some(0));

    expect![["whe_1 pending, attempt 0\n"]].assert_eq(&world.outbox().await);
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
    let kept = "select results_stored = (select count(*) from restante.batch_result) and complete_at is null
                  from restante.batch";
    assert_eq!(world.value(kept).await, "true");
    assert_eq!(world.claim(1).await.len(), 1, "anybody may have it at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_program_stops_at_once() {
    let world = World::new().await;
    let api = SimulatedApi::start().await;

    for mut program in
        [Process::ingest(&world.url, &[]).await, Process::worker(&world.url, &api.url, &[]).await]
    {
        assert_eq!(program.stopped().await, Some(0), "{}", program.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_told_whole_and_without_its_values() {
    let wrong = [
        ("ANTHROPIC_WEBHOOK_SIGNING_KEY", "whsec_%%canary%%"),
        ("ANTHROPIC_BASE_URL", "ftp://canary.example"),
        ("RESTANTE_LISTEN", "canary"),
        ("RESTANTE_CONCURRENCY", "0"),
        ("RESTANTE_LEASE_SECONDS", "soon"),
        ("RUST_LOG", "restante=canary"),
    ];
    let of_ingest = ["DATABASE_URL", "ANTHROPIC_WEBHOOK_SIGNING_KEY", "RESTANTE_LISTEN", "RUST_LOG"];
    let of_worker = [
        "DATABASE_URL",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "RESTANTE_CONCURRENCY",
        "RESTANTE_LEASE_SECONDS",
        "RUST_LOG",
    ];

    for (program, faults) in [(INGEST, &of_ingest[..]), (WORKER, &of_worker[..])] {
        let mut process = Process::start(program, &wrong);
        assert_eq!(process.ended().await.code(), Some(2));
        let log = process.log();
        for variable in faults {
            assert!(log.contains(variable), "{program} does not name {variable}:\n{log}");
        }
        assert!(!log.contains("%%canary"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_without_the_schema_is_told_with_what_to_run() {
    let empty = cluster::empty_database().await;
    let key = signing_key();
    let variables = [
        ("DATABASE_URL", empty.expose_secret()),
        ("ANTHROPIC_WEBHOOK_SIGNING_KEY", key.as_str()),
        ("ANTHROPIC_API_KEY", API_KEY),
        ("RESTANTE_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
    ];

    for program in [INGEST, WORKER] {
        let mut process = Process::start(program, &variables);
        assert_eq!(process.ended().await.code(), Some(1));
        assert!(process.log().contains("run `restante migrate`"), "{}", process.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_anything_that_a_program_writes_even_at_trace() {
    const BODY: &str = "what a customer wrote";
    let world = World::new().await;
    let settings =
        Settings { batch_seconds: 0.0, api_key: Some(SecretString::from(API_KEY)), ..Settings::default() };
    let api = SimulatedApi::start_with(settings).await;
    let trace = ("RUST_LOG", "trace");
    let ingest = Process::ingest(&world.url, &[trace]).await;
    let worker = Process::worker(&world.url, &api.url, &[trace, ("RESTANTE_RECONCILE_SECONDS", "1")]).await;
    let stranger =
        Process::worker(&world.url, &api.url, &[trace, ("ANTHROPIC_API_KEY", "sk-ant-of-a-stranger")]).await;

    // Everything that can succeed or fail while a secret is used.
    let sender = Sender::to(ingest.address());
    let good = Delivery::new("whe_1", envelope("whe_1", "session.created", BODY));
    let forged = Delivery { body: BODY.into(), ..good.clone() };
    let unreadable = Delivery::new("whe_2", BODY);
    for (delivery, status) in [(&good, 204), (&forged, 401), (&unreadable, 204)] {
        assert_eq!(sender.status(delivery).await, status);
    }
    for number in 0..4 {
        let batch = api.batch(10).await;
        let body = envelope(&format!("whe_batch_{number}"), "batch.completed", &batch);
        assert_eq!(sender.status(&Delivery::new("whe_batch", body)).await, 204);
    }
    eventually("complete batches", async || {
        // The events with the wrong key wait for a repair. This makes them due.
        world.wait_for_retries().await;
        let complete = "select count(*) filter (where complete_at is not null) = 4 from restante.batch";
        (world.value(complete).await == "true").then_some(())
    })
    .await;
    let mut url = Url::parse(world.url.expose_secret()).unwrap();
    let password = url.password().unwrap().to_owned();
    url.set_password(Some("not-the-password")).unwrap();
    let locked_out = [
        ("DATABASE_URL", url.as_str()),
        ("ANTHROPIC_API_KEY", API_KEY),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        trace,
    ];
    let mut locked_out = Process::start(WORKER, &locked_out);
    let _status = locked_out.ended().await;

    let mut written = vec![locked_out.log()];
    for program in [&ingest, &worker, &stranger] {
        written.extend([program.ops("/metrics").await.1, program.ops("/readyz").await.1]);
    }
    for mut program in [ingest, worker, stranger] {
        assert_eq!(program.stopped().await, Some(0));
        written.push(program.log());
    }
    assert!(written.iter().any(|text| text.contains(r#""level":"DEBUG""#)), "the filter was obeyed");
    let key = signing_key();
    let key = key.strip_prefix("whsec_").unwrap();
    let secrets = [API_KEY, WEBHOOK_SECRET, key, &password, "sk-ant-of-a-stranger", "not-the-password"];
    let encoded = secrets.iter().flat_map(|secret| [hex::encode(secret), STANDARD.encode(secret)]);
    let raw_key = STANDARD.decode(key).unwrap();
    let mut sought: Vec<String> = secrets.iter().map(|&secret| secret.to_owned()).chain(encoded).collect();
    sought.extend([String::from_utf8(raw_key.clone()).unwrap(), hex::encode(&raw_key), BODY.to_owned()]);
    sought.extend(
        good.headers
            .iter()
            .filter(|(name, _)| *name == "webhook-signature")
            .map(|(_, value)| value[3..].to_owned()),
    );
    for text in written {
        for secret in &sought {
            assert!(!text.contains(secret), "{secret} is told in:\n{text}");
        }
    }
}
