//! What a person, or a copy, has changed about the tables.

use expect_test::expect_file;

use super::super::tables;
use super::Environment;

async fn is_found_and_mended(broken_by: &str, subject: &str, says: &str, sql: &str) {
    let environment = Environment::new().await;
    environment.sql(broken_by).await;
    environment.is_mended_by(subject, says, sql).await;
}

#[tokio::test]
async fn a_trigger_that_was_switched_off() {
    let broken = "alter table restante.outbox disable trigger outbox_guard_statement";
    let says = "a trigger does not run: outbox_guard_statement on outbox";
    let sql = "alter table restante.outbox enable trigger outbox_guard_statement";
    is_found_and_mended(broken, "tables", says, sql).await;
}

#[tokio::test]
async fn an_index_that_was_not_finished() {
    let broken =
        "update pg_index set indisvalid = false where indexrelid = 'restante.outbox_live_head'::regclass";
    let says = "an index is not valid: outbox_live_head";
    is_found_and_mended(broken, "tables", says, "reindex index restante.outbox_live_head").await;
}

#[tokio::test]
async fn an_index_that_was_dropped() {
    let says = "an index of the migrations is missing: message_key";
    let sql = "CREATE INDEX message_key ON restante.message";
    is_found_and_mended("drop index restante.message_key", "tables", says, sql).await;
}

#[tokio::test]
async fn the_list_of_indexes_has_what_the_migrations_make() {
    let mut connection = Environment::new().await.admin().await;
    let indexes = tables::indexes(&mut connection).await.unwrap();
    let lines: String = indexes.into_iter().map(|(_, statement)| statement + "\n").collect();

    expect_file!["../indexes.txt"].assert_eq(&lines);
}

#[tokio::test]
async fn a_table_that_a_crash_would_empty() {
    let broken = "alter table restante.outbox_seen set unlogged";
    let says = "a table is unlogged: outbox_seen";
    is_found_and_mended(broken, "tables", says, "alter table restante.outbox_seen set logged").await;
}

#[tokio::test]
async fn a_table_that_vacuum_passes_over() {
    let broken = "alter table restante.outbox_live set (autovacuum_enabled = off)";
    let says = "autovacuum is off for a table: outbox_live";
    is_found_and_mended(broken, "tables", says, "reset (autovacuum_enabled)").await;
}

#[tokio::test]
async fn a_table_without_room_for_updates_in_place() {
    let broken = "alter table restante.outbox_live reset (fillfactor)";
    is_found_and_mended(broken, "tables", "leaves no room in its pages", "set (fillfactor = 45)").await;
}

#[tokio::test]
async fn a_table_whose_rows_are_hidden() {
    let broken = "alter table restante.outbox_live enable row level security";
    let says = "a table has row level security: outbox_live";
    is_found_and_mended(broken, "tables", says, "disable row level security").await;
}

#[tokio::test]
async fn a_table_that_is_open_to_everybody() {
    let broken = "grant select on restante.endpoint to public";
    let says = "everybody may use a table: endpoint";
    is_found_and_mended(broken, "tables", says, "revoke all on restante.endpoint from public").await;
}

#[tokio::test]
async fn a_table_that_a_publication_of_all_tables_makes_unchangeable() {
    let broken = "alter table restante.outbox_overflow replica identity nothing";
    let says = "1 tables have no replica identity, such as outbox_overflow";
    is_found_and_mended(broken, "replication", says, "replica identity full").await;
}

#[tokio::test]
async fn a_week_without_its_partition() {
    let broken = r#"do $$ begin execute 'drop table restante.'
        || to_char(date_trunc('week', now() at time zone 'UTC'), '"outbox_"IYYY"w"IW'); end $$"#;
    is_found_and_mended(
        broken,
        "partitions",
        "1 of those for this week",
        "select restante.make_partitions()",
    )
    .await;
}

#[tokio::test]
async fn a_key_that_nothing_lets_go_on() {
    let broken = "insert into restante.outbox_live (event_id, type, payload, key, status)
                    values ('f', 't', '{}', 'k', 'blocked')";
    is_found_and_mended(broken, "keys", "1 keys have blocked events", "select restante.sweep(null)").await;
}

#[tokio::test]
async fn events_that_have_no_week() {
    let environment = Environment::new().await;
    environment
        .sql(
            "insert into restante.outbox_overflow (event_id, type, payload, status, finished_at)
               values ('e', 't', '{}', 'done', now() - interval '1 year')",
        )
        .await;

    environment
        .is_told_to("overflow", "1 finished events are in outbox_overflow", "keep a worker running")
        .await;

    environment
        .sql("delete from restante.outbox_overflow where finished_at < now() - interval '180 days'")
        .await;
    environment.is_silent().await;
}
