//! A schema that is missing, of another release, or in a database of the wrong kind.

use super::{Environment, OWNER, SERVER, execute, fresh_name};

#[tokio::test]
async fn a_database_that_was_not_migrated() {
    let database = fresh_name("doctor");
    execute(&SERVER.url("postgres"), &format!("create database {database} owner {OWNER}")).await;
    let environment = Environment::of(SERVER.url(&database), database);

    environment.is_told_to("schema", "is missing in this database", "restante migrate").await;

    let url = environment.variables[0].1.clone().into();
    restante::database::migrate(&url).await.unwrap();
    environment.is_silent().await;
}

#[tokio::test]
async fn a_database_of_the_release_before() {
    let environment = Environment::new().await;
    environment
        .sql("delete from restante.schema_migration where version = (select max(version) from restante.schema_migration)")
        .await;

    environment.is_told_to("schema", "this program needs", "restante migrate").await;
}

#[tokio::test]
async fn a_database_of_a_later_release() {
    let environment = Environment::new().await;
    environment
        .sql(
            "insert into restante.schema_migration (version, description, success, checksum, execution_time)
               values (9999, 'later', true, '', 0);
             create or replace function restante.serves_programs_since() returns bigint language sql as 'select 9999::bigint'",
        )
        .await;

    environment
        .is_told_to("schema", "is at version 9999", "run a release of Restante that is at least as new")
        .await;
}

#[tokio::test]
async fn a_database_that_cannot_hold_every_character() {
    let database = fresh_name("doctor");
    let make = format!(
        "create database {database} owner {OWNER} template template0 encoding 'SQL_ASCII' locale 'C'"
    );
    execute(&SERVER.url("postgres"), &make).await;
    let environment = Environment::of(SERVER.url(&database), database.clone());
    let told = environment.is_told("encoding", "is SQL_ASCII").await;

    let super::Remedy::Sql { statements, .. } = told else { panic!("no SQL") };
    execute(&SERVER.url("postgres"), &statements).await;

    let better = format!("{database}_utf8");
    let environment = Environment::of(SERVER.url(&better), better);
    let told = super::rendered(&environment.examined().await);
    assert!(told.contains("encoding") && told.contains("is UTF8"), "{told}");
}
