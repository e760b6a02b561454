//! The keys of the configuration file: each is declared here, once, with its meaning, form, default and first release.
//!
//! `restante.example.toml` and the faults speak from these declarations, as `.env.example` does from those of the variables.

use std::path::PathBuf;

use url::Url;

use crate::api::Auth;
use crate::config::texts;
use crate::config::variable::{Fallible, unfit};

/// The two kinds of tables of the configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `[sender.NAME]`
    Sender,
    /// `[account.NAME]`
    Account,
}

impl Kind {
    /// What the table is called in the file.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Sender => "sender",
            Kind::Account => "account",
        }
    }
}

/// What is documented of a key of the configuration file.
#[derive(Debug)]
pub struct FileKey {
    /// The kind of table that has it.
    pub kind: Kind,
    /// Its name in the table.
    pub name: &'static str,
    /// What it means.
    pub meaning: &'static str,
    /// What holds where the key is absent.
    pub default: Option<&'static str>,
    /// A value as the file has it.
    pub example: &'static str,
    /// The first release that reads it.
    pub since: &'static str,
}

/// A key whose value is a `T`.
pub(super) struct Key<T: 'static> {
    pub(super) facts: FileKey,
    pub(super) parse: fn(&str) -> Fallible<T>,
    /// What looks like a mistake in a value that can be used.
    pub(super) doubts: fn(&T) -> Vec<String>,
    /// It may also be an array of texts, which mean the same with commas between them.
    pub(super) is_list: bool,
}

const fn no_doubts<T>(_: &T) -> Vec<String> {
    Vec::new()
}

