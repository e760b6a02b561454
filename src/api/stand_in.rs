//! The scripted API of the playground, giving every request the same answer, and clients of it.

use restante_playground::{Answer, ScriptedApi};
use url::Url;

use super::{Client, Settings};

pub(super) struct StandIn {
    pub(super) base_url: Url,
    api: ScriptedApi,
}

impl StandIn {
    /// Answers with this status, these further headers, each with its line end, and this body.
    pub(super) async fn answering(status: u16, headers: &str, body: &str) -> StandIn {
        let length = format!("content-length: {}\r\n", body.len());
        StandIn::new(Answer::new(status, &(length + headers), body)).await
    }

    /// Answers with these bytes, and closes.
    pub(super) async fn sending(answer: &[u8]) -> StandIn {
        StandIn::new(Answer::bytes(answer)).await
    }

    /// Answers with these bytes, and is then silent.
    pub(super) async fn hanging_after(answer: &[u8]) -> StandIn {
        StandIn::new(Answer::bytes(answer).then_silence()).await
    }

    async fn new(answer: Answer) -> StandIn {
        let api = ScriptedApi::new().await;
        api.answer_all(Some(answer));
        StandIn { base_url: api.origin.parse().unwrap(), api }
    }

    pub(super) fn client(&self) -> Client {
        self.client_with(|_| ())
    }

    /// A client with changed settings.
    pub(super) fn client_with(&self, change: impl FnOnce(&mut Settings)) -> Client {
        let mut settings = Settings::new(self.base_url.clone(), "sk-secret".into());
        change(&mut settings);
        Client::new(settings).unwrap()
    }

    /// The requests so far, each with its headers.
    pub(super) fn requests(&self) -> Vec<String> {
        self.api.requests()
    }
}
