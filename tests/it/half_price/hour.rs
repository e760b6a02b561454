//! A thousand messages, and an hour.

use super::{
    IN_AN_HOUR, api_with_slow_batches, asked_directly, attempts, batches_of, count_by,
    each_is_answered_once_and_in_time, end_batches, pass, quick_api, send, told, work,
};
use crate::support::World;

/// Dollars for a million tokens.
const PRICE: &str = "insert into restante.price (model, valid_from, input, output, cache_write_5m, cache_write_1h, cache_read)
                     values ('claude-opus-5-5*', '2020-01-01', 5, 25, 6.25, 10, 0.5)";

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_go_out_as_few_batches_at_half_the_price_and_are_answered_in_time_although_every_second_batch_is_slow()
 {
    let api = api_with_slow_batches().await;
    let world = World::new().await;
    world.sql(PRICE).await;
    world.sql("update restante.message_lane_setting set requests_max = 250").await;
    send(&world, 1, 1000, &format!("{IN_AN_HOUR}, tag => 'later'")).await;

    let mut minute = 0;
    while minute < 60 {
        work(&world, &api).await;
        if minute == 45 {
            assert_eq!(
                count_by(&world, "status").await,
                "done 500, waiting 500",
                "every second batch is slow"
            );
            end_batches(&api).await;
        }
        pass(&world, 3).await;
        minute += 3;
    }

    assert_eq!(batches_of(&api).await.iter().map(|(_, requests)| *requests).collect::<Vec<_>>(), [250; 4]);
    assert_eq!(asked_directly(&api).await, 0);
    assert_eq!(attempts(&world).await, "batch answered paid 1000");
    assert_eq!(each_is_answered_once_and_in_time(&world).await, "t t t");
    assert_eq!(told(&world).await, "message.completed 1000");
    assert_eq!(world.value("select count(*) from restante.outbox_live where type like 'message.%' and type <> 'message.completed'").await, "0");

    // The same thousand, without time.
    send(&world, 1, 1000, "tag => 'now'").await;
    work(&world, &quick_api().await).await;
    assert_eq!(count_by(&world, "concat_ws(' ', tag, status)").await, "later done 1000, now done 1000");
    let share = "select round(sum(dollars) filter (where tag = 'later') / sum(dollars) filter (where tag = 'now'), 1) from restante.message_cost";
    assert_eq!(world.value(share).await, "0.5");
    assert_eq!(world.value("select count(*) from restante.message_cost where dollars is null").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_does_not_answer_in_time_is_sent_by_itself_and_both_costs_are_shown() {
    let api = api_with_slow_batches().await;
    let world = World::new().await;
    world.sql(PRICE).await;
    world.sql("update restante.message_lane_setting set requests_max = 10, reserve = '10 minutes'").await;
    send(&world, 1, 40, IN_AN_HOUR).await;

    for _ in 0..17 {
        work(&world, &api).await;
        assert_eq!(asked_directly(&api).await, 0, "there is time");
        pass(&world, 3).await;
    }
    // Nine minutes before the deadline.
    work(&world, &api).await;

    assert_eq!(batches_of(&api).await.len(), 4);
    assert_eq!(asked_directly(&api).await, 20);
    assert_eq!(each_is_answered_once_and_in_time(&world).await, "t t t");
    assert_eq!(attempts(&world).await, "batch answered paid 20, batch open paid 20, stream answered paid 20");

    end_batches(&api).await;
    pass(&world, 3).await;
    work(&world, &api).await;

    assert_eq!(
        attempts(&world).await,
        "batch answered paid 20, batch unused paid 20, stream answered paid 20"
    );
    assert_eq!(each_is_answered_once_and_in_time(&world).await, "t t t");
    assert_eq!(told(&world).await, "message.completed 40");
    let both = "select count(*) from (select message from restante.message_cost where dollars > 0 group by message having count(*) = 2) as m";
    assert_eq!(world.value(both).await, "20");
    assert_eq!(
        world.value("select count(*) from restante.message_overview where attempts_that_may_be_paid = 2 and dollars > 0").await,
        "20"
    );
}
