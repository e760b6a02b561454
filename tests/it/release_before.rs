//! The releases before: what their programs ask is answered by the present schema as by their own.
//!
//! `tests/releases/table` lists them. `make upgrade-test` runs the programs themselves.

use std::collections::BTreeMap;
use std::path::Path;

use restante::database;
use secrecy::SecretString;
use serde_json::Value;
use sqlx::migrate::Migrator;
use sqlx::{AssertSqlSafe, Executor, FromRow, PgConnection, SqlSafeStr};

use crate::support::cluster::{empty_database, fresh_database};

/// A line of the table of releases.
struct Release {
    commit: String,
    newest_migration: i64,
}

impl Release {
    /// The releases that the schema says it serves.
    async fn served() -> Vec<Self> {
        let mut connection = connect(&fresh_database().await).await;
        let since: i64 = sqlx::query_scalar("select restante.serves_programs_since()")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        let lines = include_str!("../releases/table").lines().filter(|line| !line.starts_with('#'));
        let releases = lines.map(|line| {
            let (commit, newest) = line.split_once(' ').unwrap();
            Self { commit: commit.to_owned(), newest_migration: newest.parse().unwrap() }
        });
        let served: Vec<_> = releases.filter(|release| release.newest_migration >= since).collect();
        assert!(!served.is_empty(), "the schema serves the release before");
        served
    }

    /// A database as this release made it.
    async fn database(&self) -> SecretString {
        let url = empty_database().await;
        let mut connection = connect(&url).await;
        let of_then = sqlx::migrate!("./migrations")
            .iter()
            .filter(|migration| migration.version <= self.newest_migration)
            .cloned()
            .collect();
        let mut migrator = Migrator::with_migrations(of_then);
        migrator.dangerous_set_table_name("restante.schema_migration");
        migrator.create_schema("restante");
        migrator.run_direct(None, &mut connection, false).await.unwrap();
        url
    }

    /// What its query macros were compiled with.
    fn queries(&self) -> BTreeMap<String, Compiled> {
        let name = format!("tests/releases/{}.sqlx-data.json", &self.commit[..7]);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&name);
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
        serde_json::from_str(&text).unwrap()
    }
}

async fn connect(url: &SecretString) -> PgConnection {
    database::connect(url, "test").await.unwrap()
}

/// One entry of `sqlx-data.json`.
#[derive(serde::Deserialize)]
struct Compiled {
    query: String,
    describe: Description,
}

/// What Postgres says of a query, as far as a compiled program relies on it.
#[derive(serde::Deserialize)]
struct Description {
    columns: Vec<Value>,
    parameters: Value,
    nullable: Vec<Option<bool>>,
}

impl Description {
    fn names_and_types(&self) -> Vec<(&Value, &Value)> {
        self.columns.iter().map(|column| (&column["name"], &column["type_info"])).collect()
    }
}

#[tokio::test]
async fn each_query_of_a_release_before_has_the_same_parameters_and_columns_today() {
    for release in Release::served().await {
        let mut connection = connect(&fresh_database().await).await;
        // As the query macros ask: what may be null is read from a plan, which must not depend on values.
        connection.execute("set plan_cache_mode = 'force_generic_plan'").await.unwrap();
        let queries = release.queries();
        assert!(queries.len() > 100, "{}: only {} queries", release.commit, queries.len());
        for Compiled { query, describe: then } in queries.into_values() {
            let sql = AssertSqlSafe(query.as_str()).into_sql_str();
            let now = (&mut connection).describe(sql).await.unwrap_or_else(|error| {
                panic!("{}: its programs ask this, and get `{error}`:\n{query}", release.commit)
            });
            let now: Description = serde_json::from_value(serde_json::to_value(&now).unwrap()).unwrap();

            assert_eq!(now.parameters, then.parameters, "{}: the parameters of\n{query}", release.commit);
            assert_eq!(
                now.names_and_types(),
                then.names_and_types(),
                "{}: the columns of\n{query}",
                release.commit
            );
            for (now, then) in now.nullable.iter().zip(then.nullable) {
                let is_new = then == Some(false) && *now != Some(false);
                assert!(!is_new, "{}: a column may be null that could not, of\n{query}", release.commit);
            }
        }
    }
}

/// The right of a role to call a function, and what the caller relies on.
#[derive(Debug, FromRow)]
struct Call {
    role: String,
    function: String,
    /// Names and types of the arguments.
    arguments: Vec<String>,
    /// How many of them, from the end, may be left out.
    defaults: i16,
    /// Names and types of the columns of the answer; its type if it has no columns.
    answer: Vec<String>,
}

