//! The newest dead letters. Each has its replay on its own page.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "dead",
    title: "Dead letters",
    sql: "select id, event_id, type, subscriber, key, attempt, kind, failed_at, last_error from restante.outbox_dead order by id desc limit 50",
    fresh: LIVE,
    bytes_max: 46_000,
    draw,
};

#[derive(FromRow)]
struct Dead {
    id: i64,
    event_id: String,
    r#type: String,
    subscriber: String,
    key: Option<String>,
    attempt: i32,
    kind: Option<String>,
    failed_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let dead: Vec<Dead> = rows(found)?;
    if dead.is_empty() {
        return Ok(nothing("There are no dead letters."));
    }
    let body = html! {
        @for row in &dead {
            tr {
                td { (shows.room.event(row.id, &row.event_id)) }
                td { (shows.room.word(&row.r#type)) @if !row.subscriber.is_empty() { span.faint { " for " (shows.room.word(&row.subscriber)) } } }
                td.wide { (shows.room.key(row.key.as_deref())) }
                td { (shows.room.word_or_dash(row.kind.as_deref())) }
                td.n.wide { (row.attempt) }
                td.n { (words::ago_or_dash(row.failed_at)) }
                td.wide { (shows.room.cut(row.last_error.as_deref())) }
                @if shows.replay { td { a href={ "/events/" (row.id) "#replay" } { "Replay…" } } }
            }
        }
    };
    let heads = ["event", "type", "~key", "kind", "~>attempts", ">given up", "~error", "replay"];
    Ok(table("Dead letters", if shows.replay { &heads } else { &heads[..7] }, &body))
}
