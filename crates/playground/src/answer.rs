//! The answer of a scripted API to one request, byte for byte.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// One answer. Each is sent on its own connection, which is closed after it.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Vec<u8>,
    /// A file that is sent after the body, as it is when the request comes.
    pub(crate) file: Option<PathBuf>,
    /// After this many bytes of the body, the rest waits for a permit.
    pub(crate) held: Option<(usize, Arc<Semaphore>)>,
    pub(crate) end: End,
}

/// What happens to the connection after an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Close,
    Reset,
    Silence,
}

impl Answer {
    /// An answer with these headers, each with its line end, and this body.
    pub fn new(status: u16, headers: &str, body: impl Into<Vec<u8>>) -> Self {
        let head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n{headers}\r\n");
        Self { head: head.into_bytes(), ..Self::bytes(body) }
    }

    /// An answer of exactly these bytes, head included.
    pub fn bytes(answer: impl Into<Vec<u8>>) -> Self {
        Self { head: Vec::new(), body: answer.into(), file: None, held: None, end: End::Close }
    }

    /// A file, as it is when the request comes. It is sent with as little work as possible.
    pub fn file(headers: &str, path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::new(200, headers, "") }
    }

    /// An object, as the API returns it.
    pub fn json(object: &Value) -> Self {
        Self::new(200, "content-type: application/json\r\n", object.to_string())
    }

    /// A redirect.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::new(status, &format!("content-length: 0\r\nlocation: {location}\r\n"), "")
    }

    /// The error envelope of the API, with further headers.
    pub fn refusal(status: u16, kind: &str, headers: &str) -> Self {
        let body = json!({"type": "error", "error": {"type": kind, "message": "scripted"}});
        Self::new(status, headers, body.to_string())
    }

    /// A stream of unknown length: only the end of the connection shows that it is over.
    pub fn stream(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "content-type: application/x-jsonl\r\n", body)
    }

    /// A stream whose length is announced.
    pub fn of_length(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self::new(200, &format!("content-length: {}\r\n", body.len()), body)
    }

    /// A stream in chunks of a few bytes, with the chunk that marks the end.
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

    /// A stream of a message, as server-sent events.
    pub fn events(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, "content-type: text/event-stream; charset=utf-8\r\nrequest-id: req_scripted\r\n", body)
    }

    /// A compressed stream of unknown length.
    pub fn gzip(body: impl AsRef<[u8]>) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body.as_ref()).unwrap();
        Self::new(200, "content-encoding: gzip\r\n", encoder.finish().unwrap())
    }

    /// The same answer, cut after this many bytes of its body. The connection is then closed normally.
    pub fn cut_at(&self, bytes: usize) -> Self {
        Self { body: self.body[..bytes].to_vec(), ..self.clone() }
    }

    /// The same answer, after which the connection is reset.
    pub fn then_reset(self) -> Self {
        Self { end: End::Reset, ..self }
    }

    /// The same answer, after which nothing follows and the connection stays open.
    pub fn then_silence(self) -> Self {
        Self { end: End::Silence, ..self }
    }

    /// The same answer, held after this many bytes of its body until `gate` gives a permit.
    pub fn held_at(self, bytes: usize, gate: &Arc<Semaphore>) -> Self {
        Self { held: Some((bytes, Arc::clone(gate))), ..self }
    }

    /// How many bytes its head has.
    pub fn head_bytes(&self) -> usize {
        self.head.len()
    }

    /// How many bytes the body has on the wire.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }
}
