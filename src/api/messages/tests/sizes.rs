//! What large streams come to, and what is too large.

use std::num::NonZeroUsize;

use super::super::assembly::Assembly;
use super::*;

#[test]
fn a_text_of_64_mib_arrives_whole() {
    let piece = "x".repeat(64 * 1024);
    let delta = format!(
        r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{piece}"}}}}"#
    );
    let delta = Bytes::from(stream([delta]));
    let events = with_block(r#"{"type":"text","text":""}"#, &[]);
    let (start, end) = (Bytes::from(stream(&events[..2])), Bytes::from(stream(&events[2..])));

    let chunks = [start].into_iter().chain(std::iter::repeat_n(delta, 1024)).chain([end]);
    let message = read(chunks).1.unwrap();

    assert_eq!(message.text.as_ref().unwrap().len(), 64 << 20);
    assert_eq!(message.content().len(), (64 << 20) + r#"[{"type":"text","text":""}]"#.len());
}

#[test]
fn ten_thousand_pieces_of_a_tools_input_are_one_input() {
    let number = |n: u32| format!(r#"{{"type":"input_json_delta","partial_json":"{n},"}}"#);
    let pieces: Vec<String> = [r#"{"type":"input_json_delta","partial_json":"["}"#.to_owned()]
        .into_iter()
        .chain((0..10_000).map(number))
        .chain([r#"{"type":"input_json_delta","partial_json":"7]"}"#.to_owned()])
        .collect();
    let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();

    let content = content(r#"{"type":"tool_use","input":{}}"#, &pieces);

    let numbers: String = (0..10_000).map(|n| format!("{n},")).collect();
    assert_eq!(content, format!(r#"[{{"type":"tool_use","input":[{numbers}7]}}]"#));
}

#[test]
fn an_event_that_is_too_long_is_an_error_and_takes_no_more_memory() {
    let mut assembly = Assembly::with_event_bytes_max(NonZeroUsize::new(1000).unwrap());
    assembly.push(Bytes::from("event: x\ndata: "));
    assert_eq!(assembly.step(), Ok(None));
    let mut pushed = 0;
    let stop = loop {
        assembly.push(Bytes::from("x".repeat(100)));
        pushed += 100;
        match assembly.step() {
            Ok(step) => assert_eq!(step, None),
            Err(stop) => break stop,
        }
    };

    assert_eq!((stop, pushed), (Stop::Flaw("an event is longer than 64 MiB"), 1100));
}
