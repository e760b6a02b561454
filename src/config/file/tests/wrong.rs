//! Files that nobody can start with: what is said of each, which is one thing and repeats no value.

use super::*;
use crate::config::Tool;

/// Files, and what is told of each, where F stands for the path of the file.
const WRONG: [(&str, &str); 67] = [
    // The syntax.
    (
        "[sender.a]\nsigning_keys_file = ",
        "F:2:21: it is no TOML: string values must be quoted, expected literal string. Correct the line; a text stands in double quotes, and a name at the left of =.",
    ),
    (
        "[sender.a]\nsigning_keys_file = canary",
        "F:2:21: it is no TOML: string values must be quoted, expected literal string. Correct the line; a text stands in double quotes, and a name at the left of =.",
    ),
    (
        "[sender.a]\n  signing_keys_file: \"keys\"",
        "F:2:20: it is no TOML: invalid unquoted key, expected letters, numbers, `-`, `_`. Correct the line; a text stands in double quotes, and a name at the left of =.",
    ),
    (
        "[sender.a\nsigning_keys_file = \"keys\"",
        "F:1:10: it is no TOML: unclosed table, expected `]`. Correct the line; a text stands in double quotes, and a name at the left of =.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys",
        "F:2:26: it is no TOML: invalid basic string, expected `\"`. Correct the line; a text stands in double quotes, and a name at the left of =.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\nsigning_keys_file = \"canary\"",
        "F:3:1: it stands there twice. Keep one of the two.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\n[sender.a]\n",
        "F:3:9: it stands there twice. Keep one of the two.",
    ),
    // What is not known.
    ("[senders.a]\nsigning_keys_file = \"keys\"", "F:1: senders: it is not known. Did you mean sender?"),
    (
        "[database]\nurl = \"canary\"",
        "F:1: database: it is not known. The file has tables [sender.NAME] and [account.NAME].",
    ),
    (
        "scheme = \"svix\"",
        "F:1: scheme: it stands in no table. Write it below [sender.NAME] or [account.NAME].",
    ),
    (
        "[sender]\nsigning_keys_file = \"keys\"",
        "F:2: sender.signing_keys_file: it is no table. Write [sender.NAME] above its keys, where NAME is yours to choose.",
    ),
    (
        "sender = \"canary\"",
        "F:1: sender: it has no name. Write [sender.NAME] above its keys, where NAME is yours to choose.",
    ),
    (
        "[[sender.a]]\nsigning_keys_file = \"keys\"",
        "F:1: sender.a: it is an array of tables. Write [sender.NAME] above its keys, where NAME is yours to choose.",
    ),
    (
        "[sender.OpenAI]\nsigning_keys_file = \"keys\"",
        "F:1: sender.OpenAI: it is no name. A name has 1 to 63 of the characters a to z, 0 to 9, - and _, and begins with a letter.",
    ),
    (
        "[sender.1st]\nsigning_keys_file = \"keys\"",
        "F:1: sender.1st: it is no name. A name has 1 to 63 of the characters a to z, 0 to 9, - and _, and begins with a letter.",
    ),
    (
        "[sender.\"a/../b\"]\nsigning_keys_file = \"keys\"",
        "F:1: sender.?: it is no name. A name has 1 to 63 of the characters a to z, 0 to 9, - and _, and begins with a letter.",
    ),
    (
        "[sender.a]\nsigning_key_file = \"keys\"",
        "F:2: sender.a.signing_key_file: it is no key of a sender. Did you mean signing_keys_file?",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\ntype-prefix = \"a.\"",
        "F:3: sender.a.type-prefix: it is no key of a sender. Did you mean type_prefix?",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\ncolour = \"canary\"",
        "F:3: sender.a.colour: it is no key of a sender. A sender has scheme, signing_keys_file, signing_keys_env, type_prefix, account.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\nbase_url = \"https://canary\"",
        "F:3: sender.a.base_url: it is no key of a sender. Move it to the table that it belongs to.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\n\"can ary\" = 1",
        "F:3: sender.a.?: it is no key of a sender. A sender has scheme, signing_keys_file, signing_keys_env, type_prefix, account.",
    ),
    // Secrets in the file.
    (
        "[sender.a]\nsigning_keys = \"whsec_canary\"",
        "F:2: sender.a.signing_keys: a secret stands there. Put it into a file of its own, and give the path of that as signing_keys_file.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"whsec_canary\"",
        "F:2: sender.a.signing_keys_file: a secret stands there. Put it into a file of its own, and give the path of that as signing_keys_file.",
    ),
    (
        "[sender.a]\nsecret = \"canary\"",
        "F:2: sender.a.secret: a secret stands there. Put it into a file of its own, and give the path of that as signing_keys_file.",
    ),
    (
        "[account.a]\napi_key = \"canary\"",
        "F:2: account.a.api_key: a secret stands there. Put it into a file of its own, and give the path of that as api_key_file.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nadmin_key = \"canary\"",
        "F:3: account.a.admin_key: a secret stands there. Put it into a file of its own, and give the path of that as admin_key_file.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nbeta = [\"a\", \"sk-ant-canary\"]",
        "F:3: account.a.beta: a secret stands there. Put it into a file of its own, and give the path of that as api_key_file.",
    ),
    (
        "[account.a]\napi_key_env = \"sk-ant-canary\"",
        "F:2: account.a.api_key_env: a secret stands there. Put it into a file of its own, and give the path of that as api_key_file.",
    ),
    (
        "api_key = \"canary\"",
        "F:1: api_key: a secret stands there. Put it into a file of its own, and give the path of that in a table [sender.NAME] or [account.NAME].",
    ),
    (
        "[sender.sk-ant-canary]\nsigning_keys_file = \"keys\"",
        "F:1: sender.?: a secret stands there. Give the table a name of your own, and put the secret into a file.",
    ),
    // Values.
    (
        "[sender.a]\nsigning_keys_file = 7",
        "F:2: sender.a.signing_keys_file: it is not a text. Write the value in double quotes.",
    ),
    (
        "[sender.a]\nsigning_keys_file = [\"keys\"]",
        "F:2: sender.a.signing_keys_file: it is not a text. Write the value in double quotes.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"\"",
        "F:2: sender.a.signing_keys_file: it is empty. Give the path of a file.",
    ),
    (
        "[sender.a]\nscheme = \"canary\"\nsigning_keys_file = \"keys\"",
        "F:2: sender.a.scheme: it is none of standard, svix and anthropic-hex. Say standard, svix or anthropic-hex, or leave it out for standard.",
    ),
    (
        "[sender.a]\nscheme = true\nsigning_keys_file = \"keys\"",
        "F:2: sender.a.scheme: it is not a text. Write the value in double quotes.",
    ),
    (
        "[sender.a]\nscheme = \"svix\"",
        "F:1: sender.a: it has neither signing_keys_file nor signing_keys_env. Put the secret into a file, and give the path of that as signing_keys_file.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\nsigning_keys_env = \"OWN_KEYS\"",
        "F:3: sender.a.signing_keys_env: signing_keys_file stands beside it. Keep one of the two.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"canary\"",
        "F:2: sender.a.signing_keys_file: the file cannot be read (entity not found). Give the path of a text file that this program may read.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \".\"",
        "F:2: sender.a.signing_keys_file: the file cannot be read (is a directory). Give the path of a text file that this program may read.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"empty\"",
        "F:2: sender.a.signing_keys_file: the file is empty. Put the secret into it, and nothing else.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"bad-keys\"",
        "F:2: sender.a.signing_keys_file: key 1 is not base64. Copy each key from the Console unchanged: whsec_ and base64, separated from the next by a comma.",
    ),
    (
        "[sender.a]\nsigning_keys_env = \"NOT_SET\"",
        "F:2: sender.a.signing_keys_env: the variable that it names is not set. Set that variable for this program, or correct its name.",
    ),
    (
        "[sender.a]\nsigning_keys_env = \"can ary\"",
        "F:2: sender.a.signing_keys_env: it is no name of a variable. Write it like OPENAI_SIGNING_KEYS: letters, digits and _.",
    ),
    (
        "[sender.a]\nsigning_keys_env = \"CANARY\"",
        "F:2: sender.a.signing_keys_env: key 1 is shorter than 16 bytes. Copy each key from the Console unchanged: whsec_ and base64, separated from the next by a comma.",
    ),
    (
        "[sender.a]\nsigning_keys_env = \"ANTHROPIC_WEBHOOK_SECRET\"",
        "F:2: sender.a.signing_keys_env: it names a variable that has a meaning of its own. Give the secrets of this table a variable of their own.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\ntype_prefix = \"canary\"",
        "F:3: sender.a.type_prefix: it does not end in a dot. Write it like openai., from a to z, 0 to 9, - _ and single dots, 64 characters at most.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\ntype_prefix = \"can ary.\"",
        "F:3: sender.a.type_prefix: it is no beginning of a type. Write it like openai., from a to z, 0 to 9, - _ and single dots, 64 characters at most.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\ntype_prefix = \"a..\"",
        "F:3: sender.a.type_prefix: it is no beginning of a type. Write it like openai., from a to z, 0 to 9, - _ and single dots, 64 characters at most.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\naccount = \"canary\"\n[account.b]\napi_key_file = \"api-key\"",
        "F:3: sender.a.account: no account has this name. Write a table [account.NAME] for it, or name a known one: anthropic, b.",
    ),
    (
        "[sender.a]\nsigning_keys_file = \"keys\"\naccount = \"Can Ary\"",
        "F:3: sender.a.account: it is no name. A name has 1 to 63 of the characters a to z, 0 to 9, - and _, and begins with a letter.",
    ),
    (
        "[sender.anthropic]\nsigning_keys_file = \"keys\"\naccount = \"anthropic\"",
        "F:1: sender.anthropic: it has keys in the environment as well, in ANTHROPIC_WEBHOOK_SECRET (or ANTHROPIC_WEBHOOK_SECRET_FILE). Unset that, or give the table another name.",
    ),
    (
        "[account.a]\nbase_url = \"https://canary.example\"",
        "F:1: account.a: it has neither api_key_file nor api_key_env. Put the secret into a file, and give the path of that as api_key_file.",
    ),
    (
        "[account.a]\napi_key_file = \"canary\"",
        "F:2: account.a.api_key_file: the file cannot be read (entity not found). Give the path of a text file that this program may read.",
    ),
    (
        "[account.a]\napi_key_file = \"quoted-key\"",
        "F:2: account.a.api_key_file: it is in quotes, which count as a part of it. Remove the quotes: a shell does, but a secret's file and `docker run --env-file` keep them.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nadmin_key_file = \"canary\"",
        "F:3: account.a.admin_key_file: the file cannot be read (entity not found). Give the path of a text file that this program may read.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nadmin_key_file = \"admin-key\"\nadmin_key_env = \"CANARY\"",
        "F:4: account.a.admin_key_env: admin_key_file stands beside it. Keep one of the two.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nbase_url = \"https://canary@example\"",
        "F:3: account.a.base_url: it contains a user or a password, which do not belong there. Write it like https://api.anthropic.com, with a path if it needs one.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nversion = 2023-06-01",
        "F:3: account.a.version: it is not a text. Write the value in double quotes.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nversion = \"canary\"",
        "F:3: account.a.version: it is not a date. Write it like 2023-06-01.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nbeta = [1]",
        "F:3: account.a.beta: it is not a text or an array of texts. Write the value in double quotes.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nbeta = [\"one\", \"can ary\"]",
        "F:3: account.a.beta: value 2 has characters other than letters, digits and - _ .. Write it like name-2026-01-01,other-2026-02-02.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nauth = \"canary\"",
        "F:3: account.a.auth: it is neither x-api-key nor bearer. Say x-api-key or bearer.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nworkspace_id = \"can ary\"",
        "F:3: account.a.workspace_id: it is no identifier of a workspace. Copy it from the Console; it begins with wrkspc_.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nproxy = \"http://canary:pw@proxy:1\"",
        "F:3: account.a.proxy: it holds a user or a password, which do not belong into this file. Write it like http://proxy.example:3128.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nproxy = \"http://canary\"",
        "F:3: account.a.proxy: it is not made of a host and a port. Write it like http://proxy.example:3128.",
    ),
    (
        "[account.a]\napi_key_file = \"api-key\"\nproxy = \"socks5://canary:1\"",
        "F:3: account.a.proxy: it is neither http nor https. Write it like http://proxy.example:3128.",
    ),
    (
        "[account.anthropic]\napi_key_file = \"api-key\"",
        "F:1: account.anthropic: it has keys in the environment as well, in ANTHROPIC_API_KEY (or ANTHROPIC_API_KEY_FILE). Unset that, or give the table another name.",
    ),
];

