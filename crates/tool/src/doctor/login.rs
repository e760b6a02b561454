//! The doctor examines the login. Its rights say which program it is for, and it is judged by what that program needs.
//!
//! A login for ingest is right even though it cannot read the outbox. So no advice here gives a login more rights than its
//! program needs.

use sqlx::{FromRow, PgConnection};

use super::Finding;

/// What a login may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromRow)]
pub(super) struct Login {
    name: String,
    /// Is there a schema at all?
    pub(super) has_schema: bool,
    /// The role that owns the schema.
    owner: String,
    /// May the login use the schema?
    pub(super) may_use: bool,
    /// Does the login own the schema, or is it a superuser?
    is_owner: bool,
    /// May the login do what ingest does?
    may_insert: bool,
    /// May the login do what the worker does?
    may_claim: bool,
    /// May the login do what an operator does?
    may_operate: bool,
    /// May the login do what an application does?
    may_enqueue: bool,
}

/// Reads what the login of a connection may do, whichever way it got its rights.
pub(super) async fn of(connection: &mut PgConnection) -> sqlx::Result<Login> {
    // The query reads the catalogs: naming a missing or invisible object would be an error.
    sqlx::query_as(
        "select current_user::text as name, n.oid is not null as has_schema,
                coalesce(pg_get_userbyid(n.nspowner), '')::text as owner,
                coalesce(has_schema_privilege(n.oid, 'usage'), false) as may_use,
                coalesce(pg_has_role(n.nspowner, 'usage'), false) as is_owner,
                coalesce(may.insert, false) as may_insert, coalesce(may.claim, false) as may_claim,
                coalesce(may.enqueue, false) as may_enqueue,
                coalesce((select has_column_privilege(c.oid, 'status', 'update') from pg_class as c
                           where c.relnamespace = n.oid and c.relname = 'outbox'), false) as may_operate
           from (select) as one
           left join pg_namespace as n on n.nspname = 'restante'
           left join lateral (
                select bool_or(p.proname = 'insert_event') as insert, bool_or(p.proname = 'claim') as claim,
                       bool_or(p.proname = 'enqueue') as enqueue
                  from pg_proc as p
                 where p.pronamespace = n.oid and has_function_privilege(p.oid, 'execute')) as may on true",
    )
    .fetch_one(connection)
    .await
}

/// A service that a login may be meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Ingest,
    Worker,
}

impl Login {
    /// May this service do its work with the login? True while there is no schema, because then nothing is known.
    pub(super) fn is_for(&self, service: For) -> bool {
        !self.has_schema
            || self.is_owner
            || match service {
                For::Ingest => self.may_insert,
                For::Worker => self.may_claim,
            }
    }

    /// May the login read unfinished events?
    pub(super) fn sees_events(&self) -> bool {
        self.may_claim || self.sees_everything()
    }

    /// Is the login for a program or a person that has to know the schema's version?
    pub(super) fn sees_version(&self) -> bool {
        self.may_insert || self.sees_events()
    }

    /// May the login read every table and view?
    pub(super) fn sees_everything(&self) -> bool {
        self.may_operate || self.is_owner
    }

    /// Says what the login is for, or that it has no role.
    pub(super) fn judged(&self) -> Finding {
        let Login { name, owner, .. } = self;
        if self.is_owner {
            let says =
                format!("{name} owns the schema: right for restante migrate, more than a service needs");
            return Finding::fine("login", says);
        }
        // The worker may store events too, so `may_insert` alone says ingest.
        let for_what: Vec<_> = [
            (self.may_insert && !self.may_claim, "restante-ingest: it may add events"),
            (self.may_claim, "restante-worker: it may run handlers"),
            (self.may_operate, "an operator: it may look at everything and change the status of events"),
            (self.may_enqueue, "an application: it may enqueue"),
        ]
        .into_iter()
        .filter(|(may, _)| *may && self.may_use)
        .map(|(_, what)| what)
        .collect();
        if !for_what.is_empty() {
            return Finding::fine("login", format!("{name} is right for {}", for_what.join("; for ")));
        }
        let says = format!("{name} has none of the four roles, and the schema restante belongs to {owner}");
        let remedy = format!(
            "as {owner}: grant restante_ingest, restante_worker or restante_operator to {name}, whichever it is for; \
             to migrate as {name}, run deploy/logins.sql, or: alter schema restante owner to {name}"
        );
        Finding::wrong("login", says, remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn login(change: impl FnOnce(&mut Login)) -> Login {
        let mut login = Login {
            name: "me".to_owned(),
            has_schema: true,
            owner: "postgres".to_owned(),
            may_use: true,
            ..Login::default()
        };
        change(&mut login);
        login
    }

    #[test]
    fn a_login_with_the_rights_of_one_program_is_right_for_it() {
        for (login, says) in [
            (login(|login| login.may_insert = true), "me is right for restante-ingest: it may add events"),
            (
                login(|login| (login.may_insert, login.may_claim) = (true, true)),
                "me is right for restante-worker: it may run handlers",
            ),
            (login(|login| login.may_enqueue = true), "me is right for an application: it may enqueue"),
        ] {
            let finding = login.judged();
            assert_eq!((finding.verdict, finding.says.as_str()), (Verdict::Fine, says));
        }
    }

    #[test]
    fn a_login_with_no_rights_is_told_which_role_to_ask_whom_for() {
        let finding = login(|login| login.may_use = false).judged();

        assert_eq!(finding.verdict, Verdict::Wrong);
        assert!(finding.says.contains("belongs to postgres"), "{}", finding.says);
        assert!(finding.remedy.unwrap().starts_with("as postgres: grant restante_ingest"));
    }
}
