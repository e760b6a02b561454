//! The parsers of what is secret: webhook keys, the API key, the address of the database.
//!
//! What they say of a bad value names its position in a list, never its text.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::SecretString;
use url::Url;

use super::SigningKey;
use super::reader::Reader;

pub(super) const SIGNING_KEY: &str = "ANTHROPIC_WEBHOOK_SIGNING_KEY";
pub(super) const WEBHOOK_SECRET: &str = "ANTHROPIC_WEBHOOK_SECRET";

/// What Standard Webhooks recommends a key to have at least (its specification says 24 to 64).
const RECOMMENDED_BYTES: usize = 24;

/// Below this a signing key is taken for a fragment of one, cut by a copy.
const SIGNING_KEY_BYTES_MIN: usize = 16;

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
    let mut short = Vec::new();
    let keys = reader.parsed(SIGNING_KEY, |list| {
        entries(list, "key")?
            .map(|(position, entry)| {
                let key = signing_key(entry).map_err(|problem| {
                    let mend = "Copy each key from the Console as it stands there: whsec_ and base64, separated \
                                from the next by a space or a comma";
                    (format!("key {position} {problem}"), mend.to_owned())
                })?;
                if key.len() < RECOMMENDED_BYTES {
                    short.push(position);
                }
                Ok(key.into())
            })
            .collect::<Fallible<Vec<SigningKey>>>()
    })?;
    warn_of_short(reader, SIGNING_KEY, "key", &short);
    Some(keys.unwrap_or_default())
}

/// The raw secrets of the older scheme; none where the variable is absent.
pub(super) fn webhook_secrets(reader: &mut Reader<'_>) -> Option<Vec<SigningKey>> {
    let mut short = Vec::new();
    let mut misplaced = Vec::new();
    let secrets = reader.parsed(WEBHOOK_SECRET, |list| {
        entries(list, "secret")?
            .map(|(position, secret)| {
                if secret.len() < WEBHOOK_SECRET_BYTES_MIN {
                    let problem =
                        format!("secret {position} is shorter than {WEBHOOK_SECRET_BYTES_MIN} bytes");
                    let mend = "Give whole secrets, separated by a space or a comma".to_owned();
                    return Err((problem, mend));
                }
                if secret.starts_with("whsec_") {
                    misplaced.push(position);
                }
                if secret.len() < RECOMMENDED_BYTES {
                    short.push(position);
                }
                Ok(secret.as_bytes().to_vec().into())
            })
            .collect::<Fallible<Vec<SigningKey>>>()
    })?;
    warn_of_short(reader, WEBHOOK_SECRET, "secret", &short);
    for position in misplaced {
        let message =
            format!("secret {position} looks like a signing key, and those belong into {SIGNING_KEY}");
        reader.warn(WEBHOOK_SECRET, message);
    }
    Some(secrets.unwrap_or_default())
}

/// The API key as a header can carry it.
pub(super) fn api_key(value: &str) -> Fallible<SecretString> {
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
    match Url::parse(value) {
        Ok(url) if matches!(url.scheme(), "postgres" | "postgresql") => Ok(value.to_owned().into()),
        parsed => {
            let problem = match parsed {
                Ok(_) => "it is not the URL of a Postgres database",
                Err(_) => "it cannot be read as a URL",
            };
            let mend = "Write it like postgres://user:password@host:5432/database, with %-escapes for the \
                        characters @ : / ? # % in the password";
            Err((problem.to_owned(), mend.to_owned()))
        }
    }
}

fn signing_key(entry: &str) -> Result<Vec<u8>, String> {
    let encoded = entry.strip_prefix("whsec_").unwrap_or(entry);
    if encoded.is_empty() {
        return Err("is empty".to_owned());
    }
    let key = BASE64.decode(encoded).map_err(|_| "is not base64".to_owned())?;
    if key.len() < SIGNING_KEY_BYTES_MIN {
        return Err(format!("is shorter than {SIGNING_KEY_BYTES_MIN} bytes"));
    }
    Ok(key)
}

/// The entries of a list, at least one, each with its position from 1.
fn entries<'a>(list: &'a str, word: &str) -> Fallible<impl Iterator<Item = (usize, &'a str)>> {
    let separated = list.split([',', ' ', '\t', '\r', '\n']).filter(|entry| !entry.is_empty());
    if separated.clone().next().is_none() {
        return Err((format!("it holds no {word}"), format!("Put a {word} into it")));
    }
    Ok((1..).zip(separated))
}

fn warn_of_short(reader: &mut Reader<'_>, name: &str, word: &str, positions: &[usize]) {
    for position in positions {
        let message = format!(
            "{word} {position} is shorter than the {RECOMMENDED_BYTES} bytes that Standard Webhooks recommends"
        );
        reader.warn(name, message);
    }
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
        assert_eq!(loaded.warnings, []);
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
        ] {
            assert_eq!(faults(SIGNING_KEY, &format!("{good} {bad}")), [problem]);
        }
        assert_eq!(faults(SIGNING_KEY, ", ,"), ["it holds no key"]);
    }

    #[test]
    fn short_or_misplaced_keys_are_warned_of() {
        let short = "is shorter than the 24 bytes that Standard Webhooks recommends";
        assert_eq!(warnings(SIGNING_KEY, "whsec_AAECAwQFBgcICQoLDA0ODw=="), [format!("key 1 {short}")]);
        assert_eq!(warnings(WEBHOOK_SECRET, "s3cret"), [format!("secret 1 {short}")]);
        assert_eq!(
            warnings(WEBHOOK_SECRET, "whsec_AAECAwQFBgcICQoLDA0ODxAR"),
            ["secret 1 looks like a signing key, and those belong into ANTHROPIC_WEBHOOK_SIGNING_KEY"]
        );
    }

    #[test]
    fn webhook_secrets_are_taken_as_they_are() {
        let loaded = load(WEBHOOK_SECRET, "s3cret,another-secret-of-some-length").unwrap();

        let secrets: Vec<_> =
            loaded.config.webhook_secrets.iter().map(|s| s.expose_secret().to_vec()).collect();
        assert_eq!(secrets, [b"s3cret".to_vec(), b"another-secret-of-some-length".to_vec()]);
        assert_eq!(faults(WEBHOOK_SECRET, "s3cret short"), ["secret 2 is shorter than 6 bytes"]);
        assert_eq!(faults(WEBHOOK_SECRET, ","), ["it holds no secret"]);
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
        for bad in ["sk ant", "sk\nant", "sk-änt"] {
            assert!(api_key(bad).is_err(), "{bad:?}");
        }
    }
}
