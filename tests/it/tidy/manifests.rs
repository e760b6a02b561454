//! Which crate may know which: what the manifests say.

use std::collections::BTreeSet;

use super::file;

/// The crates of ours that a manifest names in one of its tables.
fn ours(manifest: &str, table: &str) -> BTreeSet<String> {
    let text = file(manifest);
    let (_, rest) =
        text.split_once(&format!("\n[{table}]\n")).unwrap_or_else(|| panic!("{manifest}: no [{table}]"));
    let lines = rest.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| name.starts_with("restante") || *name == "orders-worker").map(str::to_owned).collect()
}

#[test]
fn a_crate_knows_those_it_needs_and_no_others() {
    for (manifest, table, known) in [
        // What a team builds its worker with brings nothing of ours along.
        ("Cargo.toml", "dependencies", &[][..]),
        // One misreading of the API's documents would be made on both sides.
        ("crates/simulator/Cargo.toml", "dependencies", &[]),
        ("crates/playground/Cargo.toml", "dependencies", &["restante"]),
        (
            "crates/tool/Cargo.toml",
            "dependencies",
            &["restante", "restante-playground", "restante-simulator"],
        ),
        ("examples/orders-worker/Cargo.toml", "dependencies", &["restante"]),
        ("examples/orders-worker/Cargo.toml", "dev-dependencies", &["restante-playground"]),
    ] {
        let known: BTreeSet<String> = known.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(ours(manifest, table), known, "{manifest}, [{table}]");
    }
}

#[test]
fn who_takes_only_the_library_gets_none_of_the_crates_of_its_services() {
    let text = file("Cargo.toml");
    let optional = text.lines().filter(|line| line.ends_with("optional = true }")).count();
    for name in ["axum", "hyper", "metrics-exporter-prometheus", "tracing-subscriber"] {
        let line =
            text.lines().find(|line| line.starts_with(&format!("{name} = {{ workspace = true"))).unwrap();
        assert!(line.contains("optional = true"), "{line}: the feature `service` brings it");
    }
    assert_eq!(
        text.matches("    \"dep:").count(),
        optional,
        "each optional crate is of the feature `service`"
    );
    assert!(!text.contains("\ndefault = ["), "the feature `service` is asked for by name");
    assert!(!text.contains("clap = { workspace = true"), "commands are the hand tool's");
}
