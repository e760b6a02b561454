//! The compose file and the image fit the programs, and the services that they start work.
//!
//! The tests use the commands, variables and health checks of the file itself, so it cannot become outdated.

use std::collections::{BTreeMap, BTreeSet};

use restante::internals::config::{Program, VARIABLES};
use sqlx::{Connection, PgConnection};

use crate::support::compose_file::{ComposeFile, Service, names_in, project_file, variables_of};
use crate::support::eventually;
use crate::support::native_compose::{NativeCompose, is_there};
use crate::support::sender::client;

const DEMO: &str = "deploy/demo.env";

fn program(service: &Service) -> Program {
    match service.command[0].as_str() {
        "restante-ingest" => Program::Ingest,
        "restante-worker" => Program::Worker,
        "restante" => Program::Tool,
        other => panic!("{other} is no program of the image"),
    }
}

#[test]
fn a_service_gets_variables_that_its_program_reads_and_all_of_them() {
    for (name, service) in ComposeFile::read().programs() {
        let program = program(service);
        let read: BTreeSet<_> =
            VARIABLES.iter().filter(|v| v.need(program).is_some()).map(|v| v.name).collect();
        let given: BTreeSet<_> = service.environment.keys().map(String::as_str).collect();

        let unread: Vec<_> = given.difference(&read).collect();
        assert!(unread.is_empty(), "{name}: {unread:?} is not read");
        // Which variables the hand tool reads depends on the command.
        if program != Program::Tool {
            assert_eq!(given, read, "{name}: a setting that cannot be made");
        }
    }
}

#[test]
fn what_the_file_wants_from_outside_stands_in_both_environment_files() {
    let demo = variables_of(DEMO);
    let example = project_file(".env.example");
    let required: BTreeSet<_> = names_in(&project_file("docker-compose.yml"))
        .into_iter()
        .filter(|name| project_file("docker-compose.yml").contains(&format!("${{{name}:?")))
        .collect();
    assert!(required.len() > 5, "{required:?}");
    for name in names_in(&project_file("docker-compose.yml")) {
        assert!(example.contains(&format!("{name}=")), "{name} is not in .env.example");
    }
    for name in required {
        assert!(demo.get(&name).is_some_and(|value| !value.is_empty()), "{name} is not in {DEMO}");
    }
}

#[test]
fn containers_of_ours_may_do_nothing_that_they_need_not() {
    let file = ComposeFile::read();
    assert!(file.programs().count() >= 4);
    for (name, service) in file.programs() {
        assert!(service.read_only, "{name}");
        assert_eq!(
            (&*service.cap_drop, &*service.security_opt),
            (&["ALL".to_owned()][..], &["no-new-privileges:true".to_owned()][..]),
            "{name}"
        );
        assert_eq!(service.build.as_deref(), Some("."), "{name}");
        for network in &service.networks {
            assert!(file.networks.contains_key(network), "{name}: {network}");
        }
        for port in &service.ports {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port} would face the network");
        }
    }
    assert!(file.services["postgres"].ports.is_empty());
}

#[test]
fn a_service_is_given_longer_to_end_than_it_takes() {
    let drain = VARIABLES.iter().find(|v| v.name == "RESTANTE_DRAIN_SECONDS").unwrap();
    for (name, service) in ComposeFile::read().programs().filter(|(_, s)| program(s) != Program::Tool) {
        let restante::internals::config::Need::Default(drain) = drain.need(program(service)).unwrap() else {
            panic!()
        };
        let grace = service.stop_grace_period.as_deref().unwrap().strip_suffix('s').unwrap();

        assert!(grace.parse::<u32>().unwrap() > drain.parse().unwrap(), "{name}");
        assert_eq!(service.restart.as_deref(), Some("unless-stopped"), "{name}");
    }
}

