//! Keys whose events wait because the one in front does not finish.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "keys",
    title: "Stuck keys",
    sql: "select key, front_id, front, front_status::text as front_status, front_since, reason, waiting from restante.key_stuck order by waiting desc limit 10",
    fresh: LIVE,
    bytes_max: 7_000,
    draw,
};

#[derive(FromRow)]
struct Stuck {
    key: String,
    front_id: i64,
    front: String,
    front_status: String,
    front_since: Option<DateTime<Utc>>,
    reason: Option<String>,
    waiting: i64,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let keys: Vec<Stuck> = rows(found)?;
    if keys.is_empty() {
        return Ok(nothing("No key is stuck."));
    }
    let body = html! {
        @for row in &keys {
            tr {
                td { (shows.room.key(Some(&row.key))) }
                td { (words::state(&row.front_status)) " " (shows.room.event(row.front_id, &row.front)) }
                td.n { (words::number(row.waiting)) }
                td.n { (words::ago_or_dash(row.front_since)) }
                td.wide { (shows.room.cut(row.reason.as_deref())) }
            }
        }
    };
    Ok(table("Stuck keys", &["key", "in front", ">behind it", ">since", "~why"], &body))
}
