//! `restante doctor`: examines the configuration, the database, the way to the API and the way of the webhooks, and says how to fix
//! what is wrong.
//!
//! Each family of checks has its file; `database` has the list of those that need a connection. Queries and judgement are separate
//! functions, so that a test can judge what no test can break. Nothing is changed: what services do is tried in a transaction that is
//! rolled back, and the probe of the public URL is not stored. Each check has a bound on its time.

mod check;
mod clock;
mod configuration;
mod database;
mod egress;
mod finding;
mod granted;
mod horizon;
mod journal;
mod login;
mod pools;
mod public_url;
mod retention;
mod rights;
mod scope;
mod secret_files;
mod server;
mod sessions;
mod settings;
mod tables;
#[cfg(test)]
mod tests;
mod weeks;

use restante::internals::config::Tool;
use url::Url;

use self::check::Limits;
use self::finding::{Finding, Verdict};
use self::scope::Subject;
use super::configuration::read_file;

/// The name under which the database sees us.
const NAME: &str = "restante doctor";

// No doc comment: it would be shown in place of that of the command.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct DoctorArgs {
    /// The service to examine; if none is given, those that the login and the keys in the environment are for
    subject: Option<Subject>,
    /// One JSON object instead of lines
    #[arg(long)]
    json: bool,
    /// The URL of the webhook endpoint, as in the Console [env: RESTANTE_PUBLIC_URL]
    #[arg(long, value_name = "URL")]
    public_url: Option<Url>,
}

/// Examines everything. Returns lines for people or JSON, and whether nothing is wrong.
pub(super) async fn run(args: &DoctorArgs, variables: &[(String, String)]) -> (String, bool) {
    let findings = examine(args, variables, Limits::default()).await;
    let is_well = findings.iter().all(|finding| finding.verdict != Verdict::Wrong);
    let told = if args.json { finding::as_json(&findings) } else { finding::rendered(&findings) };
    (told, is_well)
}

async fn examine(args: &DoctorArgs, variables: &[(String, String)], limits: Limits) -> Vec<Finding> {
    let asked = database::Asked { subject: args.subject, variables, limits };
    let Ok(read) = Tool::from_vars(variables.iter().cloned(), &read_file) else {
        return configuration::examine(variables, scope::Scope::of(args.subject, None, variables));
    };
    let config = read.config;
    let (mut of_database, scope) = database::examine(asked, config.database_url.as_ref()).await;
    let mut findings = configuration::examine(variables, scope);
    findings.extend(secret_files::examine(variables));
    findings.append(&mut of_database);
    let journal_dir = config.journal_dir.as_deref();
    findings.extend(journal_dir.map(|folder| journal::examine(folder, config.journal_bytes_max)));
    let url = args.public_url.as_ref().or(config.public_url.as_ref().filter(|_| scope.ingest));
    if let Some(url) = url {
        findings.extend(public_url::examine(url, &config).await);
    }
    if scope.worker {
        findings.extend(egress::examine(variables, &config).await);
    }
    findings
}
