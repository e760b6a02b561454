//! `resource.forget`: deletes an object at the API, because a person had restante.forget() forget it.
//!
//! Only that function stores such an event, and ends the forgetting once each of them is finished. It may be repeated at any time:
//! an object that the API does not know is deleted.

use std::time::Duration;

use anyhow::anyhow;

use crate::api;
use crate::batch::{Kept, deleted, kept};
use crate::handler::{self, Context, Error, Handler, Senders};
use crate::handlers::batch_results::BatchResults;
use crate::handlers::resources::kinds::{AGENT_MEMORY, MANAGED_AGENTS};
use crate::retry;

/// How long to wait for a batch to end, which the API deletes only then.
const NOT_ENDED: Duration = Duration::from_secs(60);

/// Deletes objects at the API.
#[derive(Debug)]
pub struct ResourceForget;

/// Which object.
#[derive(Debug, serde::Deserialize)]
pub struct Forgotten {
    #[serde(rename = "type")]
    kind: String,
    id: String,
    /// The vault of a credential.
    parent_id: Option<String>,
    /// Nobody downloads the results of this batch any more.
    #[serde(default)]
    is_given_up: bool,
}

impl Forgotten {
    /// Where the API has it, and the beta that it wants named; none for a kind that it cannot delete.
    fn place(&self) -> Option<(Vec<&str>, Option<&'static str>)> {
        let id = self.id.as_str();
        Some(match self.kind.as_str() {
            "session" => (vec!["v1", "sessions", id], Some(MANAGED_AGENTS)),
            "vault" => (vec!["v1", "vaults", id], Some(MANAGED_AGENTS)),
            "vault_credential" => {
                (vec!["v1", "vaults", self.parent_id.as_deref()?, "credentials", id], Some(MANAGED_AGENTS))
            }
            "environment" => (vec!["v1", "environments", id], Some(MANAGED_AGENTS)),
            "memory_store" => (vec!["v1", "memory_stores", id], Some(AGENT_MEMORY)),
            "user_profile" => (vec!["v1", "user_profiles", id], None),
            _ => return None,
        })
    }
}

impl Handler for ResourceForget {
    const EVENT_TYPES: &'static [&'static str] = &["resource.forget"];
    const SENDERS: Senders = Senders::OfTheApi;
    const RETRY: retry::Policy = BatchResults::RETRY;
    const PATIENCE: Duration = retry::LONGEST;
    const TIMEOUT: Duration = Duration::from_secs(90);
    type Payload = Forgotten;

    async fn handle(&self, cx: &mut Context<'_>, object: Forgotten) -> handler::Result {
        // An application may enqueue what it likes, and a webhook may say what it likes.
        if cx.event.source != "worker" {
            cx.set_result(&serde_json::json!({ "skipped": "only restante.forget() deletes at the API" }));
            return Ok(());
        }
        if object.kind == "message_batch" {
            return delete_batch(cx, &object).await;
        }
        let (path, beta) = object.place().ok_or_else(|| {
            Error::Permanent(anyhow!("the API deletes no object of the type `{}`", object.kind))
        })?;
        Ok(cx.api.delete_object(&path, beta.as_slice()).await?)
    }
}

/// Deletes a batch, once its results have been downloaded, so that nothing asks for them any more.
async fn delete_batch(cx: &mut Context<'_>, batch: &Forgotten) -> handler::Result {
    let (id, account) = (batch.id.as_str(), cx.event.account_or_default());
    let kept = kept(&mut *cx.connection().await?, id, account).await?;
    match kept {
        Some(Kept { is_deleted: true, .. }) => Ok(()),
        Some(Kept { is_complete: true, .. }) => {
            cx.api.delete_batch(id).await?;
            Ok(deleted(cx.tx().await?, id, account).await?)
        }
        Some(_) if !batch.is_given_up => {
            let reason = "the batch is not complete; it is deleted at the API once every result is stored";
            Err(Error::Snooze(NOT_ENDED, reason.into()))
        }
        _ => match cx.api.batch(id).await {
            Ok(batch) if !batch.is_terminal() => {
                Err(Error::Snooze(NOT_ENDED, "the batch has not ended; the API deletes it only then".into()))
            }
            Ok(_) | Err(api::Error::NotFound(_)) => Ok(cx.api.delete_batch(id).await?),
            Err(error) => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forgotten(kind: &str, parent_id: Option<&str>) -> Forgotten {
        Forgotten {
            kind: kind.to_owned(),
            id: "x".to_owned(),
            parent_id: parent_id.map(str::to_owned),
            is_given_up: false,
        }
    }

    #[test]
    fn an_object_is_deleted_where_the_api_has_it() {
        assert_eq!(
            forgotten("vault_credential", Some("v")).place().unwrap().0,
            ["v1", "vaults", "v", "credentials", "x"]
        );
        assert_eq!(
            forgotten("session", None).place().unwrap(),
            (vec!["v1", "sessions", "x"], Some(MANAGED_AGENTS))
        );
        assert_eq!(forgotten("agent", None).place(), None);
        assert_eq!(forgotten("vault_credential", None).place(), None);
    }
}
