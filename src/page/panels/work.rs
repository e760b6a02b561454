//! What is not finished, by status and type.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "work",
    title: "Work to do",
    sql: "select status::text as status, type, subscriber, sender, events, oldest_created_at from restante.outbox_overview order by events desc",
    fresh: LIVE,
    bytes_max: 7_000,
    draw,
};

/// The statuses of what is not finished, in the order in which an event has them.
const STATUSES: [&str; 6] = ["pending", "running", "retry", "blocked", "paused", "dead"];

/// How many types are listed.
const LISTED: usize = 10;

#[derive(FromRow)]
struct Waiting {
    status: String,
    r#type: String,
    subscriber: String,
    sender: String,
    events: i64,
    oldest_created_at: DateTime<Utc>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let all: Vec<Waiting> = rows(found)?;
    let of = |status: &str| all.iter().filter(|row| row.status == status).map(|row| row.events).sum::<i64>();
    let body = html! {
        @for row in all.iter().take(LISTED) {
            tr {
                td { (words::state(&row.status)) }
                td { (shows.room.word(&row.r#type)) @if !row.subscriber.is_empty() { span.faint { " for " (shows.room.word(&row.subscriber)) } } }
                td.wide { (shows.room.word(&row.sender)) }
                td.n { (words::number(row.events)) }
                td.n { (words::ago(row.oldest_created_at)) }
            }
        }
    };
    Ok(html! {
        ul.tiles {
            @for status in STATUSES {
                @let events = of(status);
                li class={ (status) @if events == 0 { " none" } } {
                    span.figure { (words::number(events)) }
                    span.what { (status) }
                }
            }
        }
        @if all.is_empty() {
            (nothing("Nothing waits and nothing runs."))
        } @else {
            (table("Work to do", &["status", "type", "~sender", ">events", ">oldest"], &body))
            @if all.len() > LISTED { p.nothing { (all.len() - LISTED) " more kinds are not listed." } }
        }
    })
}
