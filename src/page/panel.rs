//! A panel: one question in SQL, how its answer is drawn, and the frame around it with the SQL to copy.

use std::time::Duration;

use maud::{Markup, PreEscaped, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use super::reader::Problem;
use super::shared::Answer;
use super::words::{self, ROOMS, Room};

/// One question of an operator, as a part of the page.
pub(super) struct Panel {
    /// Its place in the page, as in `/#failures`.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// What is asked. It is shown below the answer.
    pub(super) sql: &'static str,
    /// How old an answer may be. What reads much may be older.
    pub(super) fresh: Duration,
    /// How much of the page its answer takes up at most, however long the words in it are.
    pub(super) bytes_max: usize,
    pub(super) draw: fn(&[PgRow], Shows) -> sqlx::Result<Markup>,
}

/// How old an answer usually may be.
pub(super) const LIVE: Duration = Duration::from_secs(3);

/// The same for what reads thousands of rows.
pub(super) const CALM: Duration = Duration::from_secs(30);

/// What a panel offers beside what it says.
#[derive(Clone, Copy)]
pub(super) struct Shows {
    /// Whether dead letters can be replayed here.
    pub(super) replay: bool,
    /// How much of a word.
    pub(super) room: Room,
}

/// An answer with as much of its words as fits into these bytes.
pub(super) fn fitting(
    bytes_max: usize,
    draw: impl Fn(Room) -> sqlx::Result<Markup>,
) -> Result<Markup, Problem> {
    let mut drawn = html! {};
    for room in ROOMS {
        drawn = draw(room).map_err(|error| format!("The answer cannot be read: {error}."))?;
        if drawn.0.len() <= bytes_max {
            break;
        }
    }
    Ok(drawn)
}

/// The rows of an answer as the panel reads them.
pub(super) fn rows<T: for<'r> FromRow<'r, PgRow>>(rows: &[PgRow]) -> sqlx::Result<Vec<T>> {
    rows.iter().map(T::from_row).collect()
}

/// A panel with its answer, or with what keeps it from one.
pub(super) fn framed(name: &str, title: &str, answer: &Answer, sql: &[String]) -> Markup {
    html! {
        section.panel id=(name) data-live data-awaited[answer.is_awaited] aria-labelledby={ (name) "-title" } {
            h2 id={ (name) "-title" } { (title) }
            (newer(answer))
            @if let Some((drawn, _)) = &answer.drawn { (PreEscaped(drawn)) }
            (sql_of(sql))
        }
    }
}

/// Why there is no newer answer, and how old the one below is.
fn newer(answer: &Answer) -> Markup {
    let from = answer.drawn.as_ref().map(|(_, at)| words::exactly(*at));
    html! {
        @match (&answer.problem, answer.is_awaited) {
            (Some(problem), _) => p.problem { (words::state("look")) " " (problem) @if let Some(from) = from { " This is from " (from) "." } },
            (None, true) => p.awaited {
                @match from {
                    Some(from) => { "This is from " (from) ". A newer answer is being looked up." },
                    None => "This is being looked up.",
                }
            },
            (None, false) => {},
        }
    }
}

/// Statements to paste.
pub(super) fn sql_of(sql: &[String]) -> Markup {
    html! {
        @if !sql.is_empty() {
            details.sql {
                summary { "SQL" }
                @for statement in sql {
                    div.copied {
                        pre tabindex="0" role="group" aria-label="SQL" { code { (statement) ";" } }
                        button type="button" data-copy hidden { "Copy" }
                    }
                }
            }
        }
    }
}

/// A table. A head with `>` before it is over numbers, and one with `~` is left out where there is little room.
pub(super) fn table(label: &str, heads: &[&str], body: &Markup) -> Markup {
    let class = |head: &str| match (head.contains('>'), head.contains('~')) {
        (true, true) => Some("n wide"),
        (true, false) => Some("n"),
        (false, true) => Some("wide"),
        (false, false) => None,
    };
    html! {
        div.scroll tabindex="0" role="group" aria-label=(label) {
            table {
                thead { tr { @for head in heads { th scope="col" class=[class(head)] { (head.trim_start_matches(['>', '~'])) } } } }
                tbody { (body) }
            }
        }
    }
}

/// What is said where there is nothing to show.
pub(super) fn nothing(sentence: &str) -> Markup {
    html! { p.nothing { (sentence) } }
}
