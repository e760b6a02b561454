//! What notifications share: the commit that ends them, and what a worker knows of their endpoint.

use std::time::Duration;

use restante::internals::outbox::outcome::Finish;
use restante::internals::outbox::settle::{Finished, finish};
use restante::internals::outbox::{Claimed, Delivered, Lease};

use super::receiver::Receiver;
use super::{SECRET, add, enqueue, is_signed};
use crate::support::{Process, World, eventually};

fn delivered(claimed: &Claimed) -> Finished {
    let delivered = Delivered {
        endpoint: "a".to_owned(),
        event_id: claimed.event.event_id.clone(),
        event_type: "order.placed".to_owned(),
        attempt: claimed.event.attempt,
        took: Duration::from_millis(7),
        status: 202,
        answer: "thanks".to_owned(),
    };
    Finished { lease: claimed.lease, finish: Finish::Done, result: None, delivered: Some(delivered) }
}

#[tokio::test]
async fn deliveries_are_noted_with_the_commit_that_ends_them_and_without_the_lease_not_at_all() {
    let world = World::new().await;
    add(&world, "a", "https://endpoint.example/", &["failing_since = now(), failures_in_a_row = 3"]).await;
    for _ in 0..4 {
        enqueue(&world, "order.placed", None, "{}").await;
    }
    world.may_leave_running();
    let claimed: Vec<_> = world.claim(10).await;
    let claimed: Vec<_> =
        claimed.into_iter().filter(|claimed| claimed.event.event_type == "notify.a").collect();
    assert_eq!(claimed.len(), 4);
    let mut attempts: Vec<_> = claimed.iter().map(delivered).collect();
    let late = |attempt: &mut Finished| {
        attempt.lease = Lease { token: attempt.lease.token - 1, ..attempt.lease };
    };
    late(&mut attempts[2]);
    late(&mut attempts[3]);
    let last = attempts.pop().unwrap();

    let completed = finish(&world.pool, &attempts, None).await.unwrap();
    let alone = finish(&world.pool, &[last], None).await.unwrap();

    assert_eq!(completed.finished, [claimed[0].event.id, claimed[1].event.id]);
    assert!(alone.finished.is_empty());
    let noted = "select string_agg(concat_ws(' ', d.outbox_id, d.endpoint, d.type, d.attempt, d.status, d.took, d.answer, o.status), ', ' order by d.outbox_id)
                   from restante.endpoint_delivery as d left join restante.outbox as o on (o.id, o.event_id) = (d.outbox_id, d.event_id)";
    let row = |nth: usize| format!("{} a order.placed 1 202 00:00:00.007 thanks done", claimed[nth].event.id);
    assert_eq!(world.value(noted).await, format!("{}, {}", row(0), row(1)));
    let fares = "select concat_ws(' ', failing_since, failures_in_a_row) from restante.endpoint";
    assert_eq!(world.value(fares).await, "0", "it takes notifications again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_after_an_endpoint_was_changed_goes_out_as_the_change_says() {
    let (world, old, new) = (World::new().await, Receiver::start().await, Receiver::start().await);
    add(&world, "a", &old.url("/"), &[]).await;
    let mut worker =
        Process::worker(&world.url, "http://127.0.0.1:9", &[("RESTANTE_ALLOW_PRIVATE_ENDPOINTS", "true")])
            .await;
    let send = async |to: &Receiver, count: usize| {
        enqueue(&world, "order.placed", None, "{}").await;
        eventually("it arrives", async || (to.arrived().len() >= count).then_some(())).await;
        to.arrived().pop().unwrap()
    };

    let mut secret = SECRET.to_owned();
    for count in 1..=10 {
        assert!(is_signed(&send(&old, 2 * count - 1).await, &secret));
        let before = secret;
        secret = world.value("select restante.rotate_secret('a')").await;
        world.sql("select restante.rotate_secret('a', drop_old => true)").await;
        let arrived = send(&old, 2 * count).await;
        assert!(is_signed(&arrived, &secret) && !is_signed(&arrived, &before));
    }
    world.sql(&format!("update restante.endpoint set url = '{}'", new.url("/"))).await;
    send(&new, 1).await;
    world.sql("update restante.endpoint set status = 'disabled'").await;
    enqueue(&world, "order.placed", None, "{}").await;
    let parked =
        "select string_agg(status, ' ') from restante.outbox where type = 'notify.a' and status <> 'done'";
    assert_eq!(world.value(parked).await, "paused");

    assert_eq!(worker.stopped().await, Some(0));
    assert_eq!((old.arrived().len(), new.arrived().len()), (20, 1));
}
