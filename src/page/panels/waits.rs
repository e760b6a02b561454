//! How long events waited before their last attempt began, in each hour of the last day.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::chart::{self, Hour, Part};
use crate::page::panel::{CALM, Panel, Shows, nothing, rows};

pub(in crate::page) static PANEL: Panel = Panel {
    name: "waits",
    title: "Waiting time",
    sql: "select hour, extract(epoch from max(waited_p50))::float8 as half, extract(epoch from max(waited_p95))::float8 as most\n  \
          from restante.outbox_throughput where done > 0 group by hour order by hour",
    fresh: CALM,
    bytes_max: 10_000,
    draw,
};

/// Seconds, of the type that waited longest.
#[derive(FromRow)]
struct Waited {
    hour: DateTime<Utc>,
    half: Option<f64>,
    most: Option<f64>,
}

fn draw(found: &[PgRow], _: Shows) -> sqlx::Result<Markup> {
    let found: Vec<Waited> = rows(found)?;
    if found.is_empty() {
        return Ok(nothing("Nothing was done in the last day."));
    }
    let longest = found.iter().filter_map(|hour| hour.most).fold(0.0, f64::max);
    let said = format!("95 of 100 events waited no longer than {} in the last day", seconds(longest));
    let hours: Vec<Hour> = found
        .iter()
        .map(|hour| {
            let (half, most) = (hour.half.unwrap_or_default(), hour.most.unwrap_or_default());
            Hour {
                hour: hour.hour,
                parts: vec![
                    Part { class: "bar-half", value: half },
                    Part { class: "bar-most", value: (most - half).max(0.0) },
                ],
                said: format!(
                    "half waited no longer than {}, 95 of 100 no longer than {}",
                    seconds(half),
                    seconds(most)
                ),
            }
        })
        .collect();
    Ok(html! {
        (chart::bars(&hours, Utc::now(), seconds, &said))
        p.legend {
            span.key.bar-half {} "half of the events "
            span.key.bar-most {} "95 of 100, of the type that waited longest"
        }
    })
}

fn seconds(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{:.0} ms", seconds * 1_000.0),
        1.0..120.0 => format!("{seconds:.1} s"),
        120.0..7_200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3_600.0),
    }
}
