//! What `restante status` shows of a database, run as an operator runs it.

use std::process::Command;

use expect_test::expect;
use restante::internals::outbox::upkeep::{self, count_unfinished};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::processes::tool;
use crate::support::{Process, World, cluster, eventually};

/// The URL of the world's database with the rights of the operator role and no others.
fn operator_url(world: &World) -> String {
    format!("{}?options[role]=restante_operator", world.url.expose_secret())
}

/// Runs the command, which has to succeed, and returns its output.
fn status(world: &World, arguments: &[&str]) -> String {
    let output = Command::new(tool())
        .arg("status")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", operator_url(world))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A few events in each status, and batches at each stage.
async fn seeded() -> World {
    let world = World::new().await;
    upkeep::subscribe(&world.pool, "orders", &["file.created"]).await.unwrap();
    for dead in ["d1", "d2"] {
        world.receive(dead, "", 0, json!({ "permanent": true })).await;
    }
    world.receive("r1", "", 1, json!({ "fail_until_attempt": 2 })).await;
    world.receive("f1", "", 1, json!({})).await;
    world.work().await;
    world.receive("held", "", 2, json!({})).await;
    world.sql("update restante.outbox set status = 'paused' where event_id = 'held'").await;
    world.value("select restante.pause('message.*')").await;
    for (event_id, key) in [("a1", "a"), ("a2", "a"), ("a3", "a"), ("b1", "b")] {
        world.receive(event_id, key, 3, json!({})).await;
    }
    world.claim(1).await;
    let file = json!({ "type": "event", "id": "file", "data": { "type": "file.created", "id": "file_1" } });
    world.receive_body(&file).await;
    world
        .sql(
            "insert into restante.batch (id, status, processing, succeeded, errored, created_at, ended_at, complete_at,
                                         results_stored, bytes_stored, download_started_at)
             values ('working', 'in_progress', 70, 0, 0, now(), null, null, 0, 0, null),
                    ('ended', 'ended', 0, 10, 0, now(), now(), null, 0, 0, null),
                    ('coming', 'ended', 0, 90, 10, now() - interval '1 day', now(), null, 25, 20000, now()),
                    ('vanished', 'ended', 0, 9, 0, now() - interval '30 days', now(), null, 0, 0, null),
                    ('complete', 'ended', 0, 5, 0, now(), now(), now(), 5, 5000, now())",
        )
        .await;
    // Long enough ago for a slow test to make no difference.
    world.sql("update restante.outbox set received_at = clock_timestamp() - interval '5 minutes'").await;
    world
        .sql("update restante.outbox set run_at = clock_timestamp() + interval '210 minutes' where status = 'retry'")
        .await;
    world
}

