//! What fails, by kind and type.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "failures",
    title: "Failures by kind",
    sql: "select kind, type, failed_last_hour, failed_last_day, events_retrying, events_dead, last_failed_at, for_example\n  \
          from restante.failures_by_kind order by failed_last_hour desc, failed_last_day desc limit 12",
    fresh: LIVE,
    bytes_max: 10_000,
    draw,
};

#[derive(FromRow)]
struct Failure {
    kind: String,
    r#type: String,
    failed_last_hour: i64,
    failed_last_day: i64,
    events_retrying: i64,
    events_dead: i64,
    last_failed_at: Option<DateTime<Utc>>,
    for_example: Option<String>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let failures: Vec<Failure> = rows(found)?;
    if failures.is_empty() {
        return Ok(nothing("Nothing failed in the last day."));
    }
    let body = html! {
        @for row in &failures {
            tr {
                td { strong { (shows.room.word(&row.kind)) } }
                td { (shows.room.word(&row.r#type)) }
                td.n { (words::count(row.failed_last_hour)) }
                td.n { (words::count(row.failed_last_day)) }
                td.n { (words::count(row.events_retrying)) }
                td.n { (words::count(row.events_dead)) }
                td.n { (words::ago_or_dash(row.last_failed_at)) }
                td.wide { (shows.room.cut(row.for_example.as_deref())) }
            }
        }
    };
    Ok(table(
        "Failures by kind",
        &["kind", "type", ">last hour", ">last day", ">retrying", ">dead", ">last", "~for example"],
        &body,
    ))
}
