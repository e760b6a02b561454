//! The ops page, asked by HTTP as a browser asks: what it shows, whom it lets in, what it replays, and what it may do in the database.
//! `make page-test` looks at it in a real browser.

mod entrance;
mod events;
mod first_look;
mod outage;
mod parts;
mod replays;

use reqwest::header::HeaderMap;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::support::processes::Process;
use crate::support::sender::client;
use crate::support::{World, eventually};

/// An API that is not there.
const NO_API: &str = "http://127.0.0.1:9";

/// The password of `ada`, and its line as `htpasswd -nbBC 8` printed it.
const PASSWORD: &str = "correct horse battery";

fn users() -> String {
    format!("ada:{}\n", bcrypt::hash(PASSWORD, 8).unwrap())
}

/// A worker with the page, on this database.
async fn worker(world: &World, more: &[(&str, &str)]) -> Process {
    world.may_leave_running();
    Process::worker(&world.url, NO_API, more).await
}

/// The address of a part of the page.
fn at(worker: &Process, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", worker.logged_address("answering /livez").port())
}

/// What was answered.
struct Answer {
    status: u16,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    async fn of(request: reqwest::RequestBuilder) -> Self {
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Self { status, headers, text: answer.text().await.unwrap() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The token of the form on it.
    fn token(&self) -> String {
        let (_, rest) = self.text.split_once("name=\"token\" value=\"").expect("a form with a token");
        rest.split('"').next().unwrap().to_owned()
    }
}

/// Looks as a browser does: again while the page says that something is still being looked up.
async fn get(worker: &Process, path: &str) -> Answer {
    eventually("a page on which nothing is still being looked up", async || {
        let answer = get_once(worker, path).await;
        (!answer.text.contains(" data-awaited ")).then_some(answer)
    })
    .await
}

async fn get_once(worker: &Process, path: &str) -> Answer {
    Answer::of(client().get(at(worker, path))).await
}

async fn get_with(worker: &Process, path: &str, (name, value): (&str, &str)) -> Answer {
    Answer::of(client().get(at(worker, path)).header(name, value)).await
}

/// What a page says in one of its panels.
fn panel<'a>(page: &'a str, name: &str) -> &'a str {
    let (_, from) =
        page.split_once(&format!("id=\"{name}\"")).unwrap_or_else(|| panic!("no panel {name}: {page}"));
    from.split("</section>").next().unwrap()
}

/// Sends a form with these headers.
async fn post(worker: &Process, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let request = client()
        .post(at(worker, path))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form);
    Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

/// Stores an event that becomes a dead letter at its first attempt. Returns its number.
async fn dead_letter(world: &World, event_id: &str, key: &str) -> String {
    world.receive(event_id, key, 0, json!({ "permanent": true })).await;
    assert_eq!(world.work().await, 1);
    let quoted = event_id.replace('\'', "''");
    let id = format!("select id from restante.outbox where event_id = '{quoted}' and status = 'dead'");
    world.value(&id).await
}

/// The URL of a login of this database with these roles.
async fn login_url(world: &World, roles: &[&str]) -> (crate::roles::Login, String) {
    let login = crate::roles::Login::new(world, roles).await;
    let url = login.url.expose_secret().to_owned();
    (login, url)
}
