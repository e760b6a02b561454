//! The programs of a release, under logins that have the rights of their roles and no more.

use std::path::PathBuf;

use restante::database;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Executor};

use crate::support::Process;
use crate::support::processes::WORKER;

/// The directory with the programs of one release.
pub struct Release(PathBuf);

impl Release {
    /// Those that `scripts/release-before` has built.
    pub fn before() -> Self {
        let directory = std::env::var_os("RESTANTE_RELEASE_BEFORE").expect("`make upgrade-test` sets it");
        Self(directory.into())
    }

    /// Those of this tree.
    pub fn this() -> Self {
        Self(PathBuf::from(WORKER).parent().unwrap().to_owned())
    }

    fn program(&self, name: &str) -> String {
        let program = self.0.join(name);
        assert!(program.exists(), "{} is missing", program.display());
        program.into_os_string().into_string().unwrap()
    }

    pub async fn migrate(&self, owner: &SecretString) {
        let variables = [("DATABASE_URL", owner.expose_secret())];
        let mut tool = Process::start_with(&self.program("restante"), &["migrate"], &variables);
        let status = tool.ended().await;
        assert!(status.success(), "{}", tool.log());
    }

    /// An ingest that receives deliveries, and after SIGTERM still takes them for as long as a proxy needs to notice.
    pub async fn ingest(&self, database: &SecretString) -> Process {
        Process::ingest_of(&self.program("restante-ingest"), database, &[("RESTANTE_LINGER_SECONDS", "3")])
            .await
    }

    /// A worker that works.
    pub async fn worker(&self, database: &SecretString, api: &str) -> Process {
        let quick = [("RESTANTE_BATCH_POLL_SECONDS", "1")];
        Process::worker_of(&self.program("restante-worker"), database, api, &quick).await
    }
}

/// The URLs of a database for each role.
pub struct Logins {
    pub ingest: SecretString,
    pub worker: SecretString,
    pub application: SecretString,
}

/// Makes a login for each role.
pub async fn logins(owner: &SecretString) -> Logins {
    let mut connection = database::connect(owner, "test").await.unwrap();
    for role in ["ingest", "worker", "app"] {
        let make = format!("create role upgrade_{role} login password 'secret' in role restante_{role}");
        connection.execute(AssertSqlSafe(make)).await.unwrap();
    }
    let of = |role: &str| {
        let mut url: url::Url = owner.expose_secret().parse().unwrap();
        url.set_username(&format!("upgrade_{role}")).unwrap();
        url.set_password(Some("secret")).unwrap();
        SecretString::from(String::from(url))
    };
    Logins { ingest: of("ingest"), worker: of("worker"), application: of("app") }
}
