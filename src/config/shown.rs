//! What is in force for senders and accounts, as lines without secrets.

use std::slice;

use crate::api::{Account, Auth, keys_of_accounts};
use crate::ingest::Sender;
use crate::key_use::Fingerprint;

/// A sender: where its deliveries arrive, and what they are verified and told apart by.
pub(super) fn sender(sender: &Sender) -> String {
    let Sender { name, keys: keys_of, type_prefix, account } = sender;
    let schemes =
        [("standard", &keys_of.standard), ("svix", &keys_of.svix), ("anthropic-hex", &keys_of.older)];
    let schemes: Vec<String> = schemes
        .into_iter()
        .filter(|(_, keys)| !keys.is_empty())
        .map(|(scheme, keys)| format!("{scheme} with {}", counted(keys.len())))
        .collect();
    let types = if type_prefix.is_empty() {
        "types as they come".to_owned()
    } else {
        format!("types below {type_prefix}")
    };
    let account = account.as_ref().map_or("no account".to_owned(), |account| format!("account {account}"));
    let fingerprints: Vec<String> = keys_of.fingerprints().iter().map(Fingerprint::to_string).collect();
    let fingerprints = if fingerprints.is_empty() { "-".to_owned() } else { fingerprints.join(" ") };
    format!(
        "sender {name}: /webhooks/{name}, {}, {types}, {account}, fingerprints {fingerprints}",
        schemes.join(" and ")
    )
}

fn counted(keys: usize) -> String {
    if keys == 1 { "1 key".to_owned() } else { format!("{keys} keys") }
}

/// An account: where the API is called, and how.
pub(super) fn account(account: &Account) -> String {
    let settings = &account.settings;
    let auth = match settings.auth {
        Auth::XApiKey => "x-api-key",
        Auth::Bearer => "bearer",
    };
    let betas = if settings.betas.is_empty() { "none".to_owned() } else { settings.betas.join(" ") };
    let admin_key = if settings.admin_key.is_some() { "yes" } else { "no" };
    let fingerprints: Vec<String> =
        keys_of_accounts(slice::from_ref(account)).iter().map(|key| key.fingerprint.to_string()).collect();
    format!(
        "account {}: {}, {auth}, version {}, betas {betas}, admin key {admin_key}, workspace {}, proxy {}, fingerprints {}",
        account.name,
        settings.base_url,
        settings.version,
        settings.workspace_id.as_deref().unwrap_or("-"),
        settings.proxy.as_ref().map_or("-", url::Url::as_str),
        fingerprints.join(" "),
    )
}
