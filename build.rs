//! Gives the query macros of sqlx their metadata, so that the project builds without a database.
//!
//! The macros look for one file per query; the project keeps one reviewable file, `sqlx-data.json`, which is unpacked
//! here. `scripts/sqlx-data` writes that file, with `SQLX_OFFLINE=false`: then the macros ask a database.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs};

use serde_json::Value;

const DATA: &str = "sqlx-data.json";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    // The migrations are compiled in too, and cargo would not notice a new one.
    for path in ["migrations", DATA] {
        println!("cargo::rerun-if-changed={path}");
    }
    for name in ["SQLX_OFFLINE", "SQLX_OFFLINE_DIR"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    if env::var("SQLX_OFFLINE").is_ok_and(|value| value == "false" || value == "0") {
        return Ok(());
    }

    let directory = PathBuf::from(env::var("OUT_DIR")?).join("sqlx");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir(&directory)?;
    for (hash, query) in queries()? {
        fs::write(directory.join(format!("query-{hash}.json")), query.to_string())?;
    }
    // These two override a DATABASE_URL of the environment, or of a .env file in any parent directory.
    println!("cargo::rustc-env=SQLX_OFFLINE=true");
    println!("cargo::rustc-env=SQLX_OFFLINE_DIR={}", directory.display());
    Ok(())
}

fn queries() -> Result<BTreeMap<String, Value>, Failure> {
    let text =
        fs::read_to_string(DATA).map_err(|error| format!("{DATA}: {error}; `make prepare` writes it"))?;
    Ok(serde_json::from_str(&text)
        .map_err(|error| format!("{DATA}: {error}; `make prepare` writes it again"))?)
}
