//! Values that are still in quotes, because no shell removed them.

use super::variable::{Fallible, unfit};

/// The quotes that some programs remove from a value and others take as a part of it; the last four come from word
/// processors.
pub(super) const QUOTES: [char; 7] = ['"', '\'', '`', '\u{201c}', '\u{201d}', '\u{2018}', '\u{2019}'];

/// Whether the first and the last character of a value are a pair of quotes.
pub(super) fn is_in_quotes(value: &str) -> bool {
    let (mut first, mut last) = (value.chars(), value.chars());
    match (first.next(), last.next_back()) {
        (Some('\u{201c}'), Some('\u{201d}')) | (Some('\u{2018}'), Some('\u{2019}')) => true,
        (Some(first), Some(last)) => {
            first == last && QUOTES.contains(&first) && value.len() > first.len_utf8()
        }
        _ => false,
    }
}

/// A value that stands in no quotes.
pub(super) fn unquoted(value: &str) -> Fallible<&str> {
    if is_in_quotes(value) {
        let mend =
            "Remove the quotes: a shell does, but a secret's file and `docker run --env-file` keep them";
        return Err(unfit("it is in quotes, which count as a part of it", mend));
    }
    Ok(value)
}