#[test]
fn the_image_is_built_from_files_that_are_there_and_runs_as_nobody() {
    let image = project_file("Dockerfile");
    let instruction =
        |name: &str| image.lines().filter_map(|line| line.strip_prefix(name)).collect::<Vec<_>>().join("\n");
    let mut copied = 0;
    for line in instruction("COPY ").lines().filter(|line| !line.starts_with("--from=")) {
        let mut paths: Vec<_> = line.split(' ').collect();
        paths.pop();
        copied += paths.len();
        for path in paths {
            assert!(is_there(path), "{path} is not there");
            assert!(
                !project_file(".dockerignore").lines().any(|ignored| ignored == path),
                "{path} is ignored"
            );
        }
    }
    assert!(copied >= 5, "the test looks in the wrong place");
    let user: Vec<u32> = instruction("USER ").split(':').map(|number| number.parse().unwrap()).collect();
    assert!(user.iter().all(|number| *number > 0));
    for from in instruction("FROM ").lines() {
        assert!(from.contains("-slim") && !from.contains('/'), "{from}");
    }
    for (name, service) in ComposeFile::read().programs().filter(|(_, s)| program(s) != Program::Tool) {
        let command = service.healthcheck.test[1..]
            .iter()
            .map(|word| format!("{word:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        assert!(image.contains(&format!("CMD [{command}]")), "{name}: {command}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_services_start_in_their_order_under_their_roles_and_a_batch_goes_all_the_way() {
    let file = ComposeFile::read();
    let mut services = NativeCompose::up(&file, "demo", variables_of(DEMO)).await;
    let operator = services.variables(&file.services["status"])["DATABASE_URL"].clone();
    let mut operator = PgConnection::connect(&operator).await.unwrap();

    // A batch of the simulated API, which sends a signed webhook when it ends.
    let url = services.here("http://simulator:4010/_simulator/batches");
    let batch = client().post(url).body(r#"{"requests": 200, "batch_seconds": 0}"#).send().await.unwrap();
    assert_eq!(batch.status(), 200);
    let complete =
        "select count(*) from restante.batch_overview where progress = 'complete' and results_stored = 200";
    eventually("every result of the batch", async || {
        let batches: i64 = sqlx::query_scalar(complete).fetch_one(&mut operator).await.unwrap();
        (batches == 1).then_some(())
    })
    .await;
    // And one event sent by hand, from within a container.
    let send = ["restante", "send", "--url=http://ingest:8080/webhooks/anthropic", "--type=thing.happened"];
    services.run(&file.services["simulator"], &send);
    eventually("both events are finished", async || {
        let finished = "select array_agg(status order by id) from restante.outbox where source = 'webhook'";
        let statuses: Vec<String> = sqlx::query_scalar(finished).fetch_one(&mut operator).await.unwrap();
        (statuses == ["done", "ignored"]).then_some(())
    })
    .await;

    let status: Vec<&str> = file.services["status"].command.iter().map(String::as_str).collect();
    let picture = services.run(&file.services["status"], &status);
    assert!(picture.contains("restante-worker is connected"), "{picture}");
    assert!(!picture.contains("cannot be seen"), "{picture}");

    let mut admin = PgConnection::connect(&services.admin_url("restante")).await.unwrap();
    let logins: Vec<(String, String)> = sqlx::query_as(
        "select distinct application_name, usename::text from pg_stat_activity where application_name like 'restante-%' order by 1",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    let logins: BTreeMap<_, _> = logins.into_iter().collect();
    assert_eq!(logins["restante-ingest"], "restante_ingest_login");
    assert_eq!(logins["restante-worker"], "restante_worker_login");
    // A new owner needs every table for itself, and so may deadlock with a statement of a service.
    services.stop("worker").await;
    services.stop("ingest").await;
    // The script of the logins can run again, here on a schema that an administrator has migrated.
    sqlx::query("reassign owned by restante_owner_login to postgres").execute(&mut admin).await.unwrap();
    services.run_scripts(&file.services["postgres"]);
    let of_others: i64 = sqlx::query_scalar(
        "select (select count(*) from pg_class where relnamespace = 'restante'::regnamespace and relkind <> 'i'
                   and relkind <> 'I' and relkind <> 't' and relowner <> 'restante_owner_login'::regrole)
              + (select count(*) from pg_proc where pronamespace = 'restante'::regnamespace
                    and proowner <> 'restante_owner_login'::regrole)
              + (select count(*) from pg_type where typnamespace = 'restante'::regnamespace
                    and typowner <> 'restante_owner_login'::regrole)",
    )
    .fetch_one(&mut admin)
    .await
    .unwrap();
    assert_eq!(of_others, 0, "the owner owns all of it, whoever has migrated");
    services.run(&file.services["migrate"], &["restante", "migrate"]);
    let more: i64 = sqlx::query_scalar("select count(*) from pg_roles where rolname ~ '^restante_' and (rolsuper or rolcreaterole or rolcreatedb)")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!(more, 0, "nobody may do more than was granted");
}
