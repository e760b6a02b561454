//! What batches cost.

use sqlx::AssertSqlSafe;

use super::{api_at, requests, work_to_rest};
use crate::support::{SimulatedApi, World};

/// Prices that make sums easy to work out by hand, with one for everything that must not be taken.
const PRICES: &str = "insert into restante.price
    (model, valid_from, input, output, cache_write_5m, cache_write_1h, cache_read) values
    ('*', '2026-01-01', 900, 900, 900, 900, 900),
    ('claude-opus-*', '2026-01-01', 800, 800, 800, 800, 800),
    ('claude-opus-5-5*', '2026-01-01', 10, 50, 12.5, 20, 1),
    ('claude-opus-5-5*', '2026-11-02 12:00Z', 20, 100, 25, 40, 2),
    ('claude-opus-5-5', '2027-01-01', 700, 700, 700, 700, 700)";

/// A batch of an account, created at a time.
async fn batch(world: &World, id: &str, created_at: &str) {
    world
        .sql(&format!(
            "insert into restante.batch (id, status, succeeded, created_at, ended_at)
             values ('{id}', 'ended', 1, '{created_at}', '{created_at}'::timestamptz + interval '1 hour')
             on conflict (id, account) do update set succeeded = 1, created_at = excluded.created_at, ended_at = excluded.ended_at"
        ))
        .await;
}

/// A succeeded result of a model, with what its columns and its line say of its usage.
pub(super) async fn result(world: &World, id: &str, name: &str, columns: [i64; 4], line: &str) {
    sqlx::query(
        "insert into restante.batch_result (batch_id, custom_id, outcome, line, model, input_tokens, output_tokens,
                                            cache_creation_input_tokens, cache_read_input_tokens)
         values ($1, $2, 'succeeded', $3, 'claude-opus-5-5-20261001', $4, $5, $6, $7)",
    )
    .bind(id)
    .bind(name)
    .bind(line)
    .bind(columns[0])
    .bind(columns[1])
    .bind(columns[2])
    .bind(columns[3])
    .execute(&world.pool)
    .await
    .unwrap();
}

fn line(text: &str, usage: &str) -> String {
    format!(
        r#"{{"custom_id":"x","result":{{"type":"succeeded","message":{{"content":[{{"type":"text","text":"{text}"}}],"usage":{usage}}}}}}}"#
    )
}

