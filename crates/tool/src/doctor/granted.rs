//! The doctor compares the rights of the login with those that the migrations grant to its role.
//!
//! `granted.txt` has what the migrations grant; a test holds that. A right that is missing shows only when a program needs it:
//! the handler of one type of event fails, and everything else works.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use super::check::{Check, Database, Needs};
use super::finding::{Finding, Remedy, SUPERUSER};
use super::login::Login;

pub(super) const CHECKS: &[Check] =
    &[Check { subject: "rights", needs: Needs::Schema, ask: |database| Box::pin(rights(database)) }];

/// What each role may do, a right on a line.
const GRANTED: &str = include_str!("granted.txt");

/// How many of the missing rights are named.
const NAMED_MAX: usize = 3;

async fn rights(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let roles = roles_of(&database.login);
    if roles.is_empty() || database.is_newer {
        return Ok(Vec::new());
    }
    let has = of_role(&mut database.connection, None).await?;
    Ok(roles.into_iter().filter_map(|role| judge(&database.login, role, &has)).collect())
}

/// The roles whose rights the login is to have: those that it is a member of, and that of the service whose work it may do.
fn roles_of(login: &Login) -> Vec<&str> {
    if login.is_owner {
        return Vec::new();
    }
    let service = match (login.may_claim, login.may_insert) {
        (true, _) => Some("restante_worker"),
        (false, true) => Some("restante_ingest"),
        (false, false) => None,
    };
    let mut roles: Vec<&str> = login.inherits.iter().map(String::as_str).chain(service).collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

fn judge(login: &Login, role: &str, has: &Rights) -> Option<Finding> {
    let lacking: Vec<&str> = granted(role).filter(|right| !has.have(right)).collect();
    let (Login { name, owner, .. }, count) = (login, lacking.len());
    if count == 0 {
        return None;
    }
    let named = lacking.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join("; ");
    let more = if count > NAMED_MAX { format!(", and {} more", count - NAMED_MAX) } else { String::new() };
    let says = format!("{name} lacks rights that the migrations grant to {role}: {named}{more}");
    let why = "a program with this login is refused as soon as it needs one of them";
    Some(if login.inherits.iter().any(|known| known == role) {
        let remedy = format!("restante migrate --grants, with the DATABASE_URL of {owner}");
        Finding::wrong("rights", says, why, remedy)
    } else {
        Finding::wrong("rights", says, why, Remedy::sql(SUPERUSER, format!("grant {role} to {name}")))
    })
}

fn granted(role: &str) -> impl Iterator<Item = &'static str> {
    let of_role = format!("{role}: ");
    GRANTED.lines().filter_map(move |line| line.strip_prefix(&of_role))
}

/// The rights of a role on each thing of the schema: on a `table batch`, a `column status of outbox`, a `function claim(…)`.
#[derive(Debug)]
pub(super) struct Rights(pub(super) BTreeMap<String, Vec<String>>);

impl Rights {
    /// Is this right, a line of [`GRANTED`], among them? What does not exist in this schema is not missed here.
    fn have(&self, right: &str) -> bool {
        let Some((privilege, on)) = right.split_once(" on ") else { return true };
        let has =
            |on: &str| self.0.get(on).is_none_or(|rights| rights.iter().any(|known| known == privilege));
        // A right on a table is one on each of its columns.
        has(on)
            || on
                .strip_prefix("column ")
                .and_then(|on| on.split_once(" of "))
                .is_some_and(|(_, table)| has(&format!("table {table}")))
    }
}

/// The rights of `role`, or of the login.
pub(super) async fn of_role(connection: &mut PgConnection, role: Option<&str>) -> sqlx::Result<Rights> {
    let rights: Vec<(String, Vec<String>)> = sqlx::query_as(
        "select o.what, coalesce(array_agg(lower(a.privilege_type))
                                   filter (where a.grantee = 0 or pg_has_role(coalesce($1::name, current_user), a.grantee, 'usage')), '{}')
           from (select 'table ' || relname, relacl from pg_class
                  where relnamespace = to_regnamespace('restante') and relkind in ('r', 'p', 'v', 'S') and not relispartition
                 union all
                 select format('column %s of %s', t.attname, c.relname), t.attacl
                   from pg_class as c join pg_attribute as t on t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped
                  where c.relnamespace = to_regnamespace('restante') and c.relkind in ('r', 'p', 'v') and not c.relispartition
                 union all
                 select format('function %s(%s)', proname, oidvectortypes(proargtypes)), coalesce(proacl, acldefault('f', proowner))
                   from pg_proc where pronamespace = to_regnamespace('restante')) as o (what, acl)
           left join lateral aclexplode(o.acl) as a on true
          group by o.what",
    )
    .bind(role)
    .fetch_all(connection)
    .await?;
    Ok(Rights(rights.into_iter().collect()))
}
