//! What belongs to a whole server, on one of its own.

use std::time::Duration;

use restante_playground::eventually;
use restante_playground::postgres::{Durability, PrivatePostgres};
use sqlx::{Connection, Executor, PgConnection};

use super::super::finding::Remedy;
use super::{Environment, execute, prepare, server};

/// A server that no other test knows, and a right environment on it.
async fn of_its_own() -> (PrivatePostgres, Environment) {
    let server = server(Durability::Durable);
    let url = server.url("postgres");
    prepare(&url).await;
    let name = "template_of_doctor";
    let environment = Environment::of(server.url(name), name.to_owned());
    (server, environment)
}

#[tokio::test]
async fn a_server_that_may_lose_data_or_does_not_clean_up_or_keeps_its_log_or_old_rows() {
    let (server, mut environment) = of_its_own().await;
    for setting in ["fsync", "full_page_writes", "autovacuum"] {
        is_set_again(&environment, setting).await;
    }
    keeps_its_log_for_nobody(&server, &mut environment).await;
    is_held_back_by_a_prepared_transaction(&mut environment).await;
    is_held_back_by_a_session(&mut environment).await;
}

/// A new session has a setting of the server once the server has read its files again.
async fn is_set_again(environment: &Environment, setting: &str) {
    environment.sql(&format!("alter system set {setting} = off")).await;
    environment.sql("select pg_reload_conf()").await;
    let says = format!("{setting} is off for the whole server");
    eventually("it is off", async || {
        environment.examined().await.iter().any(|finding| finding.says == says).then_some(())
    })
    .await;

    let Remedy::Sql { statements, .. } = environment.is_told("settings", &says).await else {
        panic!("no SQL")
    };
    environment.sql_one_by_one(&statements).await;

    eventually("it is on", async || {
        environment.examined().await.iter().all(|finding| finding.help.is_none()).then_some(())
    })
    .await;
}

async fn keeps_its_log_for_nobody(server: &PrivatePostgres, environment: &mut Environment) {
    let make = "select pg_create_physical_replication_slot('gone', true)";
    execute(&server.url("postgres"), make).await;
    environment.is_silent().await;

    environment.limits.kept_log_bytes = 0;
    environment
        .is_mended_by("slots", "nobody reads from the slot gone", "pg_drop_replication_slot('gone')")
        .await;
}

async fn is_held_back_by_a_prepared_transaction(environment: &mut Environment) {
    let mut connection = PgConnection::connect(&environment.admin_url).await.unwrap();
    connection
        .execute("begin; create table forgotten (); prepare transaction 'it''s forgotten'")
        .await
        .unwrap();
    environment.is_silent().await;

    environment.limits.transaction = Duration::ZERO;
    // Statements and vacuum that run for a moment are transactions too.
    let told = environment.is_told("transactions", "prepared it's forgotten").await;
    let Remedy::Sql { statements, .. } = told else { panic!("no SQL") };
    assert!(statements.contains("rollback prepared 'it''s forgotten'"), "{statements}");
    environment.sql("rollback prepared 'it''s forgotten'").await;
    connection.close().await.unwrap();
    environment.limits.transaction = Duration::from_secs(900);
}

async fn is_held_back_by_a_session(environment: &mut Environment) {
    let mut connection = PgConnection::connect(&environment.admin_url).await.unwrap();
    connection.execute("begin isolation level repeatable read").await.unwrap();
    connection.execute("select 1 from pg_class limit 1").await.unwrap();
    let pid: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await.unwrap();

    environment.limits.transaction = Duration::ZERO;
    let told = environment.is_told("transactions", &format!("session {pid} of postgres")).await;
    let Remedy::Sql { statements, .. } = told else { panic!("no SQL") };
    let ends = format!("select pg_terminate_backend({pid})");
    assert!(statements.contains(&ends), "{statements}");
    environment.sql(&ends).await;
    environment.limits.transaction = Duration::from_secs(900);
    environment.is_silent().await;
}
