//! Which services are examined: those that were asked for, or those that this environment is for.

use restante::internals::config::{
    ANTHROPIC_API_KEY, ANTHROPIC_WEBHOOK_SECRET, ANTHROPIC_WEBHOOK_SIGNING_KEY, Variable,
};

use super::login::Login;

/// What `restante doctor` is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Subject {
    /// restante-ingest
    Ingest,
    /// restante-worker
    Worker,
    /// both
    All,
}

/// The services that are meant to start here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) ingest: bool,
    pub(super) worker: bool,
    /// A person has named the services, so that a login without their rights is wrong.
    pub(super) is_asked: bool,
}

impl Scope {
    /// The scope of a command. `login` is `None` if the database does not say who we are.
    ///
    /// Without a name, a login of a service is for that service. That of an operator or an owner is for the services whose keys are
    /// in the environment; if there is none, and no service has a login of its own, the owner begins with one login for all.
    pub(super) fn of(asked: Option<Subject>, login: Option<&Login>, variables: &[(String, String)]) -> Scope {
        let is_set = |variable: &Variable| {
            let names = [variable.name.to_owned(), format!("{}_FILE", variable.name)];
            variables.iter().any(|(name, value)| names.contains(name) && !value.trim().is_empty())
        };
        let has_keys =
            is_set(&ANTHROPIC_WEBHOOK_SIGNING_KEY.facts) || is_set(&ANTHROPIC_WEBHOOK_SECRET.facts);
        let calls_api = is_set(&ANTHROPIC_API_KEY.facts);
        let both = Scope { ingest: true, worker: true, is_asked: false };
        match (asked, login) {
            (Some(subject), _) => Scope {
                ingest: subject != Subject::Worker,
                worker: subject != Subject::Ingest,
                is_asked: true,
            },
            (None, None) if !has_keys && !calls_api => both,
            (None, None) => Scope { ingest: has_keys, worker: calls_api, is_asked: false },
            (None, Some(login)) if !login.has_schema || login.is_owner => {
                match (has_keys || calls_api, login.services_have_logins) {
                    (true, _) => Scope { ingest: has_keys, worker: calls_api, is_asked: false },
                    (false, true) => Scope { ingest: false, worker: false, is_asked: false },
                    (false, false) => both,
                }
            }
            (None, Some(login)) if login.may_insert || login.may_claim => {
                Scope { ingest: !login.may_claim, worker: login.may_claim, is_asked: false }
            }
            (None, Some(_)) => Scope { ingest: has_keys, worker: calls_api, is_asked: false },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(asked: Option<Subject>, login: Option<&Login>, names: &[&str]) -> (bool, bool) {
        let variables: Vec<_> = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        let Scope { ingest, worker, .. } = Scope::of(asked, login, &variables);
        (ingest, worker)
    }

    #[test]
    fn what_is_asked_for_is_examined_whatever_the_environment_is_for() {
        for (asked, services) in
            [(Subject::Ingest, (true, false)), (Subject::Worker, (false, true)), (Subject::All, (true, true))]
        {
            assert_eq!(scope(Some(asked), None, &["ANTHROPIC_API_KEY"]), services);
        }
    }

    #[test]
    fn without_a_name_the_login_says_which_service_is_meant_and_then_the_keys() {
        let login = |change: fn(&mut Login)| {
            let mut login = Login { has_schema: true, ..Login::default() };
            change(&mut login);
            login
        };
        let ingest = login(|login| login.may_insert = true);
        let worker = login(|login| (login.may_insert, login.may_claim) = (true, true));
        let operator = login(|login| login.may_operate = true);
        let owner = login(|login| login.is_owner = true);
        let owner_of_many = login(|login| (login.is_owner, login.services_have_logins) = (true, true));
        for (login, names, services) in [
            (Some(&ingest), &["ANTHROPIC_API_KEY"][..], (true, false)),
            (Some(&worker), &[], (false, true)),
            (Some(&operator), &[], (false, false)),
            (Some(&operator), &["ANTHROPIC_API_KEY"], (false, true)),
            (Some(&owner), &[], (true, true)),
            (Some(&owner), &["ANTHROPIC_API_KEY_FILE"], (false, true)),
            (Some(&owner_of_many), &[], (false, false)),
            (Some(&owner_of_many), &["ANTHROPIC_WEBHOOK_SECRET"], (true, false)),
            (None, &[], (true, true)),
            (None, &["ANTHROPIC_WEBHOOK_SIGNING_KEY"], (true, false)),
        ] {
            assert_eq!(scope(None, login, names), services, "{login:?} {names:?}");
        }
    }
}
