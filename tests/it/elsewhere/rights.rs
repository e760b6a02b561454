//! Logins with few rights, and rights that are missing after a restore.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::support::Process;

/// Makes a new login for the database of `url`.
async fn login(url: &SecretString, options: &str) -> (String, SecretString) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let login = format!("elsewhere_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    execute(&mut stranger(url).await, &format!("create role {login} login password 'pw' {options}")).await;
    let mut url = url::Url::parse(url.expose_secret()).unwrap();
    url.set_username(&login).unwrap();
    url.set_password(Some("pw")).unwrap();
    (login, SecretString::from(String::from(url)))
}

#[tokio::test]
async fn migrating_with_nothing_to_do_needs_no_right_to_create_anything() {
    let world = World::new().await;
    let name = name(&mut stranger(&world.url).await).await;
    world.sql(&format!("revoke create, temporary on database {name} from public")).await;
    for role in ["restante_worker", "restante_ingest", "restante_operator"] {
        let (_, url) = login(&world.url, &format!("in role {role}")).await;
        let (before, after) = database::migrate(&url).await.unwrap();
        assert_eq!(before, after, "{role}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_an_administrator_made_is_filled_without_the_right_to_create_one() {
    let url = cluster::empty_database().await;
    let mut administrator = stranger(&url).await;
    let name = name(&mut administrator).await;
    let (owner, owned) = login(&url, "").await;
    execute(
        &mut administrator,
        &format!(
            "revoke create on database {name} from public;
             do $$ declare v text; begin
               foreach v in array array['restante_ingest', 'restante_worker', 'restante_operator', 'restante_app', 'restante_page', 'restante_page_replay'] loop
                 begin execute format('create role %I nologin', v); exception when duplicate_object or unique_violation then null; end;
               end loop; end $$;
             create schema restante authorization {owner}"
        ),
    )
    .await;

    database::migrate(&owned).await.unwrap();

    let (_, worker) = login(&url, "in role restante_worker").await;
    database::check_schema(&mut database::connect(&worker, "test").await.unwrap()).await.unwrap();
    World::on(worker).await.claim(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_grants_again_what_a_restore_without_rights_left_out() {
    let world = World::new().await;
    let rights = "select string_agg(line, e'\\n' order by line collate \"C\") from (
        select format('%s %s', p.oid::regprocedure, coalesce(p.proacl, acldefault('f', p.proowner))) as line from pg_proc as p where pronamespace = 'restante'::regnamespace
        union all
        select format('%s %s', c.oid::regclass, coalesce(c.relacl, acldefault(case relkind when 'S' then 's' else 'r' end::\"char\", c.relowner)))
          from pg_class as c where relnamespace = 'restante'::regnamespace and relkind in ('r', 'p', 'v', 'S')
           -- Weeks are read through the outbox.
           and relname !~ '^outbox_[0-9]{4}w'
        union all
        select format('%s.%s %s', c.oid::regclass, a.attname, a.attacl) from pg_class as c
          join pg_attribute as a on a.attrelid = c.oid and a.attacl is not null where relnamespace = 'restante'::regnamespace
        union all
        select format('%s %s', nspname, nspacl) from pg_namespace where nspname = 'restante') as r";
    let sorted = async || {
        let text = world.value(rights).await;
        // Sorted, because the order of the grants does not matter.
        let mut lines: Vec<String> = text
            .lines()
            .map(|line| {
                let (object, acl) = line.rsplit_once(' ').unwrap();
                let mut items: Vec<&str> = acl.trim_matches(['{', '}']).split(',').collect();
                items.sort_unstable();
                format!("{object} {items:?}")
            })
            .collect();
        lines.sort_unstable();
        lines
    };
    let before = sorted().await;
    let roles = "restante_ingest, restante_worker, restante_operator, restante_app";
    world
        .sql(&format!(
            "do $$ declare v record; begin
               for v in select c.oid::regclass as r, a.attname from pg_class as c
                          join pg_attribute as a on a.attrelid = c.oid and a.attacl is not null
                         where relnamespace = 'restante'::regnamespace loop
                 execute format('revoke all (%I) on %s from {roles}', v.attname, v.r);
               end loop;
               revoke all on all tables in schema restante from {roles};
               revoke all on all sequences in schema restante from {roles};
               revoke all on all functions in schema restante from {roles};
               grant execute on all functions in schema restante to public;
               revoke all on schema restante from {roles};
             end $$"
        ))
        .await;
    assert_ne!(sorted().await, before);
    let told = tool(&world.url, &["migrate"]).await;
    assert!(told.contains("the roles have no rights here yet: run restante migrate --grants"), "{told}");

    let told = tool(&world.url, &["migrate", "--grants"]).await;

    assert!(told.contains("the roles have their rights again") && !told.contains("no rights"), "{told}");
    let (after, before) = (sorted().await, before);
    let differing: Vec<_> = after.iter().zip(&before).filter(|(after, before)| after != before).collect();
    assert!(differing.is_empty() && after.len() == before.len(), "{differing:#?}");
}

/// The output of a command of the hand tool.
async fn tool(url: &SecretString, arguments: &[&str]) -> String {
    let variables = [("DATABASE_URL", url.expose_secret())];
    let mut process = Process::start_with(crate::support::processes::tool(), arguments, &variables);
    assert!(process.ended().await.success(), "{}", process.log());
    process.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_login_lacks_its_rights_is_not_ready_and_is_once_it_has_them() {
    let world = World::new().await;
    let (ingest, ingest_url) = login(&world.url, "in role restante_operator").await;
    let (worker, worker_url) = login(&world.url, "in role restante_operator").await;
    world.sql(&format!("grant insert on restante.subscription to {worker}")).await;
    let api = ScriptedApi::new().await;
    for (process, login, role) in [
        (Process::ingest(&ingest_url, &[]).await, ingest, "restante_ingest"),
        (Process::worker(&worker_url, &api.origin, &[]).await, worker, "restante_worker"),
    ] {
        let (status, said) = process.ops("/readyz").await;
        assert_eq!(status, 503, "{said}");
        assert!(said.contains("this login lacks the rights for the work") && said.contains(role), "{said}");

        world.sql(&format!("grant {role} to {login}")).await;

        crate::support::eventually("ready", async || (process.ops("/readyz").await.0 == 200).then_some(()))
            .await;
        // The check leaves nothing behind.
        assert_eq!(world.value("select count(*) from restante.outbox_seen").await, "0");
    }
}
