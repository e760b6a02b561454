//! The parsers of what is secret: webhook keys, the API key, the address of the database.
//!
//! What they say of a bad value names its position in a list, never its text.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;

use super::SigningKey;
use super::placeholder::is_placeholder;
use super::quotes::{QUOTES, is_in_quotes};
use super::reader::Reader;
use crate::database::{Unusable, servers};

pub(super) const SIGNING_KEY: &str = "ANTHROPIC_WEBHOOK_SIGNING_KEY";
pub(super) const WEBHOOK_SECRET: &str = "ANTHROPIC_WEBHOOK_SECRET";

/// What the API's own signing keys have. Other senders of Standard Webhooks make keys of 24 to 64 bytes.
const SIGNING_KEY_BYTES: usize = 32;

/// Below this a signing key is taken for a fragment of one, cut by a copy.
const SIGNING_KEY_BYTES_MIN: usize = 16;

/// Below this a secret can be guessed: what Standard Webhooks recommends a key to have at least.
const WEBHOOK_SECRET_BYTES_RECOMMENDED: usize = 24;

/// Long enough for `s3cret`, the secret of the published example of the older scheme.
const WEBHOOK_SECRET_BYTES_MIN: usize = 6;

/// Official SDKs take a key with or without its padding and do not look at its spare bits, so this does not either.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

type Fallible<T> = Result<T, (String, String)>;

/// The decoded `whsec_` keys; none where the variable is absent.
pub(super) fn signing_keys(reader: &mut Reader<'_>) -> Option<Vec<SigningKey>> {
    let mut odd = Vec::new();
    let keys = reader.parsed(SIGNING_KEY, |list| {
        let separated = list.split([',', ' ', '\t', '\r', '\n']);
        entries(separated, "key")?
            .map(|(position, entry)| {
                let key = signing_key(entry).map_err(|problem| {
                    let mend = "Copy each key from the Console as it stands there: whsec_ and base64, separated \
                                from the next by a comma";
                    (format!("key {position} {problem}"), mend.to_owned())
                })?;
                if key.len() != SIGNING_KEY_BYTES {
                    odd.push((position, key.len()));
                }
                Ok(key.into())
            })
            .collect::<Fallible<Vec<SigningKey>>>()
    })?;
    for (position, bytes) in odd {
        let message = format!(
            "key {position} has {bytes} bytes, and those of the Claude API have {SIGNING_KEY_BYTES}: copy it once more, \
             unless another sender gave it to you"
        );
        reader.warn(SIGNING_KEY, message);
    }
    Some(keys.unwrap_or_default())
}

/// The raw secrets of the older scheme, one a line; none where the variable is absent. A line is taken whole: words of a
/// passphrase are no secrets.
pub(super) fn webhook_secrets(reader: &mut Reader<'_>) -> Option<Vec<SigningKey>> {
    let mut warnings = Vec::new();
    let secrets = reader.parsed(WEBHOOK_SECRET, |list| {
        entries(list.lines(), "secret")?
            .map(|(position, secret)| {
                webhook_secret_problem(secret).map_or(Ok(()), |problem| {
                    let mend = "Give whole secrets, as the sender has them, one a line and without quotes";
                    Err((format!("secret {position} {problem}"), mend.to_owned()))
                })?;
                warnings
                    .extend(webhook_secret_oddities(secret).map(|odd| format!("secret {position} {odd}")));
                Ok(secret.as_bytes().to_vec().into())
            })
            .collect::<Fallible<Vec<SigningKey>>>()
    })?;
    for warning in warnings {
        reader.warn(WEBHOOK_SECRET, warning);
    }
    Some(secrets.unwrap_or_default())
}

/// Why no sender can have this secret.
fn webhook_secret_problem(secret: &str) -> Option<String> {
    if is_in_quotes(secret) {
        Some("stands in quotes, and here they are a part of it".to_owned())
    } else if is_placeholder(secret) {
        Some("is a placeholder".to_owned())
    } else if secret.len() < WEBHOOK_SECRET_BYTES_MIN {
        Some(format!("is shorter than {WEBHOOK_SECRET_BYTES_MIN} bytes"))
    } else {
        None
    }
}

