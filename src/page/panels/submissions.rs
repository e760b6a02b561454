//! Submissions: how far each is, until when, and what it costs.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

/// The newest ones are found by their index, because the view adds up the requests of each that it shows.
pub(in crate::page) static PANEL: Panel = Panel {
    name: "submissions",
    title: "Submissions",
    sql: "select submission, tag, state, requests, succeeded + errored + canceled + expired + cancelled + other as answered, errored,\n       \
          results_vanish_in, expires_in, likely_end_at, dollars::float8 as dollars, created_at\n  \
          from restante.submission_overview\n \
          where submission in (select s.name from restante.submission as s order by s.created_at desc limit 25)\n \
          order by created_at desc",
    fresh: LIVE,
    bytes_max: 28_000,
    draw,
};

#[derive(FromRow)]
struct Submission {
    submission: String,
    tag: Option<String>,
    state: String,
    requests: i64,
    answered: i64,
    errored: i64,
    results_vanish_in: Option<PgInterval>,
    expires_in: Option<PgInterval>,
    likely_end_at: Option<DateTime<Utc>>,
    dollars: Option<f64>,
    created_at: DateTime<Utc>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let submissions: Vec<Submission> = rows(found)?;
    if submissions.is_empty() {
        return Ok(nothing("Nothing was submitted yet: select restante.submit_batch(...)."));
    }
    let body = html! {
        @for row in &submissions {
            tr {
                td { (shows.room.key(Some(&row.submission))) @if let Some(tag) = &row.tag { " " span.tag { (shows.room.word(tag)) } } }
                td { (words::state(&row.state)) }
                td { (words::progress("Answers of ", &shows.room.word(&row.submission), row.answered, row.requests)) }
                td.n.wide { (words::count(row.errored)) }
                td.n { (words::dollars(row.dollars)) }
                td.n.wide { @if let Some(at) = row.likely_end_at { (words::ago(at)) } @else { span.faint { "–" } } }
                td.n { (words::interval_or_dash(row.expires_in.as_ref().or(row.results_vanish_in.as_ref()))) }
                td.n.wide { (words::ago(row.created_at)) }
            }
        }
    };
    let heads = [
        "submission",
        "state",
        "answers",
        "~>errored",
        ">cost",
        "~>likely end",
        ">deadline in",
        "~>submitted",
    ];
    Ok(table("Submissions", &heads, &body))
}
