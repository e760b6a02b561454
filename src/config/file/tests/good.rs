//! Files that programs start with, and what they come to.

use secrecy::ExposeSecret;

use super::*;
use crate::api::Auth;
use crate::config::tests::{no_files, vars};
use crate::config::{
    ANTHROPIC_BASE_URL, ANTHROPIC_VERSION, FILE_KEYS, Need, Program, RESTANTE_API_AUTH, Var,
};

const WHOLE: &str = r#"
[sender.openai]
scheme = "standard"
signing_keys_file = "two-keys"
type_prefix = "openai."

[sender.old]
scheme = "anthropic-hex"
signing_keys_file = "./hex-secrets"
account = "second"

[account.second]
api_key_file = "api-key"
admin_key_file = "/etc/restante/admin-key"
base_url = "https://gateway.example/claude"
workspace_id = "wrkspc_01"
version = "2026-01-01"
beta = ["one-2026-01-01", "two"]
auth = "bearer"
proxy = "http://proxy:3128"

[account.third]
api_key_env = "THIRD"
beta = "one, two"

[sender.billing-2]
scheme = "svix"
signing_keys_env = "OWN_KEYS"
account = "anthropic"
"#;

#[test]
fn senders_have_the_keys_that_the_file_names() {
    let config = ingest(WHOLE, variables(&[])).unwrap().config;

    let senders: Vec<_> = config
        .senders
        .iter()
        .map(|sender| {
            let keys = &sender.keys;
            let keys = (keys.standard.len(), keys.svix.len(), keys.older.len());
            (sender.name.as_str(), keys, sender.type_prefix.as_str(), sender.account.as_deref())
        })
        .collect();
    assert_eq!(
        senders,
        [
            ("anthropic", (0, 0, 1), "", Some("anthropic")),
            ("openai", (2, 0, 0), "openai.", None),
            ("old", (0, 0, 2), "", Some("second")),
            ("billing-2", (0, 1, 0), "", Some("anthropic")),
        ]
    );
    assert_eq!(config.senders[2].keys.older[0].expose_secret(), b"correct horse, battery staple");
    assert_eq!(config.senders[3].keys.svix[0].expose_secret(), (0..32).collect::<Vec<u8>>());
}

#[test]
fn accounts_have_the_settings_of_the_file_and_the_defaults_of_the_variables() {
    let config =
        worker(WHOLE, variables(&[("THIRD", "sk-ant-third"), ("ANTHROPIC_ADMIN_API_KEY", "sk-admin")]))
            .unwrap()
            .config;

    let [first, second, third] = &config.accounts[..] else { panic!("{:?}", config.accounts) };
    assert_eq!([&first.name, &second.name, &third.name], ["anthropic", "second", "third"]);
    assert_eq!(first.settings.admin_key.as_ref().unwrap().expose_secret(), "sk-admin");
    let settings = &second.settings;
    assert_eq!(settings.key.expose_secret(), "sk-ant-of-a-file");
    assert_eq!(settings.admin_key.as_ref().unwrap().expose_secret(), "sk-ant-admin");
    assert_eq!(settings.base_url.as_str(), "https://gateway.example/claude/");
    assert_eq!(
        (settings.workspace_id.as_deref(), settings.version.as_str()),
        (Some("wrkspc_01"), "2026-01-01")
    );
    assert_eq!(
        (&settings.betas[..], settings.auth),
        (&["one-2026-01-01".to_owned(), "two".to_owned()][..], Auth::Bearer)
    );
    assert_eq!(settings.proxy.as_ref().unwrap().as_str(), "http://proxy:3128/");
    let settings = &third.settings;
    assert_eq!(settings.key.expose_secret(), "sk-ant-third");
    assert_eq!(settings.base_url.as_str(), "https://api.anthropic.com/");
    assert_eq!((settings.version.as_str(), settings.auth), ("2023-06-01", Auth::XApiKey));
    assert_eq!(settings.betas, ["one", "two"]);
    assert!(settings.admin_key.is_none() && settings.workspace_id.is_none() && settings.proxy.is_none());
}

#[test]
fn a_program_reads_no_secrets_of_another() {
    let no_api_keys = |path: &Path| match path.to_str().unwrap() {
        FILE => Ok(WHOLE.to_owned()),
        other if other.ends_with("api-key") || other.ends_with("admin-key") => panic!("{other} is read"),
        _ => beside(path),
    };
    Ingest::from_vars(variables(&[]), &no_api_keys).unwrap();
    let no_signing_keys = |path: &Path| match path.to_str().unwrap() {
        FILE => Ok(WHOLE.to_owned()),
        other if other.ends_with("-keys") || other.ends_with("secrets") => panic!("{other} is read"),
        _ => beside(path),
    };
    Worker::from_vars(variables(&[("THIRD", "sk-ant-third")]), &no_signing_keys).unwrap();
}

#[test]
fn with_a_file_the_keys_of_the_environment_are_not_needed() {
    let text =
        "[sender.a]\nsigning_keys_file = \"keys\"\naccount = \"b\"\n[account.b]\napi_key_file = \"api-key\"";
    let alone = || vars(&[("DATABASE_URL", "postgres://a/b"), ("RESTANTE_CONFIG", FILE)]);

    assert_eq!(ingest(text, alone()).unwrap().config.senders.len(), 1);
    assert_eq!(worker(text, alone()).unwrap().config.accounts.len(), 1);
}

