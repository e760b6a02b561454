//! One line of a batch's results, and the columns it fills.
//!
//! The API may change order and shape, so only a `custom_id` and a `result.type` are required. Everything else is read
//! if it has the expected shape, and is null otherwise. The exact bytes are stored as well, so nothing is lost that the
//! columns cannot hold.

use std::borrow::Cow;
use std::str;

use super::shape::{Line, Outcome};
use crate::api::Usage;
use crate::json;

/// The longest `custom_id` that is stored. The API's own limit is 64. An index entry of Postgres holds at most 2,704
/// bytes, and a longer one would make the whole part fail.
const CUSTOM_ID_BYTES_MAX: usize = 2048;

/// The columns of one line. Postgres refuses NUL, so the texts have U+FFFD in its place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Row<'a> {
    /// The request that the line answers; unique within its batch.
    pub custom_id: Cow<'a, str>,
    /// `result.type`: `succeeded`, `errored`, `canceled`, `expired`, or a new word of the API.
    pub outcome: Cow<'a, str>,
    /// The exact line, if it is UTF-8.
    pub line: Option<&'a str>,
    /// The exact line, if it is not UTF-8.
    pub raw: Option<&'a [u8]>,
    /// The message's `text` blocks, joined. `None` if it has no such block.
    pub text: Option<Cow<'a, str>>,
    /// The model that answered.
    pub model: Option<Cow<'a, str>>,
    /// Why the message ended.
    pub stop_reason: Option<Cow<'a, str>>,
    /// The type of the error, from the envelope's inner level if it has one.
    pub error_type: Option<Cow<'a, str>>,
    /// The error's message, from the same level.
    pub error_message: Option<Cow<'a, str>>,
    /// What the message used.
    pub usage: Usage,
}

/// Why a line is no result. It repeats nothing of the line, which the caller has.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadLine {
    /// It is no JSON.
    #[error("the line is no JSON")]
    NotJson(#[source] serde_json::Error),
    /// It is JSON, but no object.
    #[error("the line is no JSON object")]
    NotAnObject,
    /// `custom_id` is missing, or no string.
    #[error("the line has no `custom_id`")]
    NoCustomId,
    /// `custom_id` is longer than an index of Postgres can hold.
    #[error("the line's `custom_id` is longer than {CUSTOM_ID_BYTES_MAX} bytes")]
    LongCustomId,
    /// `result.type` is missing, or no string.
    #[error("the line has no `result.type`")]
    NoOutcome,
}

impl<'a> Row<'a> {
    /// Reads a line, given without its ending.
    ///
    /// Texts without an escape are borrowed from the line. Bytes that are not UTF-8, halves of surrogate pairs and
    /// numbers too large for a float are replaced in the columns only.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Row<'a>, BadLine> {
        match str::from_utf8(bytes) {
            Ok(text) => {
                let row = match json::read(text) {
                    Ok(line) => row(line)?,
                    // Try again with a repaired copy. Such lines are rare, so the copy does not matter.
                    Err(_) => row(json::read(&json::mended(text)).map_err(BadLine::NotJson)?)?.into_owned(),
                };
                // The line has no NUL byte, because JSON allows NUL only as an escape.
                Ok(Row { line: Some(text), ..row })
            }
            Err(_) => {
                let mended = json::mended(&String::from_utf8_lossy(bytes));
                let row = row(json::read(&mended).map_err(BadLine::NotJson)?)?.into_owned();
                Ok(Row { raw: Some(bytes), ..row })
            }
        }
    }

    /// The same row with copies of its texts, and without the exact line.
    fn into_owned<'b>(self) -> Row<'b> {
        let owned = |text: Option<Cow<'a, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Row {
            custom_id: Cow::Owned(self.custom_id.into_owned()),
            outcome: Cow::Owned(self.outcome.into_owned()),
            line: None,
            raw: None,
            text: owned(self.text),
            model: owned(self.model),
            stop_reason: owned(self.stop_reason),
            error_type: owned(self.error_type),
            error_message: owned(self.error_message),
            usage: self.usage,
        }
    }
}

