//! The schema: how it comes to be, what it says of itself, and that the compiled queries still fit it.

use std::collections::BTreeMap;

use restante::database::{self, Error};
use secrecy::SecretString;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqlSafeStr};

use crate::support::cluster::{empty_database, fresh_database};

async fn connect(url: &SecretString) -> PgConnection {
    database::connect(url, "test").await.unwrap()
}

/// Lines of text, one for each row.
async fn lines(connection: &mut PgConnection, query: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(connection).await.unwrap()
}

/// Every relation, function and trigger, as Postgres itself identifies them, and what the sequence has given out.
async fn fingerprint(connection: &mut PgConnection) -> Vec<String> {
    lines(
        connection,
        "select line from (
           select 'relation ' || oid || ' ' || relfilenode || ' ' || relname as line from pg_class
            where relnamespace = 'restante'::regnamespace
           union all
           select 'function ' || oid || ' ' || xmin || ' ' || proname from pg_proc
            where pronamespace = 'restante'::regnamespace
           union all
           select 'trigger ' || oid || ' ' || xmin || ' ' || tgname from pg_trigger where not tgisinternal
           union all
           select 'migration ' || xmin || ' ' || version from restante.schema_migration) as things order by line",
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn migrating_four_times_at_once_is_safe() {
    let url = empty_database().await;
    let migrations = (0..4).map(|_| {
        let url = url.clone();
        tokio::spawn(async move { database::migrate(&url).await })
    });

    for migration in migrations.collect::<Vec<_>>() {
        let (_, after) = migration.await.unwrap().unwrap();
        assert!(after > 0);
    }

    database::check_schema(&mut connect(&url).await).await.unwrap();
}

#[tokio::test]
async fn a_second_migration_changes_nothing() {
    let url = empty_database().await;
    let (before, after) = database::migrate(&url).await.unwrap();
    assert_eq!(before, 0);
    let mut connection = connect(&url).await;
    let first = fingerprint(&mut connection).await;
    assert!(first.len() > 50, "{first:?}");

    assert_eq!(database::migrate(&url).await.unwrap(), (after, after));

    assert_eq!(fingerprint(&mut connection).await, first);
}

#[tokio::test]
async fn a_newer_schema_that_no_longer_serves_this_program_is_refused_with_what_to_run() {
    let url = fresh_database().await;
    let mut connection = connect(&url).await;
    sqlx::query(
        "insert into restante.schema_migration (version, description, success, checksum, execution_time)
         values (9999, 'of a newer release', true, '', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    database::check_schema(&mut connection).await.expect("a newer schema that serves this program");
    let no_more = "create or replace function restante.serves_programs_since() returns bigint
                   language sql immutable parallel safe return 9999";
    sqlx::query(no_more).execute(&mut connection).await.unwrap();
    let unchanged = fingerprint(&mut connection).await;

    let by_migrate = database::migrate(&url).await.unwrap_err();
    let by_service = database::check_schema(&mut connection).await.unwrap_err();

    for error in [by_migrate, by_service] {
        assert!(matches!(error, Error::SchemaNewer { found: 9999, .. }), "{error}");
        assert!(error.to_string().contains("run a release of Restante that is at least as new"), "{error}");
    }
    assert_eq!(fingerprint(&mut connection).await, unchanged);
}

#[tokio::test]
async fn a_missing_or_older_schema_is_refused_with_what_to_run() {
    let empty = empty_database().await;
    let older = fresh_database().await;
    let newest = "delete from restante.schema_migration
                   where version = (select max(version) from restante.schema_migration)";
    sqlx::query(newest).execute(&mut connect(&older).await).await.unwrap();

    for url in [empty, older] {
        let error = database::check_schema(&mut connect(&url).await).await.unwrap_err();
        assert!(matches!(error, Error::SchemaOlder { .. }), "{error}");
        assert!(error.to_string().ends_with("run `restante migrate`"), "{error}");
    }
}

#[tokio::test]
async fn results_are_compressed_by_lz4_where_the_server_has_it() {
    let mut connection = connect(&fresh_database().await).await;
    let has_lz4 =
        "select ('lz4' = any (enumvals))::text from pg_settings where name = 'default_toast_compression'";
    let has_lz4 = lines(&mut connection, has_lz4).await == ["true"];

    // What a large value was compressed by, and not only what is written of the column.
    let stored = "with r as (
                    insert into restante.batch_result (batch_id, custom_id, outcome, line, text)
                    values ('b', 'a', 'succeeded', repeat('line', 9000), repeat('text', 9000)) returning line, text)
                  select 'inserted' from r";
    assert_eq!(lines(&mut connection, stored).await, ["inserted"]);
    let used = "select concat_ws(' ', pg_column_compression(line), pg_column_compression(text)) from restante.batch_result";
    let expected = if has_lz4 { "lz4 lz4" } else { "pglz pglz" };
    assert_eq!(lines(&mut connection, used).await, [expected]);
    let raw = "select attcompression::text from pg_attribute
                where attrelid = 'restante.batch_result'::regclass and attname = 'raw'";
    assert_eq!(lines(&mut connection, raw).await, [if has_lz4 { "l" } else { "" }]);
}

#[tokio::test]
async fn the_schema_says_of_everything_what_it_is() {
    let mut connection = connect(&fresh_database().await).await;

    let silent = lines(
        &mut connection,
        r"select kind || ' ' || name from (
            select case c.relkind when 'v' then 'view' else 'table' end as kind, c.relname as name,
                   obj_description(c.oid, 'pg_class') as comment
              from pg_class as c
             where c.relnamespace = 'restante'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
               -- The weeks of the history are made by a function, and the last one is kept by sqlx.
               and c.relname !~ '^outbox_\d{4}w\d\d$' and c.relname <> 'schema_migration'
            union all
            select 'function', p.proname, obj_description(p.oid, 'pg_proc')
              from pg_proc as p where p.pronamespace = 'restante'::regnamespace) as things
           where coalesce(comment, '') = '' order by 1",
    )
    .await;

    assert!(silent.is_empty(), "`comment on` is missing for: {silent:#?}");
}

#[tokio::test]
async fn every_constraint_has_a_name_that_says_what_it_demands() {
    let mut connection = connect(&fresh_database().await).await;

    // What Postgres calls a constraint that was given no name.
    let unnamed = lines(
        &mut connection,
        r"select c.conrelid::regclass || ': ' || c.conname from pg_constraint as c
           where c.connamespace = 'restante'::regnamespace and c.contype in ('c', 'p', 'u', 'f', 'x')
             and c.conrelid <> 'restante.schema_migration'::regclass
             and c.conname ~ '_(check|pkey|key|fkey|excl)\d*$' order by 1",
    )
    .await;

    assert!(unnamed.is_empty(), "{unnamed:#?}");
}

#[tokio::test]
async fn every_index_over_text_compares_bytes_whatever_the_locale_of_the_database() {
    let mut connection = connect(&fresh_database().await).await;

    let by_locale = lines(
        &mut connection,
        r#"select i.indexrelid::regclass || ': ' || a.attname
             from pg_index as i
             join pg_class as c on c.oid = i.indexrelid and c.relnamespace = 'restante'::regnamespace
             join pg_attribute as a on a.attrelid = i.indexrelid
            where a.attcollation not in (0, (select oid from pg_collation where collname = 'C')) order by 1"#,
    )
    .await;

    assert!(by_locale.is_empty(), "{by_locale:#?}");
}

/// One entry of `sqlx-data.json`.
#[derive(serde::Deserialize)]
struct Compiled {
    query: String,
    describe: Value,
    hash: String,
}

#[tokio::test]
async fn the_compiled_queries_describe_the_schema_as_it_is() {
    let mut connection = connect(&fresh_database().await).await;
    // As the query macros ask: what may be null is read from a plan, which must not depend on values.
    connection.execute("set plan_cache_mode = 'force_generic_plan'").await.unwrap();
    let data = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/sqlx-data.json")).unwrap();
    let compiled: BTreeMap<String, Compiled> = serde_json::from_str(&data).unwrap();
    assert!(compiled.len() > 10);

    for (key, entry) in compiled {
        let query = entry.query.trim();
        assert_eq!(key, entry.hash, "{query}");
        assert_eq!(key, hex::encode(Sha256::digest(&entry.query)), "{query}");
        let sql = AssertSqlSafe(entry.query.as_str()).into_sql_str();
        let described = (&mut connection)
            .describe(sql)
            .await
            .unwrap_or_else(|error| panic!("{error}; run `make prepare` and mend the query:\n{query}"));
        let described = serde_json::to_value(&described).unwrap();
        assert_eq!(described, entry.describe, "run `make prepare`; it differs for:\n{query}");
    }
    connection.close().await.unwrap();
}

#[tokio::test]
async fn half_a_year_of_history_has_its_partitions_and_nothing_lies_beside_them() {
    let mut connection = connect(&fresh_database().await).await;

    let weeks = sqlx::query(
        r"select count(*) from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
           where i.inhparent = 'restante.outbox'::regclass and c.relname ~ '^outbox_\d{4}w\d\d$'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();

    assert_eq!(weeks.get::<i64, _>(0), 27, "this week and the 26 to come");
    assert_eq!(lines(&mut connection, "select count(*)::text from restante.outbox_overflow").await, ["0"]);
}

#[tokio::test]
async fn a_few_functions_are_for_people_and_all_others_say_that_they_are_the_engines() {
    let mut connection = connect(&fresh_database().await).await;
    let for_people = lines(
        &mut connection,
        "select p.proname::text from pg_proc as p
          where p.pronamespace = 'restante'::regnamespace
            and obj_description(p.oid, 'pg_proc') not like 'Engine: %' order by 1",
    )
    .await;
    let known = [
        "budget",
        "enqueue",
        "forget",
        "history",
        "pause",
        "received",
        "replay",
        "resubmit",
        "resume",
        "rotate_secret",
        "send_message",
        "send_session_events",
        "submit_batch",
        "test_endpoint",
        "throughput",
    ];
    assert_eq!(for_people, known);
}

#[tokio::test]
async fn the_plan_of_whatever_a_service_calls_is_made_once_and_walks_indexes() {
    let mut connection = connect(&fresh_database().await).await;
    // The rule stands in migrations/README.md.
    let wanted = "select p.proname || ' lacks ' || s.setting
           from pg_proc as p
           join pg_language as l on l.oid = p.prolang and l.lanname = 'plpgsql'
          cross join (values ('enable_seqscan=off', '(outbox_live|outbox_seen|key_unsettled)'),
                             ('plan_cache_mode=force_generic_plan', '(outbox_live|outbox_seen|key_unsettled)'),
                             ('enable_hashjoin=off', 'outbox_live[^;]*unnest|unnest[^;]*outbox_live'),
                             ('enable_mergejoin=off', 'outbox_live[^;]*unnest|unnest[^;]*outbox_live')) as s (setting, reads)
          where p.pronamespace = 'restante'::regnamespace and p.prosrc ~ s.reads
            and (has_function_privilege('restante_ingest', p.oid, 'execute')
                 or has_function_privilege('restante_worker', p.oid, 'execute'))";
    let lacking = format!("{wanted} and not coalesce(p.proconfig, '{{}}') @> array[s.setting] order by 1");
    assert_eq!(lines(&mut connection, &lacking).await, Vec::<String>::new());
    assert!(lines(&mut connection, wanted).await.len() > 20, "the test looks in the wrong place");
}

#[tokio::test]
async fn what_runs_with_the_rights_of_the_owner_has_a_search_path_of_its_own() {
    let mut connection = connect(&fresh_database().await).await;
    let open = "select p.proname::text from pg_proc as p
          where p.pronamespace = 'restante'::regnamespace and p.prosecdef
            and not coalesce(p.proconfig, '{}') @> array['search_path=pg_catalog, pg_temp']";
    assert_eq!(lines(&mut connection, open).await, Vec::<String>::new());
}

#[tokio::test]
async fn the_columns_of_what_is_not_finished_are_explained_beside_its_indexes() {
    let mut connection = connect(&fresh_database().await).await;
    let unexplained = "select a.attname::text from pg_attribute as a
          where a.attrelid = 'restante.outbox_live'::regclass and a.attnum > 0
            and col_description(a.attrelid, a.attnum) is distinct from col_description('restante.outbox'::regclass, a.attnum)";
    assert_eq!(lines(&mut connection, unexplained).await, Vec::<String>::new());
}

#[test]
fn a_migration_that_has_landed_is_never_edited() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let landed = std::fs::read_to_string(folder.join("sha256sums")).unwrap();

    let names: Vec<_> = landed.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    for line in landed.lines() {
        let (expected, name) = line.split_once("  ").unwrap();
        let text = std::fs::read(folder.join(name)).unwrap();
        let found: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            found, expected,
            "{name} has landed, and installations have applied it: add a new migration instead"
        );
    }
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.retain(|file| file.to_str().unwrap().ends_with(".sql"));
    files.sort();
    assert_eq!(files, names, "add the line of `sha256sum` for a new migration to migrations/sha256sums");
}
