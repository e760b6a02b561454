//! How much was finished in each hour of the last day, and how many attempts failed.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::chart::{self, Hour, Part};
use crate::page::panel::{CALM, Panel, Shows, rows};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "last-day",
    title: "The last day",
    sql: "select hour, sum(done)::bigint as done, sum(ignored + cancelled)::bigint as other, sum(failed_attempts)::bigint as failed\n  \
          from restante.outbox_throughput group by hour order by hour",
    fresh: CALM,
    bytes_max: 10_000,
    draw,
};

#[derive(FromRow)]
struct Finished {
    hour: DateTime<Utc>,
    done: i64,
    other: i64,
    failed: i64,
}

fn draw(found: &[PgRow], _: Shows) -> sqlx::Result<Markup> {
    let found: Vec<Finished> = rows(found)?;
    let of = |value: fn(&Finished) -> i64| found.iter().map(value).sum::<i64>();
    let (done, other, failed) = (of(|hour| hour.done), of(|hour| hour.other), of(|hour| hour.failed));
    let said = format!(
        "{} events done, {} ignored or cancelled, {} attempts failed in the last day",
        words::number(done),
        words::number(other),
        words::number(failed)
    );
    let hours: Vec<Hour> = found
        .iter()
        .map(|hour| Hour {
            hour: hour.hour,
            parts: vec![
                Part { class: "bar-done", value: hour.done as f64 },
                Part { class: "bar-other", value: hour.other as f64 },
                Part { class: "bar-failed", value: hour.failed as f64 },
            ],
            said: format!(
                "{} done, {} ignored or cancelled, {} attempts failed",
                hour.done, hour.other, hour.failed
            ),
        })
        .collect();
    Ok(html! {
        (chart::bars(&hours, Utc::now(), chart::events, &said))
        p.legend {
            span.key.bar-done {} (words::number(done)) " done "
            span.key.bar-other {} (words::number(other)) " ignored or cancelled "
            span.key.bar-failed {} (words::number(failed)) " failed attempts"
        }
    })
}
