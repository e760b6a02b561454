//! The console: the views and functions that answer an operator's questions, and what is noted of what people do.

mod explain;
mod failures;
mod history;
mod keys;
mod noted;
mod operations;
mod replays;
mod subscribers;
mod throughput;
mod times;

use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::World;

/// The rows of a query as text, a line for each.
async fn lines(world: &World, query: &str) -> String {
    let query = format!("select row_to_json(r)::text from ({query}) as r");
    let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(&world.pool).await.unwrap();
    rows.iter().flat_map(|row| [row.as_str(), "\n"]).collect()
}

/// Stores an event of a type.
async fn receive_type(world: &World, event_id: &str, event_type: &str, key: &str) {
    let body = json!({ "type": "event", "id": event_id, "created_at": "2026-11-01T12:00:00Z",
                       "data": { "type": event_type, "id": key } });
    assert_eq!(world.receive_body(&body).await, 1);
}

/// The error of a call that has to fail.
async fn refused(world: &World, call: &str) -> String {
    let error = sqlx::query(AssertSqlSafe(call)).execute(&world.pool).await.expect_err(call);
    error.to_string()
}
