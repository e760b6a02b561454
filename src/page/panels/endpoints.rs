//! Endpoints of notifications, and how far behind each is.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "endpoints",
    title: "Endpoints",
    sql: "select name, url, status, disabled_because, waiting, parked, dead, delivered_last_day, failed_last_day, oldest_waiting_since,\n       \
          last_attempt_at, last_status\n  \
          from restante.endpoint_overview order by name limit 50",
    fresh: LIVE,
    bytes_max: 44_000,
    draw,
};

#[derive(FromRow)]
struct Endpoint {
    name: String,
    url: String,
    status: String,
    disabled_because: Option<String>,
    waiting: i64,
    parked: i64,
    dead: i64,
    delivered_last_day: i64,
    failed_last_day: i64,
    oldest_waiting_since: Option<DateTime<Utc>>,
    last_attempt_at: Option<DateTime<Utc>>,
    last_status: Option<i32>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let endpoints: Vec<Endpoint> = rows(found)?;
    if endpoints.is_empty() {
        return Ok(nothing("There is no endpoint: insert into restante.endpoint (name, url) values (...)."));
    }
    let body = html! {
        @for row in &endpoints {
            tr {
                td { strong { (shows.room.word(&row.name)) } }
                td { (words::state(&row.status)) @if let Some(why) = &row.disabled_because { " " (shows.room.cut(Some(why))) } }
                td.wide { (shows.room.cut(Some(&row.url))) }
                td.n { (words::count(row.waiting)) }
                td.n.wide { (words::count(row.parked)) }
                td.n { (words::count(row.dead)) }
                td.n { (words::count(row.delivered_last_day)) }
                td.n { (words::count(row.failed_last_day)) }
                td.n { (words::ago_or_dash(row.oldest_waiting_since)) }
                td.n.wide { (words::ago_or_dash(row.last_attempt_at)) @if let Some(status) = row.last_status { " (" (status) ")" } }
            }
        }
    };
    let heads = [
        "endpoint",
        "status",
        "~url",
        ">waiting",
        "~>parked",
        ">dead",
        ">delivered",
        ">failed",
        ">oldest waiting",
        "~>last attempt",
    ];
    Ok(table("Endpoints", &heads, &body))
}
