//! Replays of many events, and how far each is.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "replays",
    title: "Replays",
    sql: "select name, asked_at, asked_by, status, events, replayed, left_out, reason from restante.replay_overview order by asked_at desc limit 10",
    fresh: LIVE,
    bytes_max: 9_000,
    draw,
};

#[derive(FromRow)]
struct Replay {
    name: String,
    asked_at: DateTime<Utc>,
    asked_by: String,
    status: String,
    events: i64,
    replayed: i64,
    left_out: i64,
    reason: Option<String>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let replays: Vec<Replay> = rows(found)?;
    if replays.is_empty() {
        return Ok(nothing("Nothing was replayed in bulk yet."));
    }
    let body = html! {
        @for row in &replays {
            tr {
                td { (shows.room.word(&row.name)) }
                td { (words::state(&row.status)) }
                td { (words::progress("Replayed of ", &shows.room.word(&row.name), row.replayed, row.events)) }
                td.n.wide { (words::count(row.left_out)) }
                td { (shows.room.word(&row.asked_by)) }
                td.n { (words::ago(row.asked_at)) }
                td.wide { (shows.room.cut(row.reason.as_deref())) }
            }
        }
    };
    Ok(table(
        "Replays",
        &["replay", "status", "replayed", "~>left out", "asked by", ">when", "~reason"],
        &body,
    ))
}
