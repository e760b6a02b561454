//! Deleting any object of the API.

use reqwest::Method;
use reqwest::header::ACCEPT;

use super::{Client, Error};

impl Client {
    /// Deletes the object at a path, which is given in segments that may contain anything. One that the API does not know is
    /// deleted, so this may be repeated. The betas are added to the configured ones.
    ///
    /// # Errors
    /// [`Error::BadId`] if a segment cannot name anything, or those of any request.
    pub async fn delete_object(&self, path: &[&str], betas: &[&str]) -> Result<(), Error> {
        let wire = self.wire()?;
        let url = wire.url(path)?;
        let request = wire.request(Method::DELETE, url.clone(), betas)?.header(ACCEPT, "application/json");
        // Apart from a GET of the same path.
        let name = format!("{}/delete", url.path());
        match wire.health.ask(&name, async { wire.send(request).await.map(drop) }).await {
            Err(Error::NotFound(_)) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stand_in::StandIn;

    #[tokio::test]
    async fn what_is_deleted_is_named_whole_and_with_its_betas() {
        let api = StandIn::answering(200, "", r#"{"id":"a","type":"session_deleted"}"#).await;

        api.client().delete_object(&["v1", "sessions", "a/b"], &["one"]).await.unwrap();

        let request = &api.requests()[0];
        assert!(request.starts_with("DELETE /v1/sessions/a%2Fb HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("\r\nanthropic-beta: one\r\n"), "{request}");
    }

    #[tokio::test]
    async fn what_the_api_does_not_know_is_deleted() {
        let refusal = r#"{"type":"error","error":{"type":"not_found_error","message":"no"}}"#;
        let api = StandIn::answering(404, "", refusal).await;

        api.client().delete_object(&["v1", "sessions", "gone"], &[]).await.unwrap();

        let api = StandIn::answering(401, "", refusal).await;
        api.client().delete_object(&["v1", "sessions", "gone"], &[]).await.unwrap_err();
    }
}
