//! Server-sent events as bytes, and the ids by which a reader goes on.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

/// Up to where somebody has read a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) attempt: i32,
    /// The number of an event, from 1; 0 where the attempt begins. `None`: the end of the message was told.
    pub(super) seq: Option<i64>,
}

impl Place {
    /// Reads an id that this module wrote.
    pub(super) fn read(id: &str) -> Option<Self> {
        let (attempt, seq) = id.trim().split_once(':')?;
        let seq = if seq == "end" { None } else { Some(seq.parse().ok().filter(|seq| *seq >= 0)?) };
        Some(Self { attempt: attempt.parse().ok()?, seq })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seq {
            Some(seq) => write!(formatter, "{}:{seq}", self.attempt),
            None => write!(formatter, "{}:end", self.attempt),
        }
    }
}

/// Something for a connection on which nothing else goes out, so that neither end takes it for dead.
pub(super) const HEARTBEAT: &str = ": nothing new\n\n";

/// Appends an event.
pub(super) fn push(frames: &mut String, place: Place, name: &str, data: &str) {
    // Line ends would begin another field.
    let name = name.replace(char::is_control, " ");
    let _infallible = write!(frames, "id: {place}\nevent: {name}\n");
    for line in data.split('\n') {
        // Between the tokens of JSON a carriage return means as much as a blank.
        frames.push_str("data: ");
        frames.push_str(&line.replace('\r', " "));
        frames.push('\n');
    }
    frames.push('\n');
}

/// An event of the API, as it is kept in a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) data: Cow<'a, str>,
}

/// The events of a row.
///
/// # Errors
/// It is no list.
pub(super) fn kept(events: &str) -> Result<Vec<Kept<'_>>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow, rename = "type")]
        name: Cow<'a, str>,
    }
    let list: Vec<&RawValue> = serde_json::from_str(events)?;
    let read = |event: &'_ RawValue| -> (String, Option<String>) {
        // What was no JSON that Postgres surely holds is kept as a string.
        let own = serde_json::from_str::<String>(event.get()).ok();
        let data = own.as_deref().unwrap_or(event.get());
        let name = serde_json::from_str::<Named<'_>>(data).map(|named| named.name.into_owned());
        (name.unwrap_or_else(|_| "message".to_owned()), own)
    };
    let kept = list.into_iter().map(|event| {
        let (name, own) = read(event);
        Kept { name: name.into(), data: own.map_or(Cow::Borrowed(event.get()), Cow::Owned) }
    });
    Ok(kept.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_to_go_on() {
        for (id, place) in [
            ("2:17", Some(Place { attempt: 2, seq: Some(17) })),
            ("1:0", Some(Place { attempt: 1, seq: Some(0) })),
            ("3:end", Some(Place { attempt: 3, seq: None })),
            ("", None),
            ("7", None),
            ("1:-2", None),
            ("x:1", None),
        ] {
            assert_eq!(Place::read(id), place, "{id}");
            if let Some(place) = place {
                assert_eq!(place.to_string(), id);
            }
        }
    }

    #[test]
    fn no_event_can_begin_a_field_of_its_own() {
        let mut frames = String::new();
        push(&mut frames, Place { attempt: 1, seq: Some(2) }, "a\nid: 9:9", "{\"a\":\r\n1}\nretry: 5");
        assert_eq!(frames, "id: 1:2\nevent: a id: 9:9\ndata: {\"a\": \ndata: 1}\ndata: retry: 5\n\n");
    }

    #[test]
    fn the_events_of_a_row_come_out_as_they_went_in() {
        let row = r#"[{"type": "ping",  "a":1.0e0},"{\"type\":\"deep\",\"a\":[",{"a":1}]"#;
        let events = kept(row).unwrap();
        let expected = [
            ("ping", r#"{"type": "ping",  "a":1.0e0}"#),
            ("message", r#"{"type":"deep","a":["#),
            ("message", r#"{"a":1}"#),
        ];
        assert_eq!(events.iter().map(|event| (&*event.name, &*event.data)).collect::<Vec<_>>(), expected);
        assert!(kept("{}").is_err());
    }
}
