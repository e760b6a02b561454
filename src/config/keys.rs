//! The parsers of the secret variables: webhook keys, the API key, the address of the database.
//!
//! A fault names the position of a bad value in its list, never its text.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::placeholder::is_placeholder;
use super::quotes::{QUOTES, is_in_quotes};
use super::variable::{Fallible, unfit};
use crate::database::{Unusable, servers};
use crate::page::User;

#[cfg(test)]
mod tests;

/// The decoded bytes of a webhook signing key.
pub type SigningKey = SecretSlice<u8>;

/// The length of the API's own signing keys. Other senders of Standard Webhooks make keys of 24 to 64 bytes.
const SIGNING_KEY_BYTES: usize = 32;

/// A shorter signing key counts as incompletely copied.
const SIGNING_KEY_BYTES_MIN: usize = 16;

/// The least that Standard Webhooks recommends for a key: a shorter secret can be guessed.
const WEBHOOK_SECRET_BYTES_RECOMMENDED: usize = 24;

/// Long enough for `s3cret`, the secret of the published example of the older scheme.
const WEBHOOK_SECRET_BYTES_MIN: usize = 6;

/// The official SDKs take a key with or without its padding and ignore its spare bits, so this does the same.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The decoded `whsec_` keys of a list.
pub(super) fn signing_keys(list: &str) -> Fallible<Vec<SigningKey>> {
    let mend =
        "Copy each key from the Console unchanged: whsec_ and base64, separated from the next by a comma";
    entries(list.split([',', ' ', '\t', '\r', '\n']), "key")?
        .map(|(position, entry)| {
            let key = signing_key(entry);
            key.map(Into::into).map_err(|problem| unfit(format!("key {position} {problem}"), mend))
        })
        .collect()
}

pub(super) fn signing_key_doubts(keys: &[SigningKey]) -> Vec<String> {
    let lengths = (1..).zip(keys.iter().map(|key| key.expose_secret().len()));
    lengths
        .filter(|(_, bytes)| *bytes != SIGNING_KEY_BYTES)
        .map(|(position, bytes)| {
            format!(
                "key {position} has {bytes} bytes, and those of the Claude API have {SIGNING_KEY_BYTES}: copy it once \
                 more, unless another sender gave it to you"
            )
        })
        .collect()
}

/// The raw secrets of the older scheme, one a line. A line is one secret even if it contains blanks: it may be a
/// passphrase.
pub(super) fn webhook_secrets(list: &str) -> Fallible<Vec<SigningKey>> {
    let mend = "Give whole secrets, as the sender has them, one a line and without quotes";
    entries(list.lines(), "secret")?
        .map(|(position, secret)| match webhook_secret_problem(secret) {
            None => Ok(secret.as_bytes().to_vec().into()),
            Some(problem) => Err(unfit(format!("secret {position} {problem}"), mend)),
        })
        .collect()
}

pub(super) fn webhook_secret_doubts(secrets: &[SigningKey]) -> Vec<String> {
    // They were read from text, so none is skipped here.
    let texts = secrets.iter().filter_map(|secret| str::from_utf8(secret.expose_secret()).ok());
    (1..)
        .zip(texts)
        .flat_map(|(position, secret)| {
            webhook_secret_oddities(secret).map(move |odd| format!("secret {position} {odd}"))
        })
        .collect()
}

/// Why this cannot be a sender's secret.
fn webhook_secret_problem(secret: &str) -> Option<String> {
    if is_in_quotes(secret) {
        Some("is in quotes, which count as a part of it".to_owned())
    } else if is_placeholder(secret) {
        Some("is a placeholder".to_owned())
    } else if secret.len() < WEBHOOK_SECRET_BYTES_MIN {
        Some(format!("is shorter than {WEBHOOK_SECRET_BYTES_MIN} bytes"))
    } else {
        None
    }
}

