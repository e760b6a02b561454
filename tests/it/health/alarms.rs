//! Alarms: an event when an answer turns to `act`, once, and one when it is good again.

use futures_util::future::join_all;
use restante::internals::outbox::health::{Noted, note_alarms};
use serde_json::Value;

use super::{look, state};
use crate::support::World;

const NOTHING: Noted = Noted { raised: 0, cleared: 0 };
const RAISED: Noted = Noted { raised: 1, cleared: 0 };
const CLEARED: Noted = Noted { raised: 0, cleared: 1 };

/// The alarms that are events, in their order.
async fn events(world: &World) -> String {
    let types = "select string_agg(type, ' ' order by id) from restante.outbox where type like 'health.%'";
    world.value(types).await
}

async fn dies(world: &World, event_id: &str) {
    world
        .sql(&format!(
            "insert into restante.outbox (event_id, type, payload, status) values ('{event_id}', 'test.ledger', '{{}}', 'dead')"
        ))
        .await;
}

async fn is_called_off(world: &World) {
    world.sql("update restante.outbox set status = 'cancelled' where status = 'dead'").await;
}

#[tokio::test]
async fn an_answer_that_turns_bad_is_one_event_and_one_more_when_it_was_good_for_two_looks() {
    let world = World::new().await;
    assert_eq!(look(&world).await, NOTHING);
    dies(&world, "d1").await;
    assert_eq!(look(&world).await, RAISED);
    dies(&world, "d2").await;
    assert_eq!(look(&world).await, NOTHING, "it was raised already");

    is_called_off(&world).await;
    assert_eq!(look(&world).await, NOTHING, "it was good once");
    dies(&world, "d3").await;
    assert_eq!(look(&world).await, NOTHING, "it was not good for two looks");
    is_called_off(&world).await;
    assert_eq!(look(&world).await, NOTHING);
    assert_eq!(look(&world).await, CLEARED);
    assert_eq!(look(&world).await, NOTHING);
    assert_eq!(events(&world).await, "health.raised health.cleared");

    dies(&world, "d4").await;
    assert_eq!(look(&world).await, RAISED, "it is a new alarm");
    let alarms = "select string_agg(concat_ws(' ', question, cleared_at is not null, o.type, c.type), ', ' order by a.id)
                    from restante.health_alarm as a
                    join restante.outbox as o on o.event_id = a.raised_event_id
                    left join restante.outbox as c on c.event_id = a.cleared_event_id";
    assert_eq!(world.value(alarms).await, "dead t health.raised health.cleared, dead f health.raised");
}

#[tokio::test]
async fn several_workers_that_look_at_once_raise_one_event() {
    let world = World::new().await;
    look(&world).await;
    dies(&world, "d1").await;
    world.sql("update restante.health_look set looked_at = looked_at - interval '1 minute'").await;

    let looks = join_all((0..8).map(|_| note_alarms(&world.pool))).await;

    let raised: i32 = looks.into_iter().map(|noted| noted.unwrap().raised).sum();
    assert_eq!(raised, 1);
    assert_eq!(events(&world).await, "health.raised");
}

#[tokio::test]
async fn a_look_right_after_another_is_none_so_that_many_workers_clear_no_sooner() {
    let world = World::new().await;
    dies(&world, "d1").await;
    assert_eq!(look(&world).await, RAISED);
    is_called_off(&world).await;
    assert_eq!(look(&world).await, NOTHING);

    assert_eq!(note_alarms(&world.pool).await.unwrap(), NOTHING);
    assert_eq!(look(&world).await, CLEARED);
}

#[tokio::test]
async fn trouble_that_is_soon_over_is_no_alarm() {
    let world = World::new().await;
    let breaks = "insert into restante.outbox (event_id, type, payload, status, run_at, outcome, kind, last_error, received_at)
                  values (gen_random_uuid(), 'test.ledger', '{}', 'retry', now() + interval '5 minutes', 'trouble', 'account', '401',
                          now() - interval '1 day')";
    world.sql(breaks).await;
    assert_eq!(look(&world).await, NOTHING);
    assert_eq!(state(&world, "trouble").await, "act");
    world.sql("update restante.outbox set status = 'cancelled' where status = 'retry'").await;
    assert_eq!(look(&world).await, NOTHING);
    assert_eq!(world.value("select count(*) from restante.health_alarm").await, "0");

    world.sql(breaks).await;
    assert_eq!(look(&world).await, NOTHING);
    world.sql("update restante.health_alarm set noticed_at = noticed_at - interval '6 minutes'").await;
    assert_eq!(look(&world).await, RAISED);
}

#[tokio::test]
async fn an_alarm_that_somebody_has_locked_stops_nothing_and_goes_on_later() {
    let world = World::new().await;
    dies(&world, "d1").await;
    look(&world).await;
    is_called_off(&world).await;
    look(&world).await;
    let mut person = world.pool.begin().await.unwrap();
    sqlx::query("select from restante.health_alarm for update").execute(&mut *person).await.unwrap();

    assert_eq!(look(&world).await, NOTHING);
    person.rollback().await.unwrap();
    assert_eq!(look(&world).await, CLEARED);
}

#[tokio::test]
async fn an_endpoint_is_told_of_alarms_unless_it_asks_for_something_else() {
    let world = World::new().await;
    world
        .sql(
            "insert into restante.endpoint (name, url, secret, event_types)
             values ('a', 'https://a.example/', restante.new_secret(), null), ('b', 'https://b.example/', restante.new_secret(), '{order.*}')",
        )
        .await;
    dies(&world, "d1").await;
    look(&world).await;

    let notifications = "select string_agg(type, ' ') from restante.outbox where type like 'notify.%'";
    assert_eq!(world.value(notifications).await, "notify.a");
    let body = world.value("select payload->'body' from restante.outbox where type = 'notify.a'").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["type"], "health.raised");
    assert_eq!(body["data"]["question"], "dead");
    assert_eq!(body["data"]["sentence"], "Until a person decides, 1 event is given up: test.ledger.");
}

#[tokio::test]
async fn applications_cannot_enqueue_an_alarm() {
    let world = World::new().await;
    for event_type in ["health.raised", "health.cleared"] {
        let call = "select restante.enqueue($1, '{}')";
        let refused = sqlx::query(call).bind(event_type).execute(&world.pool).await;
        assert!(refused.unwrap_err().to_string().contains("restante.enqueue: "), "{event_type}");
    }
}
