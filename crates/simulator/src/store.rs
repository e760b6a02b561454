//! The store of all objects except batches, and of the events of sessions.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value};

use super::asked;
use super::dice::Mint;
use super::kinds::Kind;
use super::refusal::Refusal;

/// An object, as the API shows it.
#[derive(Clone)]
pub(super) struct Object {
    pub(super) kind: &'static Kind,
    pub(super) body: Map<String, Value>,
}

impl Object {
    /// A new object with the kind's defaults, the fields of the request, and those that the API adds.
    pub(super) fn new(
        mint: &Mint,
        kind: &'static Kind,
        parent: Option<&str>,
        asked: Map<String, Value>,
    ) -> Object {
        let mut body: Map<String, Value> = serde_json::from_str(kind.defaults).unwrap_or_default();
        let id = mint.id(kind.prefix);
        let now = timestamp(Utc::now());
        body.extend([("id".to_owned(), id.into()), ("created_at".to_owned(), now.clone().into())]);
        // A deployment run never changes, so it has no `updated_at`.
        if kind.name != "deployment_run" {
            body.insert("updated_at".to_owned(), now.into());
        }
        body.extend(asked);
        body.insert("type".to_owned(), kind.name.into());
        if let (Some(field), Some(parent)) = (kind.parent, parent) {
            body.insert(field.to_owned(), parent.into());
        }
        asked::complete(&mut body);
        Object { kind, body }
    }

    pub(super) fn id(&self) -> &str {
        self.body.get("id").and_then(Value::as_str).unwrap_or_default()
    }

    /// The id of its parent object.
    pub(super) fn parent(&self) -> Option<&str> {
        self.body.get(self.kind.parent?)?.as_str()
    }

    pub(super) fn value(&self) -> Value {
        Value::Object(self.body.clone())
    }

    /// Replaces the named fields. The fields of `metadata` are merged, and null removes one. The fields of `config` and
    /// `auth` are merged as long as its type stays the same. Returns false if nothing changes.
    pub(super) fn update(&mut self, changes: Map<String, Value>) -> bool {
        let before = self.body.clone();
        for (name, value) in changes {
            match (name.as_str(), self.body.get_mut(&name), value) {
                ("metadata", Some(Value::Object(metadata)), Value::Object(changes)) => {
                    metadata.extend(changes);
                    metadata.retain(|_, value| !value.is_null());
                }
                ("config" | "auth", Some(Value::Object(nested)), Value::Object(changes))
                    if nested.get("type") == changes.get("type") =>
                {
                    nested.extend(changes.into_iter().filter(|(_, value)| !value.is_null()));
                }
                ("id" | "type" | "created_at", ..) => {}
                (_, _, value) => _ = self.body.insert(name, value),
            }
        }
        asked::complete(&mut self.body);
        if self.body == before {
            return false;
        }
        self.set("updated_at", timestamp(Utc::now()));
        true
    }

    pub(super) fn set(&mut self, field: &str, value: impl Into<Value>) {
        self.body.insert(field.to_owned(), value.into());
    }
}

/// The history of a session.
#[derive(Default)]
pub(super) struct History {
    pub(super) events: Vec<Value>,
    /// The number of the current run. The end of an earlier run changes nothing.
    pub(super) run: u64,
}

/// All objects, in the order of their creation.
#[derive(Default)]
pub(super) struct Store {
    objects: BTreeMap<u64, Object>,
    places: HashMap<String, u64>,
    next: u64,
    pub(super) histories: HashMap<String, History>,
    /// The kinds whose example has been made.
    shown: HashSet<&'static str>,
}

impl Store {
    /// Makes the example of a kind (such as `sesn_example`) when it is first requested, so that a webhook sent by hand has
    /// an object to name. Lists do not show it before that.
    pub(super) fn make_example(&mut self, mint: &Mint, kind: &'static Kind, id: &str) {
        let is_example = kind.parent.is_none() && id.strip_prefix(kind.prefix) == Some("example");
        if is_example && self.get(id).is_none() && self.shown.insert(kind.name) {
            let mut object = Object::new(mint, kind, None, Map::new());
            object.set("id", id);
            self.insert(object);
        }
    }

    /// Stores the object in place of one with the same id.
    pub(super) fn insert(&mut self, object: Object) {
        self.remove(object.id());
        self.next += 1;
        self.places.insert(object.id().to_owned(), self.next);
        self.objects.insert(self.next, object);
    }

    /// The object of this kind and id; if the kind has parents, it must have this parent.
    pub(super) fn find(
        &mut self,
        kind: &Kind,
        parent: Option<&str>,
        id: &str,
    ) -> Result<&mut Object, Refusal> {
        let place = self.places.get(id);
        place
            .and_then(|place| self.objects.get_mut(place))
            .filter(|object| {
                object.kind.name == kind.name && (kind.parent.is_none() || object.parent() == parent)
            })
            .ok_or_else(|| Refusal::not_found(id))
    }

    pub(super) fn get(&self, id: &str) -> Option<&Object> {
        self.objects.get(self.places.get(id)?)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Object> {
        self.objects.get_mut(self.places.get(id)?)
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Object> {
        self.histories.remove(id);
        self.objects.remove(&self.places.remove(id)?)
    }

    /// The ids of the child objects of this object.
    pub(super) fn children(&self, id: &str) -> Vec<String> {
        let children = self.objects.values().filter(|object| object.parent() == Some(id));
        children.map(|object| object.id().to_owned()).collect()
    }

    /// The objects of this kind, each with its number in the order of creation.
    pub(super) fn all<'a>(
        &'a self,
        kind: &'a Kind,
        parent: Option<&'a str>,
    ) -> impl Iterator<Item = (u64, &'a Object)> {
        let all = self.objects.iter().map(|(place, object)| (*place, object));
        all.filter(move |(_, object)| object.kind.name == kind.name && object.parent() == parent)
    }
}

/// A time as the API writes it.
pub(super) fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}
