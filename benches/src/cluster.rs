//! A private Postgres with durable defaults, and a fresh database for each point.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use restante_playground::postgres::{Durability, PrivatePostgres, Settings};
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, PgPool};

use crate::Bench;

/// The settings that differ from Postgres's defaults. Those of durability do not.
pub(crate) const OPTIONS: [(&str, &str); 3] =
    [("shared_buffers", "1GB"), ("max_wal_size", "4GB"), ("max_connections", "200")];

/// A running server.
pub(crate) struct Cluster {
    server: PrivatePostgres,
    pub pid: u32,
    slow_flush: Option<PathBuf>,
}

/// What a cluster is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// No extension that takes time is loaded.
    Timing,
    /// `pg_stat_statements` is loaded, and its counts do not depend on checkpoints.
    Counting,
    /// Every flush takes 1.5 ms longer, as on a network disk.
    SlowFlush,
}

/// The database of one point.
pub(crate) struct Database {
    pub url: SecretString,
    pub pool: PgPool,
}

impl Cluster {
    pub(crate) async fn start(bench: &Bench, purpose: Purpose) -> anyhow::Result<Self> {
        let pg_bin = bench.pg_bin.clone();
        let slow_flush = match purpose {
            Purpose::SlowFlush => Some(slow_flush_programs(&pg_bin)?),
            _ => None,
        };
        let mut options = OPTIONS.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        if purpose == Purpose::Counting {
            options.push(("shared_preload_libraries".to_owned(), "pg_stat_statements".to_owned()));
            // How many whole pages are written depends on the last checkpoint, and would hide the rest.
            options.push(("full_page_writes".to_owned(), "off".to_owned()));
        }
        let server = PrivatePostgres::start(&Settings {
            pg_bin: Some(slow_flush.clone().unwrap_or(pg_bin)),
            path: None,
            parent: std::env::temp_dir(),
            durability: Durability::Durable,
            options,
        })?;
        let mut connection = PgConnection::connect(&server.url("postgres")).await?;
        // A backend may read the first line of the pid file, which is the server's process id.
        let pid: String = sqlx::query_scalar("select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)")
            .fetch_one(&mut connection)
            .await?;
        Ok(Self { server, pid: pid.parse()?, slow_flush })
    }

    /// A new database with nothing in it.
    pub(crate) async fn empty(&self) -> anyhow::Result<Database> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("point_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.server.url("postgres")).await?;
        connection.execute(AssertSqlSafe(format!("create database {name}"))).await?;
        let url = SecretString::from(self.server.url(&name));
        let pool = PgPoolOptions::new().max_connections(4).connect(url.expose_secret()).await?;
        Ok(Database { url, pool })
    }

    /// A new database with the schema of Restante and the weeks of its history.
    pub(crate) async fn restante(&self) -> anyhow::Result<Database> {
        let database = self.empty().await?;
        restante::database::migrate(&database.url).await?;
        database.run("select restante.make_partitions()").await?;
        Ok(database)
    }

    /// The directory of `psql` and `pgbench`.
    pub(crate) fn programs(&self) -> &Path {
        self.server.programs()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(directory) = &self.slow_flush {
            // If this fails, a script stays in the directory for temporary files.
            let _ = fs::remove_dir_all(directory);
        }
    }
}

impl Database {
    /// Runs statements one after the other.
    pub(crate) async fn run(&self, statements: &str) -> anyhow::Result<()> {
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&self.pool).await.context(statements.to_owned())?;
        Ok(())
    }

    /// The one number of a query.
    pub(crate) async fn number(&self, query: &str) -> anyhow::Result<f64> {
        let query = format!("select ({query})::float8");
        sqlx::query_scalar(AssertSqlSafe(query.clone())).fetch_one(&self.pool).await.context(query)
    }

    /// Fails if a query does not return this count: a benchmark that lost events is worthless.
    pub(crate) async fn expect(&self, query: &str, count: usize) -> anyhow::Result<()> {
        let found = self.number(query).await?;
        anyhow::ensure!(found == count as f64, "{found} found where {count} are expected: {query}");
        Ok(())
    }

    /// Updates statistics and visibility and writes dirty pages, before the clock starts.
    pub(crate) async fn settle(&self) -> anyhow::Result<()> {
        self.run("vacuum analyze").await?;
        self.run("checkpoint").await
    }

    /// Drops the database, so that its rows do not take disk and vacuum time from other points.
    pub(crate) async fn drop(self) -> anyhow::Result<()> {
        let mut admin = url::Url::parse(self.url.expose_secret())?;
        let name = admin.path().trim_start_matches('/').to_owned();
        self.pool.close().await;
        admin.set_path("postgres");
        let mut connection = PgConnection::connect(admin.as_str()).await?;
        connection.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await?;
        Ok(())
    }
}

/// A directory whose `postgres` is the real one with slow flushes.
fn slow_flush_programs(pg_bin: &Path) -> anyhow::Result<PathBuf> {
    let directory = std::env::temp_dir().join(format!("restante-slow-flush-{:016x}", rand::random::<u64>()));
    fs::create_dir(&directory)?;
    // The account that runs Postgres must be able to enter it.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    let (source, library) = (directory.join("slow_flush.c"), directory.join("slow_flush.so"));
    fs::write(&source, include_str!("slow_flush.c"))?;
    let built =
        Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).args([&library, &source]).status()?;
    anyhow::ensure!(built.success(), "cc could not build the library that slows flushes");
    for program in ["postgres", "initdb", "psql", "pgbench"] {
        let preload = if program == "postgres" {
            format!("LD_PRELOAD='{}' ", library.display())
        } else {
            String::new()
        };
        let script = format!("#!/bin/sh\n{preload}exec '{}' \"$@\"\n", pg_bin.join(program).display());
        let path = directory.join(program);
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(directory)
}
