//! Databases that are not UTF8: `migrate` refuses them before it makes anything, and prints the line that makes a right one.

use super::*;

/// A new database with an encoding.
async fn encoded(encoding: &str) -> SecretString {
    let url = cluster::empty_database().await;
    let mut connection = stranger(&url).await;
    let name = format!("{}_{}", name(&mut connection).await, encoding.to_lowercase());
    execute(
        &mut connection,
        &format!("create database {name} template template0 encoding '{encoding}' locale 'C'"),
    )
    .await;
    at(&url, &name)
}

/// Another database of the same server.
fn at(url: &SecretString, database: &str) -> SecretString {
    let mut url = url::Url::parse(url.expose_secret()).unwrap();
    url.set_path(database);
    SecretString::from(String::from(url))
}

#[tokio::test]
async fn a_database_that_is_not_utf8_is_refused_with_the_line_that_makes_a_right_one() {
    for encoding in ["SQL_ASCII", "LATIN1", "EUC_JP", "WIN1252"] {
        let url = encoded(encoding).await;

        let refused = database::migrate(&url).await.unwrap_err().to_string();

        assert!(refused.contains(&format!(" is {encoding}, ")), "{refused}");
        let schema = "select to_regnamespace('restante') is null";
        let is_untouched: bool =
            sqlx::query_scalar(schema).fetch_one(&mut stranger(&url).await).await.unwrap();
        assert!(is_untouched);
        let (_, line) = refused.split_once("another database: ").unwrap();
        execute(&mut stranger(&url).await, line).await;
        let other = line.split(' ').nth(2).unwrap();
        database::migrate(&at(&url, other)).await.unwrap();
    }
}
