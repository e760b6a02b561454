//! Repairs JSON for strict parsers: of a member given twice only the last is kept, lone surrogates become U+FFFD, and
//! bare control characters in strings become escapes.
//!
//! It works on the text, in two passes and without recursion, so that nesting of any depth and numbers of any length stay as
//! they are. Text that is not JSON comes out as other text that is not JSON.

use std::borrow::Cow;
use std::fmt::Write as _;

use memchr::{memchr, memchr2_iter};

use super::members::string_bytes;

/// The same JSON, repaired, without those members of its outermost object that are named in `left_out`. Almost all JSON
/// needs no repair and is not copied.
pub(super) fn mended<'j>(json: &'j str, left_out: &[&str]) -> Cow<'j, str> {
    let members = members(json, left_out);
    // Without a backslash there is no escape, and thus no lone surrogate.
    if members.iter().all(|member| !member.is_dropped) && memchr(b'\\', json.as_bytes()).is_none() {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    let mut at = 0;
    for member in members.iter().filter(|member| member.is_dropped) {
        // A member inside another dropped member has been dropped with it.
        if member.start < at {
            continue;
        }
        copy(&json[at..member.start], &mut out, Surrogates::Replaced);
        at = member.end;
        if json[at..].starts_with(',') {
            at += 1;
        } else {
            // It was the last member, so the comma before it goes too.
            let kept = out.trim_end();
            out.truncate(kept.strip_suffix(',').unwrap_or(kept).len());
        }
    }
    copy(&json[at..], &mut out, Surrogates::Replaced);
    out.into()
}

/// The same JSON with escapes in place of bare control characters, which some senders leave in strings and no parser
/// takes.
pub(super) fn with_escapes(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    copy(json, &mut out, Surrogates::Kept);
    out
}

/// What to do with lone surrogates.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Surrogates {
    Kept,
    Replaced,
}

/// A member of an object, from its name to the comma or brace behind its value.
struct Member {
    start: usize,
    end: usize,
    is_dropped: bool,
}

/// An object or an array that is open.
enum Open {
    Object {
        /// How many names were on the list before this object.
        first: usize,
        /// The member whose value is being read.
        member: Option<usize>,
    },
    Array,
}

/// The members of all objects, in the order in which they begin.
fn members(json: &str, left_out: &[&str]) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    // The names in all open objects, innermost last, each with its member.
    let mut names: Vec<(Cow<'_, [u8]>, usize)> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(byte) = json.as_bytes().get(at) {
        let mut next = at + 1;
        let is_outermost = open.len() == 1;
        match (byte, open.last_mut()) {
            (b'"', innermost) => {
                next = end_of_string(json, at);
                if let Some(Open::Object { member: member @ None, .. }) = innermost {
                    let name = name(&json[at..next]);
                    let is_dropped = is_outermost && left_out.iter().any(|out| out.as_bytes() == &*name);
                    *member = Some(members.len());
                    names.push((name, members.len()));
                    members.push(Member { start: at, end: json.len(), is_dropped });
                }
            }
            (b'{', _) => open.push(Open::Object { first: names.len(), member: None }),
            (b'[', _) => open.push(Open::Array),
            (b',' | b'}' | b']', innermost) => {
                if let Some(Open::Object { member, .. }) = innermost
                    && let Some(member) = member.take()
                {
                    members[member].end = at;
                }
                if *byte != b','
                    && let Some(Open::Object { first, .. }) = open.pop()
                {
                    drop_earlier(&mut names[first..], &mut members);
                    names.truncate(first);
                }
            }
            _ => {}
        }
        at = next;
    }
    members
}

/// Drops all members of one object but the last of each name.
fn drop_earlier(names: &mut [(Cow<'_, [u8]>, usize)], members: &mut [Member]) {
    names.sort_unstable();
    for [(earlier, member), (later, _)] in names.array_windows() {
        members[*member].is_dropped |= earlier == later;
    }
}

/// The name of a member, from its JSON string.
fn name(string: &str) -> Cow<'_, [u8]> {
    match string.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(name) if memchr(b'\\', name.as_bytes()).is_none() => name.as_bytes().into(),
        _ => string_bytes(string).unwrap_or_default().into(),
    }
}

/// The end of the string that begins at `start`: behind its closing quote.
fn end_of_string(json: &str, start: usize) -> usize {
    let mut escaped = None;
    for at in memchr2_iter(b'"', b'\\', &json.as_bytes()[start + 1..]).map(|offset| start + 1 + offset) {
        if escaped == Some(at) {
            continue;
        }
        if json.as_bytes()[at] == b'"' {
            return at + 1;
        }
        escaped = Some(at + 1);
    }
    json.len()
}

/// Copies a part of the JSON that begins and ends outside of strings.
fn copy(json: &str, out: &mut String, lone: Surrogates) {
    let mut at = 0;
    while let Some(quote) = json[at..].find('"').map(|offset| at + offset) {
        out.push_str(&json[at..quote]);
        at = end_of_string(json, quote);
        copy_string(&json[quote..at], out, lone);
    }
    out.push_str(&json[at..]);
}

/// Copies a string with its quotes.
fn copy_string(string: &str, out: &mut String, lone: Surrogates) {
    let mut rest = string;
    while let Some(odd) = rest.find(|character: char| character == '\\' || character < ' ') {
        let (before, from) = rest.split_at(odd);
        out.push_str(before);
        let length = match unit(from) {
            Some(0xD800..0xDC00) if matches!(from.get(6..).and_then(unit), Some(0xDC00..0xE000)) => {
                out.push_str(&from[..12]);
                12
            }
            Some(0xD800..0xE000) if lone == Surrogates::Replaced => {
                out.push_str("\\ufffd");
                6
            }
            _ if from.starts_with('\\') => {
                // Both together: an escaped backslash must not be taken for the start of another escape.
                let length = 1 + from[1..].chars().next().map_or(0, char::len_utf8);
                out.push_str(&from[..length]);
                length
            }
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", from.as_bytes()[0]);
                1
            }
        };
        rest = &from[length..];
    }
    out.push_str(rest);
}

/// The UTF-16 code unit of an escape `\uXXXX` at the beginning of `text`.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    // `from_str_radix` would also take a sign.
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}
