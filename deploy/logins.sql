-- Logins for a database of Restante: one that owns it, and one for each program or person, with the rights of a role.
--
-- Run it in psql as a superuser before the first `restante migrate`, which then runs as restante_owner_login. You may
-- run it again at any time: it sets the passwords again, and a schema that another login has migrated then belongs to
-- restante_owner_login. The image of Postgres runs it when its volume is empty (docker-compose.yml); elsewhere run it
-- by hand:
--
--     psql --file=deploy/logins.sql "$ADMIN_URL"
--
-- with DATABASE_PASSWORD_OWNER, _INGEST, _WORKER and _OPERATOR in the environment, so that no list of processes shows
-- them; or with DATABASE_PASSWORD_OWNER_FILE and so on, which name the files that hold them. With DATABASE_PASSWORD_PAGE (or its
-- _FILE) too, the ops page gets a login of its own, and with RESTANTE_OPS_REPLAY=true it may replay dead letters.
\set ON_ERROR_STOP on
\set owner_password `printf %s "${DATABASE_PASSWORD_OWNER:-$(cat "${DATABASE_PASSWORD_OWNER_FILE:-/dev/null}")}"`
\set ingest_password `printf %s "${DATABASE_PASSWORD_INGEST:-$(cat "${DATABASE_PASSWORD_INGEST_FILE:-/dev/null}")}"`
\set worker_password `printf %s "${DATABASE_PASSWORD_WORKER:-$(cat "${DATABASE_PASSWORD_WORKER_FILE:-/dev/null}")}"`
\set operator_password `printf %s "${DATABASE_PASSWORD_OPERATOR:-$(cat "${DATABASE_PASSWORD_OPERATOR_FILE:-/dev/null}")}"`
\set page_password `printf %s "${DATABASE_PASSWORD_PAGE:-$(cat "${DATABASE_PASSWORD_PAGE_FILE:-/dev/null}")}"`
\set page_replays `printf %s "$RESTANTE_OPS_REPLAY"`

-- One transaction, so that all of it is made or nothing; and no password appears in the server's log.
begin;
set local log_statement = 'none';
set local log_min_duration_statement = -1;
set local log_min_error_statement = 'panic';

-- A variable that was forgotten must not delete the present password.
select format('do $do$ begin raise exception %L; end $do$', 'set DATABASE_PASSWORD_OWNER, _INGEST, _WORKER and _OPERATOR')
 where '' in (:'owner_password', :'ingest_password', :'worker_password', :'operator_password')
\gexec

-- The roles that the migrations grant rights to. They are created here so that the owner needs no right to create
-- roles.
select format('create role %I nologin', name)
  from unnest(array['restante_ingest', 'restante_worker', 'restante_operator', 'restante_app',
                    'restante_page', 'restante_page_replay']) as role (name)
 where not exists (select from pg_roles where rolname = name)
\gexec

select format('create role %I', name)
  from unnest(array['restante_owner_login', 'restante_ingest_login', 'restante_worker_login', 'restante_operator_login'])
    as login (name)
 where not exists (select from pg_roles where rolname = name)
\gexec

alter role restante_owner_login    login password :'owner_password';
alter role restante_ingest_login   login password :'ingest_password';
alter role restante_worker_login   login password :'worker_password';
alter role restante_operator_login login password :'operator_password';

grant restante_ingest   to restante_ingest_login;
grant restante_worker   to restante_worker_login;
grant restante_operator to restante_operator_login;
-- So that `restante status` can show whose old transaction keeps vacuum from cleaning up.
grant pg_read_all_stats to restante_operator_login;

-- The ops page reads with a login that can do nothing else.
select 'create role restante_page_login'
 where :'page_password' <> '' and not exists (select from pg_roles where rolname = 'restante_page_login')
\gexec
select format('alter role restante_page_login login password %L', :'page_password') where :'page_password' <> ''
union all
select 'grant restante_page to restante_page_login' where :'page_password' <> ''
union all
select case :'page_replays' when 'true' then 'grant restante_page_replay to restante_page_login'
       else 'revoke restante_page_replay from restante_page_login' end where :'page_password' <> ''
\gexec

-- The owner of the database may create the schema in it.
select format('alter database %I owner to restante_owner_login', current_database())
\gexec

-- Objects that another login has migrated get the new owner, so that the owner can run the next `restante migrate`.
select format('alter %s %s owner to restante_owner_login', o.kind, o.name)
  from (
    select 'schema' as kind, n.nspname::text as name, n.nspowner as owner, n.oid as schema from pg_namespace as n
    union all
    select case c.relkind when 'v' then 'view' when 'S' then 'sequence' else 'table' end, c.oid::regclass::text, c.relowner,
           c.relnamespace
      from pg_class as c
     where c.relkind in ('r', 'p', 'v', 'S')
       -- A sequence of a column changes its owner with its table: of a serial one (a) and of an identity (i).
       and not (c.relkind = 'S' and exists (
             select from pg_depend as d
              where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')))
    union all
    select 'routine', p.oid::regprocedure::text, p.proowner, p.pronamespace from pg_proc as p
    union all
    select 'type', t.oid::regtype::text, t.typowner, t.typnamespace
      from pg_type as t left join pg_class as c on c.oid = t.typrelid
     where t.typtype = 'd' or (t.typtype = 'c' and c.relkind = 'c')) as o
 where o.schema = (select oid from pg_namespace where nspname = 'restante')
   and o.owner <> 'restante_owner_login'::regrole
\gexec
commit;
