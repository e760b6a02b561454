//! The variables: each is declared here, once, with its meaning, type, bounds, readers, defaults and first release.
//!
//! `--help`, `.env.example`, the faults and `restante config` are all made from these declarations, so none of them can
//! drift. A declaration that no program reads fails a test; code that reads an undeclared variable does not compile.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::Program::{Ingest, Tool, Worker};
use super::keys::{self, SigningKey};
use super::texts;
use super::variable::Need::{Default, Optional, Required};
use super::variable::{Var, Variable, number, seconds, seconds_or_off, secret, text};
use crate::api;
use crate::page::User;
use crate::telemetry::LogFormat;

/// The doc comment of a declaration is its meaning, and is shown wherever the meaning is.
macro_rules! variables {
    ($(
        $(#[doc = $meaning:literal])+
        $name:ident: $T:ty = $form:expr, read by $readers:expr, since $since:literal;
    )+) => {
        $(
            $(#[doc = $meaning])+
            pub static $name: Var<$T> =
                $form.declared(stringify!($name), concat!($($meaning),+).trim_ascii(), &$readers, $since);
        )+

        /// Every variable that a program of this project reads, the required ones first.
        pub static VARIABLES: &[&Variable] = &[$(&$name.facts),+];
    };
}

variables! {
    /// where the Postgres database is, as postgres://user:password@host:5432/database
    DATABASE_URL: SecretString = secret(keys::database_url),
        read by [(Ingest, Required), (Worker, Required), (Tool, Optional)], since "0.1.0";

    /// how many connections to the database one process opens at most
    RESTANTE_DATABASE_CONNECTIONS: u32 = number(1..=1_000),
        read by [(Ingest, Default("8")), (Worker, Default("16"))], since "0.1.0";

    /// the whsec_... keys of the webhook endpoint, several (for a rotation) separated by commas; turns on the Standard
    /// Webhooks scheme. Ingest needs this or ANTHROPIC_WEBHOOK_SECRET
    ANTHROPIC_WEBHOOK_SIGNING_KEY: Vec<SigningKey> =
        secret(keys::signing_keys).doubted(|keys| keys::signing_key_doubts(keys)),
        read by [(Ingest, Optional), (Tool, Optional)], since "0.1.0";

    /// the raw secret of the older anthropic-signature scheme, blanks and commas included; several (for a rotation) on
    /// a line each; turns that scheme on
    ANTHROPIC_WEBHOOK_SECRET: Vec<SigningKey> =
        secret(keys::webhook_secrets).doubted(|secrets| keys::webhook_secret_doubts(secrets)),
        read by [(Ingest, Optional), (Tool, Optional)], since "0.1.0";

    /// a TOML file with further senders and accounts, as restante.example.toml shows; it holds no secrets, only where they
    /// are, and is read again when it or one of those files changes
    RESTANTE_CONFIG: PathBuf = text(texts::path),
        read by [(Ingest, Optional), (Worker, Optional), (Tool, Optional)], since "0.1.0";

    /// the key that the worker calls the Claude API with; needed unless the file of RESTANTE_CONFIG has an account
    ANTHROPIC_API_KEY: SecretString = secret(keys::api_key),
        read by [(Worker, Required), (Tool, Optional)], since "0.1.0";

    /// the key for what the Claude API shows to Admin keys only
    ANTHROPIC_ADMIN_API_KEY: SecretString = secret(keys::api_key),
        read by [(Worker, Optional), (Tool, Optional)], since "0.1.0";

    /// where the Claude API is; the key goes nowhere else
    ANTHROPIC_BASE_URL: Url = text(texts::base_url).doubted(texts::base_url_doubts),
        read by [(Worker, Default("https://api.anthropic.com")), (Tool, Default("https://api.anthropic.com"))],
        since "0.1.0";

    /// the anthropic-version that every call names; from 2026-10-21 on, sampling parameters in a request are refused by
    /// the API
    ANTHROPIC_VERSION: String = text(texts::version),
        read by [(Worker, Default("2023-06-01")), (Tool, Default("2023-06-01"))], since "0.1.0";

    /// anthropic-beta values to send in addition to those that a call needs, separated by commas
    ANTHROPIC_BETA: Vec<String> = text(texts::betas),
        read by [(Worker, Optional), (Tool, Optional)], since "0.1.0";

    /// the header that carries the key: x-api-key, or bearer for an Authorization header
    RESTANTE_API_AUTH: api::Auth = text(texts::auth),
        read by [(Worker, Default("x-api-key")), (Tool, Default("x-api-key"))], since "0.1.0";

    /// the address and port that take webhooks
    RESTANTE_LISTEN: SocketAddr = text(texts::address),
        read by [(Ingest, Default("0.0.0.0:8080"))], since "0.1.0";

    /// the address and port that answer /livez, /readyz and /metrics, and of a worker show the ops page; not for the internet
    RESTANTE_OPS_LISTEN: SocketAddr = text(texts::address),
        read by [(Ingest, Default("127.0.0.1:9091")), (Worker, Default("127.0.0.1:9092")), (Tool, Optional)],
        since "0.1.0";

    /// the bearer token of whoever reads messages while they are written, at /messages/ID/stream beside /metrics; without one nobody
    /// can
    RESTANTE_STREAM_TOKEN: SecretString = secret(keys::stream_token),
        read by [(Worker, Optional)], since "0.1.0";

    /// the URL of the webhook endpoint, as in the Console; restante doctor calls it as the sender does, and nothing else reads it
    RESTANTE_PUBLIC_URL: Url = text(texts::public_url),
        read by [(Tool, Optional)], since "0.1.0";

    /// who may look at the ops page of the worker, a line for each, as `htpasswd -nBC 10 NAME` prints it; without it only this
    /// machine may, at an address of loopback
    RESTANTE_OPS_USERS: Vec<User> = secret(keys::ops_users),
        read by [(Worker, Optional)], since "0.1.0";

    /// the database as the ops page reads it, with a login that has the role restante_page and no other; without it the page
    /// takes DATABASE_URL, whose login then needs that role too
    RESTANTE_OPS_DATABASE_URL: SecretString = secret(keys::database_url),
        read by [(Worker, Optional)], since "0.1.0";

    /// true lets dead letters be replayed on the ops page, by a login that has the role restante_page_replay too
    RESTANTE_OPS_REPLAY: bool = text(texts::truth),
        read by [(Worker, Default("false"))], since "0.1.0";

    /// how many HTTP connections are open at once at most; further ones wait to be accepted
    RESTANTE_MAX_CONNECTIONS: usize = number(1..=1_000_000),
        read by [(Ingest, Default("4096"))], since "0.1.0";

    // Not 0: it also bounds how long a healthy database may take, so no delivery would ever be stored.
    /// how many seconds a delivery waits for a database that is unavailable before ingest answers 503
    RESTANTE_INGEST_WAIT_SECONDS: Duration = seconds(1..=60),
        read by [(Ingest, Default("10"))], since "0.1.0";

    /// a folder on a durable disk, of this ingest alone: while the database is away, webhooks are kept there and answered with 2xx,
    /// and stored in the database when it is back. Without it they are answered with 503
    RESTANTE_JOURNAL_DIR: PathBuf = text(texts::folder),
        read by [(Ingest, Optional), (Tool, Optional)], since "0.1.0";

    /// how many bytes the files in RESTANTE_JOURNAL_DIR take up at most
    RESTANTE_JOURNAL_BYTES_MAX: u64 = number(1_048_576..=1_099_511_627_776),
        read by [(Ingest, Default("1073741824")), (Tool, Default("1073741824"))], since "0.1.0";

    /// how many seconds an idle HTTP connection is kept open; longer than the proxy in front keeps one, which is
    /// usually 60 or 75 seconds
    RESTANTE_IDLE_SECONDS: Duration = seconds(1..=3_600),
        read by [(Ingest, Default("90"))], since "0.1.0";

    /// how many handlers run at once in one process
    RESTANTE_CONCURRENCY: usize = number(1..=10_000),
        read by [(Worker, Default("64"))], since "0.1.0";

    /// how many seconds after a worker has vanished another one takes over its events; renewed while a handler runs
    RESTANTE_LEASE_SECONDS: Duration = seconds(1..=3_600),
        read by [(Worker, Default("30"))], since "0.1.0";

    /// how many seconds pass between two requests for a batch that has not ended, before jitter
    RESTANTE_BATCH_POLL_SECONDS: Duration = seconds(1..=86_400),
        read by [(Worker, Default("60"))], since "0.1.0";

    /// how many seconds pass between two looks at the API for what no webhook told; 0 turns it off
    RESTANTE_RECONCILE_SECONDS: Option<Duration> = seconds_or_off(0..=86_400),
        read by [(Worker, Default("300"))], since "0.1.0";

    /// how many seconds after all results of a batch are stored the worker deletes it at the API; 0 leaves that to the API
    RESTANTE_BATCH_DELETE_AFTER: Option<Duration> = seconds_or_off(0..=2_505_600),
        read by [(Worker, Default("0"))], since "0.1.0";

    /// true lets notifications go into a private network and to this machine, by http too and to any port; otherwise they go by
    /// https to public addresses only
    RESTANTE_ALLOW_PRIVATE_ENDPOINTS: bool = text(texts::truth),
        read by [(Worker, Default("false"))], since "0.1.0";

    /// how many seconds after SIGTERM ingest still takes webhooks, while /readyz answers 503 and load balancers notice
    /// it; at most half of RESTANTE_DRAIN_SECONDS, and a part of it
    RESTANTE_LINGER_SECONDS: Duration = seconds(0..=300),
        read by [(Ingest, Default("5"))], since "0.1.0";

    /// how many seconds after SIGTERM a program waits for work under way; keep it below the grace period of the
    /// supervisor that sends SIGTERM
    RESTANTE_DRAIN_SECONDS: Duration = seconds(0..=3_600),
        read by [(Ingest, Default("20")), (Worker, Default("20"))], since "0.1.0";

    /// how log lines are written: json or text
    RESTANTE_LOG: LogFormat = text(texts::log_format),
        read by [(Ingest, Default("json")), (Worker, Default("json")), (Tool, Default("text"))], since "0.1.0";

    /// which log lines are written, as in info,restante=debug; libraries that see keys or bodies stay at info whatever it
    /// says
    RUST_LOG: String = text(texts::log_filter),
        read by [(Ingest, Default("info")), (Worker, Default("info")), (Tool, Default("info,sqlx=warn"))],
        since "0.1.0";

    /// the OpenTelemetry collector that gets the traces, by http/protobuf; without it there are none. The further OTEL_...
    /// variables of traces count, too, such as OTEL_TRACES_SAMPLER
    OTEL_EXPORTER_OTLP_ENDPOINT: Url = text(texts::collector),
        read by [(Ingest, Optional), (Worker, Optional)], since "0.1.0";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_none_is_mistaken_for_the_file_of_another() {
        let names: HashSet<_> = VARIABLES.iter().map(|v| v.name).collect();
        assert_eq!(names.len(), VARIABLES.len());
        for variable in VARIABLES.iter().filter(|v| v.secret) {
            assert!(!names.contains(format!("{}_FILE", variable.name).as_str()));
        }
    }

    #[test]
    fn no_variable_claims_a_release_that_is_still_to_come() {
        let numbers = |version: &str| version.split('.').map(|n| n.parse().unwrap()).collect::<Vec<u32>>();
        for variable in VARIABLES {
            let since = numbers(variable.since);
            assert!(since.len() == 3 && since <= numbers(env!("CARGO_PKG_VERSION")), "{}", variable.name);
        }
    }
}