/// The columns of a line that was read, without the exact line.
fn row(line: Option<Line<'_>>) -> Result<Row<'_>, BadLine> {
    let line = line.ok_or(BadLine::NotAnObject)?;
    let custom_id = line.custom_id.ok_or(BadLine::NoCustomId).map(without_nul)?;
    if custom_id.len() > CUSTOM_ID_BYTES_MAX {
        return Err(BadLine::LongCustomId);
    }
    let Outcome { kind, message, error } = line.result;
    let fault = error.inner.unwrap_or(error.own);
    Ok(Row {
        custom_id,
        outcome: kind.ok_or(BadLine::NoOutcome).map(without_nul)?,
        line: None,
        raw: None,
        text: message.content.0.map(without_nul),
        model: message.model.map(without_nul),
        stop_reason: message.stop_reason.map(without_nul),
        error_type: fault.kind.map(without_nul),
        error_message: fault.message.map(without_nul),
        usage: message.usage,
    })
}

fn without_nul(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Row<'_> {
        Row::read(line.as_bytes()).unwrap()
    }

    /// The row of a succeeded result whose message is given.
    fn message(message: &str) -> Row<'static> {
        let line = format!(r#"{{"custom_id":"a","result":{{"type":"succeeded","message":{message}}}}}"#);
        read(&line).into_owned()
    }

    #[test]
    fn a_succeeded_result_fills_its_columns_without_a_copy() {
        let line = concat!(
            r#"{"custom_id":"inv-0002","result":{"type":"succeeded","message":{"id":"msg_demo2","type":"message","#,
            r#""role":"assistant","model":"claude-opus-5-5","content":[{"type":"text","text":"paid"}],"#,
            r#""stop_reason":"end_turn","usage":{"input_tokens":11,"output_tokens":3,"#,
            r#""cache_creation_input_tokens":5,"cache_read_input_tokens":7,"service_tier":"batch"}}}}"#,
        );

        let row = read(line);

        let expected = Row {
            custom_id: "inv-0002".into(),
            outcome: "succeeded".into(),
            line: Some(line),
            text: Some("paid".into()),
            model: Some("claude-opus-5-5".into()),
            stop_reason: Some("end_turn".into()),
            usage: Usage {
                input_tokens: Some(11),
                output_tokens: Some(3),
                cache_creation_input_tokens: Some(5),
                cache_read_input_tokens: Some(7),
            },
            ..Row::default()
        };
        assert_eq!(row, expected);
        assert!(matches!(row.text, Some(Cow::Borrowed(_))));
    }

    #[test]
    fn an_error_is_read_one_level_in_and_otherwise_where_it_is() {
        let lines = [
            r#"{"custom_id":"a","result":{"type":"errored","error":{"type":"error","error":{"type":"t","message":"m"}}}}"#,
            r#"{"custom_id":"a","result":{"type":"errored","error":{"type":"t","message":"m"}}}"#,
            r#"{"custom_id":"a","result":{"type":"errored","error":{"type":"t","message":"m","error":null}}}"#,
        ];
        for line in lines {
            let row = read(line);
            assert_eq!((row.error_type.as_deref(), row.error_message.as_deref()), (Some("t"), Some("m")));
        }
    }

    #[test]
    fn an_outcome_without_details_or_with_a_new_name_is_kept() {
        for outcome in ["canceled", "expired", "paused_by_moon"] {
            let line = format!(r#"{{"custom_id":"a","result":{{"type":"{outcome}"}},"new":[1]}}"#);
            let expected =
                Row { custom_id: "a".into(), outcome: outcome.into(), line: Some(&line), ..Row::default() };
            assert_eq!(read(&line), expected);
        }
    }

    #[test]
    fn text_blocks_are_joined_and_other_blocks_passed_over() {
        let row = message(
            r#"{"content":[{"type":"thinking","text":"no"},{"type":"text","text":"a\"b"},{"type":"new","x":{}},
            7,null,{"text":"c","type":"text"},{"type":"text","text":5}]}"#,
        );
        assert_eq!(row.text.as_deref(), Some("a\"bc"));
        assert_eq!(message(r#"{"content":[{"type":"tool_use"}]}"#).text, None);
        assert_eq!(message(r#"{"content":[{"type":"text","text":""}]}"#).text.as_deref(), Some(""));
    }

    #[test]
    fn values_of_another_shape_count_as_absent() {
        for odd in ["null", "true", "-7", "1.5", "1e999", "\"x\"", "[[1],{}]", "{\"a\":{\"b\":[]}}"] {
            let row = message(&format!(r#"{{"content":{odd},"usage":{odd},"model":[{odd}]}}"#));
            assert_eq!((row.text, row.model, row.usage), (None, None, Usage::default()));
            assert_eq!(message(odd).outcome, "succeeded");
        }
    }

    #[test]
    fn tokens_are_read_where_they_are_whole_numbers_that_fit() {
        let tokens =
            |number: &str| message(&format!(r#"{{"usage":{{"input_tokens":{number}}}}}"#)).usage.input_tokens;
        assert_eq!(tokens("9223372036854775807"), Some(i64::MAX));
        assert_eq!(tokens("12.0"), Some(12));
        assert_eq!(tokens("-1"), Some(-1));
        for number in ["9223372036854775808", "1e300", "1e999", "1.5", "\"12\"", "null"] {
            assert_eq!(tokens(number), None, "{number}");
        }
    }

    #[test]
    fn a_repeated_member_counts_as_its_last() {
        let line = r#"{"custom_id":"a","custom_id":"b","result":{"type":"errored","type":"expired"}}"#;
        let row = read(line);

        assert_eq!((&*row.custom_id, &*row.outcome), ("b", "expired"));
    }

    #[test]
    fn nul_becomes_a_replacement_character_in_the_columns_only() {
        let line = r#"{"custom_id":"a\u0000","result":{"type":"succeeded","message":{"content":[{"type":"text","text":"\u0000b"}]}}}"#;
        let row = read(line);

        assert_eq!((&*row.custom_id, row.text.as_deref()), ("a\u{fffd}", Some("\u{fffd}b")));
        assert_eq!((row.line, row.raw), (Some(line), None));
    }

    #[test]
    fn half_a_surrogate_pair_costs_one_character() {
        let line = r#"{"custom_id":"a","result":{"type":"succeeded","message":{"content":[{"type":"text","text":"x\ud83d \ud83d\ude00"}]}}}"#;
        let row = read(line);

        assert_eq!(row.text.as_deref(), Some("x\u{fffd} \u{1f600}"));
        assert_eq!(row.line, Some(line));
    }

    #[test]
    fn bytes_that_are_no_text_are_kept_exact_beside_the_columns() {
        let line =
            b"{\"custom_id\":\"a\",\"result\":{\"type\":\"errored\",\"error\":{\"message\":\"x\xffy\"}}}";
        let row = Row::read(line).unwrap();

        assert_eq!(row.error_message.as_deref(), Some("x\u{fffd}y"));
        assert_eq!((row.line, row.raw), (None, Some(&line[..])));
    }

    #[test]
    fn a_depth_of_a_million_in_an_unknown_member_is_passed_over() {
        let deep = format!("{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        let line = format!(r#"{{"new":{deep},"custom_id":"a","result":{{"type":"expired","new":{deep}}}}}"#);

        assert_eq!(read(&line).outcome, "expired");
    }

    #[test]
    fn what_is_no_result_says_why() {
        let long_id = format!(r#"{{"custom_id":"{}","result":{{"type":"expired"}}}}"#, "x".repeat(2049));
        let cases = [
            ("", "the line is no JSON"),
            (r#"{"custom_id":"a","result":{"type":"expired"}"#, "the line is no JSON"),
            (r#"{"custom_id":"a","result":{"type":"expired"}}{}"#, "the line is no JSON"),
            ("<html>", "the line is no JSON"),
            ("[]", "the line is no JSON object"),
            ("null", "the line is no JSON object"),
            (r#"{"result":{"type":"expired"}}"#, "the line has no `custom_id`"),
            (r#"{"custom_id":7,"result":{"type":"expired"}}"#, "the line has no `custom_id`"),
            (r#"{"custom_id":"a"}"#, "the line has no `result.type`"),
            (r#"{"custom_id":"a","result":"expired"}"#, "the line has no `result.type`"),
            (&long_id, "the line's `custom_id` is longer than 2048 bytes"),
        ];
        for (line, reason) in cases {
            assert_eq!(Row::read(line.as_bytes()).unwrap_err().to_string(), reason, "{line}");
        }
    }
}
