//! Which keys and secrets are accepted, which are refused, and which cause a warning.

use super::super::tests::{LEAST, no_files, vars};
use super::super::{Faults, Ingest, Loaded};
use super::*;

const SIGNING_KEY: &str = "ANTHROPIC_WEBHOOK_SIGNING_KEY";
const WEBHOOK_SECRET: &str = "ANTHROPIC_WEBHOOK_SECRET";

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
        loaded.config.senders[0].keys.standard.iter().map(|key| key.expose_secret().to_vec()).collect();
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
            "key 2 contains a quote, which counts as a part of it",
        ),
        (
            "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='",
            "key 2 contains a quote, which counts as a part of it",
        ),
    ] {
        assert_eq!(faults(SIGNING_KEY, &format!("{good} {bad}")), [problem]);
        assert_eq!(faults(SIGNING_KEY, &format!("{good},{bad}")), [problem]);
    }
    assert_eq!(faults(SIGNING_KEY, ", ,"), ["it contains no key"]);
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
            "secret 1 looks like a signing key, which belongs into ANTHROPIC_WEBHOOK_SIGNING_KEY",
        ),
        (
            "one-secret-of-some-length,another-secret-of-some-length",
            "secret 1 contains a comma, which counts as a part of it: put several secrets on a line each",
        ),
        (
            "\"a-secret-of-some-length-x",
            "secret 1 begins or ends with a quote, which counts as a part of it: remove the quote if it is not",
        ),
        (
            "a-secret-of\u{200b}-some-length",
            "secret 1 contains U+200B, an invisible character: type the secret again",
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
            loaded.config.senders[0].keys.older.iter().map(|s| s.expose_secret().to_vec()).collect();
        assert_eq!(secrets, expected.iter().map(|secret| secret.as_bytes().to_vec()).collect::<Vec<_>>());
    }
    assert_eq!(faults(WEBHOOK_SECRET, "s3cret\nshort"), ["secret 2 is shorter than 6 bytes"]);
    for placeholder in
        ["changeme", "Change-Me", "whsec_...", "<your secret>", "your-webhook-secret", "xxxxxxxx", "***"]
    {
        assert_eq!(faults(WEBHOOK_SECRET, placeholder), ["secret 1 is a placeholder"], "{placeholder}");
    }
    let quoted = "secret 2 is in quotes, which count as a part of it";
    for secret in ["'a secret'", "\"a secret\"", "\u{201c}a secret\u{201d}"] {
        assert_eq!(faults(WEBHOOK_SECRET, &format!("s3cret\n{secret}")), [quoted], "{secret}");
    }
}

#[test]
fn a_database_url_is_one_of_postgres() {
    for good in
        ["postgres://db/restante", "postgresql://u:p@[::1]:5432/x?sslmode=require", "postgres:///x?host=/s"]
    {
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
