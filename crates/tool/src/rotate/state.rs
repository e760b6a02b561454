//! How the keys of one sender or account stand, from `restante.key_use`.

use secrecy::SecretString;
use sqlx::{FromRow, PgConnection};

use super::Rotation;
use crate::columns;
use restante::database;

/// The keys of one sender or account, and the services that run.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct State {
    /// The newest first.
    pub(super) keys: Vec<Known>,
    /// In the order of their names.
    pub(super) services: Vec<Service>,
}

/// A key that a service has or had.
#[derive(Clone, Debug, FromRow, PartialEq)]
pub(super) struct Known {
    pub(super) fingerprint: String,
    pub(super) loaded_by: i32,
    pub(super) first_seen_seconds_ago: f64,
    pub(super) last_used_seconds_ago: Option<f64>,
    /// When no other key would have done.
    pub(super) last_needed_seconds_ago: Option<f64>,
}

/// A service that has reported within the last minute.
#[derive(Clone, Debug, FromRow, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) process: String,
    pub(super) program: String,
    pub(super) fingerprints: Vec<String>,
}

const KEYS: &str = "\
    select fingerprint, loaded_by,
           extract(epoch from clock_timestamp() - first_seen_at)::float8 as first_seen_seconds_ago,
           extract(epoch from clock_timestamp() - last_used_at)::float8 as last_used_seconds_ago,
           extract(epoch from clock_timestamp() - last_needed_at)::float8 as last_needed_seconds_ago
      from restante.key_use where kind = $1 and party = $2 order by first_seen_at desc, fingerprint";

const SERVICES: &str = "\
    select process, program, array_agg(fingerprint order by fingerprint) as fingerprints from restante.key_loaded
     where kind = $1 and party = $2 and seen_at > clock_timestamp() - interval '1 minute'
     group by process, program order by program, process";

const ALL: &str = "\
    select kind, party, fingerprint, loaded_by || ' of ' || services as services, date_trunc('second', first_seen_at) as first_seen_at,
           date_trunc('second', last_used_at) as last_used_at, date_trunc('second', last_needed_at) as last_needed_at, stands
      from restante.key_use order by kind, party, first_seen_at";

/// All keys, as rows for people.
pub(super) async fn all(connection: &mut PgConnection) -> anyhow::Result<String> {
    let text = columns::answer(connection, ALL).await?;
    Ok(if text.trim().is_empty() {
        "no service has reported a key yet: start restante-ingest and restante-worker\n".to_owned()
    } else {
        text
    })
}

impl State {
    /// # Errors
    /// If the database cannot be asked.
    pub(super) async fn read(rotation: &Rotation, url: &SecretString) -> anyhow::Result<Self> {
        let mut connection = database::connect(url, "restante rotate").await?;
        database::check_schema(&mut connection).await?;
        let (kind, party) = (rotation.kind.as_str(), &rotation.party);
        let keys = sqlx::query_as(KEYS).bind(kind).bind(party);
        let keys = database::answered(keys.fetch_all(&mut connection)).await?;
        let services = sqlx::query_as(SERVICES).bind(kind).bind(party);
        let services = database::answered(services.fetch_all(&mut connection)).await?;
        Ok(Self { keys, services })
    }

    /// The services and the keys, in lines for people.
    pub(super) fn told(&self) -> String {
        let services = self.services.iter().map(|service| {
            format!("{} {} has {}\n", service.program, service.process, service.fingerprints.join(", "))
        });
        let keys = self.keys.iter().map(|key| {
            format!(
                "{} is in {} of {} running services, was used {}, and was needed {}\n",
                key.fingerprint,
                key.loaded_by,
                self.services.len(),
                ago(key.last_used_seconds_ago),
                ago(key.last_needed_seconds_ago)
            )
        });
        services.chain(keys).collect()
    }
}

/// A time that has passed, in words.
pub(super) fn ago(seconds: Option<f64>) -> String {
    match seconds {
        None => "never".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("{:.0} s ago", seconds.max(0.0)),
        Some(seconds) if seconds < 7200.0 => format!("{:.0} min ago", seconds / 60.0),
        Some(seconds) => format!("{:.0} h ago", seconds / 3600.0),
    }
}