impl Call {
    async fn all(connection: &mut PgConnection) -> Vec<Self> {
        sqlx::query_as(
            "select role, p.proname::text as function, p.pronargdefaults as defaults, io.arguments,
                    coalesce(io.answer, array[pg_get_function_result(p.oid)]) as answer
               from unnest(array['restante_ingest', 'restante_worker', 'restante_operator', 'restante_app']) as role
               join pg_proc as p on p.pronamespace = 'restante'::regnamespace and has_function_privilege(role, p.oid, 'execute')
              cross join lateral (
                select coalesce(array_agg(concat_ws(' ', p.proargnames[n], format_type(t, null)) order by n)
                                  filter (where coalesce(p.proargmodes[n], 'i') in ('i', 'b', 'v')), '{}') as arguments,
                       array_agg(concat_ws(' ', p.proargnames[n], format_type(t, null)) order by n)
                         filter (where p.proargmodes[n] in ('o', 'b', 't')) as answer
                  from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) with ordinality as a (t, n)) as io
              where pg_get_function_result(p.oid) <> 'trigger'
              order by role, p.proname, io.arguments",
        )
        .fetch_all(connection)
        .await
        .unwrap()
    }

    /// Does every call that was written for `then` also fit this function?
    fn serves(&self, then: &Self) -> bool {
        let required = |call: &Self| call.arguments.len() - usize::try_from(call.defaults).unwrap();
        (&self.role, &self.function) == (&then.role, &then.function)
            && self.arguments.starts_with(&then.arguments)
            && required(self) <= required(then)
            && self.answer.starts_with(&then.answer)
    }
}

#[tokio::test]
async fn each_function_that_a_role_could_call_takes_the_same_calls_today() {
    let now = Call::all(&mut connect(&fresh_database().await).await).await;
    for release in Release::served().await {
        let then = Call::all(&mut connect(&release.database().await).await).await;
        assert!(then.len() > 100, "{}: only {} functions", release.commit, then.len());
        for call in &then {
            let commit = &release.commit;
            assert!(now.iter().any(|now| now.serves(call)), "{commit}: this call fails today: {call:#?}");
            let forms = |all: &[Call]| {
                all.iter().filter(|it| (&it.role, &it.function) == (&call.role, &call.function)).count()
            };
            assert_eq!(
                forms(&now),
                forms(&then),
                "{commit}: a new form of {} gets a new name, or calls of the old one can be ambiguous",
                call.function
            );
        }
    }
}

/// The rights of a role on one column of a table or view.
type Column = (String, String, String, String, String);

async fn columns(connection: &mut PgConnection) -> Vec<Column> {
    sqlx::query_as(
        "select role, c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod),
                concat(case when has_column_privilege(role, c.oid, a.attnum, 'select') then 'r' end,
                       case when has_column_privilege(role, c.oid, a.attnum, 'insert') then 'a' end,
                       case when has_column_privilege(role, c.oid, a.attnum, 'update') then 'w' end,
                       case when has_table_privilege(role, c.oid, 'delete') then 'd' end)
           from unnest(array['restante_ingest', 'restante_worker', 'restante_operator', 'restante_app']) as role
           join pg_class as c on c.relnamespace = 'restante'::regnamespace and c.relkind in ('r', 'p', 'v', 'm')
           join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          where c.relname !~ '^outbox_[0-9]{4}w[0-9]{2}$'
          order by 1, 2, 3",
    )
    .fetch_all(connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn each_column_that_a_role_could_use_is_there_today_with_the_same_rights() {
    let now = columns(&mut connect(&fresh_database().await).await).await;
    for release in Release::served().await {
        let then = columns(&mut connect(&release.database().await).await).await;
        assert!(then.iter().filter(|column| !column.4.is_empty()).count() > 500);
        for (role, table, column, kind, rights) in then {
            let (.., found) = now
                .iter()
                .find(|it| (&it.0, &it.1, &it.2, &it.3) == (&role, &table, &column, &kind))
                .unwrap_or_else(|| panic!("{}: {table}.{column} ({kind}) is no more", release.commit));
            assert!(
                rights.chars().all(|right| found.contains(right)),
                "{}: {role} had the rights {rights} on {table}.{column}, and has {found}",
                release.commit
            );
        }
    }
}

#[tokio::test]
async fn a_new_column_needs_no_value_of_a_program_that_does_not_know_it() {
    let required = "select c.relname || '.' || a.attname
                      from pg_class as c join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                     where c.relnamespace = 'restante'::regnamespace and c.relkind in ('r', 'p')
                       and a.attnotnull and not a.atthasdef and a.attidentity = ''";
    let tables = "select relname::text from pg_class where relnamespace = 'restante'::regnamespace and relkind in ('r', 'p')";
    let lines = async |url: &SecretString, sql: &'static str| -> Vec<String> {
        sqlx::query_scalar(sql).fetch_all(&mut connect(url).await).await.unwrap()
    };
    let now = lines(&fresh_database().await, required).await;
    for release in Release::served().await {
        let of_then = release.database().await;
        let (then, tables) = (lines(&of_then, required).await, lines(&of_then, tables).await);
        let is_of_then =
            |column: &&String| tables.iter().any(|table| column.starts_with(&format!("{table}.")));
        let new: Vec<_> = now.iter().filter(is_of_then).filter(|column| !then.contains(column)).collect();
        assert!(new.is_empty(), "{}: its programs give no value for {new:?}", release.commit);
    }
}
