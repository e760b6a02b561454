//! Bodies as the API sends them, as others might, and as nobody should.

use chrono::{DateTime, Utc};
use proptest::prelude::*;

use super::*;
use crate::event::Event;

const SENT_AT: i64 = 1_793_534_400;

fn read_text(body: &str) -> NewEvent {
    read(body.as_bytes(), Some("whe_header"), SENT_AT).unwrap()
}

#[test]
fn a_webhook_of_the_api_is_read_whole() {
    let body = r#"{"type":"event","id":"whe_1","created_at":"2026-11-01T12:00:24.100435Z",
        "data":{"type":"session.thread_idled","id":"sesn_1","session_thread_id":"sthr_1",
                "organization_id":"org_1","workspace_id":"wrkspc_1"}}"#;

    let event = read_text(body);

    assert_eq!(
        event,
        NewEvent {
            event_id: "whe_1".into(),
            event_type: "session.thread_idled".into(),
            key: Some("sesn_1".into()),
            workspace_id: Some("wrkspc_1".into()),
            created_at: "2026-11-01T12:00:24.100435Z".parse().unwrap(),
            body: Body::Json(body.into()),
        }
    );
}

#[test]
fn the_type_is_that_of_the_data_unless_the_top_level_has_one_of_its_own() {
    for (body, expected) in [
        (r#"{"type":"event","data":{"type":"vault.created"}}"#, "vault.created"),
        (r#"{"type":"batch.completed","data":{"batch_id":"msgbatch_1"}}"#, "batch.completed"),
        (r#"{"type":"batch.completed","data":{"type":"message_batch"}}"#, "batch.completed"),
        (r#"{"type":"event","data":{}}"#, "event"),
        (r#"{"type":"event"}"#, "event"),
        (r#"{"type":"event","data":{"type":null}}"#, "event"),
        (r#"{"data":{"type":"vault.created"}}"#, "vault.created"),
        (r#"{"type":null,"data":{"type":"vault.created"}}"#, "vault.created"),
        (r#"{"type":"","data":{"type":"vault.created"}}"#, "vault.created"),
        (r#"{"type":{"a":1},"data":{"type":"vault.created"}}"#, "vault.created"),
        (r#"{"type":"a","type":"event","data":{"type":"b"},"data":{"type":"c","type":"d"}}"#, "d"),
        (r#"{"t\u0079pe":"escaped"}"#, "escaped"),
        (r#"{"type":"a\u0000b"}"#, "a\u{fffd}b"),
        (r#"{"type":17}"#, "17"),
    ] {
        assert_eq!(read_text(body).event_type, expected, "{body}");
    }
}

#[test]
fn only_a_body_without_object_or_type_is_unreadable_and_what_is_said_of_it_repeats_nothing() {
    let not_json = |column| Unreadable::NotJson { line: 1, column };
    for (body, expected) in [
        ("", Unreadable::Empty),
        (" \n", Unreadable::Empty),
        ("\u{feff}", Unreadable::Empty),
        ("\0\0", Unreadable::Empty),
        ("canary", not_json(1)),
        ("{", not_json(1)),
        (r#"{"type":"canary""#, not_json(16)),
        (r#"{"type":"canary",}"#, not_json(18)),
        (r#"{"type":"canary","x":NaN}"#, not_json(22)),
        (r#"{"type":"canary"}{}"#, not_json(18)),
        (r#"{"type":"canary"} canary"#, not_json(19)),
        (r#"{'type':'canary'}"#, not_json(2)),
        ("null", Unreadable::NotAnObject),
        ("1", Unreadable::NotAnObject),
        ("\"canary\"", Unreadable::NotAnObject),
        ("[]", Unreadable::NotAnObject),
        (r#"[{"type":"canary"}]"#, Unreadable::NotAnObject),
        ("{}", Unreadable::NoType),
        (r#"{"id":"canary"}"#, Unreadable::NoType),
        (r#"{"type":[]}"#, Unreadable::NoType),
        (r#"{"data":"canary"}"#, Unreadable::NoType),
        (r#"{"data":{"type":""}}"#, Unreadable::NoType),
    ] {
        assert_eq!(read(body.as_bytes(), Some("whe_1"), SENT_AT), Err(expected), "{body}");
        assert_eq!(fault(body.as_bytes()), Some(expected), "{body}");
        assert!(!format!("{expected} {expected:?}").contains("canary"), "{expected}");
    }
}

#[test]
fn a_body_that_is_unreadable_is_kept_exactly_under_the_identifier_of_its_delivery() {
    for (body, json) in [
        (&b"\x1f\x8b\x08gzip"[..], false),
        (b"", false),
        (b"{\"type\":\"a\",}", false),
        (b"\xff\xfe{\0}\0", false),
        (b" [1]", true),
        (b"{}", true),
    ] {
        let kept = unreadable(body, Some("whe_1"), SENT_AT);
        assert_eq!((kept.event_id.as_str(), kept.event_type.as_str()), ("whe_1", UNREADABLE), "{body:?}");
        assert_eq!((kept.key, kept.created_at.timestamp()), (None, SENT_AT), "{body:?}");
        assert_eq!((kept.body.as_bytes(), kept.body.as_json().is_some()), (body, json), "{body:?}");
        // The older scheme names no delivery, and some identifiers are none that a column can hold.
        for webhook_id in [None, Some(""), Some("a\u{fffd}")] {
            assert_eq!(unreadable(body, webhook_id, SENT_AT).event_id, hash(body), "{body:?}");
        }
    }
}

#[test]
fn a_byte_order_mark_before_a_body_and_filler_behind_it_are_passed_over_and_kept() {
    let plain = r#"{"type":"event","id":"whe_1","data":{"type":"vault.created","id":"vlt_1"}}"#;
    for odd in [
        format!("\u{feff}{plain}"),
        format!("\u{feff} {plain}\r\n"),
        format!("{plain}\0"),
        format!("{plain}\n\0\0 \0"),
    ] {
        let event = read_text(&odd);
        assert_eq!(
            (event.event_id.as_str(), event.event_type.as_str()),
            ("whe_1", "vault.created"),
            "{odd:?}"
        );
        assert_eq!(event.body.as_bytes(), odd.as_bytes(), "{odd:?}");
        assert_eq!(subject_of(&odd).id.as_deref(), Some("vlt_1"), "{odd:?}");
    }
}

#[test]
fn the_identifier_is_that_of_the_body_where_it_can_be_kept_exactly() {
    let long = "x".repeat(TEXT_BYTES_MAX + 1);
    let just_fits = "x".repeat(TEXT_BYTES_MAX);
    for (id, with_header, without) in [
        (r#""whe_1""#, "whe_1".to_owned(), "whe_1".to_owned()),
        ("12345678901234567890123", "12345678901234567890123".into(), "12345678901234567890123".into()),
        ("1e400", "1e400".into(), "1e400".into()),
        (&format!("{just_fits:?}"), just_fits.clone(), just_fits.clone()),
        (&format!("{long:?}"), hash(long.as_bytes()), hash(long.as_bytes())),
        (r#""a\u0000b""#, "whe_header".into(), hash(br#""a\u0000b""#)),
        (r#""\ud800""#, "whe_header".into(), hash(br#""\ud800""#)),
        (r#""\ud801""#, "whe_header".into(), hash(br#""\ud801""#)),
    ] {
        let body = format!(r#"{{"type":"a","id":{id}}}"#);
        assert_eq!(read_text(&body).event_id, with_header, "{id}");
        assert_eq!(read(body.as_bytes(), None, SENT_AT).unwrap().event_id, without, "{id}");
    }
    for id in ["null", "true", "{}", "[[]]", r#""""#] {
        let body = format!(r#"{{"type":"a","id":{id}}}"#);
        assert_eq!(read_text(&body).event_id, "whe_header", "{id}");
    }
    let without = r#"{"type":"a"}"#;
    assert_eq!(read_text(without).event_id, "whe_header");
    assert_eq!(read(without.as_bytes(), None, SENT_AT).unwrap().event_id, hash(without.as_bytes()));
    assert_eq!(read(without.as_bytes(), Some(&long), SENT_AT).unwrap().event_id, hash(long.as_bytes()));
}

#[test]
fn identifiers_that_differ_in_invalid_bytes_stay_different() {
    let one = read(b"{\"type\":\"a\",\"id\":\"\xff\"}", None, SENT_AT).unwrap();
    let other = read(b"{\"type\":\"a\",\"id\":\"\xfe\"}", None, SENT_AT).unwrap();

    assert_ne!(one.event_id, other.event_id);
}

#[test]
fn the_key_is_what_the_event_is_about() {
    for (data, expected) in [
        (r#"{"id":"sesn_1"}"#, Some("sesn_1".to_owned())),
        (r#"{"batch_id":"msgbatch_1"}"#, Some("msgbatch_1".into())),
        (r#"{"batch_id":"msgbatch_1","id":"sesn_1"}"#, Some("sesn_1".into())),
        (r#"{"id":null,"batch_id":"msgbatch_1"}"#, Some("msgbatch_1".into())),
        (r#"{"id":7}"#, Some("7".into())),
        (r#"{"id":"a\u0000\udc00"}"#, Some("a\u{fffd}\u{fffd}\u{fffd}\u{fffd}".into())),
        (r#"{"id":""}"#, None),
        (r#"{"id":{}}"#, None),
        ("{}", None),
        ("[]", None),
        ("\"sesn_1\"", None),
        (&format!(r#"{{"id":"{}"}}"#, "k".repeat(9000)), Some(hash("k".repeat(9000).as_bytes()))),
    ] {
        let body = format!(r#"{{"type":"event","id":"whe_1","data":{data}}}"#);
        assert_eq!(read_text(&body).key, expected, "{data}");
    }
}

#[test]
fn a_date_is_read_however_it_is_written_and_lies_in_years_that_every_client_knows() {
    for (date, expected) in [
        (r#""2026-11-01T12:00:00Z""#, "2026-11-01T12:00:00Z"),
        (r#""2026-11-01T12:00:00.123456789+02:00""#, "2026-11-01T10:00:00.123456789Z"),
        (r#""1970-01-01T00:00:00Z""#, "1970-01-01T00:00:00Z"),
        (r#""9999-12-31T23:59:59Z""#, "9999-12-31T23:59:59Z"),
        (r#""0001-01-01T00:00:00Z""#, "0001-01-01T00:00:00Z"),
        // As other languages print it.
        (r#""2026-11-01T10:00:00""#, "2026-11-01T10:00:00Z"),
        (r#""2026-11-01 10:00:00.5""#, "2026-11-01T10:00:00.5Z"),
        (r#""2026-11-01T10:00:00+0000""#, "2026-11-01T10:00:00Z"),
        (r#""2026-11-01T10:00:00.25-0130""#, "2026-11-01T11:30:00.25Z"),
        (r#""2026-11-01 10:00:00+00""#, "2026-11-01T10:00:00Z"),
        (r#"" 2026-11-01t10:00:00z ""#, "2026-11-01T10:00:00Z"),
        ("1793534399", "2026-11-01T11:59:59Z"),
        (r#""1793534399""#, "2026-11-01T11:59:59Z"),
        ("1793534399.25", "2026-11-01T11:59:59.25Z"),
        ("1.793534399e9", "2026-11-01T11:59:59Z"),
        ("1793534399125", "2026-11-01T11:59:59.125Z"),
        (r#""1793534399125""#, "2026-11-01T11:59:59.125Z"),
        ("100000000000", "5138-11-16T09:46:40Z"),
        ("100000000001", "1973-03-03T09:46:40.001Z"),
        ("-1", "1969-12-31T23:59:59Z"),
        ("0", "1970-01-01T00:00:00Z"),
        // Years that clients cannot read.
        (r#""0000-12-31T23:59:59Z""#, "0001-01-02T12:00:00Z"),
        (r#""-0044-03-15T00:00:00Z""#, "0001-01-02T12:00:00Z"),
        (r#""+10000-01-01T00:00:00Z""#, "9999-12-30T12:00:00Z"),
        (r#""+275760-09-13T00:00:00Z""#, "9999-12-30T12:00:00Z"),
        (r#""10000-01-01T00:00:00Z""#, "9999-12-30T12:00:00Z"),
        (r#""290000-01-01""#, "9999-12-30T12:00:00Z"),
        (r#""-290000-01-01 00:00:00+00""#, "0001-01-02T12:00:00Z"),
        (r#""9999-12-31T23:59:59-01:00""#, "9999-12-30T12:00:00Z"),
        ("1e400", "9999-12-30T12:00:00Z"),
        ("-1e400", "0001-01-02T12:00:00Z"),
        ("253402300800000", "9999-12-30T12:00:00Z"),
        ("-99999999999999", "0001-01-02T12:00:00Z"),
        // What cannot be read.
        (r#""2026-11-01T12:00:00+25:00""#, "2026-11-01T12:00:00Z"),
        (r#""2026-13-01T12:00:00Z""#, "2026-11-01T12:00:00Z"),
        (r#""2026""#, "2026-11-01T12:00:00Z"),
        (r#""12345-99-01T00:00:00Z""#, "2026-11-01T12:00:00Z"),
        (r#""12345-é""#, "2026-11-01T12:00:00Z"),
        (r#""""#, "2026-11-01T12:00:00Z"),
        (r#""yesterday\u0000""#, "2026-11-01T12:00:00Z"),
        ("null", "2026-11-01T12:00:00Z"),
        ("[]", "2026-11-01T12:00:00Z"),
    ] {
        let body = format!(r#"{{"type":"a","created_at":{date}}}"#);
        let expected: DateTime<Utc> = expected.parse().unwrap();
        assert_eq!(read_text(&body).created_at, expected, "{date}");
    }
    for timestamp in [i64::MIN, -1, i64::MAX] {
        let event = read(br#"{"type":"a"}"#, None, timestamp).unwrap();
        assert_eq!(event.created_at, DateTime::UNIX_EPOCH, "{timestamp}");
    }
}

#[test]
fn the_exact_bytes_are_kept_as_json_only_where_postgres_takes_them() {
    let nested = |depth: usize| {
        // The object itself is one level.
        format!(r#"{{"type":"a","x":{}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1)).into_bytes()
    };
    let table: [(&str, Vec<u8>, bool); 16] = [
        ("plain", br#"{"type":"a"}"#.to_vec(), true),
        ("spaces around", b" \r\n{\"type\" : \"a\"}\t".to_vec(), true),
        ("escaped NUL", br#"{"type":"a","x":"\u0000","\u0000":1}"#.to_vec(), true),
        ("lone surrogates", br#"{"type":"a","x":"\ud800","\udc00\ud800":["\udfff"]}"#.to_vec(), true),
        ("duplicates", br#"{"type":"a","x":1,"x":2}"#.to_vec(), true),
        ("numbers", br#"{"type":"a","x":[1e400,-0,1.10,123456789012345678901234567890]}"#.to_vec(), true),
        ("brackets in strings", format!(r#"{{"type":"a","x":"\"{}"}}"#, "[".repeat(900)).into_bytes(), true),
        ("deep enough", nested(DEPTH_MAX), true),
        ("too deep", nested(DEPTH_MAX + 1), false),
        ("20,000 deep", nested(20_000), false),
        ("1,000,000 deep", nested(1_000_000), false),
        (
            "deep objects",
            format!("{{\"type\":\"a\",\"x\":{}1{}}}", "{\"a\":".repeat(600), "}".repeat(600)).into(),
            false,
        ),
        ("no UTF-8", b"{\"type\":\"a\",\"x\":\"\xff\xfe\"}".to_vec(), false),
        ("no UTF-8 in a name", b"{\"type\":\"a\",\"\xc3\":1}".to_vec(), false),
        ("surrogate as bytes", b"{\"type\":\"a\",\"x\":\"\xed\xa0\x80\"}".to_vec(), false),
        ("control character in a name", b"{\"type\":\"a\",\"\n\":1}".to_vec(), false),
    ];
    for (name, bytes, json) in table {
        let event = read(&bytes, Some("whe_1"), SENT_AT).unwrap();
        assert_eq!((event.event_type.as_str(), event.event_id.as_str()), ("a", "whe_1"), "{name}");
        assert_eq!(matches!(event.body, Body::Json(_)), json, "{name}");
        assert_eq!(event.body.as_bytes(), bytes, "{name}");
    }
}

#[test]
fn nesting_in_place_of_a_wanted_member_is_no_obstacle() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for member in ["id", "created_at", "data", "batch_id"] {
        let event = read_text(&format!(r#"{{"type":"a","{member}":{deep}}}"#));
        assert_eq!(event.event_id, "whe_header", "{member}");
    }
}

/// An event whose handler is given its data.
fn event(source: &str, body: Body) -> Event {
    Event {
        id: 1,
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
    event("webhook", super::body(body)).data().into_owned()
}

fn subject_of(body: &str) -> Subject {
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

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        "\\PC{0,8}|[\\x00-\\xff]{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::vec(("\\PC{0,3}", inner), 0..5)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn sound_json_is_mended_to_itself(json in any_json(), pretty in any::<bool>()) {
        let text = if pretty { format!("{json:#}") } else { json.to_string() };
        prop_assert_eq!(&mend::mended(&text, &[]), &text);
    }

    #[test]
    fn whatever_is_mended_reads_as_it_read_before(json in any_json(), other in any_json(), at in any::<prop::sample::Index>()) {
        // A member twice somewhere, or a cut: text of any kind comes out as text.
        let text = format!(r#"{{"x":{other},"a":{json},"x":{json},"a":{other}}}"#);
        let mended = mend::mended(&text, &["b"]);
        let expected = format!(r#"{{"x":{json},"a":{other}}}"#);
        prop_assert_eq!(&mended, &expected);
        let cut = at.index(text.len());
        if text.is_char_boundary(cut) {
            let _still_text = mend::mended(&text[..cut], &["x"]);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_are_kept(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(event) = read(&body, None, 0) {
            prop_assert_eq!(event.body.as_bytes(), &body[..]);
        }
    }

    #[test]
    fn whatever_stands_in_a_well_formed_envelope_is_stored(
        id in "\\PC{0,20}|[\\x00-\\xff]{0,20}",
        kind in "\\PC{1,20}|[\\x00-\\xff]{1,20}",
        webhook_id in proptest::option::of("\\PC{0,700}"),
        mutated in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let text = serde_json::json!({
            "type": "event", "id": id, "created_at": id, "data": {"type": kind, "id": id, "workspace_id": id},
        }).to_string();
        let event = read(text.as_bytes(), webhook_id.as_deref(), SENT_AT).unwrap();
        for kept in [Some(&event.event_id), Some(&event.event_type), event.key.as_ref(), event.workspace_id.as_ref()]
            .into_iter().flatten()
        {
            prop_assert!(!kept.is_empty() && !kept.contains('\0') && kept.len() <= TEXT_BYTES_MAX);
        }

        let mut bytes = text.into_bytes();
        let at = mutated.index(bytes.len());
        bytes[at] = byte;
        if let Ok(event) = read(&bytes, webhook_id.as_deref(), SENT_AT) {
            prop_assert_eq!(event.body.as_bytes(), &bytes[..]);
        }
    }
}
