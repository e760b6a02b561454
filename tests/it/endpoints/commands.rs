//! `restante endpoint`, run as a person runs it, with the rights of an operator.

use std::process::{Command, Output};

use secrecy::ExposeSecret;

use super::receiver::{Receiver, Reply};
use super::{enqueue, is_signed, work};
use crate::support::processes::tool;
use crate::support::{World, eventually};

/// Runs a command with the rights of an operator and no others.
async fn run(world: &World, line: &str) -> Output {
    let mut command = Command::new(tool());
    let url = format!("{}?options[role]=restante_operator", world.url.expose_secret());
    command.arg("endpoint").args(line.split(' ')).env_clear().env("DATABASE_URL", url);
    tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap()
}

/// What it printed, if it ended well.
async fn told(world: &World, line: &str) -> String {
    let output = run(world, line).await;
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What it complained of, if it did not.
async fn complaint(world: &World, line: &str) -> String {
    let output = run(world, line).await;
    assert!(!output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn secret_in(told: &str) -> String {
    told.trim().rsplit(' ').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_is_added_tested_rotated_disabled_and_enabled_without_a_line_of_sql() {
    let (world, receiver) = (World::new().await, Receiver::start().await);
    let url = receiver.url("/hooks");
    let added =
        told(&world, &format!("add {url} --name a --event-types order.*,session.* --per-second 100")).await;
    let first = secret_in(&added);
    assert!(added.starts_with("a is added\n") && first.starts_with("whsec_"), "{added}");
    let row = "select concat_ws(' ', event_types, per_second, concurrency, body, created_by) from restante.endpoint";
    assert_eq!(world.value(row).await, "{order.*,session.*} 100 16 thin postgres");

    let tested = async || {
        let test = run(&world, "test a");
        let works = async {
            eventually("the test is in the outbox", async || {
                (world.value("select count(*) from restante.outbox where status = 'pending'").await == "1")
                    .then_some(())
            })
            .await;
            work(&world).await;
        };
        tokio::join!(test, works).0
    };
    receiver.reply(Reply::Status(200, "", "thank you"));
    let taken = String::from_utf8(tested().await.stdout).unwrap();
    assert!(taken.starts_with("a: 200 after ") && taken.ends_with("It said: thank you\n"), "{taken}");
    assert_eq!(receiver.arrived()[0].json()["type"], "endpoint.test");
    receiver.reply(Reply::Status(500, "", "no"));
    let refused = tested().await;
    assert!(!refused.status.success());
    let refused = String::from_utf8(refused.stdout).unwrap();
    assert!(refused.contains("It was not taken: it answered 500\nIt said: no\n"), "{refused}");

    let second = secret_in(&told(&world, "rotate a").await);
    world.sql("update restante.outbox set status = 'cancelled' where finished_at = 'infinity'").await;
    enqueue(&world, "order.placed", None, "{}").await;
    work(&world).await;
    let arrived = receiver.arrived();
    let last = arrived.last().unwrap();
    assert!(is_signed(last, &first) && is_signed(last, &second));
    told(&world, "rotate a --drop-old").await;

    assert_eq!(
        told(&world, "disable a --because moving").await,
        "a is disabled; what waits for it is parked\n"
    );
    enqueue(&world, "order.placed", None, "{}").await;
    assert!(complaint(&world, "test a").await.contains("a is disabled"));
    let listed = told(&world, "list").await;
    assert!(listed.contains("disabled") && listed.contains("moving") && listed.contains(&url), "{listed}");
    assert!(!listed.contains("whsec_"), "{listed}");
    assert_eq!(told(&world, "enable a").await, "a is enabled; what was parked is released\n");
    work(&world).await;
    let last = receiver.arrived().pop().unwrap();
    assert!(is_signed(&last, &second) && !is_signed(&last, &first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_told_in_one_line_that_says_what_to_do() {
    let world = World::new().await;
    for (line, said) in [
        ("add ftp://a.example/", "is no URL that begins with https://"),
        ("add https://a.example/ --secret-file /nowhere", "the secret could not be read from /nowhere"),
        ("add https://a.example/ --per-second 0", "endpoint_per_second_fits"),
        ("test nobody", "there is no endpoint named nobody"),
        ("rotate nobody", "there is no endpoint named nobody"),
        ("disable nobody", "there is no endpoint named nobody"),
        ("enable nobody", "there is no endpoint named nobody"),
    ] {
        let complaint = complaint(&world, line).await;
        assert!(complaint.contains(said) && complaint.lines().count() == 1, "{line}: {complaint}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_ones_own_comes_from_a_file_and_is_not_printed() {
    let world = World::new().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, format!("{}\n", super::SECRET)).unwrap();
    let added = told(&world, &format!("add https://a.example/ --secret-file {}", path.display())).await;
    assert_eq!(added, "endpoint_1 is added\n");
    assert_eq!(world.value("select secret from restante.endpoint").await, super::SECRET);
}
