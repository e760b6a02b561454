//! The newest messages. Their texts are on a page of their own, and only if asked for.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "messages",
    title: "Messages",
    sql: "select id, key, tag, state, reason, attempt, model, lane, input_tokens, output_tokens, dollars::float8 as dollars, deliver_by, created_at\n  \
          from restante.message_overview where id in (select m.id from restante.message as m order by m.id desc limit 50)\n \
          order by id desc",
    fresh: LIVE,
    bytes_max: 70_000,
    draw,
};

#[derive(FromRow)]
struct Message {
    id: i64,
    key: Option<String>,
    tag: Option<String>,
    state: String,
    reason: Option<String>,
    attempt: i32,
    model: Option<String>,
    lane: String,
    input_tokens: Option<i64>,
    output_tokens: Option<i64>,
    dollars: Option<f64>,
    deliver_by: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let messages: Vec<Message> = rows(found)?;
    if messages.is_empty() {
        return Ok(nothing("No message was sent yet: select restante.send_message(...)."));
    }
    let body = html! {
        @for row in &messages {
            tr {
                td { a.id href={ "/messages/" (row.id) } { "message " (row.id) } @if let Some(tag) = &row.tag { " " span.tag { (shows.room.word(tag)) } } }
                td { (words::state(&row.state)) @if let Some(reason) = &row.reason { " " (shows.room.cut(Some(reason))) } }
                td.wide { (shows.room.key(row.key.as_deref())) }
                td { (shows.room.word_or_dash(row.model.as_deref())) @if row.lane == "batch" { " " span.tag { "half price" } } }
                td.n.wide { (row.attempt) }
                td.n.wide { (words::number(row.input_tokens.unwrap_or_default())) " / " (words::number(row.output_tokens.unwrap_or_default())) }
                td.n { (words::dollars(row.dollars)) }
                td.n.wide { (words::ago_or_dash(row.deliver_by)) }
                td.n { (words::ago(row.created_at)) }
            }
        }
    };
    let heads = [
        "message",
        "state",
        "~key",
        "model",
        "~>attempt",
        "~>tokens in / out",
        ">cost",
        "~>deadline",
        ">sent off",
    ];
    Ok(table("Messages", &heads, &body))
}
