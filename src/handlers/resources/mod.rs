//! Events of sessions, vaults, agents and the like: ask for the object as it is now, and keep it in `restante.resource`.
//!
//! An event says only that something happened to an object. So its order does not matter here, nor does it matter that it
//! comes twice: what is kept is what the API says when it is asked. A `.deleted` event is final and asks nobody.

pub(in crate::handlers) mod kinds;
pub(in crate::handlers) mod object;
mod stop_reason;
pub(in crate::handlers) mod store;

use std::time::Duration;

use anyhow::anyhow;

use crate::event::{ANTHROPIC, Event};
use crate::handler::{self, Context, Error, Handler, Senders};
use crate::{api, envelope, telemetry};

use kinds::{Kind, Reference};
use object::Object;
use store::{Known, Place};

/// An object may not be readable yet when its event arrives. One that is not found for so long is gone.
const FINDABLE_WITHIN: Duration = Duration::from_secs(60);

/// How long to wait before asking again for what was not found.
const NOT_FOUND_PAUSE: Duration = Duration::from_secs(10);

/// The API takes 1,200 reads a minute, and a burst of events of one object needs few.
const BETWEEN_FETCHES: Duration = Duration::from_millis(250);

/// Why the event of what was not found waits.
const NOT_READABLE: &str = "the API does not find it yet; what it does not find for a minute counts as gone";

/// Keeps the objects that events are about.
#[derive(Debug)]
pub struct Resources;

impl Handler for Resources {
    const EVENT_TYPES: &'static [&'static str] = &[
        "session.*",
        "vault.*",
        "vault_credential.*",
        "agent.*",
        "deployment.*",
        "deployment_run.*",
        "environment.*",
        "memory_store.*",
        "user_profile.*",
        "external_key.*",
        "external_storage.*",
    ];
    const SENDERS: Senders = Senders::OfTheApi;
    const TIMEOUT: Duration = Duration::from_secs(150);
    type Payload = Reference;

    /// But for what is final, or says what the object does not.
    fn needs_of_api(&self, event_type: &str) -> Option<&'static str> {
        Some(kinds::of(event_type)?.part_of_api())
    }

    fn newest_state_of(&self, event: &Event) -> Option<String> {
        if kinds::says_deleted(&event.event_type) || event.event_type == "vault_credential.refresh_failed" {
            return None;
        }
        let reference: Reference = event.payload().ok()?;
        Some(kinds::of(&event.event_type)?.path(&reference)?.join("/"))
    }

    async fn handle(&self, cx: &mut Context<'_>, reference: Reference) -> handler::Result {
        let event = cx.event;
        let kind = kinds::of(&event.event_type)
            .ok_or_else(|| Error::Permanent(anyhow!("`{}` is of no known kind", event.event_type)))?;
        let id = kind
            .id(&reference)
            .ok_or_else(|| Error::Permanent(anyhow!("the event does not say which {}", kind.resource)))?;
        let place = Place {
            account: event.account_or_default(),
            resource: kind.resource,
            id,
            parent_id: kind.parent(&reference),
            workspace_id: event.workspace_id.as_deref(),
        };

        let mut known = store::known(&mut *cx.connection().await?, &place).await?;
        if kinds::says_deleted(&event.event_type) {
            return Ok(store::gone(cx.tx().await?, &place, event.created_at, "deleted", known.now).await?);
        }
        if known.is_deleted {
            cx.set_result(&serde_json::json!({ "skipped": "an event said that it was deleted" }));
            return Ok(());
        }
        if event.event_type == "vault_credential.refresh_failed" {
            store::refresh_failed(cx.tx().await?, &place, event.created_at, known.now).await?;
        }
        let Some(path) = kind.path(&reference) else {
            // There is no way to ask for a credential without its vault.
            cx.set_result(&serde_json::json!({ "unresolved": "the event does not say what it belongs to" }));
            return Ok(());
        };

        let since_asked =
            known.seconds_since_asked.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if let Some(pause) = since_asked.and_then(|since| BETWEEN_FETCHES.checked_sub(since)) {
            // What comes meanwhile is settled by this fetch too.
            tokio::time::sleep(pause).await;
            known.now = store::now(&mut *cx.connection().await?).await?;
        }
        cx.asks_for_state_at(known.now);
        match fetch(cx, kind, &path).await {
            Ok(Fetched { body, object, stop_reason }) => {
                let tx = cx.tx().await?;
                store::observe(tx, &place, &body, &object, stop_reason.as_deref(), known.now).await?;
                store::evaluations(tx, &place, &object.evaluations, known.now).await?;
                Ok(())
            }
            Err(api::Error::NoAdminKey) => Err(Error::Permanent(anyhow!(
                "a {} is below /v1/organizations/, which the API shows to an Admin key only, and none is configured",
                kind.resource
            ))),
            Err(api::Error::NotFound(answer)) => not_found(cx, &place, &answer, &known).await,
            // The operator has two keys to look at.
            Err(error) if kind.needs_admin_key() => Err(Error::from(error).context("with the Admin key")),
            Err(error) => Err(error.into()),
        }
    }
}

