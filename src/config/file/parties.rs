//! What the tables of the configuration file mean: a sender, an account.

use secrecy::SecretString;

use super::keys::*;
use super::section::Section;
use crate::api::{self, Account};
use crate::config::Program;
use crate::config::keys::{self, SigningKey};
use crate::config::table::{
    ANTHROPIC_ADMIN_API_KEY, ANTHROPIC_API_KEY, ANTHROPIC_WEBHOOK_SECRET, ANTHROPIC_WEBHOOK_SIGNING_KEY,
};
use crate::config::variable::{Variable, unfit};
use crate::config::vars::Vars;
use crate::event::ANTHROPIC;
use crate::ingest::Sender;
use crate::signature::Keys;

/// The sender of a table; without its keys where the program does not read them. `None`: a fault was reported.
pub(super) fn sender(
    section: &Section<'_>,
    known_accounts: &[String],
    vars: &mut Vars<'_>,
) -> Option<Sender> {
    stands_alone(section, [&ANTHROPIC_WEBHOOK_SIGNING_KEY.facts, &ANTHROPIC_WEBHOOK_SECRET.facts], vars);
    let scheme = section.get(&SCHEME, vars);
    let secret =
        section.secret((&SIGNING_KEYS_FILE, &SIGNING_KEYS_ENV), vars, vars.program == Program::Ingest);
    let type_prefix = section.get(&TYPE_PREFIX, vars);
    let account = section.get(&ACCOUNT, vars);
    if !section.names((&SIGNING_KEYS_FILE, &SIGNING_KEYS_ENV)) {
        section.lacks((&SIGNING_KEYS_FILE, &SIGNING_KEYS_ENV), vars);
        return None;
    }
    if let Some(Some(account)) = &account
        && !known_accounts.contains(account)
    {
        let mend = format!(
            "Write a table [account.NAME] for it, or name a known one: {}",
            known_accounts.join(", ")
        );
        section.fault_of(vars, ACCOUNT.facts.name, unfit("no account has this name", mend));
    }
    if matches!((&account, &type_prefix), (Some(None), Some(prefix)) if prefix.as_ref().is_none_or(String::is_empty))
    {
        let message = "it has neither an account nor a type_prefix, so a type of its that is called like one of the Claude \
                       API, such as batch.completed, goes to the handler of that";
        vars.warn(&section.subject(), message);
    }
    let keys = match (scheme??, secret?) {
        (_, None) => Keys::default(),
        (Scheme::Standard, Some(secret)) => {
            let standard = secret.read(vars, keys::signing_keys, |keys| keys::signing_key_doubts(keys))?;
            Keys { standard, ..Keys::default() }
        }
        (Scheme::Svix, Some(secret)) => {
            let svix = secret.read(vars, keys::signing_keys, |keys| keys::signing_key_doubts(keys))?;
            Keys { svix, ..Keys::default() }
        }
        (Scheme::AnthropicHex, Some(secret)) => {
            let older = secret.read(vars, keys::webhook_secrets, |secrets| doubts_of_secrets(secrets))?;
            Keys { older, ..Keys::default() }
        }
    };
    let (name, type_prefix) = (section.name.clone(), type_prefix?.unwrap_or_default());
    Some(Sender { name, keys, type_prefix, account: account? })
}

/// In the file, the other scheme is no other variable.
fn doubts_of_secrets(secrets: &[SigningKey]) -> Vec<String> {
    let variable = ANTHROPIC_WEBHOOK_SIGNING_KEY.facts.name;
    let doubts = keys::webhook_secret_doubts(secrets).into_iter();
    doubts.map(|doubt| doubt.replace(variable, "a sender of the scheme standard or svix")).collect()
}

/// The account of a table. `None`: a fault was reported, or the program does not read its keys.
pub(super) fn account(section: &Section<'_>, vars: &mut Vars<'_>) -> Option<Account> {
    let is_read = vars.program == Program::Worker;
    stands_alone(section, [&ANTHROPIC_API_KEY.facts, &ANTHROPIC_ADMIN_API_KEY.facts], vars);
    let mut secret = |pair| match section.secret(pair, vars, is_read)? {
        Some(secret) => secret.read(vars, keys::api_key, |_| Vec::new()).map(Some),
        None => Some(None),
    };
    let key: Option<Option<SecretString>> = secret((&API_KEY_FILE, &API_KEY_ENV));
    let admin_key = secret((&ADMIN_KEY_FILE, &ADMIN_KEY_ENV));
    if !section.names((&API_KEY_FILE, &API_KEY_ENV)) {
        section.lacks((&API_KEY_FILE, &API_KEY_ENV), vars);
    }
    let base_url = section.get(&BASE_URL, vars);
    let workspace_id = section.get(&WORKSPACE_ID, vars);
    let version = section.get(&VERSION, vars);
    let betas = section.get(&BETA, vars);
    let auth = section.get(&AUTH, vars);
    let proxy = section.get(&PROXY, vars);
    let settings = api::Settings {
        version: version??,
        betas: betas?.unwrap_or_default(),
        auth: auth??,
        admin_key: admin_key?,
        workspace_id: workspace_id?,
        proxy: proxy?,
        ..api::Settings::new(base_url??, key??)
    };
    Some(Account { name: section.name.clone(), settings })
}

/// What is called `anthropic` has its keys here or in the environment, and not in both.
fn stands_alone(section: &Section<'_>, variables: [&Variable; 2], vars: &mut Vars<'_>) {
    let set = variables.into_iter().find(|variable| vars.is_set(variable));
    if let Some(variable) = set.filter(|_| section.name == ANTHROPIC) {
        let problem = format!("it has keys in the environment as well, in {} (or {0}_FILE)", variable.name);
        section.fault(vars, unfit(problem, "Unset that, or give the table another name"));
    }
}