/// Likely mistakes in a secret that is usable.
fn webhook_secret_oddities(secret: &str) -> impl Iterator<Item = String> {
    let recommended = WEBHOOK_SECRET_BYTES_RECOMMENDED;
    let unseen = secret.chars().find(|character| {
        character.is_control()
            || matches!(character, '\u{a0}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    });
    [
        secret
            .starts_with("whsec_")
            .then(|| "looks like a signing key, which belongs into ANTHROPIC_WEBHOOK_SIGNING_KEY".to_owned()),
        (secret.len() < recommended)
            .then(|| format!("is shorter than the {recommended} bytes that Standard Webhooks recommends")),
        secret.contains(',').then(|| {
            "contains a comma, which counts as a part of it: put several secrets on a line each".to_owned()
        }),
        secret.trim_matches(QUOTES).ne(secret).then(|| {
            "begins or ends with a quote, which counts as a part of it: remove the quote if it is not"
                .to_owned()
        }),
        unseen.map(|unseen| {
            format!("contains U+{:04X}, an invisible character: type the secret again", u32::from(unseen))
        }),
    ]
    .into_iter()
    .flatten()
}

/// Those who may look at the ops page, one a line.
pub(super) fn ops_users(list: &str) -> Fallible<Vec<User>> {
    let mend = format!("Put a line for each into it, as `{}` prints it", User::MADE_WITH);
    entries(list.lines(), "user")?
        .map(|(position, line)| {
            User::read(line).map_err(|problem| unfit(format!("user {position} {problem}"), mend.as_str()))
        })
        .collect()
}

/// A shorter token could be guessed.
const STREAM_TOKEN_BYTES_MIN: usize = 16;

/// The token that readers of messages show.
pub(super) fn stream_token(value: &str) -> Fallible<SecretString> {
    let mend = "Make one with `openssl rand -hex 32`";
    if is_placeholder(value) {
        return Err(unfit("it is a placeholder", mend));
    }
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unfit("it contains a blank or a character that is not allowed in an HTTP header", mend));
    }
    if value.len() < STREAM_TOKEN_BYTES_MIN {
        return Err(unfit(format!("it is shorter than {STREAM_TOKEN_BYTES_MIN} bytes"), mend));
    }
    Ok(value.to_owned().into())
}

/// The API key as a header can carry it.
pub(super) fn api_key(value: &str) -> Fallible<SecretString> {
    if is_placeholder(value) {
        return Err(unfit("it is a placeholder", "Copy the key from the Console, under API keys"));
    }
    if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(value.to_owned().into());
    }
    Err(unfit(
        "it contains a blank or a character that is not allowed in an HTTP header",
        "Copy the key again, without quotes or line breaks",
    ))
}

/// The address of the database, which usually contains a password.
pub(super) fn database_url(value: &str) -> Fallible<SecretString> {
    match servers(value) {
        Ok(_) => Ok(value.to_owned().into()),
        Err(Unusable { problem, mend }) => Err(unfit(problem, mend)),
    }
}

fn signing_key(entry: &str) -> Result<Vec<u8>, String> {
    if entry.contains(QUOTES) {
        return Err("contains a quote, which counts as a part of it".to_owned());
    }
    let encoded = entry.strip_prefix("whsec_").unwrap_or(entry);
    if encoded.is_empty() {
        return Err("is empty".to_owned());
    }
    let key = BASE64.decode(encoded);
    let is_whole = key.as_ref().is_ok_and(|key| key.len() >= SIGNING_KEY_BYTES_MIN);
    // The letters of a real key may happen to form a word.
    let is_placeholder = if is_whole {
        encoded.bytes().all(|byte| byte == b'x' || byte == b'X')
    } else {
        is_placeholder(entry)
    };
    if is_placeholder {
        return Err("is a placeholder".to_owned());
    }
    let key = key.map_err(|_| "is not base64".to_owned())?;
    if !is_whole {
        return Err(format!("is shorter than {SIGNING_KEY_BYTES_MIN} bytes"));
    }
    Ok(key)
}

/// The entries of a list that are not blank, at least one, each with its position from 1.
fn entries<'a>(
    separated: impl Iterator<Item = &'a str>,
    word: &str,
) -> Fallible<impl Iterator<Item = (usize, &'a str)>> {
    let mut entries = separated.map(str::trim).filter(|entry| !entry.is_empty()).peekable();
    if entries.peek().is_none() {
        return Err(unfit(format!("it contains no {word}"), format!("Put a {word} into it")));
    }
    Ok((1..).zip(entries))
}
