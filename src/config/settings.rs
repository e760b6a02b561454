//! The settings that several programs read.

use super::table::*;
use super::vars::{Vars, all};
use super::{Log, Program};
use crate::api;
use crate::signature::Keys;

/// How the API is called; `Some(None)` if there is no key and none is required.
pub(super) fn api(vars: &mut Vars<'_>) -> Option<Option<api::Settings>> {
    let key = vars.find(&ANTHROPIC_API_KEY);
    let admin_key = vars.find(&ANTHROPIC_ADMIN_API_KEY);
    let base_url = vars.get(&ANTHROPIC_BASE_URL);
    let version = vars.get(&ANTHROPIC_VERSION);
    let betas = vars.list(&ANTHROPIC_BETA);
    let auth = vars.get(&RESTANTE_API_AUTH);
    let (key, admin_key) = (key?, admin_key?);
    let (base_url, version, betas, auth) = (base_url?, version?, betas?, auth?);
    if key.is_none() && admin_key.is_some() {
        let message = format!("{} is not set beside it, so nothing uses it", ANTHROPIC_API_KEY.facts.name);
        vars.warn(ANTHROPIC_ADMIN_API_KEY.facts.name, message);
    }
    let usual = key.map(|key| api::Settings::new(base_url, key));
    Some(usual.map(|usual| api::Settings { version, betas, auth, admin_key, ..usual }))
}

/// The keys of both signature schemes.
pub(super) fn keys(vars: &mut Vars<'_>) -> Option<Keys> {
    all!(Keys {
        standard: vars.list(&ANTHROPIC_WEBHOOK_SIGNING_KEY),
        older: vars.list(&ANTHROPIC_WEBHOOK_SECRET),
        ..Keys::default()
    })
}

pub(super) fn log(vars: &mut Vars<'_>) -> Option<Log> {
    let collector = match vars.program {
        Program::Tool => Some(None),
        Program::Ingest | Program::Worker => vars.find(&OTEL_EXPORTER_OTLP_ENDPOINT),
    };
    all!(Log { format: vars.get(&RESTANTE_LOG), filter: vars.get(&RUST_LOG), collector })
}
