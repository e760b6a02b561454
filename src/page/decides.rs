//! What is done with forms: each replays, after it was checked that the form is from the page.

use std::sync::Arc;

use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use sqlx::Row as _;

use super::forms::Fields;
use super::gate::Person;
use super::{Drawn, NotDone, Page, not_found, replay};

pub(super) async fn replay_one(
    State(page): State<Arc<Page>>,
    Extension(person): Extension<Person>,
    Path(id): Path<String>,
    headers: HeaderMap,
    form: String,
) -> Response {
    let Ok(id) = id.parse::<i64>() else { return not_found() };
    let fields = Fields::read(&form);
    if let Some(refused) = page.refuses(&person, &headers, &fields) {
        return refused;
    }
    match replay::one(&page.reader, &person, id, &fields).await {
        Err(why) => page.failed("/dead", &why, &person),
        Ok(outcome) => {
            page.forget();
            let query =
                url::form_urlencoded::Serializer::new(String::new()).append_pair("replay", &outcome).finish();
            see(&format!("/events/{id}?{query}"))
        }
    }
}

pub(super) async fn ask_to_replay(
    State(page): State<Arc<Page>>,
    Extension(person): Extension<Person>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let fields = Fields::read(&query.unwrap_or_default());
    if !page.can_replay {
        return (StatusCode::FORBIDDEN, "replays are off: RESTANTE_OPS_REPLAY=true turns them on\n")
            .into_response();
    }
    let count = match page.reader.rows(&replay::count_of(&fields)).await {
        Ok(rows) => rows.first().and_then(|row| row.try_get::<i64, _>(0).ok()).unwrap_or_default(),
        Err(problem) => return page.failed("/dead", &NotDone::Here(problem), &person),
    };
    let body = replay::form_of_all(&fields, count, &person, &page.tokens.of(&person));
    let drawn = Drawn {
        title: "Replay",
        tab: "/dead",
        person: &person,
        answers: &[],
        is_live: false,
        is_typed_on: true,
        body,
    };
    page.sheet(drawn, &headers)
}

pub(super) async fn replay_all(
    State(page): State<Arc<Page>>,
    Extension(person): Extension<Person>,
    headers: HeaderMap,
    form: String,
) -> Response {
    let fields = Fields::read(&form);
    if let Some(refused) = page.refuses(&person, &headers, &fields) {
        return refused;
    }
    match replay::all(&page.reader, &person, &fields).await {
        Err(why) => page.failed("/dead", &why, &person),
        Ok(_) => {
            page.forget();
            see("/dead#replays")
        }
    }
}

/// The browser goes on with a page that it can load again without sending the form again.
fn see(place: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, place.to_owned())]).into_response()
}
