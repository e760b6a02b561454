//! PgBouncer, in each of its modes, between the programs and Postgres. `make world-test` runs these tests, because they need
//! a PgBouncer on the PATH.

#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test, to panic is to fail, and nothing is public"
)]

#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the tests beside these use more of it")]
mod support;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;

use restante::database::{self, Error};
use restante_playground::free_port;
use restante_playground::process::{Guarded, Launch};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{Connection, PgConnection};

use support::api::ScriptedApi;
use support::processes::{INGEST, WORKER, tool};
use support::servers::{self, Server};
use support::{Process, Sender, World, eventually};

/// A PgBouncer in front of a server. Dropping it ends it.
struct Pooler {
    url: SecretString,
    directory: PathBuf,
    _running: Guarded,
}

impl Pooler {
    /// Starts it with the defaults of its package, except its mode and its number of sessions.
    async fn before(server: &Server, mode: &str, sessions: u32) -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        let port = free_port().unwrap();
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = {mode}\ndefault_pool_size = {sessions}\nmax_client_conn = 200\n",
            server.port
        );
        // Without passwords, every client connects to the database as this user.
        let settings = settings.replace("port=", "user=postgres port=");
        let file = directory.join("pgbouncer.ini");
        fs::write(&file, settings).unwrap();
        let mut launch = Launch::new("pgbouncer", directory.join("log"))
            .args([OsString::from(&file)])
            .current_dir("/")
            .remove_at_end(&directory);
        if let Some((uid, gid)) = servers::account() {
            chown(&directory, Some(uid), Some(gid)).unwrap();
            chown(&file, Some(uid), Some(gid)).unwrap();
            launch = launch.run_as(uid, gid);
        }
        let running = launch.spawn().expect("a pgbouncer on the PATH");
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let pooler = Self { url: SecretString::from(url), directory, _running: running };
        eventually("the pooler lets somebody in", async || {
            let options: sqlx::postgres::PgConnectOptions = pooler.url.expose_secret().parse().unwrap();
            let connection = PgConnection::connect_with(&options.extra_float_digits(None)).await;
            connection.map_err(|error| eprintln!("{error} {}", pooler.log())).ok()?.close().await.ok()
        })
        .await;
        pooler
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_session_mode_is_as_good_as_none() {
    let server = Server::primary().await;
    let pooler = Pooler::before(&server, "session", 60).await;
    database::migrate(&pooler.url).await.unwrap();
    let api = ScriptedApi::new().await;
    api.batch(&api.ended("b", [0, 0, 0, 1]));
    api.results(
        "b",
        support::api::Answer::stream("{\"custom_id\":\"a\",\"result\":{\"type\":\"expired\"}}\n"),
    );
    let ingest = Process::ingest(&pooler.url, &[]).await;
    let mut worker = Process::worker(&pooler.url, &api.origin, &[]).await;
    let sender = Sender::to(ingest.address());

    for number in 0..100 {
        sender.insist(&format!("e{number}"), "test.other", &format!("k{}", number % 9)).await;
    }
    sender.insist("ended", "batch.completed", "b").await;

    let world = World::on(server.url()).await;
    eventually("all of it is done", async || {
        let finished = "select count(*) from restante.outbox where status in ('ignored', 'done')";
        (world.value(finished).await == "101").then_some(())
    })
    .await;
    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
    assert_eq!(world.value("select count(*) from restante.batch_result").await, "1");
    for process in [&ingest, &worker] {
        let (status, said) = process.ops("/readyz").await;
        assert_eq!(status, 200, "{said}");
    }
    // Notifications arrive, and the sessions have the settings that they need.
    let synchronous =
        "select count(*) from pg_stat_activity where query like 'LISTEN%' or query like 'listen%'";
    assert_eq!(world.value(synchronous).await, "1");
    assert_eq!(worker.stopped().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_keeps_no_session_is_refused_with_a_sentence() {
    let server = Server::primary().await;
    database::migrate(&server.url()).await.unwrap();
    let api = ScriptedApi::new().await;
    // One session for all connections, a few, and more than the programs open.
    for sessions in [1, 3, 60] {
        let pooler = Pooler::before(&server, "transaction", sessions).await;

        let refused = database::migrate(&pooler.url).await.unwrap_err();
        assert!(matches!(refused, Error::TransactionPooler), "{refused}: {}", pooler.log());
        let url = pooler.url.expose_secret();
        let signing_key = support::sender::signing_key();
        for (program, variables) in [
            (
                INGEST,
                vec![
                    ("DATABASE_URL", url),
                    ("ANTHROPIC_WEBHOOK_SIGNING_KEY", &signing_key),
                    ("RESTANTE_LISTEN", "127.0.0.1:0"),
                ],
            ),
            (
                WORKER,
                vec![
                    ("DATABASE_URL", url),
                    ("ANTHROPIC_API_KEY", "sk-key"),
                    ("ANTHROPIC_BASE_URL", &api.origin),
                ],
            ),
        ] {
            let mut process =
                Process::start(program, &[variables, vec![("RESTANTE_OPS_LISTEN", "127.0.0.1:0")]].concat());
            assert_eq!(process.ended().await.code(), Some(1), "{program}");
            let log = process.log();
            assert!(log.contains("they go through a pooler in transaction mode"), "{program}: {log}");
        }
        let mut doctor = Process::start_with(tool(), &["doctor"], &[("DATABASE_URL", url)]);
        doctor.ended().await;
        assert!(doctor.log().contains("the services refuse to start"), "{}", doctor.log());
    }
}
