//! The request as it goes out: what the application gave, byte for byte, with `"stream": true`.

use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The request with `"stream": true`. A member of that name is replaced, as often as it is given; all other bytes stay as they
/// are, also those of a member that is given twice, about which the API decides.
///
/// # Errors
/// The text is no JSON object.
pub(super) fn streamed(request: &str) -> Result<Bytes, serde_json::Error> {
    let Streams(values) = serde_json::from_str(request)?;
    let mut body = String::with_capacity(request.len() + MEMBER.len() + 1);
    let mut rest = 0;
    for value in &values {
        // The value is a part of the request, so the distance of the two is where it stands.
        let start = value.get().as_ptr() as usize - request.as_ptr() as usize;
        body.push_str(&request[rest..start]);
        body.push_str("true");
        rest = start + value.get().len();
    }
    body.push_str(&request[rest..]);
    if values.is_empty()
        && let Some(open) = body.find('{')
    {
        let is_empty = body[open + 1..].trim_start().starts_with('}');
        body.insert_str(open + 1, if is_empty { MEMBER } else { MEMBER_AND_MORE });
    }
    Ok(body.into())
}

const MEMBER: &str = r#""stream":true"#;
const MEMBER_AND_MORE: &str = r#""stream":true,"#;

/// The values of the members that are named `stream`.
struct Streams<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Streams<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Streams<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Streams<'de>, A::Error> {
                let mut values = Vec::new();
                while let Some(IsStream(is_stream)) = map.next_key()? {
                    let value: &RawValue = map.next_value()?;
                    if is_stream {
                        values.push(value);
                    }
                }
                Ok(Streams(values))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Is a member named `stream`? Compared as bytes, so that half of a surrogate pair in another name is no error.
struct IsStream(bool);

impl<'de> Deserialize<'de> for IsStream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = IsStream;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the name of a member")
            }

            fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<IsStream, E> {
                Ok(IsStream(name == b"stream"))
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(request: &str) -> String {
        String::from_utf8(streamed(request).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn a_request_goes_out_byte_for_byte_with_stream_true() {
        for (request, expected) in [
            ("{}", r#"{"stream":true}"#),
            (" { } ", r#" {"stream":true } "#),
            (r#"{"model": "m", "n":1.0e0}"#, r#"{"stream":true,"model": "m", "n":1.0e0}"#),
            (r#"{"stream" : false, "a":1}"#, r#"{"stream" : true, "a":1}"#),
            (r#"{"stream":{"x":"}"},"a":[1,  2]}"#, r#"{"stream":true,"a":[1,  2]}"#),
            (r#"{"str\u0065am":null}"#, r#"{"str\u0065am":true}"#),
            (r#"{"stream":false,"a":1,"stream":0}"#, r#"{"stream":true,"a":1,"stream":true}"#),
            (r#"{"a":{"stream":false}}"#, r#"{"stream":true,"a":{"stream":false}}"#),
            (r#"{"\ud800":1e999,"a":"\u0000"}"#, r#"{"stream":true,"\ud800":1e999,"a":"\u0000"}"#),
            (r#"{"a":1,"a":2}"#, r#"{"stream":true,"a":1,"a":2}"#),
        ] {
            assert_eq!(sent(request), expected);
        }
    }

    #[test]
    fn a_request_may_nest_as_deeply_as_it_likes() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(sent(&deep), format!(r#"{{"stream":true,{}"#, &deep[1..]));
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        for wrong in ["", "[]", "7", r#"{"a":}"#, "{} {}"] {
            assert!(streamed(wrong).is_err(), "{wrong}");
        }
    }
}
