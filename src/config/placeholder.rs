//! Placeholders: the words that examples and templates contain in place of a secret.

/// Placeholders, without everything but letters and digits.
const WORDS: [&str; 13] = [
    "changeit",
    "changeme",
    "changethis",
    "example",
    "fillmein",
    "none",
    "null",
    "password",
    "placeholder",
    "secret",
    "todo",
    "undefined",
    "webhooksecret",
];

/// How instructions begin and end: `your-webhook-secret`, `REPLACE_WITH_YOUR_KEY`.
const VERBS: [&str; 6] = ["your", "replace", "insert", "enter", "put", "my"];
const OBJECTS: [&str; 5] = ["secret", "key", "here", "me", "this"];

/// Whether a value is a placeholder and not a secret.
pub(super) fn is_placeholder(value: &str) -> bool {
    let bare = value.strip_prefix("whsec_").unwrap_or(value);
    let letters: String = bare.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    let is_instruction = VERBS.iter().any(|verb| letters.starts_with(verb))
        && OBJECTS.iter().any(|object| letters.ends_with(object));
    letters.chars().all(|letter| letter == 'x')
        || WORDS.contains(&letters.as_str())
        || is_instruction
        || ["...", "\u{2026}", "***"].iter().any(|dots| bare.ends_with(dots))
        || (bare.starts_with('<') && bare.ends_with('>'))
        || (bare.starts_with("${") && bare.ends_with('}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_templates_hold_is_told_from_what_people_choose() {
        for placeholder in [
            "whsec_",
            "whsec_...",
            "sk-ant-\u{2026}",
            "changeme",
            "CHANGE_ME!",
            "your_webhook_secret",
            "Your key here",
            "replace-me",
            "<secret>",
            "${SECRET}",
            "xxxx-xxxx",
            "---",
            "secret",
        ] {
            assert!(is_placeholder(placeholder), "{placeholder}");
        }
        for secret in [
            "s3cret",
            "sk-test-key",
            "your majesty likes his tea",
            "wait... what",
            "my tea is cold",
            "secret garden",
            "whsec_Zm9yIHRoZSBkZW1vIGFsb25lLCBubyBzZWNyZXQgaGVyZQ==",
            "p<4>ssphrase",
        ] {
            assert!(!is_placeholder(secret), "{secret}");
        }
    }
}
