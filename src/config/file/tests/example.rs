//! `restante.example.toml`, made from the declarations of the keys.

use std::fmt::Write as _;

use super::*;
use crate::config::help::wrapped;
use crate::config::{FILE_KEYS, Kind};

/// What the example has to say: every key, commented out.
fn example() -> String {
    let mut text = String::from(
        "# Senders and accounts beside those that variables give. Copy this file, take away the `# ` of what you need, and name the\n\
         # copy by RESTANTE_CONFIG. Ingest, the worker and the hand tool read the same one. No secret stands in it: a key stands in a\n\
         # file or a variable, and is named here. What changes, in it or in a file that it names, is in force some seconds later.\n",
    );
    for (kind, name, meaning) in [
        (
            Kind::Sender,
            "openai",
            "who sends webhooks, to /webhooks/NAME; the sender anthropic is that of the environment",
        ),
        (Kind::Account, "second", "a workspace or an organization of the Claude API, with a key of its own"),
    ] {
        writeln!(text, "\n# [{}.NAME]: {meaning}\n# [{0}.{name}]", kind.word()).unwrap();
        for key in FILE_KEYS.iter().filter(|key| key.kind == kind) {
            text.push('\n');
            for line in wrapped(key.meaning, 100) {
                writeln!(text, "#   {line}").unwrap();
            }
            let default =
                key.default.map(|default| format!("Default {default}; s")).unwrap_or("S".to_owned());
            writeln!(text, "#   {default}ince {}.\n# {} = {}", key.since, key.name, key.example).unwrap();
        }
    }
    text
}

#[test]
fn the_example_file_lists_every_key_with_its_default() {
    expect_test::expect_file!["../../../../restante.example.toml"].assert_eq(&example());
}

#[test]
fn the_example_is_valid_when_it_is_taken_at_its_word() {
    let is_of_toml = |line: &&str| {
        line.starts_with('[') && line.ends_with(']')
            || FILE_KEYS.iter().any(|key| line.split(" = ").next() == Some(key.name))
    };
    let lines: Vec<_> = include_str!("../../../../restante.example.toml")
        .lines()
        .filter_map(|line| line.strip_prefix("# "))
        .filter(is_of_toml)
        .collect();
    assert_eq!(lines.len(), FILE_KEYS.len() + 2, "{lines:?}");
    // Of two ways to name a secret, one is taken.
    for other_way in ["_env", "_file"] {
        let text: Vec<_> = lines
            .iter()
            .filter(|line| !line.split(" = ").next().unwrap().ends_with(other_way))
            .copied()
            .collect();
        let text = text.join("\n");
        let read = |path: &Path| match path.to_str().unwrap() {
            FILE => Ok(text.clone()),
            "/etc/restante/openai-signing-keys" => Ok(KEY.to_owned()),
            "/etc/restante/second-api-key" | "/etc/restante/second-admin-key" => Ok("sk-ant-1".to_owned()),
            other => panic!("{other}"),
        };
        let given =
            [("OPENAI_SIGNING_KEYS", KEY), ("SECOND_API_KEY", "sk-ant-1"), ("SECOND_ADMIN_KEY", "sk-ant-2")];

        let senders = Ingest::from_vars(variables(&given), &read).unwrap().config.senders;
        let accounts = Worker::from_vars(variables(&given), &read).unwrap().config.accounts;

        assert_eq!((senders[1].name.as_str(), accounts[1].name.as_str()), ("openai", "second"));
    }
}

#[test]
fn no_key_claims_a_release_that_is_still_to_come() {
    for key in FILE_KEYS {
        assert_eq!(key.since, "0.1.0", "{}: as table.rs has it for variables", key.name);
    }
}
