//! Answers of a given length that are hard to parse: they have quotes, line ends of every kind, and wide characters.

/// Some parsers take U+2028 for the end of a line, which it is not in JSON Lines or SSE. The backslash and the quote need
/// escapes.
const SENTENCES: &str = "The clerk wrote \u{201c}kept until called for\u{201d} on it. Größe: 3 µm, 価格 ¥4.\n\
    A path: C:\\post\\office; a quote: \"none\".\u{2028}And an envelope: \u{1f4ec}. ";

/// A text of exactly this many bytes that begins with the opening, or with as much of it as fits.
pub(super) fn text(opening: &str, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + SENTENCES.len());
    text.push_str(opening);
    while text.len() < bytes {
        text.push_str(SENTENCES);
    }
    text.truncate(text.floor_char_boundary(bytes));
    // Up to three bytes are left if the next wide character did not fit.
    text.extend(std::iter::repeat_n('.', bytes - text.len()));
    text
}

/// The number of tokens of a text: about one for four bytes, and at least one.
pub(super) fn tokens(text: &str) -> u64 {
    text.len().div_ceil(4).max(1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_length_that_was_asked_for() {
        for bytes in 0..600 {
            assert_eq!(text("r-1: ", bytes).len(), bytes);
        }
    }
}