/// The text above a declaration is its meaning, wherever that is shown.
macro_rules! keys {
    ($(
        $(#[doc = $meaning:literal])+
        $name:ident: $T:ty = $kind:ident $key:literal by $parse:expr, default $default:expr, like $example:literal,
            since $since:literal $(, doubted by $doubts:expr)? $(, list $list:literal)?;
    )+) => {
        $(
            $(#[doc = $meaning])+
            pub(super) static $name: Key<$T> = Key {
                facts: FileKey {
                    kind: Kind::$kind,
                    name: $key,
                    meaning: concat!($($meaning),+).trim_ascii(),
                    default: $default,
                    example: $example,
                    since: $since,
                },
                parse: $parse,
                doubts: keys!(@doubts $($doubts)?),
                is_list: keys!(@list $($list)?),
            };
        )+

        /// Every key of the file, in the order in which they are shown.
        pub static FILE_KEYS: &[&FileKey] = &[$(&$name.facts),+];
    };
    (@doubts) => { no_doubts };
    (@doubts $doubts:expr) => { $doubts };
    (@list) => { false };
    (@list $list:literal) => { $list };
}

keys! {
    /// how its deliveries are signed: standard (Standard Webhooks), svix (the same with headers called svix-...) or
    /// anthropic-hex (the older scheme of the Claude API)
    SCHEME: Scheme = Sender "scheme" by scheme, default Some("standard"), like "\"svix\"", since "0.1.0";

    /// a file with the keys that its deliveries are signed with, several (for a rotation) separated by commas, blanks or
    /// lines, those of anthropic-hex one a line; a relative path begins at the folder of this file
    SIGNING_KEYS_FILE: PathBuf = Sender "signing_keys_file" by texts::path, default None,
        like "\"openai-signing-keys\"", since "0.1.0";

    /// in place of signing_keys_file: the variable of the environment that has these keys
    SIGNING_KEYS_ENV: String = Sender "signing_keys_env" by variable, default None,
        like "\"OPENAI_SIGNING_KEYS\"", since "0.1.0";

    /// what the types of its events begin with in the outbox, ending in a dot; without it they are taken as they come
    TYPE_PREFIX: String = Sender "type_prefix" by type_prefix, default None, like "\"openai.\"", since "0.1.0";

    /// the account that its events belong to, anthropic being the one of the environment; absent for a sender that is not
    /// the Claude API
    ACCOUNT: String = Sender "account" by name, default None, like "\"second\"", since "0.1.0";

    /// a file with the key that the worker calls the API with; a relative path begins at the folder of this file
    API_KEY_FILE: PathBuf = Account "api_key_file" by texts::path, default None, like "\"second-api-key\"", since "0.1.0";

    /// in place of api_key_file: the variable of the environment that has this key
    API_KEY_ENV: String = Account "api_key_env" by variable, default None, like "\"SECOND_API_KEY\"", since "0.1.0";

    /// a file with the key for what the API shows to Admin keys only
    ADMIN_KEY_FILE: PathBuf = Account "admin_key_file" by texts::path, default None,
        like "\"second-admin-key\"", since "0.1.0";

    /// in place of admin_key_file: the variable of the environment that has this key
    ADMIN_KEY_ENV: String = Account "admin_key_env" by variable, default None,
        like "\"SECOND_ADMIN_KEY\"", since "0.1.0";

    /// where the API is; the keys of this account go nowhere else
    BASE_URL: Url = Account "base_url" by texts::base_url, default Some("https://api.anthropic.com"),
        like "\"https://api.anthropic.com\"", since "0.1.0", doubted by |url| texts::base_url_doubts(url);

    /// the workspace that calls are made in, for a key that may act in several
    WORKSPACE_ID: String = Account "workspace_id" by workspace_id, default None, like "\"wrkspc_01\"", since "0.1.0";

    /// the anthropic-version that every call names
    VERSION: String = Account "version" by texts::version, default Some("2023-06-01"),
        like "\"2023-06-01\"", since "0.1.0";

    /// anthropic-beta values to send beside those that a call needs anyway, as an array or separated by comma
    BETA: Vec<String> = Account "beta" by texts::betas, default None,
        like "[\"name-2026-01-01\"]", since "0.1.0", list true;

    /// the header that carries the key: x-api-key, or bearer for an Authorization header
    AUTH: Auth = Account "auth" by texts::auth, default Some("x-api-key"), like "\"bearer\"", since "0.1.0";

    /// the proxy that calls go through, as http://HOST:PORT
    PROXY: Url = Account "proxy" by proxy, default None, like "\"http://proxy.example:3128\"", since "0.1.0";
}

/// How the deliveries of a sender are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Standard,
    Svix,
    AnthropicHex,
}

fn scheme(value: &str) -> Fallible<Scheme> {
    match value {
        "standard" => Ok(Scheme::Standard),
        "svix" => Ok(Scheme::Svix),
        "anthropic-hex" => Ok(Scheme::AnthropicHex),
        _ => Err(unfit(
            "it is none of standard, svix and anthropic-hex",
            "Say standard, svix or anthropic-hex, or leave it out for standard",
        )),
    }
}

/// The name of a sender or an account: a segment of a path and a label of metrics.
pub(super) fn name(value: &str) -> Fallible<String> {
    let is_of_name =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let begins = value.starts_with(|c: char| c.is_ascii_lowercase());
    if begins && value.len() <= 63 && value.bytes().all(is_of_name) {
        return Ok(value.to_owned());
    }
    Err(unfit(
        "it is no name",
        "A name has 1 to 63 of the characters a to z, 0 to 9, - and _, and begins with a letter",
    ))
}

fn variable(value: &str) -> Fallible<String> {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let begins = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && value.bytes().all(is_of_name) {
        return Ok(value.to_owned());
    }
    Err(unfit("it is no name of a variable", "Write it like OPENAI_SIGNING_KEYS: letters, digits and _"))
}

fn type_prefix(value: &str) -> Fallible<String> {
    let mend = "Write it like openai., from a to z, 0 to 9, - _ and single dots, 64 characters at most";
    let is_of_part =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if value.is_empty() {
        return Ok(String::new());
    }
    let Some(parts) = value.strip_suffix('.') else { return Err(unfit("it does not end in a dot", mend)) };
    if value.len() <= 64 && parts.split('.').all(|part| !part.is_empty() && part.bytes().all(is_of_part)) {
        return Ok(value.to_owned());
    }
    Err(unfit("it is no beginning of a type", mend))
}

fn workspace_id(value: &str) -> Fallible<String> {
    let is_of_id = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=128).contains(&value.len()) && value.bytes().all(is_of_id) {
        return Ok(value.to_owned());
    }
    Err(unfit("it is no identifier of a workspace", "Copy it from the Console; it begins with wrkspc_"))
}

fn proxy(value: &str) -> Fallible<Url> {
    let refuse = |problem| unfit(problem, "Write it like http://proxy.example:3128");
    let url = Url::parse(value).map_err(|_| refuse("it cannot be read as a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(refuse("it is neither http nor https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it holds a user or a password, which do not belong into this file"));
    }
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    // The parser drops a port that is the usual one of its scheme.
    let names_port = url.port().is_some()
        || [":80", ":443"].iter().any(|port| value.trim_end_matches('/').ends_with(port));
    if !is_bare || !names_port {
        return Err(refuse("it is not made of a host and a port"));
    }
    Ok(url)
}