/// A batch with every kind of result, whose sum is worked out beside each.
async fn seeded() -> World {
    let world = World::new().await;
    world.sql(PRICES).await;
    batch(&world, "b1", "2026-11-01T12:00Z").await;
    // (1,000,000 * 10 + 200,000 * 50) / 1,000,000 = 20, of which a batch pays half: 10.
    result(&world, "b1", "plain", [1_000_000, 200_000, 0, 0], "{}").await;
    // 10,000 * 50 + 100,000 * 12.5 + 200,000 * 20 + 2,000,000 * 1 = 7,750,000: 3.875.
    let split =
        r#"{"cache_creation":{"ephemeral_5m_input_tokens":100000,"ephemeral_1h_input_tokens":200000}}"#;
    result(&world, "b1", "split", [0, 10_000, 300_000, 2_000_000], &line("hi", split)).await;
    // 80,000 * 12.5 = 1,000,000: 0.5. So does a line that says nothing of it, and one that is no JSON.
    result(&world, "b1", "undivided", [0, 0, 80_000, 0], &line("hi", r#"{"cache_creation":null}"#)).await;
    result(&world, "b1", "broken", [0, 0, 80_000, 0], r#"{"custom_id""#).await;
    // 50,000 * 20 = 1,000,000: 0.5, although the text cannot be held by Postgres.
    let hour = r#"{"cache_creation":{"ephemeral_1h_input_tokens":50000}}"#;
    result(&world, "b1", "nul", [0, 0, 50_000, 0], &line(r"\u0000 \\u0000 \ud800", hour)).await;
    // 1 * 10 = 10: 0.000005; and five calls of tools.
    let tools = r#"{"server_tool_use":{"web_search_requests":3,"web_fetch_requests":2,"new":null}}"#;
    result(&world, "b1", "tools", [1, 0, 0, 0], &line("hi", tools)).await;
    // As bytes: 80,000 * 12.5: 0.5.
    result(&world, "b1", "bytes", [0, 0, 80_000, 0], "{}").await;
    world.sql(r"update restante.batch_result set line = null, raw = '\xff' where custom_id = 'bytes'").await;
    // Not billed, whatever it says.
    result(&world, "b1", "errored", [5_000_000, 0, 0, 0], "{}").await;
    world.sql("update restante.batch_result set outcome = 'errored' where custom_id = 'errored'").await;
    world
}

/// 10 + 3.875 + 0.5 + 0.5 + 0.5 + 0.000005 + 0.5
const SUM: &str = "15.875005";

#[tokio::test]
async fn the_cost_of_a_batch_is_what_one_works_out_by_hand() {
    let world = seeded().await;
    let look =
        "select concat_ws(' ', dollars, round(dollars, 2), results, succeeded, input_tokens, output_tokens,
                                 cache_write_5m_tokens, cache_write_1h_tokens, cache_read_tokens, server_tool_uses, model)
                  from restante.batch_cost";
    let expected = format!("{SUM} 15.88 8 7 1000001 210000 340000 250000 2000000 5 claude-opus-5-5-20261001");
    assert_eq!(world.value(look).await, expected);

    world.sql("update restante.batch set complete_at = now()").await;

    assert_eq!(world.value("select sum(results) from restante.batch_usage").await, "8");
    assert_eq!(world.value(look).await, expected, "the sum of a complete batch is kept");
    assert_eq!(world.value("select trim_scale(sum(dollars)) from restante.result_cost").await, SUM);
    let day = "select concat_ws(' ', day, model, tag, account, dollars) from restante.cost_by_day";
    assert_eq!(world.value(day).await, format!("2026-11-01 claude-opus-5-5-20261001 anthropic {SUM}"));
}

#[tokio::test]
async fn the_price_is_the_one_that_was_valid_when_the_batch_was_created_and_the_closest_to_the_model() {
    let world = World::new().await;
    world.sql(PRICES).await;
    for (model, at, input) in [
        ("claude-opus-5-5", "2026-11-02 11:59Z", "10"),
        ("claude-opus-5-5", "2026-11-02 12:00Z", "20"),
        ("claude-opus-5-5", "2027-01-01", "700"),
        ("claude-opus-5-5-20261001", "2027-01-01", "20"),
        ("claude-opus-4", "2027-01-01", "800"),
        ("owl", "2027-01-01", "900"),
        ("owl", "2025-12-31", "none"),
    ] {
        let price = format!(
            "select coalesce((select input::text from restante.price_at('{model}', '{at}')), 'none')"
        );
        assert_eq!(world.value(&price).await, input, "{model} at {at}");
    }
}

#[tokio::test]
async fn a_model_without_a_price_is_named_until_it_has_one() {
    let world = World::new().await;
    batch(&world, "b1", "2026-11-01T12:00Z").await;
    result(&world, "b1", "a", [1_000_000, 0, 0, 0], "{}").await;
    let look = "select concat_ws(' ', dollars, results_without_price) from restante.batch_cost";
    assert_eq!(world.value("select count(*) from restante.price").await, "0");
    assert_eq!(world.value(look).await, "0 1");
    let missing = "select coalesce(string_agg(concat_ws(' ', model, results), ', '), 'none') from restante.price_missing";
    assert_eq!(world.value(missing).await, "claude-opus-5-5-20261001 1");

    world.sql(PRICES).await;

    assert_eq!(world.value(look).await, "5 0");
    assert_eq!(world.value(missing).await, "none");
}

#[tokio::test]
async fn a_price_that_is_none_is_refused() {
    let world = World::new().await;
    for wrong in ["'a*b', 1, 1", "'', 1, 1", "'a', -1, 1", "'a', 'NaN', 1", "'a', 1, 1.5"] {
        let insert = format!(
            "insert into restante.price (model, valid_from, output, cache_write_5m, cache_write_1h, cache_read, input, batch_factor)
             select v.model, now(), 1, 1, 1, 1, v.input, v.factor from (values ({wrong})) as v (model, input, factor)"
        );
        assert!(sqlx::query(AssertSqlSafe(insert)).execute(&world.pool).await.is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_submission_costs_what_all_its_attempts_cost_and_each_result_counts_once() {
    let world = World::new().await;
    world.sql(PRICES).await;
    sqlx::query("select restante.submit_batch($1::json, name => 's', tag => 'night')")
        .bind(requests(1, 2).to_string())
        .execute(&world.pool)
        .await
        .unwrap();
    for (nth, created_at, input) in
        [("1", "2026-11-01T12:00Z", 1_000_000), ("2", "2026-11-03T12:00Z", 400_000)]
    {
        if nth == "2" {
            world.value("select restante.make_parts('s', 'anthropic', 2, array['r-2'])").await;
        }
        let adopt = format!("update restante.submission_part set batch_id = 'b{nth}' where number = {nth}");
        world.sql(&adopt).await;
        batch(&world, &format!("b{nth}"), created_at).await;
        result(&world, &format!("b{nth}"), "r-2", [input, 0, 0, 0], "{}").await;
        world.sql(&format!("update restante.batch set complete_at = now() where id = 'b{nth}'")).await;
    }
    // Nobody has submitted this one.
    batch(&world, "b3", "2026-11-03T12:00Z").await;
    result(&world, "b3", "r-2", [1_000_000, 0, 0, 0], "{}").await;

    // 1,000,000 * 10, and 400,000 at the price of the day after, 20: half of it.
    let look = "select concat_ws(' ', submission, tag, batches, succeeded, input_tokens, dollars) from restante.submission_cost";
    assert_eq!(world.value(look).await, "s night 2 2 1400000 9");
    let days = "select string_agg(concat_ws(' ', day, coalesce(tag, '-'), dollars), ', ' order by day, tag) from restante.cost_by_day";
    assert_eq!(world.value(days).await, "2026-11-01 night 5, 2026-11-03 night 4, 2026-11-03 - 10");
    assert_eq!(world.value("select dollars from restante.submission_overview").await, "9");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_estimate_gives_way_to_the_cost_once_the_answers_are_here() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    world.sql(&PRICES.replace("2026-", "2020-")).await;
    world.sql("select restante.budget('night', 100000)").await;
    sqlx::query("select restante.submit_batch($1::json, name => 's', tag => 'night')")
        .bind(requests(1, 50).to_string())
        .execute(&world.pool)
        .await
        .unwrap();
    let look = "select concat_ws(' ', spent = (select dollars from restante.submission_cost), spent > 0, under_way > 0,
                                 amount = spent + under_way + left_over) from restante.budget_overview";
    assert_eq!(world.value(look).await, "t f t t");

    work_to_rest(&world, &api_at(&api.url)).await;

    assert_eq!(world.value("select state from restante.submission_overview").await, "complete");
    assert_eq!(world.value(look).await, "t t f t");
    let agrees = "select concat_ws(' ', count(*), sum(r.dollars) = (select sum(dollars) from restante.batch_cost),
                                   count(*) = (select succeeded from restante.submission_cost)) from restante.result_cost as r";
    let counted = world.value("select count(*) from restante.batch_result where outcome = 'succeeded'").await;
    assert_eq!(world.value(agrees).await, format!("{counted} t t"));
}
