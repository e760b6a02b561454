//! What people did lately.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "operations",
    title: "What people did",
    sql: "select at, who, what, of_what, how_many, reason from restante.operation order by at desc limit 12",
    fresh: LIVE,
    bytes_max: 8_000,
    draw,
};

#[derive(FromRow)]
struct Operation {
    at: DateTime<Utc>,
    who: String,
    what: String,
    of_what: Option<String>,
    how_many: i64,
    reason: Option<String>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let operations: Vec<Operation> = rows(found)?;
    if operations.is_empty() {
        return Ok(nothing("Nobody has changed anything yet."));
    }
    let body = html! {
        @for row in &operations {
            tr {
                td { (words::ago(row.at)) }
                td { (shows.room.word(&row.who)) }
                td { strong { (shows.room.word(&row.what)) } }
                td { (shows.room.key(row.of_what.as_deref())) }
                td.n { (words::number(row.how_many)) }
                td.wide { (shows.room.cut(row.reason.as_deref())) }
            }
        }
    };
    Ok(table("What people did", &["when", "who", "what", "of what", ">how many", "~reason"], &body))
}
