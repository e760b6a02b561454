//! Whatever an operator may write is noted, in each table and column that the catalog names, and nothing ends that.

use secrecy::ExposeSecret;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};

use super::lines;
use crate::roles::Login;
use crate::support::World;

/// A row in every table that an operator may write.
const ROWS: &str = r#"
    insert into restante.api_breaker (account, parts) values ('anthropic', '{}');
    insert into restante.api_budget (account, class) values ('anthropic', 'read');
    insert into restante.batch (id) values ('msgbatch_1');
    insert into restante.budget_limit (tag, amount) values ('night', 1);
    insert into restante.endpoint (name, url, event_types) values ('hooks', 'https://example.com/hooks', '{order.placed}');
    insert into restante.endpoint_delivery (endpoint, outbox_id, event_id, type, attempt, took)
      select 'hooks', 1, 'e', 't', 1, '1 second' from generate_series(1, 3);
    insert into restante.journal (journal, place, events, bytes, bytes_max, aside, is_full) values ('j', 'p', 0, 0, 1, 0, false);
    insert into restante.price (model, valid_from, input, output, cache_write_5m, cache_write_1h, cache_read)
      values ('m', '2026-01-01Z', 1, 1, 1, 1, 1);
    insert into restante.sender_rhythm (sender, first_at, last_at) values ('s', now(), now());
    select restante.send_message('{"model":"m","max_tokens":1,"messages":[{}]}') from generate_series(1, 2);
    select restante.send_session_events('sesn_1', '[{"type":"user.interrupt"}]');
    insert into restante.replay (name, arguments, was, events) values ('again', '{}', 'dead', 0);
    insert into restante.subscription (subscriber, type) values ('billing', '*');
    delete from restante.retention where what = 'failure';
    insert into restante.retention (what, status, type, keep) values ('event', 'done', 'mine', '90 days');
    select restante.submit_batch('[{"custom_id":"a","params":{}}]', name => 'nightly');
    update restante.submission_part set status = 'sending';
"#;

/// What an operator inserts into each table, and writes into each column.
const CHANGES: &[(&str, &str)] = &[
    ("batch insert", "(id, account) values ('msgbatch_2', 'staging')"),
    ("budget_limit insert", "(tag, amount) values ('day', 1)"),
    ("endpoint insert", "(name, url, event_types) values ('more', 'https://example.com/more', '{*}')"),
    (
        "price insert",
        "(model, valid_from, input, output, cache_write_5m, cache_write_1h, cache_read) values ('n', now(), 1, 1, 1, 1, 1)",
    ),
    ("retention insert", "(what, status, type, keep) values ('event', 'done', 'yours', '9 days')"),
    ("batch.given_up_because", "'not wanted'"),
    ("budget_limit.amount", "2"),
    ("budget_limit.checked_at", "now()"),
    ("budget_limit.per", "'day'"),
    ("budget_limit.tag", "'other'"),
    ("endpoint.body", "'full'"),
    ("endpoint.body_bytes_max", "2000"),
    ("endpoint.concurrency", "2"),
    ("endpoint.disable_after", "null"),
    ("endpoint.disabled_because", "'a look at it'"),
    ("endpoint.event_types", "'{*}'"),
    ("endpoint.per_second", "3"),
    ("endpoint.secret", "'whsec_' || repeat('a', 43) || '='"),
    ("endpoint.status", "'disabled'"),
    ("endpoint.url", "'https://example.org/'"),
    ("message.status", "'cancelled'"),
    ("message_lane_setting.ahead", "interval '2 hours'"),
    ("message_lane_setting.bytes_max", "1000000"),
    // A row of which there is one: a constraint refuses every other value.
    ("message_lane_setting.is_the_one", "false"),
    ("message_lane_setting.pack_after", "interval '1 minute'"),
    ("message_lane_setting.requests_max", "10"),
    ("message_lane_setting.reserve", "interval '1 minute'"),
    ("outbox.max_attempts", "7"),
    ("outbox.run_at", "now() + interval '1 hour'"),
    ("outbox.status", "'cancelled'"),
    ("price.batch_factor", "0.4"),
    ("price.cache_read", "2"),
    ("price.cache_write_1h", "2"),
    ("price.cache_write_5m", "2"),
    ("price.input", "2"),
    ("price.model", "model || 'x'"),
    ("price.output", "2"),
    ("price.valid_from", "now()"),
    ("replay.per_second", "2"),
    ("replay.status", "'done'"),
    ("retention.keep", "'91 days' where type = 'mine'"),
    ("retention.status", "'cancelled' where type = 'mine'"),
    ("retention.type", "'other' where type = 'mine'"),
    ("retention.what", "'failure', status = '', type = '*' where type = 'mine'"),
    ("session_send.status", "'cancelled'"),
    ("submission.attempts_max", "9"),
    ("submission.resubmit", "'{expired}'"),
    ("submission.status", "'cancelled'"),
    ("submission_part.batch_id", "'msgbatch_3'"),
    ("submission_part.status", "'uncertain'"),
];

