//! `restante doctor`: examines what the services stand on, and says what to do where something is wrong.
//!
//! It changes nothing. What is measured and what is made of it are apart: `database` asks, and the pure functions
//! beside each question judge.

mod database;

use secrecy::SecretString;

use crate::api;
use crate::config::{ApiAuth, Faults, Loaded, Tool};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    subject: &'static str,
    verdict: Verdict,
    /// What was found.
    says: String,
    /// What to do about it, where something is to be done.
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// Not wrong, and worth knowing; or not looked at, and why.
    Note,
    Wrong,
}

impl Finding {
    fn fine(subject: &'static str, says: impl Into<String>) -> Finding {
        Finding { subject, verdict: Verdict::Fine, says: says.into(), remedy: None }
    }

    fn note(subject: &'static str, says: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Note, ..Finding::fine(subject, says) }
    }

    fn wrong(subject: &'static str, says: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Wrong, remedy: Some(remedy.into()), ..Finding::fine(subject, says) }
    }
}

/// Examines everything. Answers in lines for people, and whether nothing is wrong.
pub(super) async fn run(read: Result<Loaded<Tool>, Faults>) -> (String, bool) {
    let findings = match read {
        Ok(Loaded { config, warnings, .. }) => {
            let mut findings = vec![Finding::fine("configuration", "every variable that is set can be read")];
            findings
                .extend(warnings.iter().map(|warning| Finding::note("configuration", warning.to_string())));
            findings.extend(database::examine(config.database_url.as_ref()).await);
            findings.push(examine_api(&config).await);
            findings
        }
        Err(faults) => configuration(&faults),
    };
    (rendered(&findings), findings.iter().all(|finding| finding.verdict != Verdict::Wrong))
}

fn configuration(faults: &Faults) -> Vec<Finding> {
    let wrong = faults.faults.iter().map(|fault| {
        let says = format!("{}: {}", fault.variable, fault.problem);
        Finding::wrong("configuration", says, fault.mend.clone())
    });
    let notes = faults.warnings.iter().map(|warning| Finding::note("configuration", warning.to_string()));
    wrong.chain(notes).collect()
}

async fn examine_api(config: &Tool) -> Finding {
    let Some(key) = config.api_key.clone() else {
        return Finding::note("api", "not asked: ANTHROPIC_API_KEY is not set here");
    };
    match ask_api(config, key).await {
        Ok(()) => Finding::fine("api", format!("{} takes the key", config.api.base_url)),
        Err(error) => {
            let remedy = match &error {
                api::Error::Account(_) => {
                    "give a valid ANTHROPIC_API_KEY of the workspace whose webhooks arrive here"
                }
                api::Error::RateLimited { .. } | api::Error::Unavailable { .. } => "try again in a while",
                api::Error::Transport(_) => {
                    "check ANTHROPIC_BASE_URL, and that this machine may connect to it"
                }
                _ => "check ANTHROPIC_BASE_URL and ANTHROPIC_VERSION",
            };
            Finding::wrong("api", format!("{:#}", anyhow::Error::from(error)), remedy)
        }
    }
}

/// Lists one batch: free of charge, and what the worker needs most.
async fn ask_api(config: &Tool, key: SecretString) -> Result<(), api::Error> {
    let auth = match config.api.auth {
        ApiAuth::XApiKey => api::Auth::XApiKey,
        ApiAuth::Bearer => api::Auth::Bearer,
    };
    let client = api::Client::new(api::Settings {
        auth,
        version: config.api.version.clone(),
        betas: config.api.beta.clone(),
        ..api::Settings::new(config.api.base_url.clone(), key)
    })?;
    client.batches(None, 1).await.map(drop)
}

fn rendered(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.subject.len()).max().unwrap_or(0);
    let line = |finding: &Finding| {
        let verdict = match finding.verdict {
            Verdict::Fine => "ok",
            Verdict::Note => "note",
            Verdict::Wrong => "wrong",
        };
        let remedy = finding.remedy.as_ref();
        let remedy =
            remedy.map(|remedy| format!("{:7}{:width$}  to do: {remedy}\n", "", "")).unwrap_or_default();
        format!("{verdict:5}  {:width$}  {}\n{remedy}", finding.subject, finding.says)
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use std::env;

    use sqlx::{Connection, PgConnection};

    use super::*;
    use crate::tool::postgres::{Durability, PrivatePostgres, Settings};

    #[test]
    fn what_is_wrong_is_followed_by_what_to_do() {
        let findings = [
            Finding::fine("database", "answers"),
            Finding::note("api", "not asked"),
            Finding::wrong("schema", "is at version 3", "run `restante migrate`"),
        ];

        expect_test::expect![[r#"
            ok     database  answers
            note   api       not asked
            wrong  schema    is at version 3
                             to do: run `restante migrate`
        "#]]
        .assert_eq(&rendered(&findings));
    }

    #[tokio::test]
    async fn faults_of_the_configuration_are_wrong_one_by_one() {
        let variables = [("DATABASE_URL", "mysql://u:hush@h/d"), ("RESTANTE_LOG", "xml")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));

        let (text, is_well) = run(Tool::from_vars(variables, &|_| Ok(String::new()))).await;

        assert!(!is_well);
        assert_eq!(text.matches("wrong  configuration").count(), 2, "{text}");
        assert!(!text.contains("hush"), "{text}");
    }

    /// A Postgres of its own, for the doctor looks at settings of the whole server.
    fn postgres() -> PrivatePostgres {
        let on = ["fsync", "full_page_writes", "synchronous_commit", "autovacuum"];
        PrivatePostgres::start(&Settings {
            pg_bin: env::var_os("PG_BIN").map(Into::into),
            path: env::var_os("PATH"),
            parent: env::temp_dir(),
            durability: Durability::ForTests,
            options: on.map(|name| (name.to_owned(), "on".to_owned())).to_vec(),
        })
        .unwrap()
    }

    /// The subjects that are wrong.
    async fn wrong(url: &SecretString) -> Vec<&'static str> {
        let findings = database::examine(Some(url)).await;
        let wrong = findings.into_iter().filter(|finding| finding.verdict == Verdict::Wrong);
        wrong.map(|finding| finding.subject).collect()
    }

    #[test]
    fn a_fresh_database_is_sound_and_what_is_broken_in_it_is_found() {
        let postgres = postgres();
        let url = postgres.url("postgres").into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(wrong(&url).await, ["schema"]);
            crate::database::migrate(&url).await.unwrap();
            assert_eq!(wrong(&url).await, [""; 0]);

            let mut connection = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
            sqlx::raw_sql(
                "insert into restante.outbox_overflow (event_id, type, payload, status, finished_at)
                   values ('e', 't', '{}', 'done', now() - interval '1 year');
                 insert into restante.outbox_live (event_id, type, payload, key, status)
                   values ('f', 't', '{}', 'k', 'blocked');
                 do $$ begin execute 'drop table restante.'
                   || to_char(date_trunc('week', now() at time zone 'UTC'), '\"outbox_\"IYYY\"w\"IW'); end $$;
                 alter database postgres set synchronous_commit = off",
            )
            .execute(&mut connection)
            .await
            .unwrap();
            assert_eq!(wrong(&url).await, ["durability", "partitions", "overflow", "keys"]);
        });
    }
}
