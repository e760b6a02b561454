//! However the bytes of a stream are cut and written, its message is the same.

use proptest::prelude::*;

use super::*;

/// A stream with what bytes can be cut within: characters of several bytes, escapes, every kind of line.
fn sample() -> String {
    let mut events = EXAMPLE.map(str::to_owned).to_vec();
    events.insert(
        3,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"é😀\u0000"}}"#
            .to_owned(),
    );
    events.insert(4, r#"{"type":"ping"}"#.to_owned());
    stream(events)
}

fn expected() -> String {
    EXAMPLE_MESSAGE.replace("Hé", r"Héé😀\u0000")
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for ending in ["\n", "\r\n", "\r"] {
        let bytes = Bytes::from(sample().replace('\n', ending));
        for at in 0..=bytes.len() {
            let (steps, message) = read([bytes.slice(..at), bytes.slice(at..)]);
            assert_eq!(message.unwrap().json, expected(), "{ending:?} at {at}");
            assert_eq!(steps.len(), 12, "{ending:?} at {at}");
        }
        let singly = (0..bytes.len()).map(|at| bytes.slice(at..=at));
        assert_eq!(read(singly).1.unwrap().json, expected(), "{ending:?}");
    }
}

#[test]
fn the_reader_gets_each_event_as_it_was_sent() {
    let bytes = ": hello\n\nevent: ping\ndata: { }\n\nevent: x\ndata: a\ndata:  b\ndata\nid: 7\nretry: 10\n\ndata:c\n\nevent: nothing\n\n";

    let (steps, _) = read([bytes.into()]);

    let step = |name: &str, data: &str| Step { name: name.to_owned(), data: data.to_owned() };
    assert_eq!(steps, [step("ping", "{ }"), step("x", "a\n b\n"), step("message", "c")]);
}

#[test]
fn an_event_without_its_closing_blank_line_does_not_count() {
    let bytes = sample();
    for cut in ["", "\n"] {
        let cut = format!("{}{cut}", bytes.trim_end());
        assert!(matches!(read([cut.into()]).1, Err(Failed::Ended(_))));
    }
}

#[test]
fn data_over_several_lines_is_one_event() {
    let bytes =
        sample().replace(r#","index""#, ",\ndata: \"index\"").replace(r#","delta":{"#, ",\ndata:\"delta\":{");

    assert_eq!(read([bytes.into()]).1.unwrap().json, expected());
}

#[test]
fn bytes_that_are_no_text_become_a_replacement_character() {
    let bytes = sample().into_bytes();
    let bytes: Vec<u8> = bytes.into_iter().map(|byte| if byte == 0xf0 { 0xff } else { byte }).collect();

    let message = read([bytes.into()]).1.unwrap();

    assert!(message.text.unwrap().starts_with("Héé\u{fffd}"));
}

/// One of several ways to write the lines of a stream.
fn written(lines: &[&str], endings: &[usize], extras: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (nth, line) in lines.iter().enumerate() {
        // Between two events as well as within one.
        let extra =
            [None, None, Some(":"), Some(": ping é"), Some("id: 1"), Some("retry: x"), Some("unknown: y")];
        for line in extra[extras[nth % extras.len()] % extra.len()].iter().chain([line]) {
            bytes.extend(line.as_bytes());
            bytes.extend(["\n", "\r\n", "\r"][endings[nth % endings.len()] % 3].as_bytes());
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_message_is_the_same_however_it_is_written(
        has_mark in any::<bool>(),
        endings in prop::collection::vec(0_usize..3, 1..8),
        extras in prop::collection::vec(0_usize..7, 1..8),
        // Where an event of an unknown type stands.
        unknown in prop::collection::vec(0_usize..12, 0..4),
        sizes in prop::collection::vec(1_usize..200, 1..8),
    ) {
        let text = sample();
        let mut events: Vec<&str> = text.split_terminator("\n\n").collect();
        for &at in &unknown {
            events.insert(at, "event: of_tomorrow\ndata: {\"type\":\"of_tomorrow\"}");
        }
        let text = events.join("\n\n") + "\n\n";
        let lines: Vec<&str> = text.split_terminator('\n').collect();
        // A lone CR before a LF would be one line end, not two.
        let endings = if endings.iter().any(|ending| ending % 3 == 2) && endings.iter().any(|ending| ending % 3 == 0) {
            endings.iter().map(|ending| ending % 3 % 2).collect()
        } else {
            endings
        };
        let mark: &[u8] = if has_mark { "\u{feff}".as_bytes() } else { &[] };
        let mut rest = Bytes::from([mark, &written(&lines, &endings, &extras)].concat());
        let mut chunks = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            chunks.push(rest.split_to(rest.len().min(*size)));
        }

        let (steps, message) = read(chunks);

        let message = message.unwrap();
        prop_assert_eq!(message.json, expected());
        prop_assert_eq!(message.passed_over, unknown.len() as u64);
        prop_assert_eq!(steps.len(), 12 + unknown.len());
    }
}
