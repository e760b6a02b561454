//! Default settings of a role or a database: our sessions override those that their statements depend on.

use restante::internals::outbox::{self, Source};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::support::eventually;

/// Defaults that an administrator may have chosen, in groups that go together.
const GROUPS: &[&[(&str, &str)]] = &[
    &[("default_transaction_isolation", "'serializable'")],
    &[("default_transaction_isolation", "'repeatable read'"), ("default_transaction_deferrable", "on")],
    &[("default_transaction_read_only", "on"), ("synchronous_commit", "off"), ("exit_on_error", "on")],
    &[
        ("statement_timeout", "'20ms'"),
        ("lock_timeout", "'1ms'"),
        ("idle_in_transaction_session_timeout", "'1ms'"),
        ("idle_session_timeout", "'200ms'"),
    ],
    &[
        ("\"DateStyle\"", "'SQL, DMY'"),
        ("\"TimeZone\"", "'Asia/Kolkata'"),
        ("\"IntervalStyle\"", "'sql_standard'"),
        ("bytea_output", "'escape'"),
        ("standard_conforming_strings", "off"),
        ("array_nulls", "off"),
        ("transform_null_equals", "on"),
        ("quote_all_identifiers", "on"),
        ("extra_float_digits", "-15"),
        ("client_encoding", "'LATIN1'"),
        ("row_security", "off"),
        ("check_function_bodies", "off"),
        ("search_path", "nowhere, public, pg_catalog"),
    ],
    &[
        ("enable_nestloop", "off"),
        ("enable_indexscan", "off"),
        ("enable_indexonlyscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_tidscan", "off"),
        ("enable_sort", "off"),
        ("enable_partition_pruning", "off"),
        ("plan_cache_mode", "'force_custom_plan'"),
        ("jit", "on"),
        ("jit_above_cost", "0"),
        ("join_collapse_limit", "1"),
        ("work_mem", "'64kB'"),
        ("random_page_cost", "1000"),
    ],
];

#[tokio::test(flavor = "multi_thread")]
async fn a_day_goes_well_whatever_the_defaults_of_the_database_are() {
    for group in GROUPS {
        let url = World::new().await.url;
        set_defaults(&url, group).await;
        let world = World::on(url).await;
        a_day(&world).await;
        world.pool.close().await;
    }
}

#[tokio::test]
async fn a_database_is_migrated_whatever_its_defaults_are() {
    for group in GROUPS {
        let url = cluster::empty_database().await;
        set_defaults(&url, group).await;
        database::migrate(&url).await.unwrap();
        let world = World::on(url).await;
        assert_eq!(weeks_that_begin_elsewhere(&world).await, "0 of 27", "{group:?}");
        world.pool.close().await;
    }
}

/// How many weekly partitions do not go from one Monday in UTC to the next.
async fn weeks_that_begin_elsewhere(world: &World) -> String {
    world
        .value(
            r#"select format('%s of %s', count(*) filter (where date_trunc('week', w.begins) <> w.begins
                                                         or w.ends <> w.begins + interval '1 week'
                                                         or to_char(w.begins, '"outbox_"IYYY"w"IW') <> w.name), count(*))
                from (select c.relname::text as name, l.limits[1]::timestamptz at time zone 'UTC' as begins,
                             l.limits[2]::timestamptz at time zone 'UTC' as ends
                        from pg_inherits as i join pg_class as c on c.oid = i.inhrelid
                        cross join regexp_match(pg_get_expr(c.relpartbound, c.oid),
                                                $$FROM \('([^']+)'\) TO \('([^']+)'\)$$) as l (limits)
                       where i.inhparent = 'restante.outbox'::regclass and c.relname ~ '^outbox_\d{4}w\d\d$') as w"#,
        )
        .await
}

