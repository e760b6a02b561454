//! What an event says of its subject, for handlers; read in the same way as ingest reads it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::{Deserialize, DeserializeOwned, Deserializer};
use serde_json::value::RawValue;

use super::mend::mended;
use super::{identifier, members, members_or_none, text};
use crate::event::Event;

/// Members that, at the top level, belong to the event itself. They name an object only inside `data`.
const NOT_OF_THE_SUBJECT: [&str; 2] = ["id", "batch_id"];

impl Event {
    /// What the event says of its subject, as JSON. For a webhook this is the envelope's `data`. A webhook without
    /// `data` gives its other members, except those that could be taken for an object's identifier (the `id` there is
    /// the event's), and a webhook that cannot be read gives `null`. Any other event gives its whole body.
    ///
    /// The JSON is repaired, so that a member which the handler does not read cannot spoil one that it reads: of a
    /// member given twice only the last is kept, and invalid Unicode is replaced.
    pub fn data(&self) -> Cow<'_, str> {
        match text(self.body.as_bytes()) {
            Cow::Borrowed(text) => data_of(text, &self.source),
            Cow::Owned(text) => data_of(&text, &self.source).into_owned().into(),
        }
    }
}

fn data_of<'t>(text: &'t str, source: &str) -> Cow<'t, str> {
    if source != "webhook" {
        return mended(text, &[]);
    }
    match members(text) {
        Err(_unreadable) => "null".into(),
        Ok(top) => match top.data.map(RawValue::get).filter(|data| *data != "null") {
            Some(data) => mended(data, &[]),
            None => mended(text, &NOT_OF_THE_SUBJECT),
        },
    }
}

impl Event {
    /// [`Event::data`], read into a payload. If it does not fit because identifiers are numbers, they are read as text,
    /// as for the key of the event.
    ///
    /// # Errors
    /// The error of `serde_json` if the data does not fit `P`: a member is missing or has another type.
    pub fn payload<P: DeserializeOwned>(&self) -> Result<P, serde_json::Error> {
        let data = self.data();
        serde_json::from_str(&data).or_else(|error| match with_text_identifiers(&data) {
            Some(data) => serde_json::from_str(&data).map_err(|_| error),
            None => Err(error),
        })
    }
}

/// The object that a webhook is about, of those that have its key: a thread of a session has the key of the session.
pub fn subject_of(event_type: &str, key: &str, body: &[u8]) -> String {
    let thread = || serde_json::from_str::<Subject>(&data_of(&text(body), "webhook")).ok()?.session_thread_id;
    let thread = if event_type.starts_with("session.thread_") { thread() } else { None };
    thread.unwrap_or_else(|| key.to_owned())
}

/// The same object with each identifier that is a number as text; `None` if no identifier is a number.
fn with_text_identifiers(data: &str) -> Option<String> {
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(data).ok()?;
    let mut is_other = false;
    for name in ["id", "batch_id", "session_thread_id", "vault_id"] {
        if let Some(value) = members.get_mut(name)
            && value.get().starts_with(|first: char| first == '-' || first.is_ascii_digit())
        {
            *value = serde_json::value::to_raw_value(value.get()).ok()?;
            is_other = true;
        }
    }
    is_other.then(|| serde_json::to_string(&members).ok())?
}

/// The identifiers in an event's `data`, read as the key of the event is: a number is an identifier too, of a member
/// given twice the last one counts, and any other value counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The object that the event happened to.
    pub id: Option<String>,
    /// The batch that the event happened to, where the sender does not call it `id`.
    pub batch_id: Option<String>,
    /// The thread of the session.
    pub session_thread_id: Option<String>,
    /// The vault of the credential.
    pub vault_id: Option<String>,
}

impl<'de> Deserialize<'de> for Subject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Box::<RawValue>::deserialize(deserializer)?;
        let members = members_or_none(Some(&value));
        Ok(Self {
            id: members.id.and_then(identifier),
            batch_id: members.batch_id.and_then(identifier),
            session_thread_id: members.session_thread_id.and_then(identifier),
            vault_id: members.vault_id.and_then(identifier),
        })
    }
}
