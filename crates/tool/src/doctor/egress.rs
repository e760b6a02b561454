//! The doctor calls the API as the worker does, and looks for proxies that the worker does not use.

use std::time::Duration;

use restante::api::{self, Account};
use restante::database::told;
use restante::event::ANTHROPIC;
use restante::internals::config::{Tool, Worker};
use tokio::time::timeout;

use super::clock;
use super::finding::Finding;
use crate::configuration::read_file;

/// How long the API may take. The worker waits longer, because it may.
const PATIENCE: Duration = Duration::from_secs(10);

/// The variables by which most programs find their proxy.
const PROXIES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Examines the way to the API with the key of each account that a worker would have here.
pub(super) async fn examine(variables: &[(String, String)], config: &Tool) -> Vec<Finding> {
    let accounts = accounts(variables, config);
    let mut findings = Vec::new();
    for account in &accounts {
        findings.push(ask(account, &proxies_of(variables)).await);
    }
    // One date is enough, unless the accounts call different machines.
    let mut asked = Vec::new();
    for Account { settings, .. } in &accounts {
        if !asked.contains(&settings.base_url) {
            asked.push(settings.base_url.clone());
            findings.extend(clock::of_api(settings).await);
        }
    }
    findings
}

/// The accounts that a worker would have here; where it would not start, that of the variables.
fn accounts(variables: &[(String, String)], config: &Tool) -> Vec<Account> {
    let worker = Worker::from_vars(variables.iter().cloned(), &read_file);
    let of_variables = || config.api.clone().map(Account::anthropic).into_iter().collect();
    worker.map_or_else(|_| of_variables(), |loaded| loaded.config.accounts)
}

/// The names of the variables that name a proxy.
fn proxies_of(variables: &[(String, String)]) -> Vec<String> {
    let is_proxy = |(name, value): &&(String, String)| PROXIES.contains(&name.as_str()) && !value.is_empty();
    variables.iter().filter(is_proxy).map(|(name, _)| name.clone()).collect()
}

async fn ask(Account { name, settings }: &Account, proxies: &[String]) -> Finding {
    let place = &settings.base_url;
    let who = if name == ANTHROPIC { String::new() } else { format!("account {name}: ") };
    let asked = timeout(PATIENCE, list_one_batch(settings)).await;
    let error = match asked {
        Ok(Ok(())) => return Finding::fine("api", format!("{who}{place} accepts the key")),
        Ok(Err(error)) => Some(error),
        Err(_) => None,
    };
    let says = match &error {
        Some(error) => format!("{who}{place}: {}", told(error)),
        None => format!("{who}{place} does not answer within {} s", PATIENCE.as_secs()),
    };
    let why = "whatever a worker has to ask or send waits until the API answers";
    Finding::wrong("api", says, why, remedy(error.as_ref(), settings.proxy.is_some(), proxies))
}

/// Lists one batch: that is free of charge, and the call that the worker needs most.
async fn list_one_batch(settings: &api::Settings) -> Result<(), api::Error> {
    let settings = api::Settings { idle_timeout: PATIENCE, ..settings.clone() };
    api::Client::new(settings)?.batches(None, 1).await.map(drop)
}

fn remedy(error: Option<&api::Error>, has_proxy: bool, proxies: &[String]) -> String {
    let unreached = !matches!(error, Some(error) if !matches!(error, api::Error::Transport(_)));
    if let Some(error) = error
        && told(error).contains("certificate")
    {
        return "give this machine the certificates of the authority that signed it, such as that of a proxy that opens TLS, or \
                correct ANTHROPIC_BASE_URL: openssl s_client -connect HOST:443 shows the certificate"
            .to_owned();
    }
    if unreached && !has_proxy && !proxies.is_empty() {
        return format!(
            "{} is set, and is not used: name the proxy as `proxy` of the account in the file of RESTANTE_CONFIG",
            proxies.join(", ")
        );
    }
    match error {
        Some(error) => error.advice().to_owned(),
        None => "check ANTHROPIC_BASE_URL, and that this machine may connect to it".to_owned(),
    }
}
