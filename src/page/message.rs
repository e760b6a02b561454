//! One message: how far it is, its attempts, and its text for whoever asks, also while it is being written.

use maud::{Markup, html};
use sqlx::Row as _;

use super::event::{body, facts};
use super::panel::{nothing, sql_of};
use super::reader::{Problem, Query, Reader};

/// The statements of a message, as they are shown below their answers.
fn statements(id: i64) -> [String; 2] {
    [
        format!(
            "select state, reason, attempt, key, tag, model, stop_reason, input_tokens, output_tokens, dollars, deliver_by, created_at, sent_at, \
             done_at, lane, submission, attempts_that_may_be_paid from restante.message_overview where id = {id}"
        ),
        format!(
            "select attempt, sent_as, batch_id, sent_at, ended_at, outcome, may_be_paid, model, input_tokens, output_tokens, error \
             from restante.message_attempt where message = {id} order by attempt limit 30"
        ),
    ]
}

/// What is known of it beside its text.
pub(super) async fn overview(reader: &Reader, id: i64) -> Result<Markup, Problem> {
    let statements = statements(id);
    let found = reader.texts(&statements).await?;
    let [message, attempts] = &found[..] else { return Ok(html! {}) };
    Ok(html! {
        @if message.is_empty() { (nothing("There is no message of this number.")) } @else { (facts(message)) }
        h3 { "Its attempts" }
        @if attempts.is_empty() { (nothing("It was not sent yet.")) } @else { (facts(attempts)) }
        (sql_of(&statements))
    })
}

/// Its text, as far as it is written.
pub(super) async fn text(reader: &Reader, id: i64) -> Result<Markup, Problem> {
    const TEXT: &str = "select restante.page_message_text($1::bigint)";
    let found = reader.rows(&Query::with(TEXT, [id.to_string()])).await?;
    let text: Option<String> = found.first().and_then(|row| row.try_get(0).ok().flatten());
    Ok(text.map_or_else(|| nothing("There is no text yet."), |text| body(&text)))
}
