//! What an operator learns of requests that were refused: a row for each sender and reason, with a hint.

use std::time::Duration;

use restante::internals::outbox::{self, Refused};
use restante::internals::signature::{Diagnosis, Rejection};

use crate::support::sender::{now_seconds, signing_key_of};
use crate::support::{Delivery, Process, Sender, World, eventually};

/// What is known of refused requests, a line for each sender and reason.
async fn told(world: &World) -> String {
    world.value("select string_agg(sender || ' ' || reason || ' ' || requests, ', ' order by sender, reason) from restante.refusal_overview").await
}

/// Requests of one sender that were refused for one reason.
fn refused(sender: &str, reason: &'static str, requests: i64) -> Refused {
    let at = chrono::Utc::now();
    Refused { sender: sender.to_owned(), reason, requests, first_at: at, last_at: at }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_be_refused_gives_its_row_with_a_hint_and_no_word_of_the_request() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("restante.toml");
    let other = b"the key of another sender, long";
    std::fs::write(folder.path().join("key"), signing_key_of(other)).unwrap();
    let key_file = folder.path().join("key");
    let text = format!("[sender.staging]\nscheme = \"standard\"\nsigning_keys_file = {key_file:?}\n");
    std::fs::write(&file, text).unwrap();
    let mut ingest = Process::ingest(
        &world.url,
        &[("RESTANTE_CONFIG", file.to_str().unwrap()), ("ANTHROPIC_WEBHOOK_SECRET", "")],
    )
    .await;
    let sender = Sender::to(ingest.address());

    let good = Delivery::event("whe_secret_word", "test.ledger", "k");
    let body = good.body.clone();
    let mut renamed = good.clone();
    for (name, _) in &mut renamed.headers {
        *name = match *name {
            "webhook-id" => "svix-id",
            "webhook-timestamp" => "svix-timestamp",
            _ => "svix-signature",
        };
    }
    let mut unsigned = good.clone();
    unsigned.headers.clear();
    let mut hexadecimal = good.clone();
    hexadecimal.headers[2].1 = "v1,00112233445566778899aabbccddeeff".to_owned();
    let mut altered = good.clone();
    altered.body.push(b'\n');
    let at = |seconds: u64| Delivery::stamped("whe_secret_word", &seconds.to_string(), body.clone());
    let cases = [
        (unsigned, 401),
        (renamed, 401),
        (at(now_seconds() - 1000), 401),
        (at(now_seconds() + 1000), 401),
        (hexadecimal, 401),
        (Delivery::signed_with(other, "whe_secret_word", body.clone()), 401),
        (altered, 401),
        (Delivery::signed_with(b"a key that nobody knows", "whe_secret_word", body.clone()), 401),
        (Delivery::new("whe_secret_word", vec![b' '; (1 << 20) + 1]), 413),
    ];
    for (delivery, status) in &cases {
        assert_eq!(sender.status(delivery).await, *status);
    }
    let lost = sender.post_at("/webhooks/whe_secret_word", &good).await.unwrap();
    assert_eq!(lost.status, 404);
    assert_eq!(ingest.stopped().await, Some(0));

    assert_eq!(
        told(&world).await,
        "- not_found 1, anthropic body_altered 1, anthropic future 1, anthropic key_of_another_sender 1, \
         anthropic mismatch 1, anthropic missing 1, anthropic not_base64 1, anthropic stale 1, anthropic too_large 1, \
         anthropic wrong_header_name 1"
    );
    let without = "select count(*) from restante.refusal_overview where hint is null";
    assert_eq!(world.value(without).await, "0");
    let hints = "select count(distinct hint) from restante.refusal_overview";
    assert_eq!(world.value(hints).await, "10", "a hint of its own for each reason");
    let rows = "select string_agg(r::text, ' ') from restante.refusal as r";
    assert!(!world.value(rows).await.contains("secret_word"));
    assert_eq!(world.value("select count(*) from restante.outbox").await, "0", "none of them was taken");
}

