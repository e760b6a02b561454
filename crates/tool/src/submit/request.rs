//! One line of a file of requests: its two members, as they stand there, or the rule that the line breaks.

use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

/// The most bytes that the parameters of one request may have, as the table of requests demands it.
const PARAMS_BYTES_MAX: usize = 255_000_000;

/// A request, as slices of its line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) custom_id: &'a str,
    /// The exact text: what was written is what is sent.
    pub(super) params: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(borrow)]
    custom_id: Option<&'a RawValue>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl<'a> Request<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// The rule that the line breaks.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, String> {
        if line.trim_ascii().is_empty() {
            return Err("it is empty".to_owned());
        }
        let members: Members<'_> = serde_json::from_slice(line).map_err(|error| rule(&error))?;
        // Derived reading takes a list for the members in their order.
        if !line.trim_ascii_start().starts_with(b"{") {
            return Err(NO_REQUEST.to_owned());
        }
        let custom_id = members.custom_id.ok_or("custom_id is missing")?.get();
        let params = members.params.ok_or("params is missing")?.get();
        let custom_id = custom_id_of(custom_id).ok_or_else(|| {
            let shown: String = custom_id.chars().take(80).collect();
            format!("custom_id {shown} must have 1 to 64 of the characters a-z A-Z 0-9 _ -")
        })?;
        if !params.starts_with('{') {
            return Err("params is no object".to_owned());
        }
        if params.len() >= PARAMS_BYTES_MAX {
            return Err("it alone is larger than a batch may be (256 MB)".to_owned());
        }
        Ok(Self { custom_id, params })
    }
}

const NO_REQUEST: &str = "it is no object with custom_id and params";

/// The text is looked at, and not what it stands for: nobody needs an escape in such an identifier.
fn custom_id_of(json: &str) -> Option<&str> {
    let text = json.strip_prefix('"')?.strip_suffix('"')?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    ((1..=64).contains(&text.len()) && text.bytes().all(fits)).then_some(text)
}

/// The error in words that fit behind the number of the line, which is not the one that the parser counts.
fn rule(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or(&text);
    match error.classify() {
        Category::Data if what.starts_with("invalid type") => NO_REQUEST.to_owned(),
        Category::Data => format!("{what} (column {})", error.column()),
        _ => format!("it is no JSON: {what} (column {})", error.column()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_keeps_the_exact_text_of_its_parameters() {
        let line = br#" {"params" : {"n": 1.0e1 , "s":"\u00e9 \ud800 \u0000"} , "custom_id":"a-1_B"} "#;

        let request = Request::read(line).unwrap();

        assert_eq!(request.custom_id, "a-1_B");
        assert_eq!(request.params, r#"{"n": 1.0e1 , "s":"\u00e9 \ud800 \u0000"}"#);
    }

    #[test]
    fn a_line_that_breaks_a_rule_is_told_which() {
        let long = format!(r#"{{"custom_id":"{}","params":{{}}}}"#, "a".repeat(65));
        for (line, rule) in [
            ("{\"custom_id\":\"a\",", "it is no JSON: EOF while parsing a value (column 17)"),
            ("{\"custom_id\":\"a\",\"params\":{}} x", "it is no JSON: trailing characters (column 31)"),
            ("  ", "it is empty"),
            ("7", "it is no object with custom_id and params"),
            (r#"["a", {}]"#, "it is no object with custom_id and params"),
            (r#"{"params":{}}"#, "custom_id is missing"),
            (
                r#"{"custom_id":7,"params":{}}"#,
                "custom_id 7 must have 1 to 64 of the characters a-z A-Z 0-9 _ -",
            ),
            (
                r#"{"custom_id":"a b","params":{}}"#,
                "custom_id \"a b\" must have 1 to 64 of the characters a-z A-Z 0-9 _ -",
            ),
            (r#"{"custom_id":"a"}"#, "params is missing"),
            (r#"{"custom_id":"a","params":"{}"}"#, "params is no object"),
            (r#"{"custom_id":"a","custom_id":"b"}"#, "duplicate field `custom_id` (column 28)"),
            (
                r#"{"custom_id":"a","body":{}}"#,
                "unknown field `body`, expected `custom_id` or `params` (column 23)",
            ),
        ] {
            assert_eq!(Request::read(line.as_bytes()).unwrap_err(), rule, "{line}");
        }
        assert!(Request::read(long.as_bytes()).unwrap_err().contains("must have 1 to 64"));
        let latin = Request::read(b"{\"custom_id\":\"a\",\"params\":{\"x\":\"\xe9\"}}").unwrap_err();
        assert!(latin.starts_with("it is no JSON"), "{latin}");
    }
}