#[tokio::test]
async fn a_week_begins_on_monday_in_utc_whatever_the_session_that_makes_it_thinks() {
    for (style, zone) in [
        ("SQL, DMY", "Asia/Kolkata"),
        ("SQL, MDY", "Asia/Kolkata"),
        ("German", "Australia/Lord_Howe"),
        ("Postgres, DMY", "America/St_Johns"),
        ("ISO, YMD", "Pacific/Kiritimati"),
    ] {
        let world = World::new().await;
        let drop_all = r"do $$ declare v text; begin
            for v in select c.relname from pg_class as c where c.relnamespace = 'restante'::regnamespace
                        and c.relname ~ '^outbox_\d{4}w\d\d$' loop execute format('drop table restante.%I', v); end loop; end $$";
        let mut connection = stranger(&world.url).await;
        execute(&mut connection, drop_all).await;

        let make =
            format!("set datestyle = '{style}'; set timezone = '{zone}'; select restante.make_partitions()");
        execute(&mut connection, &make).await;

        assert_eq!(weeks_that_begin_elsewhere(&world).await, "0 of 27", "{style} {zone}");
        connection.close().await.unwrap();
        world.pool.close().await;
    }
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_whatever_the_default_and_for_replicas_where_that_is_asked_for() {
    for (theirs, ours) in [
        ("off", "on"),
        ("local", "on"),
        ("on", "on"),
        ("remote_write", "remote_write"),
        ("remote_apply", "remote_apply"),
    ] {
        let url = World::new().await.url;
        set_defaults(&url, &[("synchronous_commit", theirs)]).await;
        let world = World::on(url).await;
        assert_eq!(world.value("select current_setting('synchronous_commit')").await, ours);
        world.pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_crash_where_commits_need_not_wait_by_default() {
    let (mut postgres, world) = World::on_its_own_postgres().await;
    set_defaults(&world.url, &[("synchronous_commit", "off")]).await;
    // Keeps the WAL writer from flushing the commit a moment later.
    let mut connection = stranger(&world.url).await;
    execute(&mut connection, "alter system set wal_writer_delay = '10s'").await;
    execute(&mut connection, "alter system set wal_writer_flush_after = '1GB'").await;
    postgres.restart().unwrap();
    let world = World::on(world.url).await;

    for number in 0..120 {
        assert_eq!(world.receive(&format!("e{number}"), "", 1, json!({})).await, 1);
    }
    postgres.kill_hard().unwrap();
    postgres.restart().unwrap();

    let world = World::on(world.url).await;
    assert_eq!(world.value("select count(*) from restante.outbox").await, "120");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_for_a_lock_gives_up_on_the_server_too() {
    let world = World::new().await;
    let mut somebody = stranger(&world.url).await;
    execute(&mut somebody, "begin; lock table restante.outbox_seen").await;
    let event = world.new_event("e", "", 1, json!({}));

    let refused = outbox::insert_events(&world.pool, Source::Webhook, &[event]).await.unwrap_err();

    assert!(database::is_unavailable(&refused) && database::is_locked(&refused), "{refused}");
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    assert_eq!(world.value(waiting).await, "0");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_nobody_waits_for_any_more_ends_on_the_server() {
    let world = World::new().await;
    let sleeping = "select count(*) from pg_stat_activity
                     where datname = current_database() and query = 'select pg_sleep(3600)' and state = 'active'";
    let pool = world.pool.clone();
    let asked = tokio::spawn(async move { sqlx::query("select pg_sleep(3600)").execute(&pool).await });
    eventually("the statement runs", async || (world.value(sleeping).await == "1").then_some(())).await;

    asked.abort();

    eventually("the statement has ended", async || (world.value(sleeping).await == "0").then_some(())).await;
}

#[tokio::test]
async fn a_session_of_a_pool_waits_neither_for_locks_nor_for_ever() {
    let world = World::new().await;
    let bounds =
        "select concat_ws(' ', current_setting('lock_timeout'), current_setting('statement_timeout'),
                                   current_setting('idle_in_transaction_session_timeout'))";
    assert_eq!(world.value(bounds).await, "2s 10min 10min");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_with_few_connections_is_enough_for_a_day() {
    let world = World::new().await;
    let mut connection = stranger(&world.url).await;
    let name = name(&mut connection).await;
    execute(
        &mut connection,
        &format!(
            "create role few_{name} login connection limit 6 password 'few' in role restante_worker, restante_operator;
             grant all on all tables in schema public to few_{name};
             grant execute on all functions in schema restante to few_{name};
             grant usage on all sequences in schema restante to few_{name}"
        ),
    )
    .await;
    let mut url = url::Url::parse(world.url.expose_secret()).unwrap();
    url.set_username(&format!("few_{name}")).unwrap();
    url.set_password(Some("few")).unwrap();

    // The worker may open more connections than the server allows.
    let url = SecretString::from(String::from(url));
    let few = World::on(url).await;
    let api = ScriptedApi::new().await;
    api.batch(&api.ended("b", ONE_OF_EACH));
    api.results("b", Answer::stream(batches::one_of_each()));
    batches::hear_of(&world, "b").await;
    for number in 0..100 {
        world.receive(&format!("e{number}"), &format!("k{}", number % 7), 1, json!({})).await;
    }
    let stop = CancellationToken::new();
    let (settings, pool) = (few.worker_settings(), few.pool.clone());
    let working = tokio::spawn(worker::run(settings, pool, registry(), api.client(), stop.clone()));
    eventually("all of it is done", async || {
        world.wait_for_retries().await;
        (world.value("select count(*) from restante.outbox_live").await == "0").then_some(())
    })
    .await;
    stop.cancel();
    working.await.unwrap().unwrap();

    assert_eq!(world.value("select count(*) from restante.failure").await, "0");
    assert_eq!(world.ledger().await.len(), 100);
}