/// What looks like a mistake in a secret, and may be none.
fn webhook_secret_oddities(secret: &str) -> impl Iterator<Item = String> {
    let recommended = WEBHOOK_SECRET_BYTES_RECOMMENDED;
    let unseen = secret.chars().find(|character| {
        character.is_control()
            || matches!(character, '\u{a0}' | '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
    });
    [
        secret
            .starts_with("whsec_")
            .then(|| format!("looks like a signing key, and those belong into {SIGNING_KEY}")),
        (secret.len() < recommended)
            .then(|| format!("is shorter than the {recommended} bytes that Standard Webhooks recommends")),
        secret
            .contains(',')
            .then(|| "holds a comma, which is a part of it: several secrets stand one a line".to_owned()),
        secret.trim_matches(QUOTES).ne(secret).then(|| {
            "begins or ends with a quote, which is a part of it: take it away if it is not".to_owned()
        }),
        unseen.map(|unseen| {
            format!("holds U+{:04X}, a character that nobody sees: type the secret anew", u32::from(unseen))
        }),
    ]
    .into_iter()
    .flatten()
}

/// The API key as a header can carry it.
pub(super) fn api_key(value: &str) -> Fallible<SecretString> {
    if is_placeholder(value) {
        let mend = "Copy the key from the Console, under API keys".to_owned();
        return Err(("it is a placeholder".to_owned(), mend));
    }
    if value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(value.to_owned().into());
    }
    Err((
        "it holds a blank or a character that no HTTP header can carry".to_owned(),
        "Copy the key once more, without quotes or line breaks".to_owned(),
    ))
}

/// The address of the database, which commonly holds a password.
pub(super) fn database_url(value: &str) -> Fallible<SecretString> {
    match servers(value) {
        Ok(_) => Ok(value.to_owned().into()),
        Err(Unusable { problem, mend }) => Err((problem.to_owned(), mend.to_owned())),
    }
}

