//! `restante doctor`: examines the configuration, the database and the API, and says how to fix what is wrong.
//!
//! It changes nothing. Queries and judgement are separate: each query has a pure function next to it that judges the answer.

mod configuration;
mod database;
mod journal;
mod login;
mod retention;
mod settings;

use restante::api::Account;
use restante::event::ANTHROPIC;
use restante::internals::config::{Tool, Worker};
use restante::{api, database as doors};

/// One thing that was examined.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    subject: &'static str,
    verdict: Verdict,
    /// What was found.
    says: String,
    /// What to do about it, if it is wrong.
    remedy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// Not wrong, but worth knowing; or not examined, and why.
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

/// Examines the variables, the database and the API. Returns lines for people, and whether nothing is wrong.
pub(super) async fn run(variables: &[(String, String)]) -> (String, bool) {
    let read = Tool::from_vars(variables.iter().cloned(), &super::configuration::read_file);
    let mut findings = Vec::new();
    let mut login = None;
    if let Ok(read) = &read {
        (findings, login) = database::examine(read.config.database_url.as_ref()).await;
        findings.extend(read.config.journal_dir.as_deref().map(journal::examine));
        let accounts = accounts(variables, &read.config);
        if accounts.is_empty() {
            findings.push(Finding::note("api", "not asked: ANTHROPIC_API_KEY is not set here"));
        }
        for account in &accounts {
            findings.push(examine_api(account).await);
        }
    }
    let mut all = configuration::examine(variables, login.as_ref());
    all.append(&mut findings);
    (rendered(&all), all.iter().all(|finding| finding.verdict != Verdict::Wrong))
}

/// The accounts that a worker would have here; where it would not start, that of the variables.
fn accounts(variables: &[(String, String)], config: &Tool) -> Vec<Account> {
    let worker = Worker::from_vars(variables.iter().cloned(), &super::configuration::read_file);
    let of_variables = || config.api.clone().map(Account::anthropic).into_iter().collect();
    worker.map_or_else(|_| of_variables(), |loaded| loaded.config.accounts)
}

async fn examine_api(Account { name, settings }: &Account) -> Finding {
    let of_account = if name == ANTHROPIC { String::new() } else { format!(" of the account {name}") };
    match ask_api(settings).await {
        Ok(()) => Finding::fine("api", format!("{} accepts the key{of_account}", settings.base_url)),
        Err(error) => {
            let remedy = error.advice();
            let says = doors::told(&error);
            let says = if name == ANTHROPIC { says } else { format!("account {name}: {says}") };
            Finding::wrong("api", says, remedy)
        }
    }
}

/// Lists one batch: that is free of charge, and the call that the worker needs most.
async fn ask_api(settings: &api::Settings) -> Result<(), api::Error> {
    let client = api::Client::new(settings.clone())?;
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

    use secrecy::SecretString;
    use sqlx::{Connection, PgConnection};

    use super::*;
    use restante_playground::postgres::{Durability, PrivatePostgres, Settings};

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

    /// A private Postgres, because the doctor looks at settings of the whole server.
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
        let (findings, _) = database::examine(Some(url)).await;
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
            restante::database::migrate(&url).await.unwrap();
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
            assert_eq!(wrong(&url).await, ["durability", "partitions", "keys", "overflow"]);
        });
    }

    /// The findings about a new login with these roles.
    async fn found(postgres: &PrivatePostgres, login: &str, roles: &str) -> String {
        let mut connection = PgConnection::connect(&postgres.url("postgres")).await.unwrap();
        let make = format!("create role {login} login password 'hush' {roles}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(make)).execute(&mut connection).await.unwrap();
        let mut url: url::Url = postgres.url("postgres").parse().unwrap();
        url.set_username(login).unwrap();
        url.set_password(Some("hush")).unwrap();
        rendered(&database::examine(Some(&String::from(url).into())).await.0)
    }

    #[test]
    fn a_login_is_judged_by_what_it_is_for_and_never_told_to_have_more_rights() {
        let postgres = postgres();
        let url = postgres.url("postgres").into();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            restante::database::migrate(&url).await.unwrap();
            for (login, role, right_for) in [
                ("i", "in role restante_ingest", "i is right for restante-ingest"),
                ("w", "in role restante_worker", "w is right for restante-worker"),
                ("o", "in role restante_operator", "o is right for an operator"),
                ("b", "in role restante_ingest, restante_operator", "b is right for restante-ingest"),
                ("s", "superuser", "s owns the schema"),
            ] {
                let said = found(&postgres, login, role).await;
                assert!(said.contains(right_for), "{said}");
                for wrong in ["wrong", "permission denied", "to do: let the role"] {
                    assert!(!said.contains(wrong), "{login}: {wrong}: {said}");
                }
            }
            let app = found(&postgres, "a", "in role restante_app").await;
            assert!(app.contains("a is right for an application"), "{app}");
            assert!(!app.contains("wrong"), "{app}");

            let nobody = found(&postgres, "n", "").await;
            assert!(nobody.contains("wrong  login"), "{nobody}");
            assert!(nobody.contains("the schema restante belongs to postgres"), "{nobody}");
            assert!(!nobody.contains("permission denied"), "{nobody}");
        });
    }

    #[test]
    fn a_way_to_the_database_that_does_not_work_is_told_once_with_its_place_and_one_thing_to_do() {
        let postgres = postgres();
        let url: url::Url = postgres.url("postgres").parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let with = |change: fn(&mut url::Url)| {
            let mut url = url.clone();
            change(&mut url);
            String::from(url)
        };
        for (url, says, to_do) in [
            (
                with(|url| url.set_password(Some("no-hush")).unwrap()),
                "password authentication failed",
                "give the password of postgres",
            ),
            (
                with(|url| url.set_path("/none")),
                "database \"none\" does not exist",
                "create the database none",
            ),
            (with(|url| url.set_port(Some(1)).unwrap()), "no server listens there", "start Postgres"),
            (
                with(|url| url.set_host(Some("no-such-host.invalid")).unwrap()),
                "the host no-such-host.invalid is not known",
                "correct the host",
            ),
            (
                with(|url| url.set_query(Some("sslmode=require"))),
                "there is no encrypted connection",
                "set the sslmode",
            ),
        ] {
            let (findings, _) = runtime.block_on(database::examine(Some(&url.into())));
            let said = rendered(&findings);
            assert_eq!(findings.len(), 1, "{said}");
            assert_eq!(said.matches(says).count(), 1, "{said}");
            assert!(said.contains(&format!("to do: {to_do}")), "{said}");
            for absent in ["at line", "hush", "error returned"] {
                assert!(!said.contains(absent), "{absent}: {said}");
            }
            assert!(said.contains("database "), "{said}");
        }
    }
}