#[tokio::test]
async fn every_reason_that_ingest_has_is_known_to_the_database_with_a_hint() {
    let world = World::new().await;
    let checks = [
        Rejection::NoKeys,
        Rejection::Missing,
        Rejection::Duplicate,
        Rejection::Malformed,
        Rejection::Timestamp,
        Rejection::Stale,
        Rejection::Future,
        Rejection::Mismatch,
    ];
    let closer = [
        Diagnosis::WrongHeaderName,
        Diagnosis::NotBase64,
        Diagnosis::NotHex,
        Diagnosis::KeyOfAnotherSender,
        Diagnosis::BodyAltered,
    ];
    let others = [
        "too_large",
        "slow",
        "broken",
        "large_bodies",
        "not_found",
        "wrong_method",
        "queue_full",
        "database_unavailable",
        "database_refused",
    ];
    let reasons =
        checks.map(Rejection::reason).into_iter().chain(closer.map(Diagnosis::reason)).chain(others);
    for reason in reasons {
        let hint = world.value(&format!("select restante.refusal_hint('{reason}')")).await;
        assert!(hint.len() > 20, "{reason}: {hint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_bad_requests_adds_a_row_for_each_reason_and_each_request_is_counted() {
    let world = World::new().await;
    let mut ingest = Process::ingest(&world.url, &[]).await;
    let sender = Sender::to(ingest.address());
    let flood = (0..8).map(|task| {
        let sender = sender.clone();
        tokio::spawn(async move {
            for number in 0..50 {
                let bad =
                    Delivery::signed_with(b"a key that nobody knows", &format!("{task} {number}"), "{}");
                assert_eq!(sender.status(&bad).await, 401);
                let path = format!("/webhooks/{task}-{number}");
                assert_eq!(sender.post_at(&path, &bad).await.unwrap().status, 404);
            }
        })
    });
    for flood in flood.collect::<Vec<_>>() {
        flood.await.unwrap();
    }

    assert_eq!(ingest.stopped().await, Some(0));
    assert_eq!(told(&world).await, "- not_found 400, anthropic mismatch 400");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_while_the_database_was_away_is_known_once_it_is_back() {
    let (mut postgres, world) = World::on_its_own_postgres().await;
    let mut ingest = Process::ingest(&world.url, &[]).await;
    let sender = Sender::to(ingest.address());
    let unsigned = Delivery { headers: Vec::new(), body: Vec::new() };
    postgres.kill_hard().unwrap();
    assert_eq!(sender.status(&unsigned).await, 401);
    postgres.restart().unwrap();
    assert_eq!(sender.status(&unsigned).await, 401);

    eventually("ingest has its database again", async || {
        (ingest.ops("/readyz").await.0 == 200).then_some(())
    })
    .await;
    assert_eq!(ingest.stopped().await, Some(0));

    world.may_leave_running();
    let world = World::on(world.url.clone()).await;
    assert_eq!(told(&world).await, "anthropic missing 2");
}

#[tokio::test]
async fn reports_add_up_and_names_that_nobody_knows_are_folded_into_one() {
    let world = World::new().await;
    let report = async |refused: &[Refused]| outbox::note_refusals(&world.pool, refused).await.unwrap();
    report(&[refused("a", "stale", 2), refused("a", "missing", 1), refused("b", "stale", 5)]).await;
    report(&[refused("a", "stale", 3), refused("a", "invented", 7), refused("a", "invented too", 1)]).await;
    assert_eq!(told(&world).await, "a missing 1, a other 8, a stale 5, b stale 5");
    let times = "select bool_and(first_at <= last_at and last_at <= clock_timestamp()) from restante.refusal_overview";
    assert_eq!(world.value(times).await, "true");

    for round in 0..3 {
        let many: Vec<_> = (0..100).map(|n| refused(&format!("sender {round} {n}"), "stale", 1)).collect();
        report(&many).await;
    }
    report(&[refused(&"x".repeat(300), "stale", 1)]).await;

    let senders: u32 =
        world.value("select count(distinct sender) from restante.refusal").await.parse().unwrap();
    assert!(senders <= 51, "{senders}");
    assert_eq!(world.value("select sum(requests) from restante.refusal").await, (19 + 300 + 1).to_string());
}

#[tokio::test]
async fn counts_of_more_than_thirty_days_ago_are_deleted_by_the_next_report() {
    let world = World::new().await;
    outbox::note_refusals(&world.pool, &[refused("a", "stale", 1)]).await.unwrap();
    world.sql("update restante.refusal set hour = hour - interval '31 days'").await;

    outbox::note_refusals(&world.pool, &[refused("b", "stale", 1)]).await.unwrap();

    assert_eq!(world.value("select string_agg(sender, ' ') from restante.refusal").await, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_person_has_locked_holds_up_no_report_for_long() {
    let world = World::new().await;
    outbox::note_refusals(&world.pool, &[refused("a", "stale", 1)]).await.unwrap();
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("select from restante.refusal for update").execute(&mut *person).await.unwrap();

    let again = [refused("a", "stale", 1)];
    let report = outbox::note_refusals(&world.pool, &again);
    let failed = tokio::time::timeout(Duration::from_secs(20), report).await.expect("an end").unwrap_err();

    assert!(restante::database::is_locked(&failed), "{failed}");
    person.rollback().await.unwrap();
    outbox::note_refusals(&world.pool, &again).await.unwrap();
    assert_eq!(told(&world).await, "a stale 2");
}
