//! Restored backups: every event and every identifier is there again, and nothing else.

use std::process::Command;

use super::*;
use crate::support::servers;

/// Runs a program of Postgres, which has to succeed, and returns its output.
fn run(program: &str, url: &SecretString, arguments: &[&str], input: Option<&std::path::Path>) -> Vec<u8> {
    let mut command = Command::new(servers::programs().join(program));
    command.args(arguments).arg("--dbname").arg(url.expose_secret());
    if let Some(input) = input {
        command.arg("--file").arg(input);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// All stored data, without what differs from database to database.
async fn kept(world: &World) -> String {
    world
        .value(
            "select string_agg(line, e'\\n' order by line collate \"C\") from (
               select o::text as line from restante.outbox as o
               union all select s::text from restante.outbox_seen as s
               union all select f::text from restante.failure as f
               union all select b::text from restante.batch as b
               union all select r::text from restante.batch_result as r) as all_of_it",
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_of_the_data_keeps_every_identifier() {
    let from = World::new().await;
    a_day(&from).await;
    from.receive("waiting", "w", 1, json!({})).await;
    // A watched batch, whose insert has made an event.
    from.sql("insert into restante.batch (id) values ('watched')").await;
    from.sql("delete from restante.outbox where type = 'batch.reconcile'").await;
    from.sql("update restante.retention set keep = '90 days' where what = 'event' and status = 'done'").await;
    let kept_for = "select keep from restante.retention where what = 'event' and status = 'done'";
    let before = kept(&from).await;
    assert!(before.contains("batch.poll:watched"), "{before}");
    let directory = tempfile::tempdir().unwrap();

    for (index, options) in [
        &[][..],
        &["--disable-triggers"],
        &["--load-via-partition-root"],
        &["--inserts"],
        &["--column-inserts", "--rows-per-insert=7"],
    ]
    .into_iter()
    .enumerate()
    {
        let file = directory.path().join(format!("{index}.sql"));
        let schema = [
            "--data-only",
            "--schema=restante",
            // `restante migrate` has filled these tables already.
            "--exclude-table-data=restante.(schema_migration|standing_job|key_salt|retention_run)",
        ];
        let dump = run("pg_dump", &from.url, &[&schema, options].concat(), None);
        std::fs::write(&file, dump).unwrap();
        let into = World::new().await;
        into.sql("truncate restante.retention, restante.message_lane_setting").await;

        run("psql", &into.url, &["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"], Some(&file));

        assert_eq!(kept(&into).await, before, "{options:?}");
        assert_eq!(into.value(kept_for).await, "90 days", "{options:?}: settings are copied too");
        assert_eq!(into.value("select count(*) from restante.message_lane_setting").await, "1");
        assert_eq!(into.receive("e1", "k", 1, json!({})).await, 0, "{options:?}: it is known");
        assert_eq!(into.receive("new", "k", 9, json!({})).await, 1);
        let numbers = "select count(*) = count(distinct id) from restante.outbox";
        assert_eq!(into.value(numbers).await, "true", "{options:?}");
        into.pool.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_restored_whole_and_without_rights_goes_on_after_one_command() {
    let from = World::new().await;
    a_day(&from).await;
    from.receive("waiting", "w", 1, json!({})).await;
    let before = kept(&from).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("whole.sql");
    std::fs::write(&file, run("pg_dump", &from.url, &["--no-acl", "--no-owner"], None)).unwrap();
    let into = World::on(cluster::empty_database().await).await;

    run("psql", &into.url, &["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"], Some(&file));
    database::grant(&into.url).await.unwrap();

    assert_eq!(kept(&into).await, before);
    let may = "select bool_and(has_schema_privilege(role, 'restante', 'usage'))
                 from unnest(array['restante_ingest', 'restante_worker', 'restante_operator', 'restante_app', 'restante_page', 'restante_page_replay']) as r (role)";
    assert_eq!(into.value(may).await, "true");
    into.work_with(registry()).await;
    assert_eq!(into.value("select status from restante.outbox where event_id = 'waiting'").await, "done");
}
