//! Dead letters by type and kind: what one replay begins again.

use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, nothing, rows, table};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "dead-kinds",
    title: "Dead letters by kind",
    sql: "select kind, type, events_dead, for_example from restante.failures_by_kind where events_dead > 0 order by events_dead desc limit 20",
    fresh: LIVE,
    bytes_max: 20_000,
    draw,
};

#[derive(FromRow)]
struct Dead {
    kind: String,
    r#type: String,
    events_dead: i64,
    for_example: Option<String>,
}

fn draw(found: &[PgRow], shows: Shows) -> sqlx::Result<Markup> {
    let kinds: Vec<Dead> = rows(found)?;
    if kinds.is_empty() {
        return Ok(nothing("There are no dead letters."));
    }
    let body = html! {
        @for row in &kinds {
            tr {
                td { strong { (shows.room.word(&row.kind)) } }
                td { (shows.room.word(&row.r#type)) }
                td.n { (words::number(row.events_dead)) }
                td.wide { (shows.room.cut(row.for_example.as_deref())) }
                @if shows.replay { td { (to_replay(row)) } }
            }
        }
    };
    let heads = ["kind", "type", ">dead letters", "~for example", "replay"];
    Ok(table("Dead letters by kind", if shows.replay { &heads } else { &heads[..4] }, &body))
}

/// A link that is longer is none: a list has room for as many as it has rows.
const LINK_BYTES_MAX: usize = 640;

fn to_replay(row: &Dead) -> Markup {
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("type", &row.r#type)
        .append_pair("kind", &row.kind)
        .finish();
    html! {
        @if query.len() <= LINK_BYTES_MAX {
            a href={ "/dead/replay?" (query) } { "Replay all…" }
        } @else {
            span.faint { "by restante.replay()" }
        }
    }
}
