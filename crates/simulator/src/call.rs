//! A request about objects of one kind, and the endpoint that takes it.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::routing::{MethodFilter, MethodRouter, on};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::app::App;
use super::held::held;
use super::kinds::Kind;
use super::page::Query;
use super::refusal::Refusal;
use super::store::Object;
use super::{control, gate};

pub(super) type Answer = Result<Json<Value>, Refusal>;

/// A request about objects of one kind.
pub(super) struct Call {
    pub(super) app: Arc<App>,
    pub(super) kind: &'static Kind,
    pub(super) ids: Ids,
    pub(super) query: Query,
    body: Bytes,
}

/// The ids of a path.
#[derive(Deserialize)]
pub(super) struct Ids {
    parent: Option<String>,
    id: Option<String>,
}

impl Call {
    pub(super) fn id(&self) -> &str {
        self.ids.id.as_deref().unwrap_or_default()
    }

    pub(super) fn parent(&self) -> Option<&str> {
        self.ids.parent.as_deref()
    }

    /// Reads the fields of the body; an empty body has none.
    pub(super) fn fields(&self) -> Result<Map<String, Value>, Refusal> {
        if self.body.is_empty() { Ok(Map::new()) } else { control::read(&self.body) }
    }

    /// Changes the object of the path, and returns the changed object.
    pub(super) fn change(&self, change: impl FnOnce(&mut Object)) -> Result<Object, Refusal> {
        let mut store = held(&self.app.store);
        store.make_example(&self.app.mint, self.kind, self.id());
        let object = store.find(self.kind, self.parent(), self.id())?;
        change(object);
        Ok(object.clone())
    }
}

/// An endpoint for objects of this kind. Without the kind's beta header it answers 404: the API's documents say so of one
/// kind, and nothing of the others.
pub(super) fn endpoint(
    kind: &'static Kind,
    method: MethodFilter,
    answer: fn(&Call) -> Answer,
) -> MethodRouter<Arc<App>> {
    let run = move |State(app), Path(ids), uri: Uri, headers: HeaderMap, query: Query, body: Body| async move {
        let betas = gate::text(&headers, "anthropic-beta").unwrap_or_default();
        match kind.beta {
            Some(beta) if !betas.split(',').any(|sent| sent.trim() == beta) => {
                return Err(Refusal::not_found(&format!("{} (without anthropic-beta: {beta})", uri.path())));
            }
            _ => {}
        }
        let body = gate::body(uri.path(), body).await?;
        answer(&Call { app, kind, ids, query, body })
    };
    on(method, run)
}
