//! The metrics: what running services show is what the page says, and what the rules and the dashboard ask for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::sender::Delivery;
use crate::support::{Process, Sender, SimulatedApi, World, eventually};
use crate::tidy::files;

/// The names of metrics, without what a histogram adds to its name, each with its labels and their values.
type Shown = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

fn base(name: &str) -> &str {
    ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name)
}

fn add(shown: &mut Shown, text: &str) {
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let of_metric = shown.entry(base(name).to_owned()).or_default();
        for label in labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once("=\"").unwrap();
            of_metric.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
        }
    }
}

/// What an ingest with a journal and a worker show, each with a collector that is away, once each has done something of everything.
async fn shown() -> Shown {
    let world = World::new().await;
    let api = SimulatedApi::start().await;
    let journal = tempfile::tempdir().unwrap();
    let traced = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let folder = [("RESTANTE_JOURNAL_DIR", journal.path().to_str().unwrap())];
    let mut ingest = Process::ingest(&world.url, &[&traced[..], &folder].concat()).await;
    let mut worker = Process::worker(&world.url, &api.url, &traced).await;
    let sender = Sender::to(ingest.address());
    let batch = api.batch(2).await;
    for (number, event_type) in ["order.placed", "made.up", "x9.y", "batch.completed"].iter().enumerate() {
        let delivery = Delivery::event(&format!("whe_{number}"), event_type, &batch);
        assert_eq!(sender.status(&delivery).await, 204);
    }
    let nameless = json!({ "type": "event", "id": "whe_dead", "data": { "type": "batch.completed" } });
    assert_eq!(sender.status(&Delivery::new("whe_dead", nameless.to_string())).await, 204);

    let shown = eventually("the worker has looked at everything", async || {
        let mut shown = Shown::new();
        add(&mut shown, &ingest.ops("/metrics").await.1);
        add(&mut shown, &worker.ops("/metrics").await.1);
        let last = [
            "restante_health",
            "restante_api_wait_seconds",
            "restante_attempt_seconds",
            "restante_trace_exports_total",
        ];
        last.iter().all(|name| shown.contains_key(*name)).then_some(shown)
    })
    .await;
    assert_eq!((ingest.stopped().await, worker.stopped().await), (Some(0), Some(0)));
    shown
}

/// The names of metrics in an expression, each with the labels that it asks for.
fn asked_for(expression: &str) -> Vec<(String, Vec<(String, String)>)> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let mut asked = Vec::new();
    for (start, _) in expression.match_indices("restante_") {
        let rest = &expression[start..];
        let (name, rest) = rest.split_at(rest.find(|c| !is_of_name(c)).unwrap_or(rest.len()));
        let matchers =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
        let labels = matchers.split("\",").filter(|matcher| !matcher.is_empty()).flat_map(|matcher| {
            let (label, value) = matcher.split_once(['=']).unwrap();
            let (label, value) =
                (label.trim().to_owned(), value.trim_start_matches('~').trim_matches('"').to_owned());
            value.split('|').map(|value| (label.clone(), value.to_owned())).collect::<Vec<_>>()
        });
        asked.push((base(name).to_owned(), labels.collect()));
    }
    asked
}

fn expressions_of_rules() -> Vec<String> {
    let rules: Value = serde_saphyr::from_str(&file("deploy/prometheus/rules.yml")).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let rules = groups.flat_map(|group| group["rules"].as_array().unwrap());
    rules.map(|rule| rule["expr"].as_str().unwrap().to_owned()).collect()
}

fn expressions_of_dashboard() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(&file("deploy/grafana/restante.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

fn file(path: &str) -> String {
    let found = files(path.rsplit_once('/').unwrap().0, &[path.rsplit_once('/').unwrap().1]);
    found[0].text.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_the_rules_and_the_dashboard_speak_of_what_running_services_show() {
    let shown = shown().await;

    let page = include_str!("../../docs/metrics.md");
    let told: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    let there: BTreeSet<&str> = shown.keys().map(String::as_str).collect();
    assert_eq!(told, there, "docs/metrics.md has a section for each metric, and for nothing else");

    let (rules, dashboard) = (expressions_of_rules(), expressions_of_dashboard());
    assert!(rules.len() >= 15 && dashboard.len() >= 15, "{} {}", rules.len(), dashboard.len());
    for expression in rules.iter().chain(&dashboard) {
        for (name, labels) in asked_for(expression) {
            let of_metric = shown.get(&name).unwrap_or_else(|| panic!("nobody shows {name}: {expression}"));
            for (label, value) in labels {
                let values =
                    of_metric.get(&label).unwrap_or_else(|| panic!("{name} has no {label}: {expression}"));
                assert!(values.contains(&value), "{name} has no {label}={value}: {expression}");
            }
        }
    }

    let types = &shown["restante_attempts_total"]["event_type"];
    assert!(types.contains("other") && types.contains("session.*"), "{types:?}");
    for outside in ["order.placed", "made.up", "x9.y", "session.status_idled"] {
        assert!(!types.contains(outside), "a type from outside is no label of its own: {types:?}");
    }
    for (name, labels) in &shown {
        let of_convention =
            name.starts_with("restante_") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        assert!(of_convention, "{name}");
        for (label, values) in labels.iter().filter(|(label, _)| *label != "le") {
            assert!(values.len() <= 40, "{name} has {} values of {label}", values.len());
        }
    }
}