#[test]
fn what_is_called_anthropic_may_stand_in_the_file_alone() {
    let text = "[sender.anthropic]\nsigning_keys_file = \"keys\"\naccount = \"anthropic\"\n\
                [account.anthropic]\napi_key_file = \"api-key\"";
    let alone = || vars(&[("DATABASE_URL", "postgres://a/b"), ("RESTANTE_CONFIG", FILE)]);

    assert_eq!(ingest(text, alone()).unwrap().config.senders[0].name, "anthropic");
    assert_eq!(worker(text, alone()).unwrap().config.accounts[0].name, "anthropic");
}

#[test]
fn an_empty_file_is_as_none() {
    for text in ["", "\n# nothing yet\n", "[sender]\n[account]\n"] {
        assert_eq!(ingest(text, variables(&[])).unwrap().config.senders.len(), 1);
        assert_eq!(worker(text, variables(&[])).unwrap().config.accounts.len(), 1);
    }
    assert!(Ingest::from_vars(without("RESTANTE_CONFIG", variables(&[])), &no_files).is_ok());
}

#[test]
fn what_looks_like_a_mistake_is_told_and_prevents_nothing() {
    let warnings = |text: &str| -> Vec<String> {
        let told = ingest(text, variables(&[("RESTANTE_OWN_KEYS", KEY)])).unwrap().warnings;
        // The secret of the environment that these tests have is a short one, and not each file names the variable.
        let usual = ["ANTHROPIC_WEBHOOK_SECRET", "RESTANTE_OWN_KEYS"];
        let told =
            told.iter().filter(|told| text.contains(&told.variable) || !usual.contains(&&*told.variable));
        told.map(ToString::to_string).collect()
    };

    assert_eq!(
        warnings("\u{feff}[sender.a]\ntype_prefix = \"a.\"\nsigning_keys_env = \"RESTANTE_OWN_KEYS\""),
        [
            "RESTANTE_CONFIG: the file begins with a byte order mark, which is left out: save it as UTF-8 without one"
        ]
    );
    let [shared] = &warnings(
        "[sender.a]\nsigning_keys_file = \"two-keys\"\naccount = \"anthropic\"\n\
         [sender.b]\nsigning_keys_file = \"other-keys\"\nscheme = \"svix\"\naccount = \"anthropic\"",
    )[..] else {
        panic!()
    };
    assert_eq!(
        shared,
        "RESTANTE_CONFIG: the senders a and b have the same key, so who can sign for one can sign for both"
    );
    let bare = &warnings("\n[sender.a]\nsigning_keys_file = \"keys\"")[0];
    assert!(
        bare.starts_with(&format!("{FILE}:2: sender.a: it has neither an account nor a type_prefix")),
        "{bare}"
    );
    let told = worker(
        "[account.a]\napi_key_file = \"api-key\"\nbase_url = \"http://gateway.example\"",
        variables(&[]),
    );
    assert_eq!(told.unwrap().warnings[0].variable, format!("{FILE}:3: account.a.base_url"));
}

#[test]
fn the_defaults_of_an_account_are_those_of_the_variables() {
    fn default<T>(variable: &Var<T>) -> Option<Need> {
        variable.facts.need(Program::Worker)
    }
    for (key, need) in [
        ("base_url", default(&ANTHROPIC_BASE_URL)),
        ("version", default(&ANTHROPIC_VERSION)),
        ("auth", default(&RESTANTE_API_AUTH)),
    ] {
        let key = FILE_KEYS.iter().find(|known| known.name == key).unwrap();
        assert_eq!(key.default.map(Need::Default), need, "{}", key.name);
    }
}

#[test]
fn senders_and_accounts_are_described_without_their_secrets() {
    let variables = variables(&[("THIRD", "sk-ant-third")]);
    let of_ingest = ingest(WHOLE, variables.clone()).unwrap();
    let of_worker = worker(WHOLE, variables).unwrap();

    expect_test::expect![[r#"
        sender anthropic: /webhooks/anthropic, anthropic-hex with 1 key, types as they come, account anthropic, fingerprints short
        sender openai: /webhooks/openai, standard with 2 keys, types below openai., no account, fingerprints 2c0b171a fbfef9a0
        sender old: /webhooks/old, anthropic-hex with 2 keys, types as they come, account second, fingerprints 2d0a1a5b 96886921
        sender billing-2: /webhooks/billing-2, svix with 1 key, types as they come, account anthropic, fingerprints 2c0b171a
        account anthropic: https://api.anthropic.com/, x-api-key, version 2023-06-01, betas none, admin key no, workspace -, proxy -, fingerprints short
        account second: https://gateway.example/claude/, bearer, version 2026-01-01, betas one-2026-01-01 two, admin key yes, workspace wrkspc_01, proxy http://proxy:3128/, fingerprints short short
        account third: https://api.anthropic.com/, x-api-key, version 2023-06-01, betas one two, admin key no, workspace -, proxy -, fingerprints short"#]]
        .assert_eq(&[of_ingest.parties.join("\n"), of_worker.parties.join("\n")].join("\n"));
    let debug = format!("{of_ingest:?} {of_worker:?} {}{}", of_ingest.describe(), of_worker.describe());
    for secret in ["AAECAw", "sk-ant", "horse", "third\""] {
        assert!(!debug.replace("name: \"third\"", "").contains(secret), "{secret}: {debug}");
    }
}

#[test]
fn a_configuration_equals_another_only_if_the_keys_do() {
    let one = || ingest(WHOLE, variables(&[])).unwrap().config.senders;
    let other = ingest(WHOLE, variables(&[("OWN_KEYS", OTHER_KEY)])).unwrap().config.senders;
    assert!(one() == one());
    assert!(one() != other);

    let accounts = |key: &str| worker(WHOLE, variables(&[("THIRD", key)])).unwrap().config.accounts;
    assert!(accounts("sk-1") == accounts("sk-1"));
    assert!(accounts("sk-1") != accounts("sk-2"));
}
