//! The last notifications, and how each was answered.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "deliveries",
    title: "Last notifications",
    sql: "select endpoint, outbox_id, event_id, type, attempt, delivered_at, took, status, error\n  \
          from restante.endpoint_delivery order by id desc limit 30",
    fresh: LIVE,
    bytes_max: 28_000,
    draw,
};

#[derive(FromRow)]
struct Delivery {
    endpoint: String,
    outbox_id: i64,
    event_id: String,
    r#type: String,
    attempt: i32,
    delivered_at: DateTime<Utc>,
    took: PgInterval,
    status: Option<i32>,
    error: Option<String>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let deliveries: Vec<Delivery> = rows(found)?;
    if deliveries.is_empty() {
        return Ok(nothing("Nobody was notified yet."));
    }
    let body = html! {
        @for row in &deliveries {
            tr {
                td { (shows.room.word(&row.endpoint)) }
                td { (shows.room.event(row.outbox_id, &row.event_id)) }
                td { (shows.room.word(&row.r#type)) }
                td {
                    @if row.error.is_none() { (words::state("ok")) } @else { (words::state("failed")) }
                    @if let Some(status) = row.status { " " (status) }
                    @if let Some(error) = &row.error { " " (shows.room.cut(Some(error))) }
                }
                td.n.wide { (row.attempt) }
                td.n.wide { (words::interval(&row.took)) }
                td.n { (words::ago(row.delivered_at)) }
            }
        }
    };
    Ok(table(
        "Last notifications",
        &["endpoint", "notification", "of type", "answer", "~>attempt", "~>took", ">when"],
        &body,
    ))
}
