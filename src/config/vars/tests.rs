//! Where values come from, and the faults that any variable can have.

use secrecy::ExposeSecret;

use super::super::Tool;
use super::super::tests::{no_files, vars};
use super::*;

fn faults_of(variables: &[(&str, &str)], read: ReadFile<'_>) -> Vec<String> {
    let faults = Tool::from_vars(vars(variables), read).map(drop).unwrap_err();
    faults.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_secret_comes_from_the_file_that_its_sibling_names_without_the_last_newline() {
    let read = |path: &Path| {
        assert_eq!(path, Path::new("/run/secrets/api-key"));
        Ok("sk-ant-1\r\n".to_owned())
    };

    let loaded = Tool::from_vars(vars(&[("ANTHROPIC_API_KEY_FILE", "/run/secrets/api-key")]), &read).unwrap();

    assert_eq!(loaded.config.api.unwrap().key.expose_secret(), "sk-ant-1");
}

#[test]
fn a_secret_that_is_given_twice_is_a_fault() {
    let faults = faults_of(&[("DATABASE_URL", "postgres://a/b"), ("DATABASE_URL_FILE", "/x")], &no_files);

    assert_eq!(
        faults,
        ["DATABASE_URL: it is set, and DATABASE_URL_FILE is set as well. \
          Keep DATABASE_URL or DATABASE_URL_FILE, and unset the other."]
    );
}

#[test]
fn a_file_that_is_empty_or_away_is_a_fault() {
    let empty = |_: &Path| Ok("\n".to_owned());

    assert_eq!(
        faults_of(&[("DATABASE_URL_FILE", "/x")], &empty),
        ["DATABASE_URL_FILE: the file is empty. Put the secret into it, and nothing else."]
    );
    assert_eq!(
        faults_of(&[("DATABASE_URL_FILE", "/x")], &no_files),
        ["DATABASE_URL_FILE: the file cannot be read (entity not found). \
          Give the path of a text file that this program may read."]
    );
}

#[test]
fn a_byte_order_mark_is_left_out_and_told() {
    let read = |_: &Path| Ok("\u{feff}sk-ant-1\r\n".to_owned());
    let told = |variable: &str| {
        format!("{variable}: a byte order mark before it is ignored: save the file as UTF-8 without one")
    };

    for (variable, value) in [("ANTHROPIC_API_KEY_FILE", "/x"), ("ANTHROPIC_API_KEY", "\u{feff}sk-ant-1")] {
        let loaded = Tool::from_vars(vars(&[(variable, value)]), &read).unwrap();
        assert_eq!(loaded.config.api.unwrap().key.expose_secret(), "sk-ant-1");
        assert_eq!(loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [told(variable)]);
    }
    let only_a_mark = |_: &Path| Ok("\u{feff}\n".to_owned());
    assert_eq!(
        faults_of(&[("ANTHROPIC_API_KEY_FILE", "/x")], &only_a_mark),
        ["ANTHROPIC_API_KEY_FILE: the file is empty. Put the secret into it, and nothing else."]
    );
    let marked = Tool::from_vars(vars(&[("\u{feff}DATABASE_URL", "postgres://a/b")]), &no_files).unwrap();
    assert_eq!(
        marked.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "DATABASE_URL: a byte order mark is before its name, so no program finds it: save the file as UTF-8 \
          without one"
        ]
    );
}

#[test]
fn a_value_in_quotes_is_a_fault_of_every_variable() {
    let quoted = |_: &Path| Ok("'sk-ant-1'\n".to_owned());
    for (name, value) in [
        ("ANTHROPIC_API_KEY", "\"sk-ant-1\""),
        ("ANTHROPIC_API_KEY_FILE", "/x"),
        ("ANTHROPIC_WEBHOOK_SECRET", "'a passphrase of mine'"),
        (
            "ANTHROPIC_WEBHOOK_SIGNING_KEY",
            "\u{201c}whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\u{201d}",
        ),
        ("DATABASE_URL", "'postgres://a/b'"),
        ("RESTANTE_LOG", "\"json\""),
    ] {
        let faults = faults_of(&[(name, value)], &quoted);
        let name = name.trim_end_matches("_FILE");
        assert!(
            faults.len() == 1 && faults[0].starts_with(&format!("{name}: it is in quotes")),
            "{name}: {faults:?}"
        );
    }
}

#[test]
fn an_empty_value_is_the_same_as_none() {
    let loaded =
        Tool::from_vars(vars(&[("DATABASE_URL", ""), ("DATABASE_URL_FILE", " ")]), &no_files).unwrap();

    assert!(loaded.config.database_url.is_none());
}

#[test]
fn addresses_and_filters_that_cannot_be_read_are_faults() {
    for (name, value) in [
        ("RESTANTE_OPS_LISTEN", "localhost:8080"),
        ("RESTANTE_OPS_LISTEN", ":8080"),
        ("RUST_LOG", "restante=loud"),
        ("RESTANTE_LOG", "JSON"),
    ] {
        let faults = faults_of(&[(name, value)], &no_files);
        assert!(faults.len() == 1 && faults[0].starts_with(name), "{name}={value}: {faults:?}");
    }
}
