//! Whether each subscriber keeps up.

use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "subscribers",
    title: "Who keeps up?",
    sql: "select subscriber, waiting, running, retrying, dead, behind_by, how from restante.subscriber_lag order by subscriber limit 30",
    fresh: LIVE,
    bytes_max: 12_000,
    draw,
};

#[derive(FromRow)]
struct Subscriber {
    subscriber: String,
    waiting: i64,
    running: i64,
    retrying: i64,
    dead: i64,
    behind_by: Option<PgInterval>,
    how: String,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let subscribers: Vec<Subscriber> = rows(found)?;
    if subscribers.is_empty() {
        return Ok(nothing("There are no subscribers."));
    }
    let body = html! {
        @for row in &subscribers {
            tr {
                td { @if row.subscriber.is_empty() { "the handlers of the types" } @else { (shows.room.word(&row.subscriber)) } }
                td { (row.how) }
                td.n { (words::count(row.waiting)) }
                td.n { (words::count(row.running)) }
                td.n.wide { (words::count(row.retrying)) }
                td.n.wide { (words::count(row.dead)) }
                td.n { (words::interval_or_dash(row.behind_by.as_ref())) }
            }
        }
    };
    Ok(table(
        "Subscribers",
        &["who", "how", ">waiting", ">running", "~>retrying", "~>dead", ">behind by"],
        &body,
    ))
}
