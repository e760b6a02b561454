//! Sending JSON to any path of the API: what a handler changes there.

use bytes::Bytes;
use futures_util::stream;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use serde::Serialize;
use serde_json::value::RawValue;

use super::arrival::Arrival;
use super::{Client, Error, read_object};

/// A request to change something had no answer that says it was done.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct NotPosted {
    /// Why.
    #[source]
    pub error: Error,
    /// The API may have done it all the same: it may have read the whole request, and gave no answer that denies it. Look at the
    /// API whether it has, before you send the same again.
    pub may_have_arrived: bool,
}

impl Client {
    /// Sends JSON to a path, and returns the JSON of the answer exactly as it came. The path is given in segments, which may contain
    /// anything, also text from outside. The betas are added to the configured ones. A [`RawValue`] goes out exactly as it is.
    ///
    /// The API does not know a request that it gets twice. A handler runs at least once for each event, so it notes in a
    /// [checkpoint](crate::Context::checkpoint) that it is about to send, and looks at the API before it sends the same again.
    ///
    /// # Errors
    /// [`NotPosted`], which says whether the API may have acted on the request all the same. It has no conversion into an error of
    /// a handler, because only the handler knows how to look. Its `error` is [`Error::NotJson`] if the body cannot be written,
    /// [`Error::BadId`] if a segment cannot name anything, [`Error::Malformed`] if the answer is not a JSON object, or one of those
    /// of any request.
    pub async fn post_json(
        &self,
        path: &[&str],
        body: &(impl Serialize + ?Sized),
        betas: &[&str],
    ) -> Result<Box<RawValue>, NotPosted> {
        let body = serde_json::to_vec(body)
            .map_err(|error| NotPosted { error: Error::NotJson(error), may_have_arrived: false })?;
        let bytes = body.len() as u64;
        let body = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(body))]);
        let (arrival, body) = Arrival::of(bytes, body);
        let post = async {
            let wire = self.wire()?;
            let url = wire.url(path)?;
            // One deadline for the whole exchange, as for an answer that is read whole.
            let request = wire
                .request(Method::POST, url.clone(), betas)?
                .timeout(wire.idle_timeout)
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json")
                .header(CONTENT_LENGTH, bytes)
                .body(body);
            // Apart from a GET of the same path, which is what tells whether this one arrived.
            let name = format!("{}/post", url.path());
            let answer = async {
                match wire.send(request).await {
                    Ok(response) => Ok(Ok(read_object(response).await?)),
                    // An API that judges what it is sent is well.
                    Err(error) if error.is_of_content() => Ok(Err(error)),
                    Err(error) => Err(error),
                }
            };
            wire.health.ask(&name, answer).await?
        };
        post.await.map_err(|error| NotPosted { may_have_arrived: arrival.is_possible(&error), error })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::stand_in::StandIn;
    use super::*;

    /// Whether the body may have arrived, after this answer of the API.
    async fn may_have_arrived(status: u16, body: &str) -> bool {
        let api = StandIn::answering(status, "", body).await;
        api.client().post_json(&["v1", "things"], &json!({}), &[]).await.unwrap_err().may_have_arrived
    }

    #[tokio::test]
    async fn a_body_goes_out_exactly_with_the_key_and_the_betas() {
        let api = StandIn::answering(200, "", r#"{"id":  "x"}"#).await;
        let raw: Box<RawValue> = serde_json::from_str(r#"{"a":  1e999}"#).unwrap();

        let answer = api.client().post_json(&["v1", "sessions", "a/b", "events"], &raw, &["one"]).await;

        assert_eq!(answer.unwrap().get(), r#"{"id":  "x"}"#);
        let request = &api.requests()[0];
        assert!(request.starts_with("POST /v1/sessions/a%2Fb/events HTTP/1.1\r\n"), "{request}");
        for line in ["x-api-key: sk-secret", "anthropic-beta: one", "content-length: 13"] {
            assert!(request.contains(&format!("\r\n{line}\r\n")), "{request}");
        }
    }

    #[tokio::test]
    async fn an_error_says_whether_the_api_may_have_acted_all_the_same() {
        let refusal = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#;
        for status in [400, 401, 403, 404, 413, 422, 429] {
            assert!(!may_have_arrived(status, refusal).await, "{status}");
        }
        for status in [408, 409, 500, 503, 529] {
            assert!(may_have_arrived(status, refusal).await, "{status}");
        }
        assert!(may_have_arrived(200, "<html></html>").await);
    }

    #[tokio::test]
    async fn a_request_that_did_not_go_out_has_not_arrived() {
        let api = StandIn::answering(200, "", "{}").await;
        let not_json = std::collections::BTreeMap::from([([1, 2], 3)]);
        let bad_body = api.client().post_json(&["v1"], &not_json, &[]).await.unwrap_err();
        assert!(matches!(bad_body.error, Error::NotJson(_)) && !bad_body.may_have_arrived, "{bad_body}");
        let bad_id = api.client().post_json(&["v1", ".."], &Value::Null, &[]).await.unwrap_err();
        assert!(matches!(bad_id.error, Error::BadId) && !bad_id.may_have_arrived, "{bad_id}");
        assert!(api.requests().is_empty());

        // A port that nobody listens at any more.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let nobody =
            Client::new(super::super::Settings::new(url.parse().unwrap(), "sk-secret".into())).unwrap();
        let error = nobody.post_json(&["v1"], &json!({}), &[]).await.unwrap_err();
        assert!(matches!(error.error, Error::Transport(_)) && !error.may_have_arrived, "{error}");
    }

    #[tokio::test]
    async fn content_that_is_refused_is_no_trouble_of_the_api() {
        let refusal = r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#;
        let api = StandIn::answering(400, "", refusal).await;
        let client = api.client();
        for _ in 0..20 {
            let error = client.post_json(&["v1", "things"], &json!({}), &[]).await.unwrap_err().error;
            assert!(error.is_of_content(), "{error}");
        }
        assert_eq!((api.requests().len(), client.trouble()), (20, None));
    }

    #[tokio::test]
    async fn an_answer_that_is_lost_leaves_it_open() {
        let api = StandIn::sending(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{").await;

        let error = api.client().post_json(&["v1"], &json!({}), &[]).await.unwrap_err();

        assert!(matches!(error.error, Error::Transport(_)) && error.may_have_arrived, "{error}");
    }
}