/// Not there: because it was deleted since, not readable yet, gone without a word, or never ours to see.
async fn not_found(
    cx: &mut Context<'_>,
    place: &Place<'_>,
    answer: &api::Answer,
    known: &Known,
) -> handler::Result {
    let now = known.now;
    // A younger event may be of an object that only now becomes readable.
    cx.settle_alone();
    if store::deletion_waits(&mut *cx.connection().await?, cx.event).await? {
        cx.set_result(&serde_json::json!({ "skipped": "the event of its deletion comes next" }));
        return Ok(());
    }
    let since_event = (now - cx.event.received_at).to_std().unwrap_or_default();
    if since_event < FINDABLE_WITHIN {
        return Err(Error::Snooze(NOT_FOUND_PAUSE, NOT_READABLE.into()));
    }
    let key = match place.account {
        ANTHROPIC => "ANTHROPIC_API_KEY".to_owned(),
        account => format!("the key of the account `{account}`"),
    };
    let key_workspace = answer.workspace_id.as_deref();
    let is_of_another =
        key_workspace.is_some() && place.workspace_id.is_some() && key_workspace != place.workspace_id;
    if !known.was_seen {
        metrics::counter!(telemetry::metric::RESOURCES_NEVER_SEEN_TOTAL, "resource" => place.resource.to_owned())
            .increment(1);
        // Nothing of the answer, which may quote what a customer wrote.
        tracing::warn!(
            resource = place.resource,
            workspace = place.workspace_id,
            key_workspace,
            "the API does not find an object that it never showed us: {}",
            if is_of_another {
                format!("{key} is of another workspace than the event")
            } else {
                format!("is {key} of another workspace?")
            }
        );
    }
    // What was asked stays to be read: a key of another workspace looks like an object that is no more.
    let mut result = serde_json::json!({ "gone": answer.to_string() });
    if is_of_another {
        result["reason"] = format!("{key} is of another workspace than the event").into();
        result["key_workspace"] = key_workspace.into();
    }
    cx.set_result(&result);
    Ok(store::gone(cx.tx().await?, place, now, "not_found", now).await?)
}

/// An object as the API shows it now.
struct Fetched {
    body: crate::event::Body,
    object: Object,
    stop_reason: Option<String>,
}

async fn fetch(cx: &Context<'_>, kind: &Kind, path: &[&str]) -> Result<Fetched, api::Error> {
    let json = cx.api.get_json(path, &[], kind.beta.as_slice()).await?;
    let object = Object::read(json.get());
    let stop_reason = if kind.resource == "session" && object.status.as_deref() == Some("idle") {
        stop_reason::of_session(cx, path).await?
    } else {
        None
    };
    Ok(Fetched { body: envelope::body(json.get().as_bytes()), object, stop_reason })
}
