//! Reads JSON of any shape, in one pass, and borrows what it can.
//!
//! A strict reader would lose a paid-for result over one odd value. Here a value of an unexpected shape counts as
//! absent, and of a repeated member the last one counts. Members that are not asked for are skipped without being
//! built, however deeply they nest. Serde refuses some valid JSON; [`mended`] makes a copy that it can read.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Makes a value of this type from JSON, by the JSON's shape. A shape without a method of its own gives the default.
pub(crate) trait Shape<'de>: Default {
    /// The value is a string.
    fn text(_value: Cow<'de, str>) -> Self {
        Self::default()
    }

    /// The value is a whole number that `i64` holds.
    fn integer(_value: i64) -> Self {
        Self::default()
    }

    /// The value is an object.
    fn object<A: MapAccess<'de>>(mut members: A) -> Result<Self, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    /// The value is an array.
    fn array<A: SeqAccess<'de>>(mut elements: A) -> Result<Self, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl<'de> Shape<'de> for Option<Cow<'de, str>> {
    fn text(value: Cow<'de, str>) -> Self {
        Some(value)
    }
}

impl Shape<'_> for Option<i64> {
    fn integer(value: i64) -> Self {
        Some(value)
    }
}

/// The value of the whole text.
pub(crate) fn read<'de, T: Shape<'de>>(text: &'de str) -> Result<T, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Any(PhantomData).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// The name of the next member; `None` at the object's end.
pub(crate) fn name<'de, A: MapAccess<'de>>(members: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
    let name: Option<Option<Cow<'de, str>>> = members.next_key_seed(Any(PhantomData))?;
    Ok(name.map(Option::unwrap_or_default))
}

/// The value of the member that was named last.
pub(crate) fn value<'de, T: Shape<'de>, A: MapAccess<'de>>(members: &mut A) -> Result<T, A::Error> {
    members.next_value_seed(Any(PhantomData))
}

/// Skips the value of the member that was named last.
pub(crate) fn skip<'de, A: MapAccess<'de>>(members: &mut A) -> Result<(), A::Error> {
    members.next_value::<IgnoredAny>().map(drop)
}

/// The next element; `None` at the array's end.
pub(crate) fn element<'de, T: Shape<'de>, A: SeqAccess<'de>>(
    elements: &mut A,
) -> Result<Option<T>, A::Error> {
    elements.next_element_seed(Any(PhantomData))
}

struct Any<T>(PhantomData<T>);

