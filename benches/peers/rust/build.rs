//! Tells where the migrations of sqlxmq are: its documentation asks for a copy of them, and cargo has one already.

use std::path::Path;
use std::process::Command;

fn main() {
    let cargo = std::env::var("CARGO").expect("cargo names itself");
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--locked"])
        .output()
        .expect("cargo tells of its packages");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("as JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let sqlxmq = packages.iter().find(|package| package["name"] == "sqlxmq").expect("sqlxmq is among them");
    let manifest = Path::new(sqlxmq["manifest_path"].as_str().expect("it has a manifest"));
    let migrations = manifest.with_file_name("migrations");
    println!("cargo::rustc-env=SQLXMQ_MIGRATIONS={}", migrations.display());
    println!("cargo::rerun-if-changed=Cargo.lock");
}
