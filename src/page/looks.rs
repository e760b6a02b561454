//! The parts of the page that look at one thing: a search, an event, a body, a message.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use maud::html;

use super::forms::Fields;
use super::gate::Person;
use super::panel::{LIVE, fitting, framed, sql_of};
use super::search::{self, Search};
use super::shared::Answer;
use super::{Drawn, NotDone, Page, event, message, not_found, not_stored, replay, words};

/// How often the text of a message that is being written is asked for.
const WRITTEN: Duration = Duration::from_secs(1);

pub(super) async fn events(
    State(page): State<Arc<Page>>,
    Extension(person): Extension<Person>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let fields = Fields::read(&query.unwrap_or_default());
    let search = Search::new(&fields);
    let (answer, sql) = match search.query() {
        Err(problem) => (Answer::problem(problem), Vec::new()),
        Ok((query, draw)) => {
            let sql = vec![query.to_paste()];
            let goes_on = search.goes_on();
            let older = search.older();
            let reader = Arc::clone(&page.reader);
            let answer = page.look(format!("events {}", sql[0]), LIVE, move || async move {
                let found = reader.rows(&query).await?;
                let list = fitting(search::BYTES_MAX, |room| draw(&found, room))?;
                let last = search::last_of(&found).filter(|_| goes_on);
                Ok(html! { (list) @if let Some(last) = last { p.older { a href={ (older) (last) } { "Older events" } } } })
            });
            (answer.await, sql)
        }
    };
    let body = html! { (search.form()) (framed("events", "Found", &answer, &sql)) };
    let drawn = Drawn {
        title: "Events",
        tab: "/events",
        person: &person,
        answers: &[answer],
        is_live: false,
        is_typed_on: true,
        body,
    };
    page.sheet(drawn, &headers)
}

pub(super) async fn event_of(
    State(page): State<Arc<Page>>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Ok(id) = id.parse::<i64>() else { return not_found() };
    let fields = Fields::read(&query.unwrap_or_default());
    let (first, second) = (Arc::clone(&page.reader), Arc::clone(&page.reader));
    let status = page.look(format!("status {id}"), LIVE, || async move { event::status(&first, id).await });
    let life = page.look(format!("event {id}"), LIVE, || async move { event::timeline(&second, id).await });
    let (status, life) = tokio::join!(status, life);
    let word = status.drawn.as_ref().map_or("", |(word, _)| word.as_ref());
    let can_replay = word == "dead" && page.can_replay;
    let said = replay::OUTCOMES.iter().find(|(outcome, _)| *outcome == fields.get("replay"));
    let body = html! {
        @if let Some((outcome, sentence)) = said {
            p.done role="status" { (words::state(if *outcome == "replayed" { "ok" } else { "look" })) " " (sentence) }
        }
        p.facts-line id="event-status" data-live { @if !word.is_empty() { (words::state(word)) " " a href={ "/events/" (id) "/payload" } { "Show its payload" } } @if can_replay { " " a href="#replay" { "Replay…" } } }
        (framed("life", "What happened", &life, &[]))
        @if can_replay { (replay::form_of_one(id, &person, &page.tokens.of(&person))) }
    };
    let title = format!("Event {id}");
    let drawn = Drawn {
        title: &title,
        tab: "/events",
        person: &person,
        answers: &[status, life],
        is_live: true,
        is_typed_on: can_replay,
        body,
    };
    page.sheet(drawn, &headers)
}

pub(super) async fn payload(
    State(page): State<Arc<Page>>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let Ok(id) = id.parse::<i64>() else { return not_found() };
    let found = match event::payload(&page.reader, id).await {
        Ok(Some(found)) => found,
        Ok(None) => return not_found(),
        Err(problem) => return page.failed("/events", &NotDone::Here(problem), &person),
    };
    let Person(name) = &person;
    tracing::info!(
        event = id,
        person = name.as_deref().unwrap_or("-"),
        "somebody read the payload of an event on the ops page"
    );
    let sql = [format!("select payload, raw from restante.outbox where id = {id}")];
    let body = html! {
        section.panel { p { a href={ "/events/" (id) } { "Back to event " (id) } } (found) (sql_of(&sql)) }
    };
    let title = format!("Payload of event {id}");
    let drawn = Drawn {
        title: &title,
        tab: "/events",
        person: &person,
        answers: &[],
        is_live: false,
        is_typed_on: false,
        body,
    };
    not_stored(page.sheet(drawn, &headers))
}

pub(super) async fn message_of(
    State(page): State<Arc<Page>>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Ok(id) = id.parse::<i64>() else { return not_found() };
    let shows_text = Fields::read(&query.unwrap_or_default()).get("text") == "shown";
    let reader = Arc::clone(&page.reader);
    let overview = page
        .look(format!("message {id}"), LIVE, || async move { message::overview(&reader, id).await })
        .await;
    let reader = Arc::clone(&page.reader);
    let text = if shows_text {
        let asked =
            page.look(format!("text {id}"), WRITTEN, || async move { message::text(&reader, id).await });
        Some(asked.await)
    } else {
        None
    };
    let body = html! {
        (framed("message", "How far it is", &overview, &[]))
        @match &text {
            Some(text) => {
                (framed("text", "Its text", text, &[format!("select text from restante.message where id = {id}")]))
                p { a href={ "/messages/" (id) } { "Hide its text" } }
            }
            None => p { a href={ "/messages/" (id) "?text=shown" } { "Show its text" } }
        }
    };
    if shows_text && page.told.is_news(&person, id) {
        let Person(name) = &person;
        tracing::info!(
            message = id,
            person = name.as_deref().unwrap_or("-"),
            "somebody reads the text of a message on the ops page"
        );
    }
    let title = format!("Message {id}");
    let answers: Vec<Answer> = std::iter::once(overview).chain(text).collect();
    let drawn = Drawn {
        title: &title,
        tab: "/messages",
        person: &person,
        answers: &answers,
        is_live: true,
        is_typed_on: false,
        body,
    };
    let shown = page.sheet(drawn, &headers);
    if shows_text { not_stored(shown) } else { shown }
}
