//! Broken environments, one test each: the doctor names what is wrong and what to do, and what it says to do makes it silent.

mod api;
mod place;
mod public_url;
mod right;
mod rights;
mod schema;
mod server;
mod settings;
mod stand_ins;
mod tables;

use std::env;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use restante_playground::postgres::{Durability, PrivatePostgres, Settings};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use url::Url;

use super::finding::{Finding, Remedy, rendered};
use super::{DoctorArgs, Limits, Subject, examine};

/// The owner of each database: no superuser, and allowed to see who keeps vacuum from cleaning up.
const OWNER: &str = "doctors_owner";

/// The one server of these tests, for what belongs to a database or a login.
static SERVER: LazyLock<PrivatePostgres> = LazyLock::new(|| {
    let server = server(Durability::Durable);
    let url = server.url("postgres");
    // On a thread of its own, because the first test already runs inside a runtime.
    let prepared = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(prepare(&url));
    });
    prepared.join().unwrap();
    server
});

/// A server with the settings that the doctor asks for.
fn server(durability: Durability) -> PrivatePostgres {
    let options = [("max_prepared_transactions", "5"), ("unix_socket_directories", "")];
    PrivatePostgres::start(&Settings {
        pg_bin: env::var_os("PG_BIN").map(Into::into),
        path: env::var_os("PATH"),
        parent: env::temp_dir(),
        durability,
        options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
    })
    .unwrap()
}

/// Makes the owner, the roles that owners may not make, and a database that others are copied from.
async fn prepare(url: &str) {
    for statement in [
        format!("create role {OWNER} login password 'hush' in role pg_read_all_stats").as_str(),
        "create role restante_ingest",
        "create role restante_worker",
        "create role restante_operator",
        "create role restante_app",
        "create role restante_page",
        "create role restante_page_replay",
        format!("create database template_of_doctor owner {OWNER}").as_str(),
    ] {
        execute(url, statement).await;
    }
    let template = with_login(&with_database(url, "template_of_doctor"), OWNER);
    restante::database::migrate(&template.into()).await.unwrap();
}

/// A database, and the variables with which the doctor examines it.
struct Environment {
    /// As a superuser.
    admin_url: String,
    database: String,
    variables: Vec<(String, String)>,
    args: DoctorArgs,
    limits: Limits,
}

impl Environment {
    /// A database as it is meant to be, by its owner, for ingest.
    async fn new() -> Self {
        let database = fresh_name("doctor");
        let statement = format!("create database {database} template template_of_doctor owner {OWNER}");
        execute(&SERVER.url("postgres"), &statement).await;
        Self::of(SERVER.url(&database), database)
    }

    fn of(admin_url: String, database: String) -> Self {
        let variables = [
            ("DATABASE_URL", with_login(&admin_url, OWNER)),
            ("ANTHROPIC_WEBHOOK_SECRET", "a-secret-of-more-than-24-bytes".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let args = DoctorArgs { subject: Some(Subject::Ingest), ..DoctorArgs::default() };
        Self { admin_url, database, variables, args, limits: Limits::default() }
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn about(mut self, subject: Option<Subject>) -> Self {
        self.args.subject = subject;
        self
    }

    /// From now on with a new login, made with these options. Returns its name.
    async fn login(&mut self, options: &str) -> String {
        let name = fresh_name("doctors_login");
        self.sql(&format!("create role {name} login password 'hush' {options}")).await;
        let url = with_login(&self.admin_url, &name);
        let known = self.variables.iter_mut().find(|(known, _)| known == "DATABASE_URL").unwrap();
        known.1 = url;
        name
    }

    /// A connection of a superuser.
    async fn admin(&self) -> PgConnection {
        PgConnection::connect(&self.admin_url).await.unwrap()
    }

    /// As a superuser.
    async fn sql(&self, statement: &str) {
        execute(&self.admin_url, statement).await;
    }

    /// As a person does in psql.
    async fn sql_one_by_one(&self, statements: &str) {
        let mut connection = self.admin().await;
        for statement in statements.split("; ") {
            connection.execute(AssertSqlSafe(statement.to_owned())).await.unwrap();
        }
        connection.close().await.unwrap();
    }

    async fn examined(&self) -> Vec<Finding> {
        let findings = examine(&self.args, &self.variables, self.limits).await;
        let told = rendered(&findings);
        assert!(!told.contains("hush"), "a secret is told: {told}");
        findings
    }

    /// Asserts that the doctor says this of the subject, and returns the remedy.
    async fn is_told(&self, subject: &str, says: &str) -> Remedy {
        let findings = self.examined().await;
        let found = findings.iter().find(|finding| {
            finding.subject == subject && finding.help.is_some() && finding.says.contains(says)
        });
        let told = rendered(&findings);
        found
            .and_then(|finding| finding.help.clone())
            .unwrap_or_else(|| panic!("{subject} {says}: {told}"))
            .remedy
    }

    /// The same, if the remedy is words.
    async fn is_told_to(&self, subject: &str, says: &str, to_do: &str) {
        let Remedy::Do(what) = self.is_told(subject, says).await else { panic!("{subject}: it is SQL") };
        assert!(what.contains(to_do), "{what}");
    }

    /// Asserts that this is all that is wrong, that the doctor says to run this, and that it is silent after that.
    async fn is_mended_by(&self, subject: &str, says: &str, sql: &str) {
        let Remedy::Sql { statements, .. } = self.is_told(subject, says).await else {
            panic!("{subject}: it is no SQL")
        };
        assert!(statements.contains(sql), "{statements}");
        self.sql_one_by_one(&statements).await;
        self.is_silent().await;
    }

    /// Asserts that everything is as it should be in this.
    async fn is_silent_about(&self, subject: &str) {
        let findings = self.examined().await;
        let told = findings.iter().find(|finding| finding.subject == subject && finding.help.is_some());
        assert_eq!(told, None);
    }

    /// Asserts that everything is as it should be.
    async fn is_silent(&self) {
        let findings = self.examined().await;
        assert!(findings.iter().all(|finding| finding.help.is_none()), "{}", rendered(&findings));
    }
}

async fn execute(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let done = connection.execute(AssertSqlSafe(statement.to_owned())).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
    connection.close().await.unwrap();
}

fn with_database(url: &str, database: &str) -> String {
    let mut url: Url = url.parse().unwrap();
    url.set_path(database);
    url.into()
}

fn with_login(url: &str, login: &str) -> String {
    let mut url: Url = url.parse().unwrap();
    url.set_username(login).unwrap();
    url.set_password(Some("hush")).unwrap();
    url.into()
}

fn fresh_name(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
