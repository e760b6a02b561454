//! Servers that are started, crashed, started again and left behind by a parent that was killed.

use std::env;

use sqlx::{Connection, PgConnection};

use super::*;

fn settings(durability: Durability) -> Settings {
    Settings {
        pg_bin: env::var_os("PG_BIN").map(PathBuf::from),
        path: env::var_os("PATH"),
        parent: env::temp_dir(),
        durability,
        options: vec![("work_mem".into(), "5MB".into())],
    }
}

/// Runs statements one by one and returns the result of the last one, a query for a text.
fn answer(url: &str, statements: &[&'static str]) -> Result<String, sqlx::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await?;
        let (last, before) = statements.split_last().unwrap();
        for statement in before {
            sqlx::query(*statement).execute(&mut connection).await?;
        }
        sqlx::query_scalar(*last).fetch_one(&mut connection).await
    })
}

#[test]
fn a_private_postgres_answers_its_owner_only_and_leaves_nothing() {
    let postgres = PrivatePostgres::start(&settings(Durability::ForTests)).unwrap();
    let url = postgres.url("postgres");
    let fresh = "select concat_ws(' ', current_user, current_setting('server_encoding'), \
                 current_setting('fsync'), current_setting('work_mem'), current_setting('max_connections'))";
    assert_eq!(answer(&url, &[fresh]).unwrap(), "postgres UTF8 off 5MB 500");
    assert_eq!(answer(&url, &[r#"create database "a b/c""#, "select 'made'"]).unwrap(), "made");
    assert_eq!(answer(&postgres.url("a b/c"), &["select current_database()::text"]).unwrap(), "a b/c");

    let password = postgres.password.expose_secret();
    assert!(!format!("{postgres:?}").contains(password));
    let refused = answer(&url.replace(password, "guessed"), &["select 'let in'"]).unwrap_err();
    assert!(refused.to_string().contains("password authentication failed"), "{refused}");

    let (directory, pid) = (postgres.cluster.directory.clone(), postgres.server.pid());
    postgres.stop().unwrap();
    assert!(!directory.exists());
    assert!(!is_running(pid));
}

#[test]
fn a_durable_cluster_keeps_over_a_crash_what_was_committed() {
    let mut postgres = PrivatePostgres::start(&settings(Durability::Durable)).unwrap();
    let url = postgres.url("postgres");
    answer(&url, &["create table kept (word text)", "insert into kept values ('kept') returning word"])
        .unwrap();
    let crashed = postgres.server.pid();
    postgres.kill_hard().unwrap();
    assert!(!is_running(crashed));
    assert!(answer(&url, &["select word from kept"]).is_err());

    postgres.restart().unwrap();
    assert_eq!(answer(&url, &["select word from kept"]).unwrap(), "kept");
    postgres.restart().unwrap();
    assert_eq!(
        answer(&url, &["select word from kept"]).unwrap(),
        "kept",
        "a running server may be restarted"
    );

    let directory = postgres.cluster.directory.clone();
    drop(postgres);
    assert!(!directory.exists());
}

#[test]
fn a_server_that_does_not_start_says_why_and_leaves_nothing() {
    let parent = tempfile::tempdir_in(env::temp_dir()).unwrap();
    // The account that runs Postgres needs access to the directories below.
    fs::set_permissions(parent.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let mut settings = settings(Durability::ForTests);
    settings.parent = parent.path().to_owned();
    settings.options.push(("no_such_setting".into(), "1".into()));
    let error = PrivatePostgres::start(&settings).unwrap_err();
    assert!(
        matches!(&error, Error::GaveUp { program: "postgres", log } if log.contains("no_such_setting")),
        "{error}"
    );
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
}

/// Runs itself a second time as the parent that is killed.
#[test]
fn a_killed_parent_leaves_no_server_and_no_data() {
    const ROLE: &str = "RESTANTE_TEST_PARENT_OF_POSTGRES";
    if let Some(parent) = env::var_os(ROLE) {
        let mut settings = settings(Durability::ForTests);
        settings.parent = parent.into();
        let postgres = PrivatePostgres::start(&settings).unwrap();
        fs::write(settings.parent.join("started"), postgres.server.pid().to_string()).unwrap();
        loop {
            thread::park();
        }
    }

    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "in vain: {what}");
            thread::sleep(POLL_INTERVAL);
        }
    };
    let directory = tempfile::tempdir_in(env::temp_dir()).unwrap();
    // The account that runs Postgres needs access, and must be able to remove its own directory at the end.
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o1777)).unwrap();
    let mut parent = std::process::Command::new(env::current_exe().unwrap())
        .args(["--exact", "postgres::tests::a_killed_parent_leaves_no_server_and_no_data", "--nocapture"])
        .env(ROLE, directory.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let started = directory.path().join("started");
    let pid = || fs::read_to_string(&started).ok().and_then(|pid| pid.parse().ok());
    until("the server starts", &|| pid().is_some());
    let pid = pid().unwrap();
    assert!(is_running(pid));

    parent.kill().unwrap();
    parent.wait().unwrap();

    until("the server is gone", &|| !is_running(pid));
    until("its data is removed", &|| fs::read_dir(directory.path()).unwrap().count() == 1);
}
