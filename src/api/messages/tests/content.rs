//! What each event does to the message.

use super::super::Usage;
use super::*;

#[test]
fn the_example_of_the_documents_is_put_together() {
    let message = put_together(EXAMPLE).unwrap();

    assert_eq!(message.json, EXAMPLE_MESSAGE);
    assert!(message.content().starts_with(r#"[{"type":"text""#) && message.content().ends_with("}}]"));
    assert_eq!((message.text.as_deref(), message.id.as_deref()), (Some("Hé"), Some("msg_demo")));
    assert_eq!(message.model.as_deref(), Some("claude-opus-5-5"));
    assert_eq!(message.stop_reason.as_deref(), Some("tool_use"));
    let usage = Usage { input_tokens: Some(12), output_tokens: Some(31), ..Usage::default() };
    assert_eq!((message.usage, message.passed_over, message.broken_inputs), (usage, 0, 0));
}

#[test]
fn deltas_grow_the_member_that_they_are_about() {
    let cases = [
        (
            r#"{"type":"text","text":"a","citations":null}"#,
            &[
                r#"{"type":"text_delta","text":"b\n"}"#,
                r#"{"type":"citations_delta","citation":{"type":"char_location","x":1.0}}"#,
                r#"{"type":"citations_delta","citation":{"type":"new"}}"#,
                r#"{"type":"text_delta","text":""}"#,
            ][..],
            r#"[{"type":"text","text":"ab\n","citations":[{"type":"char_location","x":1.0},{"type":"new"}]}]"#,
        ),
        (
            r#"{"type":"text","text":"","citations":[ {"a":1} ]}"#,
            &[r#"{"type":"citations_delta","citation":{"b":2}}"#],
            r#"[{"type":"text","text":"","citations":[ {"a":1},{"b":2}]}]"#,
        ),
        (
            r#"{"type":"thinking","thinking":"","signature":""}"#,
            &[
                r#"{"type":"thinking_delta","thinking":"W\u00e9"}"#,
                r#"{"type":"thinking_delta","thinking":" é\/"}"#,
                r#"{"type":"signature_delta","signature":"old"}"#,
                r#"{"type":"signature_delta","signature":"EqQB=="}"#,
            ],
            r#"[{"type":"thinking","thinking":"W\u00e9 é\/","signature":"EqQB=="}]"#,
        ),
        (
            r#"{"type":"redacted_thinking","data":"Em\u0042"}"#,
            &[],
            r#"[{"type":"redacted_thinking","data":"Em\u0042"}]"#,
        ),
        (
            r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{}}"#,
            &[
                r#"{"type":"input_json_delta","partial_json":""}"#,
                r#"{"type":"input_json_delta","partial_json":"{\"n\":1.10e2,\"s\":\"\\ud8"}"#,
                r#"{"type":"input_json_delta","partial_json":"3d\\u0000\"}"}"#,
            ],
            r#"[{"type":"server_tool_use","id":"s","name":"web_search","input":{"n":1.10e2,"s":"\ud83d\u0000"}}]"#,
        ),
        (
            r#"{"type":"tool_use","input":{"kept":[ 1 ]}}"#,
            &[r#"{"type":"input_json_delta","partial_json":""}"#],
            r#"[{"type":"tool_use","input":{"kept":[ 1 ]}}]"#,
        ),
        (
            r#"{"type":"compaction","content":null}"#,
            &[r#"{"type":"compaction_delta","content":"c","encrypted_content":"e"}"#],
            r#"[{"type":"compaction","content":"c","encrypted_content":"e"}]"#,
        ),
        (
            r#"{"type":"of_tomorrow","n":1e999,"text":"\ud800"}"#,
            &[r#"{"type":"text_delta","text":"\udc00"}"#],
            r#"[{"type":"of_tomorrow","n":1e999,"text":"\ud800\udc00"}]"#,
        ),
    ];
    for (block, deltas, expected) in cases {
        assert_eq!(content(block, deltas), expected);
    }
}

#[test]
fn an_input_that_is_no_json_is_kept_as_the_text_that_it_is() {
    let block = r#"{"type":"tool_use","id":"t","input":{}}"#;
    for (piece, is_whole) in [
        (r#"{\"q\": \"\u00e9"#, false),
        ("NaN", false),
        (r"\ud83d", false),
        (r#"{}{}"#, false),
        (" 7 ", true),
    ] {
        let delta = format!(r#"{{"type":"input_json_delta","partial_json":"{piece}"}}"#);
        let message = put_together(with_block(block, &[&delta])).unwrap();

        let input = if is_whole { "7".to_owned() } else { format!("\"{piece}\"") };
        assert_eq!(message.content(), format!(r#"[{{"type":"tool_use","id":"t","input":{input}}}]"#));
        assert_eq!(message.broken_inputs, u64::from(!is_whole));
    }
}

#[test]
fn what_is_not_known_is_passed_over_and_counted() {
    let mut events = EXAMPLE.map(str::to_owned).to_vec();
    events.insert(0, r#"{"type":"of_tomorrow","deep":[[[]]]}"#.to_owned());
    events.insert(3, r#"{"type":"content_block_delta","index":0,"delta":{"type":"of_tomorrow"}}"#.to_owned());
    events.insert(4, "no JSON at all".to_owned());
    events.insert(5, r#"{"type":"ping"}"#.to_owned());

    let message = put_together(events).unwrap();

    assert_eq!((message.json.as_str(), message.passed_over), (EXAMPLE_MESSAGE, 3));
}

#[test]
fn an_event_without_a_name_is_known_by_its_data_and_one_without_a_type_by_its_name() {
    let unnamed: String = EXAMPLE.iter().map(|data| format!("data: {data}\n\n")).collect();
    assert_eq!(read([Bytes::from(unnamed)]).1.unwrap().json, EXAMPLE_MESSAGE);

    let untyped = stream(EXAMPLE).replace(r#"{"type":"content_block_stop","#, "{");
    assert_eq!(read([Bytes::from(untyped)]).1.unwrap().json, EXAMPLE_MESSAGE);
}

#[test]
fn blocks_stand_in_the_order_of_their_index() {
    let block = |index: u64| {
        format!(r#"{{"type":"content_block_start","index":{index},"content_block":{{"n":{index}}}}}"#)
    };
    let events = [EXAMPLE[0].to_owned(), block(9), block(0), block(3), EXAMPLE[9].to_owned()];

    assert_eq!(put_together(events).unwrap().content(), r#"[{"n":0},{"n":3},{"n":9}]"#);
}

#[test]
fn the_last_word_on_usage_and_end_counts_and_what_does_not_apply_stays() {
    let start = r#"{"type":"message_start","message":{"id":"m","new":{ "x":[1.0] },"content":[],"container":{"id":"c"},"stop_reason":null,"usage":{"input_tokens":5,"cache_read_input_tokens":7,"service_tier":"standard","output_tokens":1}}}"#;
    let events = [
        start,
        r#"{"type":"message_delta","delta":{"stop_reason":"pause_turn","stop_sequence":"x"},"usage":{"output_tokens":2,"input_tokens":null}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null,"container":null,"added":1}}"#,
        r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":9,"input_tokens":5000,"server_tool_use":{"web_search_requests":2}},"context_management":{"a":1}}"#,
        r#"{"type":"message_stop"}"#,
    ];

    let message = put_together(events).unwrap();

    assert_eq!(
        message.json,
        concat!(
            r#"{"id":"m","new":{ "x":[1.0] },"content":[],"container":{"id":"c"},"stop_reason":"end_turn","#,
            r#""usage":{"input_tokens":5000,"cache_read_input_tokens":7,"service_tier":"standard","output_tokens":9,"#,
            r#""server_tool_use":{"web_search_requests":2}},"stop_sequence":null,"added":1,"context_management":{"a":1}}"#,
        )
    );
    let tokens = message.usage;
    assert_eq!((tokens.input_tokens, tokens.output_tokens), (Some(5000), Some(9)));
    assert_eq!((tokens.cache_read_input_tokens, tokens.cache_creation_input_tokens), (Some(7), None));
    assert_eq!(message.text, None);
}

#[test]
fn the_model_that_takes_over_is_the_model() {
    let events = with_block(r#"{"type":"fallback","to":{"model":"claude-b"}}"#, &[]);

    assert_eq!(put_together(events).unwrap().model.as_deref(), Some("claude-b"));
}

#[test]
fn the_columns_have_a_replacement_for_what_postgres_can_not_hold() {
    let deltas =
        [r#"{"type":"text_delta","text":"a\u0000\ud83d"}"#, r#"{"type":"text_delta","text":"\ude00\ud800"}"#];

    let message = put_together(with_block(r#"{"type":"text","text":""}"#, &deltas)).unwrap();

    assert_eq!(message.content(), r#"[{"type":"text","text":"a\u0000\ud83d\ude00\ud800"}]"#);
    assert_eq!(message.text.as_deref(), Some("a\u{fffd}\u{1f600}\u{fffd}"));
}

#[test]
fn without_its_last_event_a_message_is_not_complete_and_tells_what_it_cost() {
    for events in 0..EXAMPLE.len() {
        let Err(Failed::Ended(so_far)) = put_together(&EXAMPLE[..events]) else { panic!("{events}") };
        let output_tokens = match events {
            0 => None,
            1..=8 => Some(1),
            _ => Some(31),
        };
        assert_eq!(so_far.usage.output_tokens, output_tokens, "{events}");
        assert_eq!(so_far.id.as_deref(), (events > 0).then_some("msg_demo"));
        assert_eq!(so_far.model.as_deref(), (events > 0).then_some("claude-opus-5-5"));
    }
}

#[test]
fn what_follows_a_complete_message_is_not_read() {
    let events = EXAMPLE.iter().chain(&[r#"{"type":"error","error":{"type":"api_error"}}"#]);

    assert_eq!(put_together(events).unwrap().json, EXAMPLE_MESSAGE);
}

#[test]
fn an_error_of_the_api_ends_the_stream_wherever_it_comes() {
    let error = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
    for at in 0..EXAMPLE.len() {
        let events = EXAMPLE[..at].iter().chain([&error]);
        let Err(Failed::Stopped(stop, _)) = put_together(events) else { panic!("{at}") };
        assert_eq!(stop, Stop::Error(error.to_owned()));
    }
}

#[test]
fn a_stream_that_is_not_as_described_says_what_is_wrong() {
    let [start, block, delta, ..] = EXAMPLE;
    let cases: [(&[&str], &str); 11] = [
        (&[block], "an event comes before the message begins"),
        (&[EXAMPLE[8]], "an event comes before the message begins"),
        (&[EXAMPLE[9]], "an event comes before the message begins"),
        (&[start, start], "the message begins twice"),
        (&[r#"{"type":"message_start","message":7}"#], "the first event has no message"),
        (&[start, delta], "an event is about a content block that has not begun"),
        (&[start, EXAMPLE[3]], "an event is about a content block that has not begun"),
        (&[start, block, block], "two content blocks have the same index"),
        (&[start, r#"{"type":"content_block_stop"}"#], "an event names no content block"),
        (
            &[start, block, r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta"}}"#],
            "a delta lacks what its type promises",
        ),
        (&[start, r#"{"type":"message_delta"}"#], "a delta is no object"),
    ];
    for (events, flaw) in cases {
        let Err(Failed::Stopped(stop, _)) = put_together(events) else { panic!("{events:?}") };
        assert_eq!(stop, Stop::Flaw(flaw), "{events:?}");
    }
    let (_, broken) = read(["event: message_start\ndata: {\"type\":\n\n".into()]);
    assert_eq!(broken, Err(Failed::Stopped(Stop::Flaw("an event is no JSON object"), Box::default())));
}
