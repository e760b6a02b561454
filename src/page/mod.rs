//! The ops page: how things stand, for people who would rather look than ask in SQL. It is served beside `/metrics` by a worker.
//!
//! Each panel is a question in SQL, of the views that operators ask, with the SQL below the answer. What is read is read by a role
//! that can only read what is shown; everybody who looks shares the answers, so that a hundred open browsers cost no
//! more than one. No panel holds up another: one whose answer takes long says so, and has it when the browser asks again. The page
//! is drawn here, works without JavaScript, and loads nothing from another host. While the database is away it shows what it had,
//! with its time.
//!
//! It does nothing but replay dead letters, and that only if it is told to and in the name of a person.

mod assets;
mod chart;
mod decides;
mod event;
mod forms;
mod gate;
mod layout;
mod looks;
mod message;
mod panel;
mod panels;
mod reader;
mod replay;
mod search;
mod shared;
mod told;
mod users;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::future::join_all;
use maud::{Markup, html};
use sha2::{Digest, Sha256};

use crate::database;
use forms::{Fields, Foreign, Tokens};
use gate::{Gate, Person};
use layout::Sheet;
use panel::{Panel, Shows, fitting, framed};
use panels::{TABS, Tab};
use reader::{NotDone, Problem, Query, Reader};
use shared::{Answer, Shared};
use told::Told;

pub use users::{User, Users};

/// A form is small.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// How long a page with panels waits for those whose answers are too old. It is there within 100 ms.
const PATIENCE: Duration = Duration::from_millis(80);

/// How long one waits for the answer to what they asked themselves: a search, an event. After that the browser asks again.
const PATIENCE_FOR_ONE: Duration = Duration::from_secs(5);

/// What the page is told.
#[derive(Debug)]
pub struct Settings {
    /// A login that may become `restante_page`, and to replay `restante_page_replay`.
    pub address: database::Address,
    /// Who may look; without any, only this machine.
    pub users: Users,
    /// Whether dead letters can be replayed.
    pub replay: bool,
    /// Where it is served.
    pub listens_at: SocketAddr,
}

struct Page {
    panels: Shared,
    panels_reader: Arc<Reader>,
    /// The answers to what somebody asked themselves.
    asked: Shared,
    /// On connections of its own, so that nobody who searches waits for a slow panel.
    reader: Arc<Reader>,
    tokens: Tokens,
    told: Told,
    /// Whether dead letters can be replayed here.
    can_replay: bool,
}

/// The routes of the page. If anybody is let in at all, each panel is asked for once in the background, so that the first one who
/// looks finds answers.
///
/// # Errors
/// As for [`database::pool`]. A database that does not answer shows only on the page.
pub fn router(settings: Settings) -> Result<Router, database::Error> {
    let gate = Arc::new(Gate::new(settings.users, settings.listens_at));
    let page = Arc::new(Page {
        panels: Shared::default(),
        panels_reader: Arc::new(Reader::new(&settings.address)?),
        asked: Shared::default(),
        reader: Arc::new(Reader::new(&settings.address)?),
        tokens: Tokens::new(),
        told: Told::default(),
        can_replay: settings.replay,
    });
    if gate.is_open() {
        let page = Arc::clone(&page);
        tokio::spawn(async move { page.warm().await });
    }
    let mut router = Router::new();
    for tab in TABS.iter().filter(|tab| !tab.panels.is_empty()) {
        let show = move |State(page): State<Arc<Page>>,
                         Extension(person): Extension<Person>,
                         headers: HeaderMap| async move {
            page.tab(tab, &person, &headers).await
        };
        router = router.route(tab.path, get(show));
    }
    Ok(router
        .route("/events", get(looks::events))
        .route("/events/{id}", get(looks::event_of))
        .route("/events/{id}/payload", get(looks::payload))
        .route("/events/{id}/replay", post(decides::replay_one))
        .route("/messages/{id}", get(looks::message_of))
        .route("/dead/replay", get(decides::ask_to_replay).post(decides::replay_all))
        .route("/assets/{name}", get(async |Path(name): Path<String>| assets::asset(&name)))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .route_layer(from_fn_with_state(gate, gate::guard))
        .with_state(page))
}

impl Page {
    /// Asks for every panel, one after the other on one connection, if the login may read them.
    async fn warm(&self) {
        let began = Instant::now();
        if !self.panels_reader.may_read().await {
            tracing::info!("nobody can read on the ops page yet: its login lacks the role restante_page");
            return;
        }
        for panel in TABS.iter().flat_map(|tab| tab.panels) {
            self.answer(panel, Duration::MAX).await;
        }
        let took_ms = began.elapsed().as_millis();
        tracing::info!(took_ms, "the ops page has asked for each of its panels once");
    }

    async fn answer(&self, panel: &'static Panel, patience: Duration) -> Answer {
        let (reader, replay) = (Arc::clone(&self.panels_reader), self.can_replay);
        let ask = move || async move {
            let found = reader.rows(&Query::new(panel.sql)).await?;
            fitting(panel.bytes_max, |room| (panel.draw)(&found, Shows { replay, room }))
        };
        self.panels.answer(panel.name.to_owned(), panel.fresh, patience, ask).await
    }

