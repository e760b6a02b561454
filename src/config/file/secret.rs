//! Secrets that stand in the configuration file by mistake, and names that may be repeated.
//!
//! The file is meant to be copied, reviewed and pasted, so no secret may stand in it.

use toml::de::DeValue;

/// How keys begin that nobody could take for anything else.
const BEGINNINGS: [&str; 2] = ["whsec_", "sk-ant-"];

/// Names that a secret would stand under.
const NAMES: [&str; 16] = [
    "adminapikey",
    "adminkey",
    "adminkeys",
    "anthropicapikey",
    "apikey",
    "apikeys",
    "key",
    "keys",
    "password",
    "secret",
    "secretkey",
    "secrets",
    "signingkey",
    "signingkeys",
    "signingsecret",
    "token",
];

/// Whether a text holds what looks like a key.
pub(super) fn is_in(text: &str) -> bool {
    BEGINNINGS.iter().any(|beginning| text.contains(beginning))
}

/// The same for a value, however deep.
pub(super) fn is_within(value: &DeValue<'_>) -> bool {
    match value {
        DeValue::String(text) => is_in(text),
        DeValue::Array(values) => values.iter().any(|value| is_within(value.get_ref())),
        DeValue::Table(table) => {
            table.iter().any(|(name, value)| is_in(name.get_ref()) || is_within(value.get_ref()))
        }
        _ => false,
    }
}

/// Whether a key of the file is called as if a secret were to stand there.
pub(super) fn is_named_by(name: &str) -> bool {
    let letters: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    NAMES.contains(&letters.as_str())
        || ["webhooksecret", "webhookkey"].iter().any(|ending| letters.ends_with(ending))
}

/// A name as a fault may repeat it: one that somebody made up for a table or a key, and nothing else.
pub(super) fn is_plain(name: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&name.len()) && name.bytes().all(is_of_name) && !is_in(name)
}
