//! What becomes of a body: its identifier, type, key and date, and what is kept of it.

use chrono::{DateTime, Utc};

use super::super::*;
use super::data::subject_of;
use super::{SENT_AT, read_text};

#[test]
fn a_webhook_of_the_api_is_read_whole() {
    let body = r#"{"type":"event","id":"whe_1","created_at":"2026-11-01T12:00:24.100435Z",
        "data":{"type":"session.thread_idled","id":"sesn_1","session_thread_id":"sthr_1",
                "organization_id":"org_1","workspace_id":"wrkspc_1"}}"#;

    let event = read_text(body);

    assert_eq!(
        event,
        NewEvent {
            sender: ANTHROPIC.to_owned(),
            account: Some(ANTHROPIC.to_owned()),
            event_id: "whe_1".into(),
            event_type: "session.thread_idled".into(),
            key: Some("sesn_1".into()),
            workspace_id: Some("wrkspc_1".into()),
            created_at: "2026-11-01T12:00:24.100435Z".parse().unwrap(),
            body: Body::Json(body.into()),
            traceparent: None,
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
        (r#""9999-12-30T12:00:00Z""#, "9999-12-30T12:00:00Z"),
        (r#""0001-01-02T12:00:00Z""#, "0001-01-02T12:00:00Z"),
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
        // Years that clients cannot read, in some time zone.
        (r#""9999-12-30T12:00:01Z""#, "9999-12-30T12:00:00Z"),
        (r#""9999-12-31T23:59:59Z""#, "9999-12-30T12:00:00Z"),
        (r#""0001-01-01T00:00:00Z""#, "0001-01-02T12:00:00Z"),
        (r#""0001-01-02T11:59:59.999Z""#, "0001-01-02T12:00:00Z"),
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
