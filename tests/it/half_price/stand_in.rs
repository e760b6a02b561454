//! Sends a message by itself.

use restante::handler::{self, Classify, Context, Handler};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::sender::client;

#[derive(Debug)]
pub(super) struct Direct {
    pub(super) api: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct MessageRef {
    message: i64,
}

impl Handler for Direct {
    const EVENT_TYPES: &'static [&'static str] = &["message.send"];
    type Payload = MessageRef;

    async fn handle(&self, cx: &mut Context<'_>, MessageRef { message }: MessageRef) -> handler::Result {
        let begun: Option<(i32, String)> = sqlx::query_as(
            "with m as (update restante.message set status = 'sending', attempt = attempt + 1, sent_at = clock_timestamp()
                         where id = $1 and status = 'waiting' returning id, attempt, request)
             , a as (insert into restante.message_attempt (message, attempt) select id, attempt from m)
             select attempt, request::text from m",
        )
        .bind(message)
        .fetch_optional(cx.pool())
        .await?;
        let Some((attempt, request)) = begun else { return Ok(()) };
        let post = client().post(format!("{}/v1/messages", self.api)).header("x-api-key", "any");
        let post = post.header("anthropic-version", "2023-06-01").header("content-type", "application/json").body(request);
        let answer: Value = post.send().await.retryable()?.json().await.retryable()?;
        let tx = cx.tx().await?;
        let usage = &answer["usage"];
        let is_done: Option<i64> = sqlx::query_scalar(
            "update restante.message set status = 'done', done_at = clock_timestamp(), body = $3::json
              where id = $1 and status = 'sending' and attempt = $2 returning id",
        )
        .bind(message)
        .bind(attempt)
        .bind(answer.to_string())
        .fetch_optional(&mut *tx)
        .await?;
        sqlx::query(
            "update restante.message_attempt set outcome = $3, ended_at = clock_timestamp(), model = $4, input_tokens = $5, output_tokens = $6
              where message = $1 and attempt = $2",
        )
        .bind(message)
        .bind(attempt)
        .bind(if is_done.is_some() { "answered" } else { "unused" })
        .bind(answer["model"].as_str())
        .bind(usage["input_tokens"].as_i64())
        .bind(usage["output_tokens"].as_i64())
        .execute(&mut *tx)
        .await?;
        cx.set_result(&json!({}));
        Ok(())
    }
}