#[tokio::test]
async fn the_picture_has_every_status_and_every_batch_that_is_not_complete() {
    let world = seeded().await;

    let text = status(&world, &[]);
    let (_, rest) = text.split_once('\n').unwrap();

    expect![[r#"
        ACT on workers: An event could have been claimed for 5 min. And 1 more: see restante.health_finding.
        ACT on dead: Until a person decides, 2 events are given up: most of them test.ledger.
        the next step of each: select question, next_step, since from restante.health where state <> 'ok'

        NO restante-ingest is connected, NO restante-worker is connected
        the last webhook came 5 min ago

        status    events  oldest  what
        pending        3   5 min  1 file.created, 1 file.created for orders, 1 test.ledger
        running        1   5 min  1 test.ledger
        retry          1   5 min  1 test.ledger
        blocked        2   5 min  2 test.ledger
        paused         1   5 min  1 test.ledger
        dead           2   5 min  2 test.ledger
        standing       1   5 min  1 batch.poll

        subscriber  events  oldest  types
        orders           1   5 min  file.created

        coming    [#####---------------]  25 %  25 of 100  20 kB               vanish in 27 d
        ended     [--------------------]   0 %    0 of 10   0 kB    not begun  vanish in 28 d
        vanished  [--------------------]   0 %     0 of 9   0 kB    not begun  VANISHED 24 h ago
        1 batch under way at the API, with 70 requests

        after a failure: 1 event waits for the next attempt: told to fail; next attempt in 3 h
        held by restante.pause: message.*
        old transactions of other logins cannot be seen: grant pg_read_all_stats to this one

    "#]]
    .assert_eq(rest);
}

#[tokio::test]
async fn submissions_that_are_not_complete_have_a_line_each_and_those_that_need_a_person_come_first() {
    let world = World::new().await;
    world
        .sql("insert into restante.submission (name, tag, status, reason, requests, bytes, created_at)
              select 's' || n, case n when 2 then 'night' end, case n when 1 then 'complete' when 12 then 'uncertain' else 'waiting' end,
                     case n when 12 then 'one of two' end, n * 1000, 1, now() - interval '5 minutes'
                from generate_series(1, 14) as n")
        .await;

    let text = status(&world, &[]);

    let lines: Vec<_> = text.lines().skip_while(|line| !line.starts_with("submission ")).take(13).collect();
    assert_eq!(lines[1], "s12           12,000  5 min  uncertain: a person decides: one of two");
    assert_eq!(lines[2], "s2 [night]     2,000  5 min  waits to be sent");
    assert_eq!(lines[10], "s10           10,000  5 min  waits to be sent");
    assert_eq!(lines[11], "and 3 more that are not complete");
}

#[tokio::test]
async fn the_json_has_what_the_picture_has() {
    let world = seeded().await;

    let snapshot: Value = serde_json::from_str(&status(&world, &["--json"])).unwrap();

    let statuses: Vec<String> = snapshot["statuses"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(status, counted)| format!("{status} {}", counted["events"]))
        .collect();
    assert_eq!(
        statuses,
        ["blocked 2", "dead 2", "paused 1", "pending 3", "retry 1", "running 1", "scheduled 0", "standing 1"]
    );
    assert_eq!(snapshot["paused_types"], json!(["message.*"]));
    assert_eq!(snapshot["subscribers"], json!([{ "subscriber": "orders", "types": ["file.created"] }]));
    let batches: Vec<_> = snapshot["batches"].as_array().unwrap().iter().map(|batch| &batch["id"]).collect();
    assert_eq!(batches, ["coming", "ended", "vanished"]);
    assert_eq!((&snapshot["finished_per_second"], &snapshot["counted_up_to"]), (&Value::Null, &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_a_restart_of_the_database_and_says_so_meanwhile() {
    let (mut postgres, world) = World::on_its_own_postgres().await;
    let url = operator_url(&world);
    let arguments = ["status", "--watch", "0.1", "--json"].map(str::to_owned);
    let mut watch = Process::start_with(tool(), &arguments, &[("DATABASE_URL", &url)]);
    watch.until_logged("looked_at").await;

    postgres.kill_hard().unwrap();
    watch.until_logged("problem").await;
    postgres.restart().unwrap();
    let world = World::on(world.url).await;
    world.receive("after", "", 0, json!({})).await;

    eventually("a look at the database that is back", async || {
        let log = watch.log();
        let last: Value = serde_json::from_str(log.lines().last()?).ok()?;
        (last["statuses"]["pending"]["events"] == 1).then_some(())
    })
    .await;
    assert_eq!(watch.stopped().await, Some(0));
}

#[tokio::test]
async fn the_pace_of_a_batch_shows_from_the_second_look_on() {
    let world = seeded().await;
    let url = operator_url(&world);
    let arguments = ["status", "--watch", "0.1", "--json"].map(str::to_owned);
    let mut watch = Process::start_with(tool(), &arguments, &[("DATABASE_URL", &url)]);
    watch.until_logged("looked_at").await;

    world
        .sql("update restante.batch set results_stored = 75, bytes_stored = 60000 where id = 'coming'")
        .await;
    let batch = eventually("the pace", async || {
        let log = watch.log();
        let last: Value = serde_json::from_str(log.lines().last()?).ok()?;
        let batch = last["batches"].as_array()?.iter().find(|batch| batch["id"] == "coming")?;
        (batch["results_per_second"].as_f64()? > 0.0).then(|| batch.clone())
    })
    .await;
    let (pace, left) =
        (batch["results_per_second"].as_f64().unwrap(), batch["seconds_left"].as_f64().unwrap());
    assert!((left - 25.0 / pace).abs() < 1e-6, "25 of 100 are left: {batch}");

    world
        .sql("update restante.batch set results_stored = 100, complete_at = now() where id = 'coming'")
        .await;
    watch.until_logged(r#""progress":"complete""#).await;
    assert_eq!(watch.stopped().await, Some(0));
}

#[tokio::test]
async fn without_a_database_the_error_says_what_to_do() {
    let empty = cluster::empty_database().await;
    for (url, said) in [
        (None, "DATABASE_URL is not set"),
        (
            Some("postgres://nobody@127.0.0.1:1/none"),
            "the database cannot be reached: no server listens there (127.0.0.1:1",
        ),
        (Some(empty.expose_secret()), "run `restante migrate`"),
    ] {
        let mut command = Command::new(tool());
        command.args(["status", "--watch"]).env_clear().envs(url.map(|url| ("DATABASE_URL", url)));
        let output = command.output().unwrap();

        assert!(!output.status.success() && output.stdout.is_empty());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(said), "{error}");
    }
}

#[tokio::test]
async fn the_gauges_count_each_status_up_to_a_limit() {
    let world = seeded().await;
    let counted = async |limit| {
        let mut counted = count_unfinished(&world.pool, limit).await.unwrap();
        counted.sort_by(|left, right| left.status.cmp(&right.status));
        counted.into_iter().map(|one| format!("{} {}", one.status, one.events)).collect::<Vec<_>>()
    };

    assert_eq!(
        counted(100).await,
        ["blocked 2", "dead 2", "paused 1", "pending 3", "retry 1", "running 1", "standing 1"]
    );
    assert_eq!(counted(1).await.len(), 4, "one row of each lane");
}
