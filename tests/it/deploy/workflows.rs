//! The workflows of CI and of releases, and what the packaged crate has.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::support::compose_file::project_file;
use crate::support::native_compose::is_there;
use crate::tidy::files;

/// The steps of every job of every workflow.
fn steps() -> Vec<(String, Value)> {
    let mut steps = Vec::new();
    for file in files(".github/workflows", &[".yml"]) {
        let workflow: Value = serde_saphyr::from_str(&file.text).unwrap();
        for (job, of_job) in workflow["jobs"].as_object().unwrap() {
            assert!(of_job["timeout-minutes"].is_u64(), "{}: {job} may run for ever", file.path);
            for step in of_job["steps"].as_array().unwrap() {
                steps.push((format!("{}: {job}", file.path), step.clone()));
            }
        }
        assert_eq!(workflow["permissions"], serde_json::json!({ "contents": "read" }), "{}", file.path);
    }
    assert!(steps.len() > 10);
    steps
}

#[test]
fn what_workflows_use_of_others_is_pinned_to_a_commit() {
    for (place, step) in steps() {
        let Some(used) = step["uses"].as_str() else { continue };
        let (_, commit) = used.split_once('@').unwrap();
        assert!(commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()), "{place}: {used}");
    }
}

#[test]
fn what_workflows_run_of_ours_is_there() {
    let makefile = project_file("Makefile");
    let mut seen = 0;
    for (place, step) in steps() {
        let Some(run) = step["run"].as_str() else { continue };
        if let Some(target) = run.strip_prefix("make ") {
            assert!(makefile.contains(&format!("\n{target}: ")), "{place}: make has no {target}");
            seen += 1;
        } else if run.starts_with("scripts/") || run.starts_with(".ci/") {
            assert!(is_there(run.split(' ').next().unwrap()), "{place}: {run}");
            seen += 1;
        }
    }
    assert!(seen > 5, "only {seen} were found: the test looks in the wrong place");
}

#[test]
fn the_packaged_crate_has_whatever_its_build_reads() {
    let list = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline", "--locked", "--package", "restante"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(list.status.success(), "{}", String::from_utf8_lossy(&list.stderr));
    let list = String::from_utf8(list.stdout).unwrap();
    let packaged: BTreeSet<_> = list.lines().collect();

    let mut needed: Vec<String> =
        ["build.rs", "sqlx-data.json", "Cargo.lock", "README.md", "LICENSE-MIT", "LICENSE-APACHE"]
            .map(str::to_owned)
            .into();
    needed.extend(files("migrations", &[".sql"]).into_iter().map(|file| file.path));
    needed.extend(files("src", &[".rs"]).into_iter().map(|file| file.path));
    for path in &needed {
        assert!(packaged.contains(path.as_str()), "{path} is not in the package");
    }
    for path in packaged {
        assert!(
            ["tests/", "crates/", "deploy/", "docs/", "benches/"]
                .iter()
                .all(|folder| !path.starts_with(folder)),
            "{path} is of no use to who takes the crate"
        );
    }
}
