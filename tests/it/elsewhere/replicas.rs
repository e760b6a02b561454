//! Logical replication of all tables.

use super::*;

#[tokio::test]
async fn every_table_says_by_what_its_rows_are_known_to_a_replica() {
    let world = World::new().await;
    world.sql("drop table ledger, snoozed").await;
    let silent = "select string_agg(c.relname, ', ' order by 1) from pg_class as c
                   where c.relnamespace = 'restante'::regnamespace and c.relkind = 'r' and (c.relreplident = 'n'
                      or c.relreplident = 'd' and not exists (
                         select from pg_index as i where i.indrelid = c.oid and i.indisprimary))";
    assert_eq!(world.value(silent).await, "null");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_goes_well_where_all_tables_are_published() {
    for options in ["", "with (publish_via_partition_root = true)"] {
        let world = World::new().await;
        // A table of the tests, not of the product.
        world.sql("alter table ledger replica identity full").await;
        world.sql(&format!("create publication everything for all tables {options}")).await;

        a_day(&world).await;

        world.sql("update restante.outbox set status = 'pending' where event_id = 'e1'").await;
        world.sql("update restante.outbox set status = 'cancelled' where event_id = 'e1'").await;
        assert!(world.sql("delete from restante.outbox where event_id = 'e1'").await >= 1);
        world.sql("delete from restante.failure").await;
        world.sql("delete from restante.batch_result").await;
        world.sql("update restante.outbox_seen set seen_at = now()").await;
        world.pool.close().await;
    }
}

#[tokio::test]
async fn what_was_finished_in_a_week_without_a_partition_can_be_replayed_where_all_tables_are_published() {
    let world = World::new().await;
    world.sql("create publication everything for all tables").await;
    world
        .sql(
            "insert into restante.outbox (event_id, type, payload, status, finished_at)
               values ('old', 'test.other', '{}', 'done', now() - interval '3 years')",
        )
        .await;
    assert_eq!(world.value("select count(*) from restante.outbox_overflow").await, "1");

    world.sql("update restante.outbox set status = 'pending' where event_id = 'old'").await;

    assert_eq!(
        world.value("select status from restante.outbox_live where event_id = 'old'").await,
        "pending"
    );
}