/// Each right of the operator to write, as the catalog has it: `table insert`, `table delete` or `table.column`.
const RIGHTS: &str = "
    select distinct r.name from pg_class as c
      cross join pg_attribute as a
      cross join lateral (
        select c.relname || ' insert' as name where has_column_privilege('restante_operator', c.oid, a.attnum, 'insert')
        union all
        select c.relname || '.' || a.attname where has_column_privilege('restante_operator', c.oid, a.attnum, 'update')
        union all
        select c.relname || ' delete' where has_table_privilege('restante_operator', c.oid, 'delete')) as r
     where c.relnamespace = 'restante'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
       and a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
     order by 1";

async fn one_row_of_each_table() -> World {
    let world = World::new().await;
    sqlx::raw_sql(ROWS).execute(&world.pool).await.unwrap();
    world.sql("truncate restante.operation").await;
    world
}

async fn noted(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar("select count(*) from restante.operation").fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn whatever_an_operator_may_write_leaves_a_row() {
    let world = one_row_of_each_table().await;
    let login = Login::new(&world, &["restante_operator"]).await;
    let mut connection = PgConnection::connect(login.url.expose_secret()).await.unwrap();
    let rights: Vec<String> = sqlx::query_scalar(RIGHTS).fetch_all(&world.pool).await.unwrap();
    assert!(rights.len() > 50, "{rights:?}");

    let mut wrong = Vec::new();
    for right in &rights {
        let change = CHANGES.iter().find(|(name, _)| name == right).map(|(_, change)| *change);
        let statement = match (right.split_once(' '), right.split_once('.'), change) {
            (Some((table, "delete")), _, _) => format!("delete from restante.{table}"),
            (Some((table, _)), _, Some(change)) => format!("insert into restante.{table} {change}"),
            (_, Some((table, column)), Some(change)) => {
                format!("update restante.{table} set {column} = {change}")
            }
            _ => {
                wrong.push(format!("{right}: this test has no change for it"));
                continue;
            }
        };
        let mut tx = connection.begin().await.unwrap();
        match tx.execute(AssertSqlSafe(&*statement)).await {
            Ok(done) => {
                let rows = noted(&mut tx).await;
                // Tables of which a statement may change a great many rows have one for all of these.
                if rows == 0 || rows > i64::try_from(done.rows_affected()).unwrap() {
                    wrong.push(format!("{statement}: changed {}, noted {rows}", done.rows_affected()));
                }
            }
            Err(error) if right == "message_lane_setting.is_the_one" => {
                assert!(error.to_string().contains("message_lane_setting_is_one_row"), "{error}");
            }
            Err(error) => wrong.push(format!("{statement}: {error}")),
        }
        tx.rollback().await.unwrap();
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    connection.close().await.unwrap();
    login.drop(&world).await;
}

#[tokio::test]
async fn what_runs_with_the_owners_rights_for_an_operator_notes_itself() {
    let world = World::new().await;

    let silent = "select coalesce(string_agg(p.proname, ', '), 'none') from pg_proc as p
       where p.pronamespace = 'restante'::regnamespace and p.prosecdef and p.provolatile = 'v'
         and has_function_privilege('restante_operator', p.oid, 'execute')
         and not (p.prosrc like '%restante.note_operation(%' and p.prosrc like '%restante.noted_fully(%')";

    assert_eq!(world.value(silent).await, "none");
}

#[tokio::test]
async fn what_is_done_to_endpoints_and_messages_is_said_without_a_secret() {
    let world = one_row_of_each_table().await;
    let login = Login::new(&world, &["restante_operator"]).await;
    let as_operator = World::on(login.url.clone()).await;

    for statement in [
        "insert into restante.endpoint (name, url, secret, event_types, disable_after)
           values ('more', 'https://example.com/more', 'whsec_' || repeat('s', 43) || '=', '{*}', null)",
        "update restante.endpoint set status = 'disabled', disabled_because = 'it is moved' where name = 'more'",
        "update restante.endpoint set status = 'enabled' where name = 'more'",
        "update restante.endpoint set url = 'https://example.org/', secret = 'whsec_' || repeat('t', 43) || '='
           where name = 'more'",
        "select restante.rotate_secret('more')",
        "select restante.rotate_secret('more', drop_old => true)",
        "delete from restante.endpoint where name = 'more'",
        "update restante.message set status = 'cancelled'",
        "update restante.message set status = 'waiting' where id = 1",
        "update restante.message set status = status",
        "delete from restante.endpoint_delivery",
        "update restante.message_lane_setting set pack_after = '1 minute', reserve = '1 minute'",
    ] {
        as_operator.sql(statement).await;
    }

    let noted =
        lines(&world, "select what, of_what, how_many, arguments from restante.operation order by id").await;
    expect_test::expect![[r#"
        {"what":"endpoint","of_what":"more","how_many":1,"arguments":{"url": "https://example.com/more", "body": "thin", "secret": "written", "status": "enabled", "per_second": null, "concurrency": 16, "event_types": ["*"], "disable_after": null, "body_bytes_max": 262144, "disabled_because": null}}
        {"what":"endpoint","of_what":"more","how_many":1,"arguments":{"status": "disabled", "disabled_because": "it is moved"}}
        {"what":"endpoint","of_what":"more","how_many":1,"arguments":{"status": "enabled", "disabled_because": null}}
        {"what":"endpoint","of_what":"more","how_many":1,"arguments":{"url": "https://example.org/", "secret": "written"}}
        {"what":"rotate secret","of_what":"more","how_many":1,"arguments":{"new": true, "drop_old": false}}
        {"what":"rotate secret","of_what":"more","how_many":1,"arguments":{"new": false, "drop_old": true}}
        {"what":"end endpoint","of_what":"more","how_many":1,"arguments":{"url": "https://example.org/", "body": "thin", "status": "enabled", "per_second": null, "concurrency": 16, "event_types": ["*"], "disable_after": null, "body_bytes_max": 262144, "disabled_because": null}}
        {"what":"message","of_what":"2 messages","how_many":2,"arguments":{"the first messages": ["1", "2"], "waiting to cancelled": 2}}
        {"what":"message","of_what":"1","how_many":1,"arguments":{"cancelled to waiting": 1}}
        {"what":"delete deliveries","of_what":"hooks","how_many":3,"arguments":null}
        {"what":"message lane","of_what":null,"how_many":1,"arguments":{"reserve": "00:01:00", "pack_after": "00:01:00"}}
    "#]]
    .assert_eq(&noted);
    as_operator.value("select restante.test_endpoint('hooks')").await;
    let tested = "select what || ' ' || of_what || ' ' || (arguments->>'url') from restante.operation order by id desc limit 1";
    assert_eq!(world.value(tested).await, "test endpoint hooks https://example.com/hooks");
    as_operator.pool.close().await;
    login.drop(&world).await;
}

#[tokio::test]
async fn no_setting_no_function_and_no_trigger_of_a_persons_own_ends_that() {
    let world = one_row_of_each_table().await;
    let login = Login::new(&world, &["restante_operator"]).await;
    let mut connection = PgConnection::connect(login.url.expose_secret()).await.unwrap();
    let mut tx = connection.begin().await.unwrap();

    for statement in [
        "update restante.message_lane_setting set requests_max = 9",
        // Whatever noted that, its number is known, and it is of this transaction.
        "select set_config('restante.operation', max(id)::text, true) from restante.operation",
        "set local check_function_bodies = off",
        "set local application_name = 'restante-worker'",
        "set local search_path = pg_temp, public, pg_catalog",
        "update restante.outbox set status = 'cancelled' where type = 'batch.poll'",
        "update restante.message set status = 'cancelled' where id = 1",
        "update restante.retention set keep = '80 days' where type = 'mine'",
        // At the depth of a trigger, as what follows from a change is.
        "create temp table mine (id bigint)",
        "create function pg_temp.settle_part() returns trigger language plpgsql security definer as $$
         begin
           update restante.message set status = 'cancelled' where id = 2;
           update restante.submission set status = 'cancelled';
           update restante.endpoint set status = 'disabled';
           return null;
         end $$",
        "create trigger mine after insert on mine for each row execute function pg_temp.settle_part()",
        "insert into mine values (1)",
    ] {
        tx.execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    let whats = tx
        .fetch_one("select string_agg(what || ' ' || coalesce(of_what, ''), ', ' order by id) from restante.operation")
        .await
        .unwrap();
    assert_eq!(
        whats.get::<String, _>(0),
        "message lane , cancel batch.poll:msgbatch_1, message 1, retention event, message 2, submission nightly, endpoint hooks"
    );
    tx.rollback().await.unwrap();
    connection.close().await.unwrap();
    login.drop(&world).await;
}

#[tokio::test]
async fn what_applications_and_workers_write_into_the_same_tables_leaves_no_row() {
    let world = one_row_of_each_table().await;
    let app = Login::new(&world, &["restante_app"]).await;
    let as_app = World::on(app.url.clone()).await;
    let worker = Login::new(&world, &["restante_worker"]).await;
    let as_worker = World::on(worker.url.clone()).await;

    as_app.sql("update restante.message set status = 'cancelled' where id = 1").await;
    as_app
        .value("select restante.enqueue('order.placed', '{}', callback => 'https://example.net/done')")
        .await;
    for statement in [
        "update restante.message set status = 'sending', attempt = attempt + 1 where id = 2",
        "update restante.message set status = 'failed', reason = 'no' where id = 2",
        "update restante.session_send set status = 'sending', sent_at = now(), attempt = attempt + 1",
        "update restante.session_send set status = 'uncertain', reason = 'no'",
        "select restante.note_delivery('hooks', 1, 'e', 't', 1, '1 second', 410, 'gone', null)",
        "update restante.batch set given_up_because = 'vanished' where id = 'msgbatch_1'",
        "update restante.submission_part set status = 'uncertain'",
    ] {
        sqlx::query(statement).execute(&as_worker.pool).await.unwrap_or_else(|e| panic!("{statement}: {e}"));
    }

    assert_eq!(world.value("select status from restante.endpoint where name = 'hooks'").await, "disabled");
    assert_eq!(lines(&world, "select what, of_what from restante.operation").await, "");
    as_app.pool.close().await;
    as_worker.pool.close().await;
    app.drop(&world).await;
    worker.drop(&world).await;
}
