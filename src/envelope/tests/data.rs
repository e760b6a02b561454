//! What a handler reads of an event.

use chrono::DateTime;

use super::super::*;
use super::read_text;
use crate::event::{ANTHROPIC, Event};

/// An event whose handler is given its data.
fn event(source: &str, body: Body) -> Event {
    Event {
        id: 1,
        sender: ANTHROPIC.to_owned(),
        account: Some(ANTHROPIC.to_owned()),
        event_id: "whe_1".into(),
        event_type: "session.created".into(),
        subscriber: String::new(),
        key: None,
        workspace_id: None,
        source: source.into(),
        created_at: DateTime::UNIX_EPOCH,
        received_at: DateTime::UNIX_EPOCH,
        body,
        attempt: 1,
    }
}

fn data_of(body: &[u8]) -> String {
    event("webhook", super::super::body(body)).data().into_owned()
}

pub(super) fn subject_of(body: &str) -> Subject {
    serde_json::from_str(&data_of(body.as_bytes())).unwrap()
}

#[test]
fn a_handler_reads_the_object_that_the_key_names_and_never_the_event_for_it() {
    let cases = [
        (r#""data":{"id":"sesn_1"},"data":{"id":"sesn_2"}"#, Some("sesn_2")),
        (r#""data":{"id":"sesn_1"},"data":null"#, None),
        (r#""data":null,"data":{"id":"sesn_2"}"#, Some("sesn_2")),
        (r#""d\u0061ta":{"id":"sesn_1"}"#, Some("sesn_1")),
        (r#""data":{"id":"sesn_1","id":"sesn_2"}"#, Some("sesn_2")),
        (r#""data":{"id":"sesn_1","\u0069d":"sesn_2"}"#, Some("sesn_2")),
        (r#""data":{"id":"sesn_1","id":null}"#, None),
        (r#""data":{"id":17}"#, Some("17")),
        (r#""data":{"id":1.10e400}"#, Some("1.10e400")),
        (r#""data":{"id":"a\u0000b"}"#, Some("a\u{fffd}b")),
        (r#""data":{"batch_id":7}"#, Some("7")),
        (r#""data":{"id":"","batch_id":"msgbatch_1"}"#, Some("msgbatch_1")),
        (r#""data":{"id":{},"batch_id":"msgbatch_1"}"#, Some("msgbatch_1")),
        (r#""data":{"id":true,"batch_id":"msgbatch_1"}"#, Some("msgbatch_1")),
        (r#""data":{"\ud800":1,"id":"sesn_1"}"#, Some("sesn_1")),
        (r#""data":{"x":"\udc00","id":"sesn_1","y":1e999}"#, Some("sesn_1")),
        (r#""\ud800":"\ud800","data":{"id":"sesn_1"}"#, Some("sesn_1")),
        (r#""data":null"#, None),
        (r#""data":null,"batch_id":"msgbatch_1""#, None),
        (r#""x":1"#, None),
        (r#""batch_id":"msgbatch_1""#, None),
        (r#""data":{}"#, None),
        (r#""data":[]"#, None),
        (r#""data":["sesn_1"]"#, None),
        (r#""data":"sesn_1""#, None),
        (r#""data":17"#, None),
        (r#""data":false"#, None),
    ];
    for (members, expected) in cases {
        for body in [
            format!(r#"{{"type":"session.created","id":"whe_1",{members}}}"#),
            format!(r#"{{"type":"session.created",{members},"id":"whe_1","id":"whe_2"}}"#),
        ] {
            assert_eq!(read_text(&body).key.as_deref(), expected, "{body}");
            let Subject { id, batch_id, .. } = subject_of(&body);
            assert_eq!(id.or(batch_id).as_deref(), expected, "{body}");
        }
    }
}

#[test]
fn what_a_handler_does_not_read_cannot_disturb_what_it_does_read() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Order {
        id: String,
        lines: Vec<Line>,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Line {
        count: u32,
    }
    let expected = Order { id: "o_2".into(), lines: vec![Line { count: 2 }, Line { count: 3 }] };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for odd in [
        String::new(),
        r#""\ud800":1,"#.into(),
        "\"bare\ncontrol\u{1}\":\"\u{2}\",".into(),
        r#""a":{"b":1,"b":2,"b":3},"a":[{"b":1,"b":2}],"#.into(),
        format!(r#""deep":{deep},"#),
        r#""quotes":"\\\"},{\"id\":\"no\"}\\","#.into(),
        r#""é":"\u00e9 \ud83d\udce6 \uDC00\ud83d","#.into(),
    ] {
        let data = format!(
            r#"{{"id":"o_1",{odd}"lines":[],"lines":[{{"count":1,{odd}"count":2}},{{"count":3}}] , "id" : "o_2"}}"#
        );
        let body = format!(r#"{{"type":"order.placed","id":"whe_1","data":{data}}}"#);
        let read: Order = serde_json::from_str(&data_of(body.as_bytes())).unwrap();
        assert_eq!(read, expected, "{odd:.80}");
        let enqueued = event("sql", Body::Json(data));
        assert_eq!(serde_json::from_str::<Order>(&enqueued.data()).unwrap(), expected, "{odd:.80}");
    }
}

#[test]
fn a_payload_has_its_identifiers_as_text_or_as_numbers_as_it_wants_them() {
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct AsText {
        id: String,
        count: u32,
    }
    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct AsNumber {
        id: u64,
        vault_id: Option<String>,
    }
    let of =
        |data: &str| event("webhook", Body::Json(format!(r#"{{"type":"a","id":"whe_1","data":{data}}}"#)));

    let text = |id: &str| AsText { id: id.into(), count: 2 };
    assert_eq!(of(r#"{"id":17,"count":2}"#).payload::<AsText>().unwrap(), text("17"));
    assert_eq!(of(r#"{"count":2, "id": 1.10e400 }"#).payload::<AsText>().unwrap(), text("1.10e400"));
    assert_eq!(of(r#"{"id":"x","id":-1,"count":2}"#).payload::<AsText>().unwrap(), text("-1"));
    assert_eq!(of(r#"{"id":17}"#).payload::<AsNumber>().unwrap(), AsNumber { id: 17, vault_id: None });
    assert!(of(r#"{"id":17,"vault_id":3}"#).payload::<AsNumber>().is_err(), "one of each is neither");
    let unfit = of(r#"{"id":17,"count":"two"}"#).payload::<AsText>().unwrap_err().to_string();
    assert!(unfit.contains("expected a string"), "the first reading says what does not fit: {unfit}");
}

#[test]
fn data_is_what_was_said_where_nothing_is_to_be_mended() {
    for (body, expected) in [
        (
            &br#"{"type":"a","data":{ "n":1.10e2, "e":"\u00e9\u0000\n", "x":[{}, [] , ""] }}"#[..],
            r#"{ "n":1.10e2, "e":"\u00e9\u0000\n", "x":[{}, [] , ""] }"#,
        ),
        (br#"{"type":"a","data":[1, 2]}"#, "[1, 2]"),
        (br#"{"type":"a","data":"text"}"#, r#""text""#),
        // The members that stand beside `data` elsewhere; the identifiers among them are none of an object.
        (br#"{"type":"order.placed","id":"whe_1","count":2}"#, r#"{"type":"order.placed","count":2}"#),
        (
            br#"{"id":"whe_1","type":"order.placed","order":{"id":"o_1"},"id":7}"#,
            r#"{"type":"order.placed","order":{"id":"o_1"}}"#,
        ),
        (br#"{"type":"a","data":null,"id":"whe_1"}"#, r#"{"type":"a","data":null}"#),
        (b"{\"type\":\"a\",\"data\":{\"x\":\"\xff\"}}", "{\"x\":\"\u{fffd}\"}"),
        (b"no JSON", "null"),
        (b"[]", "null"),
        (b"", "null"),
    ] {
        assert_eq!(data_of(body), expected, "{body:?}");
    }
    let enqueued = event("sql", Body::Json(r#"{"id":"o_1","data":{"id":"o_2"}}"#.into()));
    assert_eq!(
        enqueued.data(),
        r#"{"id":"o_1","data":{"id":"o_2"}}"#,
        "an application's body is no envelope"
    );
}
