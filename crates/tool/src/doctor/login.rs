//! The login: what it may do, whichever way it got its rights.

use sqlx::{FromRow, PgConnection};

/// What a login may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromRow)]
pub(super) struct Login {
    /// Its name, quoted for SQL.
    pub(super) name: String,
    /// Is there a schema at all?
    pub(super) has_schema: bool,
    /// The role that owns the schema.
    pub(super) owner: String,
    pub(super) is_superuser: bool,
    /// May the login use the schema?
    pub(super) may_use: bool,
    /// Does the login own the schema, or is it a superuser?
    pub(super) is_owner: bool,
    /// Does the schema belong to this login itself, and not to a role that it is a member of?
    pub(super) is_owner_itself: bool,
    /// The attributes of the login that reach beyond the database, as in CREATEROLE.
    pub(super) attributes: Vec<String>,
    /// May the login do what ingest does?
    pub(super) may_insert: bool,
    /// May the login do what the worker does?
    pub(super) may_claim: bool,
    /// May the login do what an operator does?
    pub(super) may_operate: bool,
    /// May the login do what an application does?
    pub(super) may_enqueue: bool,
    /// May the login see what other sessions do?
    pub(super) sees_sessions: bool,
    /// The roles of ours that it is a member of.
    pub(super) member_of: Vec<String>,
    /// Those of them whose rights it has without `set role`.
    pub(super) inherits: Vec<String>,
    /// Has some login the role of a service, so that the owner is no service?
    pub(super) services_have_logins: bool,
    /// The version of the server, as in 150004.
    pub(super) server_version: i32,
}

/// Reads what the login of a connection may do.
pub(super) async fn of(connection: &mut PgConnection) -> sqlx::Result<Login> {
    // The query reads the catalogs: naming a missing or invisible object would be an error.
    sqlx::query_as(
        "select quote_ident(current_user) as name, n.oid is not null as has_schema,
                coalesce(pg_get_userbyid(n.nspowner), '')::text as owner,
                (select rolsuper from pg_roles where rolname = current_user) as is_superuser,
                coalesce(has_schema_privilege(n.oid, 'usage'), false) as may_use,
                coalesce(pg_has_role(n.nspowner, 'usage'), false) as is_owner,
                coalesce(pg_get_userbyid(n.nspowner) = current_user, false) as is_owner_itself,
                (select array_remove(array[case when rolcreaterole then 'CREATEROLE' end, case when rolcreatedb then 'CREATEDB' end,
                                           case when rolreplication then 'REPLICATION' end, case when rolbypassrls then 'BYPASSRLS' end], null)
                   from pg_roles where rolname = current_user) as attributes,
                coalesce(may.insert, false) as may_insert, coalesce(may.claim, false) as may_claim,
                coalesce(may.enqueue, false) as may_enqueue,
                coalesce((select has_column_privilege(c.oid, 'status', 'update') from pg_class as c
                           where c.relnamespace = n.oid and c.relname = 'outbox'), false) as may_operate,
                pg_has_role('pg_read_all_stats', 'usage') as sees_sessions,
                roles.member_of, roles.inherits, roles.services_have_logins,
                current_setting('server_version_num')::integer as server_version
           from (select) as one
           left join pg_namespace as n on n.nspname = 'restante'
           left join lateral (
                select bool_or(p.proname = 'insert_event') as insert, bool_or(p.proname = 'claim') as claim,
                       bool_or(p.proname = 'enqueue') as enqueue
                  from pg_proc as p
                 where p.pronamespace = n.oid and has_function_privilege(p.oid, 'execute')) as may on true
          cross join lateral (
                select coalesce(array_agg(r.rolname::text order by r.rolname)
                                filter (where pg_has_role(r.oid, 'member')), '{}') as member_of,
                       coalesce(array_agg(r.rolname::text order by r.rolname)
                                filter (where pg_has_role(r.oid, 'usage')), '{}') as inherits,
                       coalesce(bool_or(exists (select from pg_auth_members as m join pg_roles as l on l.oid = m.member
                                                 where m.roleid = r.oid and l.rolcanlogin)), false) as services_have_logins
                  from pg_roles as r
                 where r.rolname in ('restante_ingest', 'restante_worker', 'restante_operator', 'restante_app')) as roles",
    )
    .fetch_one(connection)
    .await
}

impl Login {
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
}
