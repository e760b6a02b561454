//! Replays in the name of a person: of one dead letter, or of all of a type and kind.
//!
//! They are off unless `RESTANTE_OPS_REPLAY` turns them on. The name is that of the password; without users it is typed, and stands in
//! `restante.operation` as it was typed.

use maud::{Markup, html};

use super::forms::Fields;
use super::gate::Person;
use super::reader::{NotDone, Query, Reader};
use super::words;

const REPLAY: &str = "select restante.page_replay($1, $2::bigint, $3)";

const REPLAY_ALL: &str = "select restante.page_replay_all($1, $2, $3, nullif($4, '')::numeric, $5)";

/// What became of a replay of one event, as the address of the page says it afterwards.
pub(super) const OUTCOMES: [(&str, &str); 3] = [
    ("replayed", "It is replayed: a worker claims it next."),
    ("locked", "Somebody else has this event in an open transaction. Try again in a moment."),
    ("not dead", "It is no dead letter any more: see what became of it below."),
];

/// Whose name stands below what is done.
fn name<'a>(Person(name): &'a Person, fields: &'a Fields) -> &'a str {
    name.as_deref().unwrap_or_else(|| fields.get("person"))
}

/// Replays one event.
pub(super) async fn one(
    reader: &Reader,
    person: &Person,
    id: i64,
    fields: &Fields,
) -> Result<String, NotDone> {
    let values = [name(person, fields).to_owned(), id.to_string(), fields.get("reason").to_owned()];
    reader.replay(&Query::with(REPLAY, values)).await
}

/// Replays all of a type and kind. Returns the name of the replay.
pub(super) async fn all(reader: &Reader, person: &Person, fields: &Fields) -> Result<String, NotDone> {
    let rate = fields.get("per_second");
    // The bounds of restante.replay, which would say the same of an argument that nobody has seen on the page.
    if !rate.is_empty() && !rate.parse().is_ok_and(|rate: f64| (0.001..=100_000.0).contains(&rate)) {
        let problem = "“Events per second” must be a number from 0.001 to 100000. Leave it empty to replay as fast as workers get to it.";
        return Err(NotDone::Given(problem.to_owned()));
    }
    let texts = [name(person, fields), fields.get("type"), fields.get("kind"), rate, fields.get("reason")];
    reader.replay(&Query::with(REPLAY_ALL, texts.map(str::to_owned))).await
}

/// The form for one event.
pub(super) fn form_of_one(id: i64, person: &Person, token: &str) -> Markup {
    html! {
        section.panel.form id="replay" aria-labelledby="replay-title" {
            h2 id="replay-title" { "Replay this dead letter" }
            p { "It runs again from its first attempt, as soon as a worker claims it. What you do is noted under your name." }
            form method="post" action={ "/events/" (id) "/replay" } {
                input type="hidden" name="token" value=(token);
                (who_and_why(person))
                div.field.act { button type="submit" { "Replay" } }
            }
        }
    }
}

/// The form for all of a type and kind. `count` says how many there are.
pub(super) fn form_of_all(fields: &Fields, count: i64, person: &Person, token: &str) -> Markup {
    let letters = if count == 1 { " dead letter of type " } else { " dead letters of type " };
    html! {
        section.panel.form id="replay" aria-labelledby="replay-title" {
            h2 id="replay-title" { "Replay all of them" }
            p { (words::number(count)) (letters) strong { (fields.get("type")) } " failed as " strong { (fields.get("kind")) } ". "
                "Workers begin them again, oldest first. What you do is noted under your name." }
            form method="post" action="/dead/replay" {
                input type="hidden" name="token" value=(token);
                input type="hidden" name="type" value=(fields.get("type"));
                input type="hidden" name="kind" value=(fields.get("kind"));
                div.field {
                    label for="per_second" { "Events per second" }
                    input id="per_second" name="per_second" type="number" min="0.001" max="100000" step="any" value="10";
                }
                (who_and_why(person))
                div.field.act { button type="submit" { "Replay all" } a href="/dead" { "Not now" } }
            }
        }
    }
}

fn who_and_why(Person(name): &Person) -> Markup {
    html! {
        @if name.is_none() {
            div.field {
                label for="person" { "Your name" }
                input id="person" name="person" type="text" required maxlength="100" autocomplete="name";
            }
        }
        div.field.long {
            label for="reason" { "Reason" }
            input id="reason" name="reason" type="text" maxlength="500" autocomplete="off" placeholder="what was mended";
        }
    }
}

/// How many dead letters there are of a type and kind.
pub(super) fn count_of(fields: &Fields) -> Query {
    const COUNT: &str = "select coalesce(sum(events_dead), 0)::bigint as events from restante.failures_by_kind where type = $1 and kind = $2";
    Query::with(COUNT, [fields.get("type").to_owned(), fields.get("kind").to_owned()])
}
