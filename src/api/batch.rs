//! Message batches, as the API describes them, and their results.
//!
//! Reading is tolerant: every member but the id may be missing, null or of another type, because the API may change a
//! member and a batch must not be lost over that.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, Response};
use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::wire::Wire;
use super::{Client, Error, is_plain};

/// The results of a batch as bytes, in chunks of any size; decompressed, and cut wherever the network cut them.
pub type ResultsStream = BoxStream<'static, Result<Bytes, Error>>;

/// A batch, as the API last described it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Batch {
    /// The API's id.
    pub id: String,
    /// `message_batch`.
    #[serde(default, rename = "type", deserialize_with = "lenient")]
    pub kind: Option<String>,
    /// `processing_status`: `in_progress`, `canceling`, `ended`, or a new word.
    #[serde(default, rename = "processing_status", deserialize_with = "lenient")]
    pub status: Option<String>,
    /// How many requests are in which state. While the batch runs, all of them count as processing.
    #[serde(default, deserialize_with = "lenient_counts")]
    pub request_counts: RequestCounts,
    /// When the batch was created. The results disappear 29 days later.
    #[serde(default, deserialize_with = "lenient")]
    pub created_at: Option<DateTime<Utc>>,
    /// When the API gives up on the requests that are still processing, 24 hours after creation.
    #[serde(default, deserialize_with = "lenient")]
    pub expires_at: Option<DateTime<Utc>>,
    /// When processing ended.
    #[serde(default, deserialize_with = "lenient")]
    pub ended_at: Option<DateTime<Utc>>,
    /// When its cancellation was requested.
    #[serde(default, deserialize_with = "lenient")]
    pub cancel_initiated_at: Option<DateTime<Utc>>,
    /// When its results became unavailable.
    #[serde(default, deserialize_with = "lenient")]
    pub archived_at: Option<DateTime<Utc>>,
    /// Where the results are. Do not send the key to this URL unchecked; [`Client::results`] checks it.
    #[serde(default, deserialize_with = "lenient")]
    pub results_url: Option<String>,
}

impl Batch {
    /// Whether the batch has ended: its status says so, or it has the time of its end, or the URL of its results. An
    /// unknown status does not count as an end: such a batch is asked for again.
    pub fn is_terminal(&self) -> bool {
        // The API says `ended`. Texts about the API name the others, and it costs nothing to know them.
        let ends = ["ended", "completed", "canceled", "cancelled", "expired", "failed"];
        self.status.as_deref().is_some_and(|status| ends.contains(&status))
            || self.ended_at.is_some()
            || self.results_url.is_some()
    }

    /// How many results there will be: the number of its requests. Zero if the API did not say.
    pub fn expected_results(&self) -> i64 {
        let RequestCounts { processing, succeeded, errored, canceled, expired } = self.request_counts;
        [processing, succeeded, errored, canceled, expired].into_iter().fold(0, i64::saturating_add)
    }
}

/// The requests of a batch by their state. No number is below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RequestCounts {
    /// Not ended, or not counted yet.
    #[serde(deserialize_with = "lenient_count")]
    pub processing: i64,
    /// Answered with a message.
    #[serde(deserialize_with = "lenient_count")]
    pub succeeded: i64,
    /// Answered with an error.
    #[serde(deserialize_with = "lenient_count")]
    pub errored: i64,
    /// Canceled before they began.
    #[serde(deserialize_with = "lenient_count")]
    pub canceled: i64,
    /// Not begun within the 24 hours.
    #[serde(deserialize_with = "lenient_count")]
    pub expired: i64,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries, newest first.
    pub data: Vec<T>,
    /// The `after_id` of the next page; `None` on the last.
    pub next_after_id: Option<String>,
}

impl Client {
    /// Fetches a batch.
    ///
    /// # Errors
    /// Those of [`Client::get_json`]; [`Error::Malformed`] also if the answer is about another object.
    /// [`Error::NotFound`] may be transient soon after creation: do not give up a batch for one.
    pub async fn batch(&self, id: &str) -> Result<Batch, Error> {
        let answer = self.get_json(&["v1", "messages", "batches", id], &[], &[]).await?;
        let batch: Option<Batch> = serde_json::from_str(answer.get()).ok();
        let is_asked_for = |batch: &Batch| {
            batch.id == id && batch.kind.as_deref().is_none_or(|kind| kind == "message_batch")
        };
        batch.filter(is_asked_for).ok_or(Error::Malformed { promised: "the batch that was asked for" })
    }