/// What every program says of a file, each thing once.
fn faults(text: &str) -> Vec<String> {
    let read = [
        ingest(text, variables(&[])).map(drop),
        worker(text, variables(&[])).map(drop),
        Tool::from_vars(variables(&[]), &reading(text)).map(drop),
    ];
    let mut told: Vec<String> = Vec::new();
    for faults in read.into_iter().filter_map(Result::err) {
        assert!(!format!("{faults:?}").to_lowercase().contains("canary"), "{faults:?}");
        for fault in faults.faults {
            if !told.contains(&fault.to_string()) {
                told.push(fault.to_string());
            }
        }
    }
    told
}

#[test]
fn each_mistake_is_told_once_with_its_line_its_key_and_what_to_write() {
    for (text, told) in WRONG {
        let faults = faults(text);
        assert_eq!(faults.len(), 1, "{text}\n{faults:#?}");
        assert_eq!(faults[0].replace(FILE, "F"), told, "{text}");
    }
}

#[test]
fn all_mistakes_of_a_file_and_of_the_environment_are_told_at_once() {
    let text = "[sender.a]\nscheme = \"x\"\n\n[sender.b]\nsigning_keys_file = \"none\"\naccount = \"none\"\n\n[acount.c]\n";
    let faults = ingest(text, variables(&[("RESTANTE_LISTEN", "x")])).map(drop).unwrap_err();

    expect_test::expect![[r#"
        restante-ingest cannot start with this configuration:
          RESTANTE_LISTEN: it is not an IP address with a port. Write it like 127.0.0.1:9090, 0.0.0.0:9090 for every interface, or [::]:9090, or leave it out for 0.0.0.0:8080.
          /etc/restante/restante.toml:1: sender.a: it has neither signing_keys_file nor signing_keys_env. Put the secret into a file, and give the path of that as signing_keys_file.
          /etc/restante/restante.toml:2: sender.a.scheme: it is none of standard, svix and anthropic-hex. Say standard, svix or anthropic-hex, or leave it out for standard.
          /etc/restante/restante.toml:5: sender.b.signing_keys_file: the file cannot be read (entity not found). Give the path of a text file that this program may read.
          /etc/restante/restante.toml:6: sender.b.account: no account has this name. Write a table [account.NAME] for it, or name a known one: anthropic.
          /etc/restante/restante.toml:8: acount: it is not known. Did you mean account?
          (warning) ANTHROPIC_WEBHOOK_SECRET: secret 1 is shorter than the 24 bytes that Standard Webhooks recommends"#]].assert_eq(&faults.to_string());
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_of_its_variable() {
    let told = |kind: ErrorKind| {
        let read = |_: &Path| Err(io::Error::from(kind));
        let faults =
            Worker::from_vars(without("ANTHROPIC_API_KEY", variables(&[])), &read).map(drop).unwrap_err();
        let told: Vec<_> = faults.faults.iter().map(ToString::to_string).collect();
        told.join("\n")
    };

    expect_test::expect![[r#"
        RESTANTE_CONFIG: the file cannot be read (entity not found). Give the path of a TOML file that this program may read.
        RESTANTE_CONFIG: the file cannot be read (permission denied). Give the path of a TOML file that this program may read.
        RESTANTE_CONFIG: the file cannot be read (is a directory). Give the path of a TOML file that this program may read.
        RESTANTE_CONFIG: the file is not UTF-8 text. Save it as UTF-8."#]].assert_eq(
        &[ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::IsADirectory, ErrorKind::InvalidData]
            .map(told)
            .join("\n"),
    );
}

#[test]
fn an_account_or_a_sender_is_needed_beside_a_file_too() {
    let only_sender = "[sender.a]\nsigning_keys_file = \"keys\"\ntype_prefix = \"a.\"";
    let only_account = "[account.a]\napi_key_file = \"api-key\"";
    let told = |faults: Faults| faults.faults.iter().map(|fault| fault.variable.clone()).collect::<Vec<_>>();
    for nothing in ["", "[account]", only_sender] {
        let faults = worker(nothing, without("ANTHROPIC_API_KEY", variables(&[]))).map(drop).unwrap_err();
        assert_eq!(told(faults), ["ANTHROPIC_API_KEY"], "{nothing}");
    }
    for nothing in ["", "[sender]", only_account] {
        let faults =
            ingest(nothing, without("ANTHROPIC_WEBHOOK_SECRET", variables(&[]))).map(drop).unwrap_err();
        assert_eq!(told(faults), ["ANTHROPIC_WEBHOOK_SIGNING_KEY"], "{nothing}");
    }
}

#[test]
fn a_worker_without_the_account_that_a_sender_names_is_told() {
    let text = "[sender.a]\nsigning_keys_file = \"keys\"\naccount = \"anthropic\"\n[account.b]\napi_key_file = \"api-key\"";

    assert!(ingest(text, variables(&[])).is_ok());
    assert!(worker(text, variables(&[])).is_ok());
    let faults = worker(text, without("ANTHROPIC_API_KEY", variables(&[]))).map(drop).unwrap_err();
    assert_eq!(faults.faults.len(), 1, "{faults}");
    assert_eq!(faults.faults[0].subject(), format!("{FILE}:3: sender.a.account"));
}
