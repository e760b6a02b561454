//! A Claude API that answers what a test tells it to, byte for byte: for everything that no well-behaved API does.
//!
//! Written on a bare socket, because an HTTP server would not break off where a test wants it to.

use std::collections::HashMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use restante::api::{Client, Settings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// What its clients must show, and nobody else may see.
pub const KEY: &str = "sk-ant-canary-7f3a";

/// The API. It answers a path with what was last said about it, and one that nothing was said about with 404.
pub struct ScriptedApi {
    pub origin: String,
    told: Arc<Mutex<Told>>,
}

#[derive(Default)]
struct Told {
    answers: HashMap<String, Answer>,
    /// Comes before the answers to single paths.
    to_all: Option<Answer>,
    /// The head of each request, as it came.
    heads: Vec<String>,
}

impl ScriptedApi {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let told = Arc::new(Mutex::new(Told::default()));
        let script = Arc::clone(&told);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                // A client that hangs up in the middle is none of our business.
                tokio::spawn(answer(connection, Arc::clone(&script)));
            }
        });
        Self { origin, told }
    }

    pub fn client(&self) -> Client {
        Client::new(Settings::new(self.origin.parse().unwrap(), KEY.into())).unwrap()
    }

    /// From now on a path, with its query, is answered like this.
    pub fn answer(&self, path: &str, answer: Answer) {
        self.told.lock().unwrap().answers.insert(path.to_owned(), answer);
    }

    /// From now on every path is answered like this, or as it was told path by path.
    pub fn answer_all(&self, answer: Option<Answer>) {
        self.told.lock().unwrap().to_all = answer;
    }

    /// From now on a batch is this object.
    pub fn batch(&self, object: &Value) {
        let id = object["id"].as_str().unwrap();
        self.answer(&format!("/v1/messages/batches/{id}"), Answer::json(object));
    }

    /// From now on the results of a batch are this.
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

    /// The heads of all requests so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.told.lock().unwrap().heads.iter().map(|head| head.to_ascii_lowercase()).collect()
    }

    /// How often a path was asked for.
    pub fn times_asked(&self, path: &str) -> usize {
        let request_line = format!("GET {path} HTTP/1.1\r\n");
        self.told.lock().unwrap().heads.iter().filter(|head| head.starts_with(&request_line)).count()
    }
}

/// Where the results of a batch are.
pub fn results_path(id: &str) -> String {
    format!("/v1/messages/batches/{id}/results")
}

/// A time so many seconds ago, as the API writes times.
pub fn ago(seconds: i64) -> String {
    let time = chrono::Utc::now() - chrono::Duration::seconds(seconds);
    time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

async fn answer(mut connection: TcpStream, told: Arc<Mutex<Told>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        connection.read_buf(&mut head).await?;
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let answer = {
        let mut told = told.lock().unwrap();
        told.heads.push(head);
        told.to_all.clone().or_else(|| told.answers.get(&path).cloned())
    };
    let answer = answer.unwrap_or_else(|| Answer::refusal(404, "not_found_error", ""));
    connection.write_all(answer.head.as_bytes()).await?;
    let (before, after) = answer.body.split_at(answer.held.as_ref().map_or(0, |(bytes, _)| *bytes));
    connection.write_all(before).await?;
    if let Some((_, gate)) = &answer.held {
        gate.acquire().await.unwrap().forget();
    }
    connection.write_all(after).await?;
    match answer.end {
        End::Close => connection.shutdown().await,
        End::Reset => connection.set_zero_linger(),
    }
}

/// One answer. Each has a connection of its own, which ends with it.
#[derive(Clone)]
pub struct Answer {
    head: String,
    body: Vec<u8>,
    /// After so many bytes of the body, a permit has to be given before the rest is sent.
    held: Option<(usize, Arc<Semaphore>)>,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Close,
    Reset,
}

impl Answer {
    /// These headers, each with its line end, and this body.
    pub fn new(status: u16, headers: &str, body: impl Into<Vec<u8>>) -> Self {
        let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{headers}\r\n");
        Self { head, body: body.into(), held: None, end: End::Close }
    }

    pub fn json(object: &Value) -> Self {
        Self::new(200, "content-type: application/json\r\n", object.to_string())
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        Self::new(status, &format!("content-length: 0\r\nlocation: {location}\r\n"), "")
    }

    /// The error envelope of the API, with further headers.
    pub fn refusal(status: u16, kind: &str, headers: &str) -> Self {
        let body = json!({"type": "error", "error": {"type": kind, "message": "scripted"}});
        Self::new(status, headers, body.to_string())
    }

    /// A stream of unknown length: nothing but the end of the connection says that it is over.
    pub fn stream(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "content-type: application/x-jsonl\r\n", body)
    }

    /// A stream whose length is announced.
    pub fn of_length(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::new(200, &format!("content-length: {}\r\n", body.len()), body)
    }

    /// A stream in chunks of a few bytes, behind which an end is announced.
    pub fn chunked(body: impl Into<Vec<u8>>) -> Self {
        let mut chunks = Vec::new();
        for chunk in body.into().chunks(7) {
            write!(chunks, "{:x}\r\n", chunk.len()).unwrap();
            chunks.extend_from_slice(chunk);
            chunks.extend_from_slice(b"\r\n");
        }
        chunks.extend_from_slice(b"0\r\n\r\n");
        Self::new(200, "transfer-encoding: chunked\r\n", chunks)
    }

    /// A compressed stream of unknown length.
    pub fn gzip(body: impl AsRef<[u8]>) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body.as_ref()).unwrap();
        Self::new(200, "content-encoding: gzip\r\n", encoder.finish().unwrap())
    }

    /// The same, of whose body only so many bytes are sent. The connection is then closed as if all were well.
    pub fn cut_at(&self, bytes: usize) -> Self {
        Self { body: self.body[..bytes].to_vec(), ..self.clone() }
    }

    /// The same, but that the connection is reset in the end.
    pub fn then_reset(self) -> Self {
        Self { end: End::Reset, ..self }
    }

    /// The same, of whose body only so many bytes are sent until the gate gives it a permit.
    pub fn held_at(self, bytes: usize, gate: &Arc<Semaphore>) -> Self {
        Self { held: Some((bytes, Arc::clone(gate))), ..self }
    }

    /// How many bytes the body has on the wire.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }
}
