//! The files of the database: after what the receipt says was run, no table, TOAST or index has a trace of what was forgotten.

use secrecy::ExposeSecret;
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{erase_all, forget};
use crate::support::{World, eventually};

/// In everything that the sender, the handlers, the API and people wrote.
pub(super) const CANARY: &str = "CANARY-d41d8cd98f00";
pub(super) const KEY: &str = "customer_7_4711";

/// The relations of this database whose files, or whose files of TOAST, contain a word.
pub(super) async fn files_with(world: &World, word: &str) -> Vec<String> {
    sqlx::query("checkpoint").execute(&world.pool).await.unwrap();
    let found = format!(
        "select distinct coalesce((select t.relname from pg_class as t where t.reltoastrelid = c.oid), c.relname, f.name)::text
           from (select oid from pg_database where datname = current_database()) as d
          cross join lateral pg_ls_dir('base/' || d.oid) as f (name)
           left join pg_class as c on c.relfilenode <> 0 and split_part(f.name, '.', 1) = c.relfilenode::text
          where f.name ~ '^\\d+(\\.\\d+)?$'
            and position('{word}'::bytea in pg_read_binary_file('base/' || d.oid || '/' || f.name, 0, (pg_stat_file('base/' || d.oid || '/' || f.name, true)).size, true)) > 0 order by 1"
    );
    sqlx::query_scalar(AssertSqlSafe(found)).fetch_all(&world.pool).await.unwrap()
}

/// Long enough for TOAST.
fn long() -> String {
    format!("{}{CANARY}{}", "x".repeat(3000), "y".repeat(3000))
}

/// So that a word is found in what is long.
pub(super) async fn keep_uncompressed(world: &World) {
    world
        .sql(
            "do $$ declare c record; begin
               for c in select a.attrelid::regclass as relation, a.attname as name
                          from pg_attribute as a join pg_class as t on t.oid = a.attrelid
                         where t.relnamespace = 'restante'::regnamespace and t.relkind = 'r' and a.attstorage = 'x' and a.attnum > 0
                           and not a.attisdropped loop
                 execute format('alter table %s alter column %I set storage external', c.relation, c.name);
               end loop; end $$",
        )
        .await;
}

/// Runs what the receipts say, until no file has any of these words.
pub(super) async fn empty_of(world: &World, words: &[&str]) {
    let statements = world
        .value("select to_empty_the_files from restante.forget_overview order by length(to_empty_the_files) desc limit 1")
        .await;
    // The tables of a team's own handlers are theirs to empty.
    world.sql("drop table ledger, snoozed").await;
    // While an older transaction is open, such as that of an autovacuum, the old rows stay.
    eventually("the files are empty of it", async || {
        for statement in statements.split(';').filter(|statement| !statement.trim().is_empty()) {
            sqlx::query(AssertSqlSafe(statement)).execute(&world.pool).await.unwrap();
        }
        for word in words {
            if !files_with(world, word).await.is_empty() {
                return None;
            }
        }
        Some(())
    })
    .await;
}

