//! The alert rules of `deploy/prometheus`, evaluated by Prometheus' own promtool: by series, and by what real services show while
//! faults are made. `make alerts-test` runs these tests, because they need a promtool.

#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test, to panic is to fail, and nothing is public"
)]

#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests beside these use more of it")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use support::api::{Answer, ScriptedApi};
use support::{Delivery, Process, Sender, World, eventually};

fn promtool(arguments: &[&str], directory: &Path) -> String {
    let promtool = std::env::var("PROMTOOL").expect("PROMTOOL, which `make alerts-test` sets");
    let output = Command::new(promtool).args(arguments).current_dir(directory).output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    said
}

fn rules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

#[test]
fn each_rule_fires_by_its_fault_and_by_nothing_less() {
    assert!(promtool(&["check", "rules", "rules.yml"], &rules()).contains("SUCCESS"));
    promtool(&["test", "rules", "rules_test.yml"], &rules());

    let tests = fs::read_to_string(rules().join("rules_test.yml")).unwrap();
    let rules = fs::read_to_string(rules().join("rules.yml")).unwrap();
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.contains(&format!("- name: {alert}\n")), "{alert} has no test");
    }
}

/// What the services show, as series by their names and labels.
type Scrape = BTreeMap<String, String>;

async fn scrape(services: &[(&str, &Process)]) -> Scrape {
    let mut scrape = Scrape::new();
    for (job, process) in services {
        let (_, text) = process.ops("/metrics").await;
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let comma = if labels == "}" { "" } else { "," };
            scrape.insert(format!("{name}{{job=\"{job}\"{comma}{labels}"), value.to_owned());
        }
        scrape.insert(format!("up{{job=\"{job}\"}}"), "1".to_owned());
    }
    scrape
}

/// A test of promtool: an hour of `before`, then half an hour of `after`; no alert in the hour, and these ones in the time after it.
fn unit_test(before: &Scrape, after: &Scrape, alerts: &[&str]) -> String {
    let mut test = format!(
        "rule_files: ['{}']\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n",
        rules().join("rules.yml").display()
    );
    for (series, value) in after {
        let earlier = before.get(series).map_or("_", String::as_str);
        test += &format!("      - {{series: '{series}', values: '{earlier}x60 {value}x30'}}\n");
    }
    let firing = r#"ALERTS{alertstate="firing"}"#;
    let samples: Vec<_> =
        alerts.iter().map(|alert| format!("{{labels: '{{alertname=\"{alert}\"}}', value: 1}}")).collect();
    test += &format!(
        "    promql_expr_test:\n      - {{expr: 'group by (alertname) (max_over_time({firing}[50m]))', eval_time: 59m, exp_samples: []}}\n\
         \x20     - {{expr: 'group by (alertname) (max_over_time({firing}[29m]))', eval_time: 89m, exp_samples: [{}]}}\n",
        samples.join(", ")
    );
    test
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_running_services_raise_their_alerts_and_a_calm_time_raises_none() {
    let (mut postgres, world) = World::on_its_own_postgres().await;
    world.may_leave_running();
    let api = ScriptedApi::new().await;
    let ingest = Process::ingest(&world.url, &[("RESTANTE_INGEST_WAIT_SECONDS", "1")]).await;
    let worker = Process::worker(&world.url, &api.origin, &[]).await;
    let services = [("restante-ingest", &ingest), ("restante-worker", &worker)];
    let sender = Sender::to(ingest.address());
    for number in 0..3 {
        let delivery = Delivery::event(&format!("whe_{number}"), "order.placed", "k");
        assert_eq!(sender.status(&delivery).await, 204);
    }
    let calm = eventually("the worker has looked at the health of a calm outbox", async || {
        let scrape = scrape(&services).await;
        let is_seen = |start: &str| scrape.keys().any(|series| series.starts_with(start));
        (is_seen("restante_health{") && is_seen("restante_events_waiting{")).then_some(scrape)
    })
    .await;

    // A wrong signing key, an event that nobody can handle, a refused API key, and a database that is away.
    for number in 0..4 {
        let forged =
            Delivery::signed_with(b"some other key of 32 bytes, hmm!", &format!("forged_{number}"), "{}");
        assert_eq!(sender.status(&forged).await, 401);
    }
    let nameless = json!({ "type": "event", "id": "whe_dead", "created_at": "2026-11-01T12:00:00Z",
                           "data": { "type": "batch.completed" } });
    assert_eq!(sender.status(&Delivery::new("whe_dead", nameless.to_string())).await, 204);
    api.answer("/v1/sessions/sesn_1", Answer::refusal(401, "authentication_error", ""));
    assert_eq!(sender.status(&Delivery::event("whe_trouble", "session.updated", "sesn_1")).await, 204);
    eventually("the worker has measured the faults", async || {
        let scrape = scrape(&services).await;
        let is = |series: &str, value: &str| scrape.get(series).is_some_and(|found| found == value);
        (is(r#"restante_events_unfinished{job="restante-worker",status="dead"}"#, "1")
            && is(r#"restante_events_waiting{job="restante-worker",reason="repair"}"#, "1")
            && is(r#"restante_health{job="restante-worker",question="dead"}"#, "0"))
        .then_some(())
    })
    .await;
    postgres.kill_hard().unwrap();
    assert_eq!(sender.status(&Delivery::event("whe_away", "order.placed", "k")).await, 503);
    let faulty = scrape(&services).await;

    let directory = tempfile::tempdir().unwrap();
    let alerts = [
        "RestanteDeadLetters",
        "RestanteDeliveriesAreNotStored",
        "RestanteHandlerFails",
        "RestanteHealthSaysAct",
        "RestanteSignaturesAreWrong",
        "RestanteWaitsForARepair",
    ];
    fs::write(directory.path().join("test.yml"), unit_test(&calm, &faulty, &alerts)).unwrap();
    promtool(&["test", "rules", "test.yml"], directory.path());
}
