//! One private Postgres for all tests of this process, and a fresh database for each.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use restante::database;
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use crate::postgres::{Durability, PrivatePostgres, Settings};

const TEMPLATE: &str = "template_restante";

/// It is never dropped; its guard ends it when this process ends.
static CLUSTER: LazyLock<PrivatePostgres> = LazyLock::new(|| {
    let cluster = start(Vec::new());
    // On a thread of its own, because the first test already runs inside a runtime.
    let url = cluster.url("postgres");
    let template = SecretString::from(cluster.url(TEMPLATE));
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            connection.execute(AssertSqlSafe(format!("create database {TEMPLATE}"))).await.unwrap();
            database::migrate(&template).await.unwrap();
            connection
                .execute(AssertSqlSafe(format!(
                    "alter database {TEMPLATE} with is_template true allow_connections false"
                )))
                .await
                .unwrap();
        });
    })
    .join()
    .unwrap();
    cluster
});

/// A separate Postgres for a test that crashes it: after a restart it still has everything that it committed.
///
/// The kernel survives the killed server and keeps what the server wrote, so commits have to reach the kernel, but not
/// the disk.
pub fn start_crashable() -> PrivatePostgres {
    start(vec![("synchronous_commit".to_owned(), "on".to_owned())])
}

fn start(options: Vec<(String, String)>) -> PrivatePostgres {
    PrivatePostgres::start(&Settings {
        pg_bin: std::env::var_os("PG_BIN").map(Into::into),
        path: std::env::var_os("PATH"),
        parent: std::env::temp_dir(),
        durability: Durability::ForTests,
        options,
    })
    .unwrap()
}

/// The URL of a new database with the schema of Restante.
pub async fn fresh_database() -> SecretString {
    let name = fresh_name();
    let mut connection = PgConnection::connect(&CLUSTER.url("postgres")).await.unwrap();
    let create = format!("create database {name} template {TEMPLATE} strategy file_copy");
    connection.execute(AssertSqlSafe(create)).await.unwrap();
    connection.close().await.unwrap();
    SecretString::from(CLUSTER.url(&name))
}

/// The URL of a new, empty database.
pub async fn empty_database() -> SecretString {
    let name = fresh_name();
    let mut connection = PgConnection::connect(&CLUSTER.url("postgres")).await.unwrap();
    connection.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    connection.close().await.unwrap();
    SecretString::from(CLUSTER.url(&name))
}

fn fresh_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