    /// The answer to what somebody asked themselves.
    async fn look<F>(&self, name: String, fresh: Duration, ask: impl FnOnce() -> F) -> Answer
    where
        F: Future<Output = Result<Markup, Problem>> + Send + 'static,
    {
        self.asked.answer(name, fresh, PATIENCE_FOR_ONE, ask).await
    }

    /// After a change, everybody sees what is so now.
    fn forget(&self) {
        self.panels.forget();
        self.asked.forget();
    }

    async fn tab(&self, tab: &'static Tab, person: &Person, headers: &HeaderMap) -> Response {
        let answers = join_all(tab.panels.iter().map(|panel| self.answer(panel, PATIENCE))).await;
        let body = html! {
            div.panels {
                @for (panel, answer) in tab.panels.iter().zip(&answers) {
                    (framed(panel.name, panel.title, answer, &[panel.sql.to_owned()]))
                }
            }
        };
        self.sheet(
            Drawn {
                title: tab.title,
                tab: tab.path,
                person,
                answers: &answers,
                is_live: true,
                is_typed_on: false,
                body,
            },
            headers,
        )
    }

    fn sheet(&self, drawn: Drawn<'_>, headers: &HeaderMap) -> Response {
        let Drawn { title, tab, person, answers, is_live, is_typed_on, body } = drawn;
        let as_of = answers.iter().filter_map(|answer| answer.drawn.as_ref()).map(|(_, at)| *at).min();
        let is_awaited = answers.iter().any(|answer| answer.is_awaited);
        let sheet = Sheet { title, tab, person, as_of, is_live, is_awaited, is_typed_on, body };
        unless_known(sheet.draw(), headers)
    }

    /// A form that is not from the page changes nothing.
    fn refuses(&self, person: &Person, headers: &HeaderMap, fields: &Fields) -> Option<Response> {
        if !self.can_replay {
            return Some(
                (StatusCode::FORBIDDEN, "replays are off: RESTANTE_OPS_REPLAY=true turns them on\n")
                    .into_response(),
            );
        }
        let foreign = self.tokens.check(person, headers, fields).err()?;
        let why = match foreign {
            Foreign::Site => "this was sent by another site\n",
            Foreign::Token => "this form is too old, or not for you: load the page again\n",
        };
        Some((StatusCode::FORBIDDEN, why).into_response())
    }

    /// A page that says why something was not done.
    fn failed(&self, tab: &'static str, why: &NotDone, person: &Person) -> Response {
        let (status, problem) = match why {
            NotDone::Given(problem) => (StatusCode::UNPROCESSABLE_ENTITY, problem),
            NotDone::Here(problem) => (StatusCode::SERVICE_UNAVAILABLE, problem),
        };
        let body = html! { section.panel { p.problem role="alert" { (words::state("look")) " " (problem) } p { a href=(tab) { "Back" } } } };
        let sheet = Sheet {
            title: "Not done",
            tab,
            person,
            as_of: None,
            is_live: false,
            is_awaited: false,
            is_typed_on: false,
            body,
        };
        (status, [(header::CONTENT_TYPE, HTML)], sheet.draw()).into_response()
    }
}

/// What a part of the page shows.
struct Drawn<'a> {
    title: &'a str,
    tab: &'static str,
    person: &'a Person,
    answers: &'a [Answer],
    is_live: bool,
    /// Whether there is a form on it.
    is_typed_on: bool,
    body: Markup,
}

const HTML: &str = "text/html; charset=utf-8";

/// The page, or only that it is as the browser has it.
fn unless_known(text: String, headers: &HeaderMap) -> Response {
    let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&text)[..12]));
    let known = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    ([(header::CONTENT_TYPE, HTML.to_owned()), (header::ETAG, tag)], text).into_response()
}

/// Bodies and texts stay in no cache, not even in that of the browser.
fn not_stored(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "there is no such page\n").into_response()
}

#[cfg(test)]
mod tests {
    use expect_test::expect_file;

    use super::search::Search;
    use super::*;

    fn lines(statements: impl Iterator<Item = String>) -> String {
        statements.map(|sql| sql.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
    }

    #[test]
    fn make_console_test_times_every_statement_of_the_page() {
        let panels = TABS.iter().flat_map(|tab| tab.panels).map(|panel| panel.sql.to_owned());
        expect_file!["../../tests/console/page-panels.sql"].assert_eq(&lines(panels));

        let searches = [
            "",
            "find=evt_5000000",
            "find=4711",
            "find=sesn_4711",
            "type=batch.*",
            "type=nothing.such",
            "before=5000000",
            "error=bad+id+4711",
            "error=nothing+like+that",
        ];
        let to_paste = |search: &str| {
            Search::new(&Fields::read(search)).query().map(|(query, _)| query.to_paste()).unwrap()
        };
        expect_file!["../../tests/console/page-searches.sql"]
            .assert_eq(&lines(searches.into_iter().map(to_paste)));
    }
}
