//! Logins that lack rights, or have more than is good.

use std::fmt::Write;

use expect_test::expect_file;

use super::super::finding::Remedy;
use super::super::granted;
use super::{Environment, Subject};

#[tokio::test]
async fn a_login_without_any_role() {
    let mut environment = Environment::new().await;
    let login = environment.login("").await;

    let says = format!("{login} has none of the four roles");
    environment
        .is_told_to("login", &says, "grant restante_ingest, restante_worker or restante_operator")
        .await;

    environment.sql(&format!("grant restante_ingest to {login}")).await;
    environment.is_silent().await;
}

#[tokio::test]
async fn a_login_that_does_not_inherit_the_rights_of_its_role() {
    let mut environment = Environment::new().await;
    let login = environment.login("noinherit in role restante_ingest").await;

    let says = format!("{login} is a member of restante_ingest, and does not inherit its rights");
    environment.is_mended_by("login", &says, "inherit").await;
}

#[tokio::test]
async fn a_restore_that_left_the_rights_out() {
    let mut environment = Environment::new().await;
    let owner = environment.variables[0].1.clone();
    let login = environment.login("in role restante_ingest").await;
    environment
        .sql(
            "revoke all on all functions in schema restante from restante_ingest;
             revoke all on schema restante from restante_ingest",
        )
        .await;

    let says = format!("{login} is a member of restante_ingest, which has no rights in this database");
    environment
        .is_told_to("login", &says, "restante migrate --grants, with the DATABASE_URL of doctors_owner")
        .await;

    restante::database::grant(&owner.into()).await.unwrap();
    environment.is_silent().await;
}

#[tokio::test]
async fn an_ingest_whose_work_the_database_refuses() {
    let mut environment = Environment::new().await;
    environment.login("in role restante_ingest").await;
    environment
        .sql(
            "create or replace function restante.doctors_refusal() returns trigger language plpgsql as
               $$ begin raise insufficient_privilege; end $$;
             create trigger doctors_refusal before insert on restante.outbox_seen
               for each row execute function restante.doctors_refusal()",
        )
        .await;

    environment.is_told_to("work", "an event was tried and refused", "restante migrate --grants").await;

    environment.sql("drop trigger doctors_refusal on restante.outbox_seen").await;
    environment.is_silent().await;
}

#[tokio::test]
async fn a_worker_with_the_login_of_ingest() {
    let mut environment =
        Environment::new().await.about(Some(Subject::Worker)).with("ANTHROPIC_API_KEY", "sk-test-key");
    let login = environment.login("in role restante_ingest").await;

    let says = format!("{login} lacks the rights of restante-worker");
    let environment = environment.with("ANTHROPIC_BASE_URL", "http://127.0.0.1:1");
    let told = environment.is_told("login", &says).await;

    // The login of ingest is to stay what it is.
    let Remedy::Do(what) = told else { panic!("it is SQL") };
    assert!(
        what.contains("give restante-worker a DATABASE_URL with a login of the role restante_worker"),
        "{what}"
    );
    assert!(!what.contains("grant"), "{what}");
}

#[tokio::test]
async fn a_service_with_the_login_of_a_superuser() {
    let mut environment = Environment::new().await;
    let login = environment.login("superuser").await;

    let says = format!("{login} is a superuser");
    environment.is_told_to("login", &says, "run deploy/logins.sql").await;
}

#[tokio::test]
async fn an_operator_who_does_not_see_the_sessions_of_others() {
    let mut environment = Environment::new().await.about(None);
    let login = environment.login("in role restante_operator").await;

    let says = format!("{login} does not see the sessions of others");
    environment.is_mended_by("login", &says, &format!("grant pg_read_all_stats to {login}")).await;
}

#[tokio::test]
async fn a_login_with_too_few_connections() {
    let mut environment = Environment::new().await;
    let login = environment.login("connection limit 5 in role restante_ingest").await;

    let sql = format!("alter role {login} connection limit 12");
    environment.is_mended_by("connections", "the connection limit of the login is 5", &sql).await;
}

#[tokio::test]
async fn a_database_with_too_few_connections() {
    let environment = Environment::new().await.with("RESTANTE_DATABASE_CONNECTIONS", "30");
    let database = &environment.database;
    environment.sql(&format!("alter database {database} connection limit 20")).await;

    let sql = format!("alter database {database} connection limit 34");
    environment.is_mended_by("connections", "the connection limit of the database is 20", &sql).await;
}

#[tokio::test]
async fn a_worker_that_lacks_a_right_which_few_of_its_handlers_need() {
    let mut environment = Environment::new().await;
    let owner = environment.variables[0].1.clone();
    let login = environment.login("in role restante_worker").await;
    for (right, says) in [
        ("insert on restante.resource", "insert on table resource"),
        ("all on restante.message", "select on table message"),
        ("all on function restante.forget_portion", "execute on function forget_portion("),
    ] {
        environment.sql(&format!("revoke {right} from restante_worker")).await;

        let says = format!("{login} lacks rights that the migrations grant to restante_worker: {says}");
        environment.is_told_to("rights", &says, "restante migrate --grants").await;

        restante::database::grant(&owner.clone().into()).await.unwrap();
        environment.is_silent_about("rights").await;
    }
}

#[tokio::test]
async fn the_list_of_rights_has_what_the_migrations_grant() {
    let environment = Environment::new().await;
    let mut connection = environment.admin().await;
    let mut lines = String::new();
    for role in ["app", "ingest", "operator", "page", "page_replay", "worker"] {
        let role = format!("restante_{role}");
        for (what, mut rights) in granted::of_role(&mut connection, Some(&role)).await.unwrap().0 {
            rights.sort_unstable();
            for right in rights {
                writeln!(lines, "{role}: {right} on {what}").unwrap();
            }
        }
    }

    expect_file!["../granted.txt"].assert_eq(&lines);
}

#[tokio::test]
async fn an_ingest_whose_login_may_do_more_than_it_needs() {
    for (options, says, remedy) in [
        (
            "in role doctors_owner",
            "may act as doctors_owner, who owns the schema",
            "revoke doctors_owner from",
        ),
        ("in role restante_ingest, restante_worker", "may run handlers", "revoke restante_worker from"),
        ("createrole bypassrls in role restante_ingest", "CREATEROLE, BYPASSRLS", "nocreaterole nobypassrls"),
    ] {
        let mut environment = Environment::new().await;
        let login = environment.login(options).await;

        let told = environment.is_told("login", says).await;

        let Remedy::Sql { statements, .. } = told else { panic!("{says}: it is no SQL") };
        assert!(statements.contains(remedy), "{statements}");
        environment.sql_one_by_one(&statements).await;
        environment.sql(&format!("grant restante_ingest to {login}")).await;
        environment.is_silent().await;
    }
}
