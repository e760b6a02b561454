//! Unusual lines of results: each is stored exactly.

use sha2::{Digest, Sha256};

use super::*;
use crate::support::api::Answer;

/// Stores these bytes as the results of a batch of `requests` requests.
async fn results(stream: Vec<u8>, requests: u32) -> World {
    let (world, api) = start().await;
    api.batch(&api.ended("b", [requests, 0, 0, 0]));
    api.results("b", Answer::stream(stream));
    hear_of(&world, "b").await;
    work(&world, &api).await;
    assert_eq!(fate(&world, "wevt_b").await, "done");
    assert_eq!(complete(&world).await, "1");
    world
}

/// The exact line of a result, and whether Postgres holds it as text.
async fn line(world: &World, custom_id: &str) -> (Vec<u8>, bool) {
    let row = sqlx::query(
        "select coalesce(convert_to(line, 'UTF8'), raw), line is not null from restante.batch_result where custom_id = $1",
    )
    .bind(custom_id)
    .fetch_one(&world.pool)
    .await
    .unwrap();
    (row.get(0), row.get(1))
}

/// A line with these bytes as its text.
fn odd(custom_id: &str, text: &[u8]) -> Vec<u8> {
    let [before, after] = [
        format!(
            r#"{{"custom_id":"{custom_id}","result":{{"type":"succeeded","message":{{"content":[{{"type":"text","text":""#
        ),
        r#""}]}}}"#.to_owned(),
    ];
    [before.as_bytes(), text, after.as_bytes()].concat()
}

#[tokio::test]
async fn what_postgres_or_unicode_can_not_hold_is_kept_byte_for_byte() {
    let cases: [(&str, &[u8], &str); 7] = [
        ("nul", br"x\u0000y", "x\u{fffd}y"),
        ("half", br"x\ud83dy", "x\u{fffd}y"),
        ("halves", br"\ude00\ud83d", "\u{fffd}\u{fffd}"),
        ("pair", br"\ud83d\ude00", "\u{1f600}"),
        ("bytes", b"x\xff\xfey", "x\u{fffd}\u{fffd}y"),
        ("torn", b"caf\xc3", "caf\u{fffd}"),
        ("separators", "a\u{2028}b\u{2029}c\u{85}d\u{feff}".as_bytes(), "a\u{2028}b\u{2029}c\u{85}d\u{feff}"),
    ];
    let lines: Vec<Vec<u8>> = cases.iter().map(|(custom_id, text, _)| odd(custom_id, text)).collect();
    let world = results(lines.join(&b'\n'), 7).await;

    for ((custom_id, text, column), exact) in cases.into_iter().zip(lines) {
        let is_text = std::str::from_utf8(text).is_ok();
        assert_eq!(line(&world, custom_id).await, (exact, is_text), "{custom_id}");
        let query = format!("select text from restante.batch_result where custom_id = '{custom_id}'");
        assert_eq!(world.value(&query).await, column, "{custom_id}");
    }
}

#[tokio::test]
async fn odd_json_is_kept_byte_for_byte() {
    let deep = format!(
        r#"{{"custom_id":"deep","result":{{"type":"new","x":{}{}}}}}"#,
        "[".repeat(20_000),
        "]".repeat(20_000)
    );
    let cases = [
        ("spaced", r#" { "result" : {"type":"expired" } ,"custom_id":	"spaced"}  "#),
        ("number", r#"{"custom_id":"number","result":{"type":"succeeded","x":1e999,"y":-0,"z":1.10}}"#),
        ("twice", r#"{"custom_id":"no","custom_id":"twice","result":{"type":"expired"}}"#),
        ("escaped", r#"{"custom_id":"\u0065scaped","result":{"type":"expired","\u0000":"\/"}}"#),
        ("unknown", r#"{"custom_id":"unknown","result":{"type":"postponed","until":[{}]},"new":null}"#),
        ("deep", &deep),
    ];
    let stream = cases.iter().map(|(_, line)| *line).collect::<Vec<_>>().join("\n");
    let world = results(stream.into_bytes(), 6).await;

    for (custom_id, exact) in cases {
        assert_eq!(line(&world, custom_id).await, (exact.as_bytes().to_vec(), true), "{custom_id}");
    }
    let outcome = "select outcome from restante.batch_result where custom_id = 'unknown'";
    assert_eq!(world.value(outcome).await, "postponed");
}

#[tokio::test]
async fn lines_end_as_they_like() {
    let lines: Vec<Vec<u8>> = (0..6).map(|nth| odd(&format!("r{nth}"), b"x")).collect();
    let mut stream = b"\n\r\n".to_vec();
    for (line, ending) in lines.iter().zip(["\n", "\r\n", "\r", "\n\n\n", "\r\n \r\n", ""]) {
        stream.extend_from_slice(line);
        stream.extend_from_slice(ending.as_bytes());
    }
    let world = results(stream, 6).await;

    for (nth, exact) in lines.into_iter().enumerate() {
        assert_eq!(line(&world, &format!("r{nth}")).await, (exact, true), "{nth}");
    }
}

#[tokio::test]
async fn the_longest_ids_and_every_character_of_ids_are_kept() {
    let ids =
        ["a".repeat(64), format!("{}b", "a".repeat(63)), "-_0Zz".to_owned(), "é id/../'\u{1f4ec}".to_owned()];
    let lines: Vec<Vec<u8>> = ids.iter().map(|id| odd(id, b"x")).collect();
    let world = results(lines.join(&b'\n'), 4).await;

    for (custom_id, exact) in ids.iter().zip(lines) {
        assert_eq!(line(&world, custom_id).await, (exact, true), "{custom_id}");
    }
}

#[tokio::test]
async fn lines_of_megabytes_are_kept_byte_for_byte() {
    let text = "é\\n\u{1f4ec} ".repeat(5 << 17);
    let lines = [
        odd("a", b"x"),
        odd("large", text.as_bytes()),
        odd("larger", text.repeat(2).as_bytes()),
        odd("z", b"x"),
    ];
    assert!(lines[1].len() > 5 << 20);
    let world = results(lines.join(&b'\n'), 4).await;

    for (custom_id, exact) in ["a", "large", "larger", "z"].into_iter().zip(lines) {
        let (found, is_text) = line(&world, custom_id).await;
        assert!(is_text);
        // Digests, because a difference of such lines is unreadable.
        assert_eq!(Sha256::digest(found), Sha256::digest(exact), "{custom_id}");
    }
}