fn signing_key(entry: &str) -> Result<Vec<u8>, String> {
    if entry.contains(QUOTES) {
        return Err("holds a quote, which here is a part of it".to_owned());
    }
    let encoded = entry.strip_prefix("whsec_").unwrap_or(entry);
    if encoded.is_empty() {
        return Err("is empty".to_owned());
    }
    let key = BASE64.decode(encoded);
    let is_whole = key.as_ref().is_ok_and(|key| key.len() >= SIGNING_KEY_BYTES_MIN);
    // Letters of a real key may happen to make a word.
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
        return Err((format!("it holds no {word}"), format!("Put a {word} into it")));
    }
    Ok((1..).zip(entries))
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::super::tests::{LEAST, no_files, vars};
    use super::super::{Faults, Ingest, Loaded};
    use super::*;

    fn load(name: &str, value: &str) -> Result<Loaded<Ingest>, Faults> {
        Ingest::from_vars(vars(&[LEAST[0], (name, value)]), &no_files)
    }

    fn faults(name: &str, value: &str) -> Vec<String> {
        let faults = load(name, value).map(drop).unwrap_err();
        faults.faults.iter().map(|fault| fault.problem.clone()).collect()
    }

    fn warnings(name: &str, value: &str) -> Vec<String> {
        load(name, value).unwrap().warnings.iter().map(|warning| warning.message.clone()).collect()
    }

    #[test]
    fn signing_keys_are_decoded_padded_or_not_and_separated_by_space_or_comma() {
        let padded = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let all_ones = "whsec_//////////////////////////////////////////8";
        let bare = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

        let loaded = load(SIGNING_KEY, &format!("{padded},  {all_ones} {bare}\n")).unwrap();

        let keys: Vec<_> =
            loaded.config.signing_keys.iter().map(|key| key.expose_secret().to_vec()).collect();
        assert_eq!(keys, [(0..32).collect::<Vec<u8>>(), vec![0xff; 32], (0..24).collect()]);
        let odd = "key 3 has 24 bytes, and those of the Claude API have 32: copy it once more, unless another sender gave it to you";
        assert_eq!(loaded.warnings.iter().map(|warning| &warning.message).collect::<Vec<_>>(), [odd]);
        assert!(!format!("{:?}", loaded.config).contains("255"), "{:?}", loaded.config);
    }

    #[test]
    fn a_bad_signing_key_is_named_by_its_position() {
        let good = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        for (bad, problem) in [
            ("whsec_", "key 2 is empty"),
            ("whsec_whsec_AAECAwQFBgcICQoLDA0ODw==", "key 2 is not base64"),
            ("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh-_", "key 2 is not base64"),
            ("whsec_AAECAwQFBgcICQoLDA0O", "key 2 is shorter than 16 bytes"),
            ("whsec_...", "key 2 is a placeholder"),
            ("...", "key 2 is a placeholder"),
            ("changeme", "key 2 is a placeholder"),
            ("whsec_your_key_here", "key 2 is a placeholder"),
            ("whsec_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "key 2 is a placeholder"),
            ("${ANTHROPIC_WEBHOOK_SIGNING_KEY}", "key 2 is a placeholder"),
            (
                "\"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"",
                "key 2 holds a quote, which here is a part of it",
            ),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='",
                "key 2 holds a quote, which here is a part of it",
            ),
        ] {
            assert_eq!(faults(SIGNING_KEY, &format!("{good} {bad}")), [problem]);
            assert_eq!(faults(SIGNING_KEY, &format!("{good},{bad}")), [problem]);
        }
        assert_eq!(faults(SIGNING_KEY, ", ,"), ["it holds no key"]);
    }

    #[test]
    fn keys_and_secrets_that_look_like_a_mistake_are_warned_of() {
        let odd = |bytes: usize| {
            format!(
                "key 1 has {bytes} bytes, and those of the Claude API have 32: copy it once more, unless another \
                 sender gave it to you"
            )
        };
        for bytes in [16, 24, 31, 33, 64] {
            let key = format!("whsec_{}", BASE64.encode(vec![7; bytes]));
            assert_eq!(warnings(SIGNING_KEY, &key), [odd(bytes)]);
        }
        assert_eq!(warnings(SIGNING_KEY, &format!("whsec_{}", BASE64.encode([7; 32]))), [""; 0]);
        let short = "secret 1 is shorter than the 24 bytes that Standard Webhooks recommends";
        for (secret, told) in [
            ("s3cret", short),
            (
                "whsec_AAECAwQFBgcICQoLDA0ODxAR",
                "secret 1 looks like a signing key, and those belong into ANTHROPIC_WEBHOOK_SIGNING_KEY",
            ),
            (
                "one-secret-of-some-length,another-secret-of-some-length",
                "secret 1 holds a comma, which is a part of it: several secrets stand one a line",
            ),
            (
                "\"a-secret-of-some-length-x",
                "secret 1 begins or ends with a quote, which is a part of it: take it away if it is not",
            ),
            (
                "a-secret-of\u{200b}-some-length",
                "secret 1 holds U+200B, a character that nobody sees: type the secret anew",
            ),
        ] {
            assert_eq!(warnings(WEBHOOK_SECRET, secret), [told], "{secret}");
        }
    }

    #[test]
    fn a_webhook_secret_is_a_whole_line_and_no_word_of_it() {
        let passphrase = "correct horse, battery staple";
        for (value, expected) in [
            (passphrase.to_owned(), vec![passphrase]),
            (
                format!(" {passphrase} \n\n\tanother secret of some length\r\n"),
                vec![passphrase, "another secret of some length"],
            ),
            ("s3cret,s3cret".to_owned(), vec!["s3cret,s3cret"]),
            ("your majesty likes his tea".to_owned(), vec!["your majesty likes his tea"]),
        ] {
            let loaded = load(WEBHOOK_SECRET, &value).unwrap();
            let secrets: Vec<_> =
                loaded.config.webhook_secrets.iter().map(|s| s.expose_secret().to_vec()).collect();
            assert_eq!(secrets, expected.iter().map(|secret| secret.as_bytes().to_vec()).collect::<Vec<_>>());
        }
        assert_eq!(faults(WEBHOOK_SECRET, "s3cret\nshort"), ["secret 2 is shorter than 6 bytes"]);
        for placeholder in
            ["changeme", "Change-Me", "whsec_...", "<your secret>", "your-webhook-secret", "xxxxxxxx", "***"]
        {
            assert_eq!(faults(WEBHOOK_SECRET, placeholder), ["secret 1 is a placeholder"], "{placeholder}");
        }
        let quoted = "secret 2 stands in quotes, and here they are a part of it";
        for secret in ["'a secret'", "\"a secret\"", "\u{201c}a secret\u{201d}"] {
            assert_eq!(faults(WEBHOOK_SECRET, &format!("s3cret\n{secret}")), [quoted], "{secret}");
        }
    }

    #[test]
    fn a_database_url_is_one_of_postgres() {
        for good in [
            "postgres://db/restante",
            "postgresql://u:p@[::1]:5432/x?sslmode=require",
            "postgres:///x?host=/s",
        ] {
            assert!(database_url(good).is_ok(), "{good}");
        }
        for bad in ["mysql://db/restante", "db:5432/restante", "localhost", "postgres://u:p@ss:w/rd@db/x"] {
            assert!(database_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_api_key_fits_into_a_header() {
        assert!(api_key("sk-ant-api03-x_y").is_ok());
        for bad in ["sk ant", "sk\nant", "sk-änt", "sk-ant-...", "changeme", "<your key>"] {
            assert!(api_key(bad).is_err(), "{bad:?}");
        }
    }
}
