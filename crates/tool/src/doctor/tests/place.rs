//! A database that cannot be reached.

use super::{Environment, Subject};
use url::Url;

async fn is_unreachable(change: fn(&mut Url), says: &str, to_do: &str) {
    let environment = Environment::new().await;
    let mut url: Url = environment.variables[0].1.parse().unwrap();
    change(&mut url);
    let environment = environment.with("DATABASE_URL", url.as_str());

    environment.is_told_to("database", says, to_do).await;

    let told = super::rendered(&environment.examined().await);
    assert_eq!(told.matches(says).count(), 1, "{told}");
    for absent in ["at line", "error returned"] {
        assert!(!told.contains(absent), "{absent}: {told}");
    }
}

#[tokio::test]
async fn a_wrong_password() {
    let change = |url: &mut Url| url.set_password(Some("hushed")).unwrap();
    is_unreachable(change, "password authentication failed", "give the password of doctors_owner").await;
}

#[tokio::test]
async fn a_database_that_is_not_there() {
    let change = |url: &mut Url| url.set_path("/none");
    is_unreachable(change, "database \"none\" does not exist", "create the database none").await;
}

#[tokio::test]
async fn a_server_that_is_not_started() {
    let change = |url: &mut Url| url.set_port(Some(1)).unwrap();
    is_unreachable(change, "no server listens there", "start Postgres").await;
}

#[tokio::test]
async fn a_host_that_nobody_knows() {
    let change = |url: &mut Url| url.set_host(Some("no-such-host.invalid")).unwrap();
    is_unreachable(change, "the host no-such-host.invalid is not known", "correct the host").await;
}

#[tokio::test]
async fn a_server_without_encryption_where_it_is_asked_for() {
    let change = |url: &mut Url| url.set_query(Some("sslmode=require"));
    is_unreachable(change, "there is no encrypted connection", "set the sslmode").await;
}

#[tokio::test]
async fn a_server_that_takes_the_connection_and_says_nothing() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u:hush@{}/d", listener.local_addr().unwrap());
    let environment = Environment::of(url.clone(), "d".to_owned()).with("DATABASE_URL", &url);

    environment.is_told("database", "there is no answer").await;
}

#[tokio::test]
async fn no_database_at_all() {
    let environment = Environment::of("postgres://h/d".to_owned(), "d".to_owned()).with("DATABASE_URL", "");
    let environment = environment.about(Some(Subject::Ingest));

    environment.is_told_to("database", "DATABASE_URL is not set", "set it, as in .env.example").await;
}
