//! Am I safe? Each answer of `restante.health`, and what to do.

use chrono::{DateTime, Utc};
use maud::{Markup, html};
use sqlx::FromRow;
use sqlx::postgres::PgRow;

use crate::page::panel::{LIVE, Panel, Shows, rows};
use crate::page::words;

pub(in crate::page) static PANEL: Panel = Panel {
    name: "safe",
    title: "Am I safe?",
    sql: "select question, state, sentence, next_step, since from restante.health",
    fresh: LIVE,
    bytes_max: 12_000,
    draw,
};

#[derive(FromRow)]
struct Answer {
    question: String,
    state: String,
    sentence: String,
    next_step: Option<String>,
    since: Option<DateTime<Utc>>,
}

fn draw(found: &[PgRow], _: Shows) -> sqlx::Result<Markup> {
    let mut answers: Vec<Answer> = rows(found)?;
    // What asks for something comes first, and otherwise the order of the view stays.
    answers.sort_by_key(|answer| ["act", "look"].iter().position(|bad| answer.state == *bad).unwrap_or(2));
    let of = |state: &str| answers.iter().filter(|answer| answer.state == state).count();
    let (act, look) = (of("act"), of("look"));
    let (worst, verdict) = match (act, look) {
        (0, 0) => ("ok", format!("Yes. All {} answers are good.", answers.len())),
        (0, look) => {
            ("look", format!("Yes. But {look} of {} answers {} a look soon.", answers.len(), needs(look)))
        }
        (act, _) => ("act", format!("No. {act} of {} answers {} you to act now.", answers.len(), needs(act))),
    };
    Ok(html! {
        p class={ "verdict " (worst) } { (words::state(worst)) strong { (verdict) } }
        ul.strip {
            @for answer in &answers {
                li class=(answer.state) {
                    div.head {
                        span.question { (answer.question) }
                        (words::state(&answer.state))
                    }
                    p { (answer.sentence) }
                    @if answer.next_step.is_some() || answer.since.is_some() {
                        p.next {
                            @if let Some(since) = answer.since { "Since " (words::ago(since)) ". " }
                            @if let Some(next) = &answer.next_step { "Next: " span.step { (next) } }
                        }
                    }
                }
            }
        }
    })
}

fn needs(answers: usize) -> &'static str {
    if answers == 1 { "needs" } else { "need" }
}