    /// Lists the batches of the workspace, newest first, beginning after `after_id`. The API takes a limit of 1 to
    /// 1,000.
    ///
    /// # Errors
    /// Those of [`Client::get_json`]; [`Error::Malformed`] also if the answer is not a list of batches. A 404 is
    /// [`Error::Refused`].
    pub async fn batches(&self, after_id: Option<&str>, limit: u16) -> Result<Page<Batch>, Error> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Batch>,
            #[serde(default, deserialize_with = "lenient")]
            has_more: Option<bool>,
            #[serde(default, deserialize_with = "lenient")]
            last_id: Option<String>,
        }

        let limit = limit.to_string();
        let query: Vec<(&str, &str)> =
            [("limit", limit.as_str())].into_iter().chain(after_id.map(|id| ("after_id", id))).collect();
        let answer = match self.get_json(&["v1", "messages", "batches"], &query, &[]).await {
            // The list always exists: the base URL is wrong, or the key may not see the list.
            Err(Error::NotFound(answer)) => return Err(Error::Refused(answer)),
            other => other?,
        };
        let list: List = serde_json::from_str(answer.get())
            .map_err(|_| Error::Malformed { promised: "a list of batches" })?;
        let last_id = list.last_id.or_else(|| list.data.last().map(|batch| batch.id.clone()));
        // A cursor that does not move would be followed forever.
        let next_after_id = last_id.filter(|id| list.has_more == Some(true) && Some(id.as_str()) != after_id);
        Ok(Page { data: list.data, next_after_id })
    }

    /// Streams the results of a batch from their beginning; the API offers no other place to begin.
    ///
    /// The stream can end anywhere without an error, also between two lines: the caller has to count whether all
    /// arrived.
    ///
    /// # Errors
    /// Those of any request, and [`Error::Malformed`] if the answer is a web page. In the stream, [`Error::Transport`].
    pub async fn results(&self, batch: &Batch) -> Result<ResultsStream, Error> {
        let wire = self.wire()?;
        let url = wire.results_url(batch)?;
        let request = wire.request(Method::GET, url.clone(), &[])?.header(ACCEPT, "application/binary");
        let answer = async {
            let response = wire.send(request).await?;
            let media_type = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
            if media_type.is_some_and(|media_type| media_type.to_ascii_lowercase().starts_with(b"text/html"))
            {
                return Err(Error::Malformed { promised: "a stream of results" });
            }
            Ok(chunks(response).boxed())
        };
        wire.health.ask(url.path(), answer).await
    }
}

impl Wire {
    /// The URL of the results: the one that the API gave if it is within our origin, else the usual one.
    fn results_url(&self, batch: &Batch) -> Result<Url, Error> {
        let said = batch.results_url.as_deref().and_then(|url| Url::parse(url).ok());
        match said.filter(|url| is_plain(url) && url.origin() == self.base_url.origin()) {
            Some(url) => Ok(url),
            None => self.url(&["v1", "messages", "batches", &batch.id, "results"]),
        }
    }
}

/// The body as a stream that ends with its first error; reqwest's own stream repeats a timeout at every poll.
fn chunks(response: Response) -> impl Stream<Item = Result<Bytes, Error>> {
    stream::try_unfold(response, async |mut response| {
        let chunk = response.chunk().await.map_err(Error::transport)?;
        Ok(chunk.map(|chunk| (chunk, response)))
    })
}

/// The value, or `None` if it is missing, null or of another type.
fn lenient<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

fn lenient_counts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RequestCounts, D::Error> {
    Ok(lenient(deserializer)?.unwrap_or_default())
}

