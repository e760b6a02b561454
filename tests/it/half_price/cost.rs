//! What a message costs that went out with a batch.

use super::{IN_AN_HOUR, pack, pass, send, unpack};
use crate::support::World;

#[tokio::test]
async fn messages_cost_what_their_batches_cost_whatever_the_cache_and_the_day() {
    let world = World::new().await;
    world
        .sql("insert into restante.price (model, valid_from, input, output, cache_write_5m, cache_write_1h, cache_read) values
              ('claude-opus-5-5*', '2020-01-01', 5, 25, 6.25, 10, 0.5), ('claude-opus-5-5*', '2026-01-02', 50, 250, 62.5, 100, 5)")
        .await;
    send(&world, 1, 3, &format!("{IN_AN_HOUR}, tag => 'night'")).await;
    pass(&world, 6).await;
    pack(&world).await;
    world.sql("update restante.submission_part set batch_id = 'b'").await;
    world
        .sql(
            r#"insert into restante.batch_result (batch_id, custom_id, outcome, line, model, input_tokens, output_tokens, cache_creation_input_tokens, cache_read_input_tokens)
               select 'b', 'm' || n, 'succeeded',
                      '{"result":{"message":{"id":"x","usage":{"cache_creation":{"ephemeral_1h_input_tokens":300,"ephemeral_5m_input_tokens":100}}}}}',
                      'claude-opus-5-5', n * 1000, n * 70, 400, 20
                 from generate_series(1, 3) as n"#,
        )
        .await;
    // The price of the day on which the batch was created counts.
    world.sql("update restante.batch set created_at = '2026-01-01 12:00Z', complete_at = clock_timestamp() where id = 'b'").await;
    unpack(&world).await;

    let sums = "select concat_ws(' ', (select sum(dollars) from restante.message_cost) = (select dollars from restante.batch_cost),
                                 (select trim_scale(sum(dollars)) from restante.message_cost where tag = 'night' and sent_as = 'batch'))";
    // Half of (6,000 * 5 + 420 * 25 + 300 * 6.25 + 900 * 10 + 60 * 0.5) millionths.
    assert_eq!(world.value(sums).await, "t 0.0257025");
    assert_eq!(
        world.value("select trim_scale(sum(dollars)) from restante.message_overview").await,
        "0.0257025"
    );
}
