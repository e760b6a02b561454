//! A desk that records its calls, and answers as the test asks.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::sync::watch;
use url::Url;

/// How the desk answers a call.
#[derive(Clone, Debug)]
pub enum Answer {
    Status(u16),
    RetryAfterSeconds(u64),
    /// The call waits until the test sets another answer.
    Hold,
}

pub struct Desk {
    pub url: Url,
    state: Arc<DeskState>,
}

struct DeskState {
    answer: watch::Sender<Answer>,
    heard: Mutex<Vec<String>>,
}

impl Desk {
    pub async fn answering(answer: Answer) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/idle", listener.local_addr().unwrap()).parse().unwrap();
        let state = Arc::new(DeskState { answer: watch::Sender::new(answer), heard: Mutex::default() });
        let router = Router::new().route("/idle", post(hear)).with_state(Arc::clone(&state));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, state }
    }

    pub fn answers(&self, answer: Answer) {
        self.state.answer.send_replace(answer);
    }

    /// The idempotency key and the body of each call, in order.
    pub fn heard(&self) -> Vec<String> {
        self.state.heard.lock().unwrap().clone()
    }
}

async fn hear(
    State(desk): State<Arc<DeskState>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, HeaderMap) {
    let key = headers["idempotency-key"].to_str().unwrap();
    desk.heard.lock().unwrap().push(format!("{key} {body}"));
    let mut answer = desk.answer.subscribe();
    let answer = answer.wait_for(|answer| !matches!(answer, Answer::Hold)).await.unwrap().clone();
    let mut headers = HeaderMap::new();
    let status = match answer {
        Answer::Status(status) => status,
        Answer::RetryAfterSeconds(seconds) => {
            headers.insert("retry-after", seconds.into());
            503
        }
        Answer::Hold => unreachable!("it was waited for"),
    };
    (StatusCode::from_u16(status).unwrap(), headers)
}
