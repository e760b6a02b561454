//! A right environment, for each login of `deploy/logins.sql`.

use std::process::Command;

use restante_simulator::{self as simulator, Simulator};
use tokio_util::sync::CancellationToken;

use super::super::run;
use super::{DoctorArgs, SERVER, Subject, execute, fresh_name, with_login};

/// A database with the logins of the script, migrated by their owner.
async fn with_logins() -> String {
    let database = fresh_name("doctor");
    execute(&SERVER.url("postgres"), &format!("create database {database}")).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/logins.sql");
    let passwords = ["OWNER", "INGEST", "WORKER", "OPERATOR"];
    let ran = Command::new(SERVER.programs().join("psql"))
        .args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file", script, "--dbname"])
        .arg(SERVER.url(&database))
        .envs(passwords.map(|whose| (format!("DATABASE_PASSWORD_{whose}"), "hush")))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let url = SERVER.url(&database);
    restante::database::migrate(&with_login(&url, "restante_owner_login").into()).await.unwrap();
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_is_silent_with_each_login_that_the_script_makes() {
    let url = with_logins().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let settings = simulator::Settings { seed: Some(1), ..simulator::Settings::default() };
    let stop = CancellationToken::new();
    let serving = tokio::spawn(Simulator::new(settings).serve(listener, stop.clone()));
    let key = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let of_ingest = [("ANTHROPIC_WEBHOOK_SIGNING_KEY", key)];
    let of_worker = [("ANTHROPIC_API_KEY", "sk-test-key"), ("ANTHROPIC_BASE_URL", api.as_str())];

    for (login, subjects, given, tried) in [
        ("owner", &[None][..], &[][..], "right for restante migrate"),
        ("ingest", &[None, Some(Subject::Ingest)], &of_ingest, "an event was tried, and rolled back"),
        ("worker", &[None, Some(Subject::Worker)], &of_worker, "a claim was tried, and rolled back"),
        ("operator", &[None], &[], "right for an operator"),
    ] {
        let url = with_login(&url, &format!("restante_{login}_login"));
        let database = ("DATABASE_URL", url.as_str());
        let variables: Vec<_> = std::iter::once(&database)
            .chain(given)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        for subject in subjects {
            let args = DoctorArgs { subject: *subject, ..DoctorArgs::default() };

            let (told, is_well) = run(&args, &variables).await;

            assert!(is_well && told.lines().all(|line| line.starts_with("ok ")), "{login}: {told}");
            assert!(told.contains(tried), "{login}: {told}");
        }
    }
    let count = "select (select count(*) from restante.outbox_seen) + (select count(*) from restante.outbox_live where type = 'doctor')";
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    let left: i64 = sqlx::query_scalar(count).fetch_one(&mut connection).await.unwrap();
    assert_eq!(left, 0, "the doctor leaves rows");
    stop.cancel();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_program_gets_json_with_the_same_verdicts() {
    let args = DoctorArgs { subject: Some(Subject::Ingest), json: true, ..DoctorArgs::default() };

    let (told, is_well) = run(&args, &[]).await;

    let report: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(!is_well && report["wrong"].as_u64().unwrap() >= 2, "{told}");
}
