//! A Claude API that gives exactly the answers that a test sets, byte for byte: for everything that a well-behaved API
//! does not do.
//!
//! It uses a bare socket, because an HTTP server would not break off where a test wants it to.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use restante::api::{Client, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub use crate::answer::Answer;
use crate::answer::End;

/// The key that its clients send, and that must appear nowhere else.
pub const KEY: &str = "sk-ant-canary-7f3a";

/// The Admin key, which they show only for what belongs to the organization.
pub const ADMIN_KEY: &str = "sk-ant-admin-canary-91c5";

/// The API. It answers a path with the answer that was last set for it: first it looks for the path with its query,
/// then without. A path without an answer gets a 404.
pub struct ScriptedApi {
    /// Its origin, such as `http://127.0.0.1:40100`.
    pub origin: String,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    answers: HashMap<String, Answer>,
    /// Each is given once, before the answers above.
    once: HashMap<String, VecDeque<Answer>>,
    /// Has precedence over the answers to single paths.
    to_all: Option<Answer>,
    /// The head of each request, as received.
    heads: Vec<String>,
    /// The body of each request that had one, as received.
    bodies: Vec<String>,
    /// Connections that stay open, and on which nothing follows.
    silent: Vec<TcpStream>,
}

impl Told {
    fn answer(&mut self, path: &str) -> Answer {
        let without_query = path.split_once('?').map(|(path, _)| path);
        for path in [Some(path), without_query].into_iter().flatten() {
            if let Some(answer) = self.once.get_mut(path).and_then(VecDeque::pop_front) {
                return answer;
            }
        }
        let without_query = || self.answers.get(without_query?);
        let told = self.to_all.as_ref().or_else(|| self.answers.get(path)).or_else(without_query);
        told.cloned().unwrap_or_else(|| Answer::refusal(404, "not_found_error", ""))
    }
}

impl ScriptedApi {
    /// An API without answers.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Told::default()));
        let script = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                // An error here is a client that has hung up, which is not checked.
                tokio::spawn(answer(connection, Arc::clone(&script)));
            }
        });
        Self { origin, told }
    }

    /// A client of this API, with the usual settings.
    pub fn client(&self) -> Client {
        Client::new(self.settings(KEY)).unwrap()
    }

    /// A client of it that has an Admin key too.
    pub fn admin_client(&self) -> Client {
        let settings = Settings { admin_key: Some(ADMIN_KEY.into()), ..self.settings(KEY) };
        Client::new(settings).unwrap()
    }

    /// The usual settings of a client of it, with this key.
    pub fn settings(&self, key: &str) -> Settings {
        Settings::new(self.origin.parse().unwrap(), key.into())
    }

    /// Sets the answer to a path. A `path` without a query stands for the path with any query.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.told.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// The next requests for a path get these answers, one each; then it has its answer from before. As for [`ScriptedApi::answer`], a
    /// `path` without a query stands for the path with any.
    pub fn answer_once(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.told.lock().unwrap().once.entry(path.to_owned()).or_default().extend(answers);
    }

    /// From now on every path gets this answer; with `None`, its own answer again.
    pub fn answer_all(&self, answer: Option<Answer>) {
        self.told.lock().unwrap().to_all = answer;
    }

    /// From now on the API returns this object for its batch.
    pub fn batch(&self, object: &Value) {
        let id = object["id"].as_str().unwrap();
        self.answer(&format!("/v1/messages/batches/{id}"), Answer::json(object));
    }

    /// From now on the API returns this as the results of a batch.
    pub fn results(&self, id: &str, answer: Answer) {
        self.answer(&results_path(id), answer);
    }

    /// A batch that has ended, as the API writes it.
    pub fn ended(&self, id: &str, counts: [u32; 4]) -> Value {
        let [succeeded, errored, canceled, expired] = counts;
        json!({
            "id": id, "type": "message_batch", "processing_status": "ended",
            "request_counts": {
                "processing": 0, "succeeded": succeeded, "errored": errored, "canceled": canceled, "expired": expired,
            },
            "created_at": ago(3600), "expires_at": ago(3600 - 86400), "ended_at": ago(60),
            "cancel_initiated_at": null, "archived_at": null,
            "results_url": format!("{}{}", self.origin, results_path(id)),
        })
    }

    /// A batch that has not ended, as the API writes it.
    pub fn in_progress(&self, id: &str, requests: u32) -> Value {
        let mut object = self.ended(id, [0; 4]);
        object["processing_status"] = json!("in_progress");
        object["request_counts"]["processing"] = json!(requests);
        object["ended_at"] = Value::Null;
        object["results_url"] = Value::Null;
        object
    }

    /// The heads of all requests so far, as received.
    pub fn requests(&self) -> Vec<String> {
        self.told.lock().unwrap().heads.clone()
    }

    /// Takes the heads of the requests that came since the last call.
    pub fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap().heads)
    }

    /// The bodies of all requests that had one, as received.
    pub fn bodies(&self) -> Vec<String> {
        self.told.lock().unwrap().bodies.clone()
    }

    /// The heads of all requests so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.told.lock().unwrap().heads.iter().map(|head| head.to_ascii_lowercase()).collect()
    }

    /// How often a path was requested.
    pub fn times_asked(&self, path: &str) -> usize {
        let request_line = format!("GET {path} HTTP/1.1\r\n");
        self.told.lock().unwrap().heads.iter().filter(|head| head.starts_with(&request_line)).count()
    }
}