impl<'de, T: Shape<'de>> DeserializeSeed<'de> for Any<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Shape<'de>> Visitor<'de> for Any<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_bool<E: Error>(self, _value: bool) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        Ok(T::integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        Ok(i64::try_from(value).map(T::integer).unwrap_or_default())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        // Up to 2^53 a float holds every whole number exactly; a larger one may differ from the number in the text.
        let is_exact = value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0;
        Ok(if is_exact { T::integer(value as i64) } else { T::default() })
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<T, E> {
        Ok(T::text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        Ok(T::text(Cow::Owned(value.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::object(members)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<T, A::Error> {
        T::array(elements)
    }
}

/// A copy that serde can read: half a surrogate pair becomes U+FFFD, and a number too large for a float becomes null.
/// JSON's grammar allows both (RFC 8259, sections 6 and 8.2), and a Rust string or float can hold neither.
pub(crate) fn mended(text: &str) -> String {
    rewritten(text, |copy, _half| copy.push_str("\\ufffd"))
}

/// The text of a JSON string, which is given with its quotes. Half a surrogate pair stays the escape that it is.
pub(crate) fn unescaped(string: &str) -> Result<String, serde_json::Error> {
    serde_json::from_str(string)
        .or_else(|_| serde_json::from_str(&rewritten(string, |copy, half| copy.extend(["\\", half]))))
}

/// A copy in which `write_half` has written each half of a surrogate pair, and null stands for each number too large.
fn rewritten(text: &str, write_half: impl Fn(&mut String, &str)) -> String {
    let mut copy = String::with_capacity(text.len());
    let mut rest = text;
    let mut is_in_string = false;
    while let Some(first) = rest.bytes().next() {
        let (taken, is_odd) = match first {
            b'\\' if is_in_string => escape(rest),
            b'-' | b'0'..=b'9' if !is_in_string => number(rest),
            _ => {
                is_in_string ^= first == b'"';
                (plain_length(rest), false)
            }
        };
        let (piece, after) = rest.split_at(taken);
        match is_odd {
            true if is_in_string => write_half(&mut copy, piece),
            true => copy.push_str("null"),
            false => copy.push_str(piece),
        }
        rest = after;
    }
    copy
}

/// How many bytes may be copied before the next character that needs a check.
fn plain_length(rest: &str) -> usize {
    let is_special = |byte: u8| matches!(byte, b'\\' | b'"' | b'-' | b'0'..=b'9');
    // A special character is ASCII, so it begins on a character boundary. The caller has checked the first byte.
    rest.bytes().skip(1).position(is_special).map_or(rest.len(), |at| at + 1)
}

/// The length of the escape at the front, where a surrogate pair counts as one, and whether it is half a pair.
fn escape(rest: &str) -> (usize, bool) {
    match (code_unit(rest), rest.get(6..).and_then(code_unit)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (12, false),
        (Some(0xd800..=0xdfff), _) => (6, true),
        (Some(_), _) => (6, false),
        // The character that is escaped may be wider than a byte in broken JSON.
        (None, _) => (rest.chars().take(2).map(char::len_utf8).sum(), false),
    }
}

/// The UTF-16 code unit, if the text begins with `\uXXXX`.
fn code_unit(rest: &str) -> Option<u16> {
    let digits = rest.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

/// The length of the number at the front, and whether it is too large for a float.
fn number(rest: &str) -> (usize, bool) {
    let is_part = |byte: u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let length = rest.bytes().position(|byte| !is_part(byte)).unwrap_or(rest.len());
    (length, rest[..length].parse().is_ok_and(f64::is_infinite))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_a_surrogate_pair_is_replaced_and_a_whole_one_kept() {
        let cases = [
            (r#"["\ud83d\ude00"]"#, r#"["\ud83d\ude00"]"#),
            (r#"["\ud83d"]"#, r#"["\ufffd"]"#),
            (r#"["\ude00\ud83d"]"#, r#"["\ufffd\ufffd"]"#),
            (r#"["\ud83d\ud83d\ude00"]"#, r#"["\ufffd\ud83d\ude00"]"#),
            (r#"["\\ud83d"]"#, r#"["\\ud83d"]"#),
            (r#"["\"\uDBFFx"]"#, r#"["\"\ufffdx"]"#),
        ];
        for (broken, whole) in cases {
            assert_eq!(mended(broken), whole);
        }
    }

    #[test]
    fn a_number_is_replaced_only_where_no_float_can_hold_it() {
        let digits = "9".repeat(400);
        let broken = format!(r#"[1e999, -1E+400, {digits}, 12, 1.5e-7, "1e999"]"#);

        assert_eq!(mended(&broken), r#"[null, null, null, 12, 1.5e-7, "1e999"]"#);
    }

    #[test]
    fn a_string_is_unescaped_up_to_the_halves_of_pairs() {
        let cases = [
            (r#""a\"b\u00e9\ud83d\ude00""#, "a\"b\u{e9}\u{1f600}"),
            (r#""{\"q\": \"\ud83d \n\\n\"}""#, "{\"q\": \"\\ud83d \n\\n\"}"),
            (r#""\ud83d\ud83d\ude00\ude00""#, "\\ud83d\u{1f600}\\ude00"),
            (r#""\u0000""#, "\0"),
        ];
        for (string, text) in cases {
            assert_eq!(unescaped(string).unwrap(), text);
        }
        assert!(unescaped("\"").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn mending_leaves_alone_what_serde_reads(
            string in r#"([a-fé -]|\\[\\"nu]|\\u[de][0-9a-f]{3}){0,12}"#,
            rest in r#"[\\"\[\],0-9edé-]{0,4}"#,
        ) {
            let text = format!(r#"[-1.5e3,"{string}"]{rest}"#);
            let copy = mended(&text);

            if serde_json::from_str::<serde_json::Value>(&text).is_ok() {
                prop_assert_eq!(copy, text);
            } else if serde_json::from_str::<IgnoredAny>(&text).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&copy).is_ok());
            }
        }
    }
}
