//! Batches: how many of their results are here, and when the API deletes them.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "batches",
    title: "Batches",
    sql: "select o.id, o.progress, o.requests::bigint as requests, o.results_stored, o.errored::bigint as errored, o.at_risk, o.results_vanish_in,\n       \
          c.dollars::float8 as dollars, o.created_at\n  \
          from restante.batch_overview as o\n  \
          left join restante.batch_cost as c on c.batch_id = o.id and c.account = o.account\n \
          where (o.id, o.account) in (select b.id, b.account from restante.batch as b order by b.created_at desc nulls first limit 25)\n \
          order by o.at_risk desc, o.created_at desc nulls first",
    fresh: LIVE,
    bytes_max: 28_000,
    draw,
};

#[derive(FromRow)]
struct Batch {
    id: String,
    progress: String,
    requests: Option<i64>,
    results_stored: i64,
    errored: Option<i64>,
    at_risk: bool,
    results_vanish_in: Option<PgInterval>,
    dollars: Option<f64>,
    created_at: Option<DateTime<Utc>>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let batches: Vec<Batch> = rows(found)?;
    if batches.is_empty() {
        return Ok(nothing("No batch is known yet."));
    }
    let body = html! {
        @for row in &batches {
            tr {
                td { (shows.room.key(Some(&row.id))) }
                td { (words::state(&row.progress)) @if row.at_risk { " " (words::state("act")) " at risk" } }
                td { (words::progress("Results of ", &shows.room.word(&row.id), row.results_stored, row.requests.unwrap_or_default())) }
                td.n.wide { (words::count(row.errored.unwrap_or_default())) }
                td.n { (words::dollars(row.dollars)) }
                td.n { (words::interval_or_dash(row.results_vanish_in.as_ref())) }
                td.n.wide { (words::ago_or_dash(row.created_at)) }
            }
        }
    };
    Ok(table(
        "Batches",
        &["batch", "progress", "results here", "~>errored", ">cost", ">vanish in", "~>created"],
        &body,
    ))
}