/// The path of the results of a batch.
pub fn results_path(id: &str) -> String {
    format!("/v1/messages/batches/{id}/results")
}

/// The time `seconds` ago, as the API writes times.
pub fn ago(seconds: i64) -> String {
    let time = chrono::Utc::now() - chrono::Duration::seconds(seconds);
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

async fn answer(mut connection: TcpStream, told: Arc<Mutex<Told>>) -> io::Result<()> {
    let mut request = Vec::new();
    while !is_whole(&request) {
        if connection.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let body = request.split_off(head_bytes(&request).unwrap());
    let head = String::from_utf8(request).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let answer = {
        let mut told = told.lock().unwrap();
        told.heads.push(head);
        if !body.is_empty() {
            told.bodies.push(String::from_utf8_lossy(&body).into_owned());
        }
        told.answer(&path)
    };
    connection.write_all(&answer.head).await?;
    let (before, after) = answer.body.split_at(answer.held.as_ref().map_or(0, |(bytes, _)| *bytes));
    connection.write_all(before).await?;
    if let Some((_, gate)) = &answer.held {
        gate.acquire().await.unwrap().forget();
    }
    connection.write_all(after).await?;
    if let Some(path) = answer.file {
        return hand_over(path, connection).await;
    }
    match answer.end {
        End::Close => connection.shutdown().await,
        End::Reset => connection.set_zero_linger(),
        End::Silence => {
            told.lock().unwrap().silent.push(connection);
            Ok(())
        }
    }
}

/// Is this a request with all of its body? One that is closed with unread bytes would be reset, and its answer lost.
fn is_whole(request: &[u8]) -> bool {
    head_bytes(request).is_some_and(|head_bytes| {
        let head = String::from_utf8_lossy(&request[..head_bytes]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let body_bytes = length.map_or(0, |length| length.trim().parse().unwrap());
        request.len() >= head_bytes + body_bytes
    })
}

/// The length of the head, with the blank line at its end, if it is there.
fn head_bytes(request: &[u8]) -> Option<usize> {
    request.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4)
}

/// Sends a file and closes the connection. The kernel copies if it can, because `io::copy` uses sendfile(2).
async fn hand_over(path: PathBuf, connection: TcpStream) -> io::Result<()> {
    let mut socket = connection.into_std()?;
    let sent = tokio::task::spawn_blocking(move || {
        socket.set_nonblocking(false)?;
        io::copy(&mut File::open(path)?, &mut socket)
    });
    sent.await.map_err(io::Error::other)??;
    Ok(())
}