/// A number that may come as a float or in quotes. Any other value counts as zero.
fn lenient_count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let count = match Value::deserialize(deserializer)? {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|count| count as i64)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    Ok(count.unwrap_or(0).max(0))
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;

    use super::super::stand_in::StandIn;
    use super::*;

    fn batch(json: &str) -> Batch {
        serde_json::from_str(json).unwrap()
    }

    async fn collected(stream: ResultsStream) -> Vec<u8> {
        stream.try_collect::<Vec<Bytes>>().await.unwrap().concat()
    }

    #[test]
    fn a_batch_is_read_as_the_api_writes_it() {
        let ended = batch(
            r#"{"id":"msgbatch_demo1","type":"message_batch","processing_status":"ended",
            "request_counts":{"processing":0,"succeeded":1,"errored":2,"canceled":3,"expired":4},
            "created_at":"2026-11-01T10:00:00.120934Z","expires_at":"2026-11-02T10:00:00.120934Z",
            "ended_at":"2026-11-01T10:21:44.5Z","cancel_initiated_at":null,"archived_at":null,
            "results_url":"https://api.example/v1/messages/batches/msgbatch_demo1/results","new":{}}"#,
        );

        let expected = Batch {
            id: "msgbatch_demo1".to_owned(),
            kind: Some("message_batch".to_owned()),
            status: Some("ended".to_owned()),
            request_counts: RequestCounts {
                processing: 0,
                succeeded: 1,
                errored: 2,
                canceled: 3,
                expired: 4,
            },
            created_at: Some("2026-11-01T10:00:00.120934Z".parse().unwrap()),
            expires_at: Some("2026-11-02T10:00:00.120934Z".parse().unwrap()),
            ended_at: Some("2026-11-01T10:21:44.5Z".parse().unwrap()),
            results_url: Some("https://api.example/v1/messages/batches/msgbatch_demo1/results".to_owned()),
            ..Batch::default()
        };
        assert_eq!(ended, expected);
        assert_eq!(ended.expected_results(), 10);
    }

    #[test]
    fn only_the_id_is_needed_and_odd_values_count_as_absent() {
        let bare = batch(r#"{"id":"a"}"#);
        let odd = batch(
            r#"{"id":"a","type":7,"processing_status":{},"request_counts":[[]],"created_at":"soon","ended_at":{},
            "results_url":false}"#,
        );

        assert_eq!(odd, bare);
        assert!(!bare.is_terminal());
        assert_eq!(bare.expected_results(), 0);
        assert!(serde_json::from_str::<Batch>(r#"{"processing_status":"ended"}"#).is_err());
    }

    #[test]
    fn counts_are_read_however_they_are_written() {
        let counts =
            r#"{"processing":"3","succeeded":2.0,"errored":-1,"canceled":null,"expired":1e30,"new":"x"}"#;
        let batch = batch(&format!(r#"{{"id":"a","request_counts":{counts}}}"#));

        let expected =
            RequestCounts { processing: 3, succeeded: 2, errored: 0, canceled: 0, expired: i64::MAX };
        assert_eq!(batch.request_counts, expected);
        assert_eq!(batch.expected_results(), i64::MAX);
    }

    #[test]
    fn a_batch_has_ended_when_anything_says_so() {
        let terminal = |member: &str| batch(&format!(r#"{{"id":"a",{member}}}"#)).is_terminal();
        for status in ["ended", "completed", "canceled", "cancelled", "expired", "failed"] {
            assert!(terminal(&format!(r#""processing_status":"{status}""#)), "{status}");
        }
        for status in ["in_progress", "canceling", "", "ENDED?", "a_new_one"] {
            assert!(!terminal(&format!(r#""processing_status":"{status}""#)), "{status}");
        }
        assert!(terminal(r#""processing_status":"in_progress","ended_at":"2026-11-01T10:21:44.5Z""#));
        assert!(terminal(r#""processing_status":"a_new_one","results_url":"https://api.example/r""#));
        assert!(!terminal(r#""ended_at":null,"results_url":null"#));
    }

    #[tokio::test]
    async fn an_answer_about_something_else_is_malformed() {
        for body in [r#"{"id":"b"}"#, r#"{"id":"a","type":"message"}"#, "{}"] {
            let api = StandIn::answering(200, "", body).await;
            let error = api.client().batch("a").await.unwrap_err();
            assert!(matches!(error, Error::Malformed { .. }), "{body}: {error}");
        }
    }

    #[tokio::test]
    async fn a_page_names_the_next_until_there_is_none() {
        let pages = [
            (r#"{"data":[{"id":"b"},{"id":"c"}],"has_more":true,"first_id":"b","last_id":"c"}"#, Some("c")),
            (r#"{"data":[{"id":"b"},{"id":"c"}],"has_more":true}"#, Some("c")),
            (r#"{"data":[{"id":"b"},{"id":"c"}],"has_more":false,"last_id":"c"}"#, None),
            (r#"{"data":[{"id":"a"},{"id":"a"}],"has_more":true,"last_id":"a"}"#, None),
        ];
        for (body, next) in pages {
            let api = StandIn::answering(200, "", body).await;
            let page = api.client().batches(Some("a"), 2).await.unwrap();
            assert_eq!((page.data.len(), page.next_after_id.as_deref()), (2, next), "{body}");
            assert!(api.requests()[0].starts_with("GET /v1/messages/batches?limit=2&after_id=a HTTP/1.1"));
        }
    }

    #[tokio::test]
    async fn results_are_asked_for_where_the_api_says_within_our_origin_only() {
        let api = StandIn::answering(200, "", "{}\n{}\n").await;
        let ours = api.base_url.join("/elsewhere?x=1").unwrap();
        let authority = ours.authority();
        let fallback = "GET /v1/messages/batches/a%2Fb/results HTTP/1.1";
        let cases = [
            (Some(ours.to_string()), "GET /elsewhere?x=1 HTTP/1.1"),
            (Some("https://evil.example/v1/messages/batches/a/results".to_owned()), fallback),
            (Some(format!("https://{authority}/x")), fallback),
            (Some(format!("http://user@{authority}/x")), fallback),
            (Some(format!("http://{authority}@evil.example/x")), fallback),
            (Some(r"http:\\evil.example\x".to_owned()), fallback),
            (Some("//evil.example/x".to_owned()), fallback),
            (Some("ftp://evil.example/x".to_owned()), fallback),
            (None, fallback),
        ];
        for (nth, (results_url, request_line)) in cases.into_iter().enumerate() {
            let batch = Batch { id: "a/b".to_owned(), results_url, ..Batch::default() };

            let results = collected(api.client().results(&batch).await.unwrap()).await;

            assert_eq!(results, b"{}\n{}\n");
            assert!(api.requests()[nth].starts_with(request_line), "{batch:?}");
        }
    }

    #[tokio::test]
    async fn results_that_break_off_end_with_an_error() {
        let api = StandIn::sending(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}\n").await;
        let batch = Batch { id: "a".to_owned(), ..Batch::default() };

        let chunks: Vec<_> = api.client().results(&batch).await.unwrap().collect().await;

        assert!(matches!(&chunks[..], [Ok(first), Err(Error::Transport(_))] if &first[..] == b"{}\n"));
    }

    #[tokio::test]
    async fn results_that_stop_coming_end_with_an_error() {
        let api = StandIn::hanging_after(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{}\n").await;
        let client = api.client_with(|settings| settings.idle_timeout = std::time::Duration::from_secs(1));
        let batch = Batch { id: "a".to_owned(), ..Batch::default() };

        let mut results = client.results(&batch).await.unwrap();

        assert_eq!(results.try_next().await.unwrap().as_deref(), Some(&b"{}\n"[..]));
        assert!(matches!(results.try_next().await, Err(Error::Transport(cause)) if cause.is_timeout()));
        assert!(results.next().await.is_none());
    }

    #[tokio::test]
    async fn compressed_results_arrive_as_they_were() {
        // `printf '{}\n' | gzip -n`
        let gzip = b"\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\xe5\x02\0\x06\xb0\xa1\xdd\x03\0\0\0";
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            gzip.len()
        );
        let api = StandIn::sending(&[head.as_bytes(), gzip].concat()).await;
        let batch = Batch { id: "a".to_owned(), ..Batch::default() };

        assert_eq!(collected(api.client().results(&batch).await.unwrap()).await, b"{}\n");
        assert!(api.requests()[0].contains("\r\naccept-encoding: gzip\r\n"));
    }

    #[tokio::test]
    async fn a_web_page_is_no_stream_of_results() {
        let api = StandIn::answering(200, "content-type: Text/HTML; charset=utf-8\r\n", "<html>").await;
        let batch = Batch { id: "a".to_owned(), ..Batch::default() };

        let refused = api.client().results(&batch).await.map(drop);

        assert!(matches!(refused, Err(Error::Malformed { .. })));
    }
}
