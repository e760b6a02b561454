//! Reads `docker-compose.yml` as docker does, as far as the file uses the format. An unknown key is an error, so that a
//! misspelt one is found. The keys are those that the older `docker-compose` knows too.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComposeFile {
    pub services: BTreeMap<String, Service>,
    pub networks: BTreeMap<String, IgnoredAny>,
    pub secrets: BTreeMap<String, Secret>,
    pub volumes: BTreeMap<String, IgnoredAny>,
    #[serde(rename = "x-program")]
    _program: IgnoredAny,
    #[serde(rename = "x-healthcheck")]
    _healthcheck: IgnoredAny,
    #[serde(rename = "x-ingest-environment")]
    _ingest_environment: IgnoredAny,
    #[serde(rename = "x-worker-environment")]
    _worker_environment: IgnoredAny,
    #[serde(rename = "x-ingest")]
    _ingest: IgnoredAny,
}

/// A file of the host that containers see below `/run/secrets`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    pub file: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    pub image: String,
    pub build: Option<String>,
    pub command: Vec<String>,
    pub entrypoint: Vec<String>,
    /// A variable without a value is passed on from outside.
    pub environment: BTreeMap<String, Option<String>>,
    pub depends_on: BTreeMap<String, Dependency>,
    pub healthcheck: Healthcheck,
    pub profiles: Vec<String>,
    pub networks: Vec<String>,
    pub volumes: Vec<String>,
    pub ports: Vec<String>,
    pub secrets: Vec<String>,
    pub mem_limit: Option<String>,
    pub read_only: bool,
    pub cap_drop: Vec<String>,
    pub cap_add: Vec<String>,
    pub security_opt: Vec<String>,
    pub restart: Option<String>,
    pub stop_grace_period: Option<String>,
    pub shm_size: Option<String>,
    logging: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    pub condition: Condition,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    ServiceHealthy,
    ServiceCompletedSuccessfully,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Healthcheck {
    pub test: Vec<String>,
    pub disable: bool,
    interval: Option<String>,
    timeout: Option<String>,
    retries: Option<u32>,
    start_period: Option<String>,
}

impl ComposeFile {
    /// Reads the project's file.
    pub fn read() -> Self {
        serde_saphyr::from_str(&project_file("docker-compose.yml")).unwrap()
    }

    /// The services that start with this profile.
    pub fn of_profile(&self, profile: &str) -> BTreeMap<&str, &Service> {
        let starts =
            |service: &Service| service.profiles.is_empty() || service.profiles.iter().any(|p| p == profile);
        self.services
            .iter()
            .filter(|(_, s)| starts(s))
            .map(|(name, service)| (name.as_str(), service))
            .collect()
    }

    /// The services that run one of our programs.
    pub fn programs(&self) -> impl Iterator<Item = (&String, &Service)> {
        self.services.iter().filter(|(_, service)| service.image == "restante")
    }
}

impl Service {
    /// The variables of its container, if `outside` are the variables of the host.
    pub fn variables(&self, outside: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let value = |name: &String, value: &Option<String>| match value {
            Some(value) => Some(interpolated(value, outside)),
            None => outside.get(name).cloned(),
        };
        self.environment
            .iter()
            .filter_map(|(name, given)| Some((name.clone(), value(name, given)?)))
            .collect()
    }
}

/// The text of a file of the project.
pub fn project_file(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The variables of an environment file.
pub fn variables_of(path: &str) -> BTreeMap<String, String> {
    let text = project_file(path);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// The names in each `${NAME}`, `${NAME:-default}` and `${NAME:?message}` of a text.
pub fn names_in(text: &str) -> Vec<String> {
    let parts = text.split("${").skip(1);
    parts.map(|part| part.split(['}', ':']).next().unwrap().to_owned()).collect()
}

/// Replaces each `${NAME}`, `${NAME:-default}` and `${NAME:?message}` by its value. An empty value counts as missing.
pub fn interpolated(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut parts = text.split("${");
    let mut result = parts.next().unwrap().to_owned();
    for part in parts {
        let (expression, rest) = part.split_once('}').unwrap();
        let (name, otherwise) = expression.split_once(':').unwrap_or((expression, "-"));
        let value = variables.get(name).filter(|value| !value.is_empty()).map(String::as_str);
        let default = || otherwise.strip_prefix('-').unwrap_or_else(|| panic!("{name}: {otherwise}"));
        result += value.unwrap_or_else(default);
        result += rest;
    }
    result
}