/// Leaves the canary wherever something of a key can be.
async fn fill(world: &World) {
    keep_uncompressed(world).await;
    world.sql("insert into restante.endpoint (name, url, event_types) values ('mine', 'https://a.example/', '{test.*}')").await;
    world.receive("done", KEY, 0, json!({ "text": long() })).await;
    world.receive("retry", KEY, 1, json!({ "text": long(), "fail_until_attempt": 9 })).await;
    world.receive("blocked", KEY, 2, json!({ "text": long() })).await;
    world.receive("retry", KEY, 1, json!({ "text": format!("another {CANARY}") })).await;
    world.sql("update restante.outbox set status = 'paused' where type = 'notify.mine'").await;
    world.work().await;
    for column in ["result = to_json($1::text)", "last_error = $1"] {
        let set = AssertSqlSafe(format!("update restante.outbox set {column}"));
        sqlx::query(set)
            .bind(if column.starts_with('r') { long() } else { CANARY.to_owned() })
            .execute(&world.pool)
            .await
            .unwrap();
    }
    let id = "(select id from restante.outbox where type = 'notify.mine' limit 1)";
    for statement in [
        "update restante.failure set error = $1".to_owned(),
        format!("insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, took, error, answer) values ('mine', {id}, 'ntf', 't', 1, '1 s', $1, $1)"),
        format!("insert into restante.message (key, request, status, text, body, reason, done_at, submission) values ('{KEY}', json_build_object('text', $1::text), 'done', $1, json_build_object('text', $1::text), $1, now(), 'packed')"),
        "insert into restante.message_attempt (message, attempt, sent_as, error, submission) select id, 1, 'batch', $1, 'packed' from restante.message".to_owned(),
        "insert into restante.message_chunk (message, attempt, seq, events, text) select id, 1, 1, json_build_object('text', $1::text), $1 from restante.message".to_owned(),
        "insert into restante.batch (id, status, complete_at) select 'msgbatch_packed', 'ended', now() where $1 is not null".to_owned(),
        "insert into restante.batch_request (submission, custom_id, params) select 'packed', 'm' || id, json_build_object('text', $1::text) from restante.message".to_owned(),
        "insert into restante.submission (name, status, requests, bytes, packs_with) select 'packed', 'complete', 1, 1, 'm' where $1 is not null".to_owned(),
        "insert into restante.submission_part (submission, number, account, status, requests, bytes, batch_id, submitted_at) select 'packed', 1, 'anthropic', 'complete', 1, 1, 'msgbatch_packed', now() where $1 is not null".to_owned(),
        "update restante.batch_request set part = (select id from restante.submission_part) where $1 is not null".to_owned(),
        "insert into restante.batch_result (batch_id, custom_id, outcome, line, text) select 'msgbatch_packed', 'm' || id, 'succeeded', $1, $1 from restante.message".to_owned(),
        format!("insert into restante.resource (type, id, observed_at, body, error_message) values ('vault_thing', '{KEY}', now(), json_build_object('text', $1::text), $1)"),
        format!("insert into restante.resource (type, id, parent_id, observed_at, body) values ('thing', 'child', '{KEY}', now(), json_build_object('text', $1::text))"),
        format!("insert into restante.outcome_evaluation (session_id, outcome_id, iteration, explanation, observed_at) values ('{KEY}', 'o', 1, $1, now())"),
        format!("insert into restante.session_send (session, events, reason) values ('{KEY}', json_build_array($1::text), $1)"),
        format!("insert into restante.missed_change (account, event_id, kind, type, key, subject, payload, happened_at, is_once) values ('anthropic', 'poll', 'k', 't', '{KEY}', '{KEY}', json_build_object('text', $1::text), now(), true)"),
    ] {
        sqlx::query(AssertSqlSafe(statement.as_str())).bind(long()).execute(&world.pool).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    let mut person = PgConnection::connect(world.url.expose_secret()).await.unwrap();
    for statement in [
        format!("set restante.reason = '{CANARY}'"),
        "update restante.outbox set status = 'paused' where event_id = 'blocked'".to_owned(),
        format!("select restante.replay(key => '{KEY}', dry_run => false, reason => '{CANARY}')"),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut person).await.unwrap();
    }
    // So that samples of columns are in pg_statistic.
    sqlx::query("analyze").execute(&world.pool).await.unwrap();
}

#[tokio::test]
async fn no_file_has_a_trace_of_what_was_forgotten_and_it_is_still_a_duplicate() {
    let world = World::new().await;
    fill(&world).await;
    let before = files_with(&world, CANARY).await;
    for table in [
        "outbox_live",
        "failure",
        "delivery_differs",
        "endpoint_delivery",
        "message",
        "message_attempt",
        "message_chunk",
        "batch_request",
        "batch_result",
        "resource",
        "outcome_evaluation",
        "session_send",
        "missed_change",
        "operation",
        "replay",
        "pg_statistic",
    ] {
        assert!(
            before.iter().any(|found| found == table),
            "the canary is not in {table}, so this shows nothing of it: {before:?}"
        );
    }
    assert!(
        files_with(&world, KEY)
            .await
            .iter()
            .any(|file| file == "outbox_live_head" || file == "outbox_live_waiting")
    );

    forget(&world, &format!("key => '{KEY}'")).await;
    erase_all(&world).await;
    empty_of(&world, &[CANARY, KEY]).await;

    for event in ["done", "retry", "blocked"] {
        assert_eq!(world.receive(event, KEY, 0, json!({ "text": CANARY })).await, 0, "{event}");
    }
    assert_eq!(
        files_with(&world, CANARY).await,
        Vec::<String>::new(),
        "what is delivered again leaves nothing"
    );
}
