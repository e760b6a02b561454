//! The compose file and the image fit the programs, and the services that they start work.
//!
//! The tests use the commands, variables and health checks of the file itself, so it cannot become outdated.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use restante::internals::config::{Need, Program, VARIABLES};
use sqlx::{Connection, PgConnection};

use crate::support::compose_file::{
    ComposeFile, Service, interpolated, names_in, project_file, variables_of,
};
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

/// The variable that a name of the environment sets, itself or by its file.
fn variable(name: &str) -> &str {
    let is_secret = |name: &&str| VARIABLES.iter().any(|v| v.secret && v.name == *name);
    name.strip_suffix("_FILE").filter(is_secret).unwrap_or(name)
}

#[test]
fn a_service_gets_variables_that_its_program_reads_and_all_of_them() {
    for (name, service) in ComposeFile::read().programs() {
        let program = program(service);
        // The doctor examines the variables of both services.
        let is_doctor = service.command == ["restante", "doctor"];
        let read: BTreeSet<_> =
            VARIABLES.iter().filter(|v| is_doctor || v.need(program).is_some()).map(|v| v.name).collect();
        let given: BTreeSet<_> = service.environment.keys().map(|name| variable(name)).collect();

        let unread: Vec<_> = given.difference(&read).collect();
        assert!(unread.is_empty(), "{name}: {unread:?} is not read");
        // Which variables another command of the hand tool reads depends on the command.
        if is_doctor || program != Program::Tool {
            assert_eq!(given, read, "{name}: a setting that cannot be made");
        }
    }
}

#[test]
fn what_the_file_wants_from_outside_stands_in_the_example_and_has_a_default() {
    let example = project_file(".env.example");
    let file = project_file("docker-compose.yml");
    let names = names_in(&file);
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        assert!(example.contains(&format!("{name}=")), "{name} is not in .env.example");
        assert!(file.contains(&format!("${{{name}:-")), "{name} has no default");
    }
}

#[test]
fn a_container_sees_the_secrets_that_it_needs_and_no_others() {
    let file = ComposeFile::read();
    let mut given = BTreeSet::new();
    for (name, service) in &file.services {
        let words = service.environment.values().flatten().chain(&service.entrypoint);
        let used: BTreeSet<_> = words
            .flat_map(|word| word.split("/run/secrets/").skip(1))
            .map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap())
            .collect();
        let seen: BTreeSet<_> = service.secrets.iter().map(String::as_str).collect();
        assert_eq!(used, seen, "{name}");
        given.extend(used.into_iter().map(str::to_owned));
        for (variable, value) in &service.environment {
            let is_secret = VARIABLES.iter().any(|v| v.secret && v.name == variable);
            assert!(!is_secret || value.is_none(), "{name}: {variable} shows in `docker inspect`");
        }
    }
    assert_eq!(given, file.secrets.keys().cloned().collect());
    for secret in file.secrets.values() {
        let demo = interpolated(&secret.file, &variables_of(DEMO));
        assert!(is_there(&demo), "{demo} is not there");
    }
}

#[test]
fn the_secrets_are_made_by_a_script_which_leaves_those_that_are_there() {
    let directory = tempfile::tempdir().unwrap();
    let secrets = directory.path().join("secrets");
    let read = |name: &str| std::fs::read_to_string(secrets.join(name)).unwrap();
    let make = || {
        let made = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/make-secrets"))
            .arg(&secrets)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        String::from_utf8(made.stderr).unwrap()
    };
    let told = make();
    assert!(told.contains("anthropic_api_key") && told.contains("anthropic_webhook_signing_key"), "{told}");
    for key in ["anthropic_api_key", "anthropic_webhook_signing_key"] {
        std::fs::write(secrets.join(key), "a key\n").unwrap();
    }
    let before = read("database_password_worker");
    assert_eq!(before.len(), 48);

    assert_eq!(make(), "", "nothing is left to be done");

    assert_eq!(read("database_password_worker"), before);
    let made: BTreeSet<_> = std::fs::read_dir(&secrets)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(made, ComposeFile::read().secrets.into_keys().collect());
    assert_eq!(
        read("database_url_worker"),
        format!("postgres://restante_worker_login:{before}@postgres:5432/restante")
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&secrets), mode(&secrets.join("database_url_worker"))), (0o700, 0o444));
}

#[test]
fn the_proxy_knows_both_ingests_and_lets_go_of_a_connection_before_they_do() {
    let file = ComposeFile::read();
    let proxy = project_file("deploy/Caddyfile");
    let ingests: Vec<_> =
        file.services.iter().filter(|(_, service)| service.command == ["restante-ingest"]).collect();
    assert!(ingests.len() >= 2, "one takes deliveries while the other is replaced");
    for (name, service) in ingests {
        assert!(proxy.contains(&format!(" {name}:8080")), "{name}");
        assert!(project_file("deploy/renew-ingest").contains(name.as_str()));
        assert!(service.networks.contains(&"outside".to_owned()));
        assert!(!service.volumes.is_empty(), "{name}: a folder of its own for a journal");
    }
    let kept = proxy.lines().find_map(|line| line.trim().strip_prefix("keepalive ")).unwrap();
    let idle = VARIABLES.iter().find(|v| v.name == "RESTANTE_IDLE_SECONDS").unwrap();
    let Need::Default(idle) = idle.need(Program::Ingest).unwrap() else { panic!() };
    assert!(kept.strip_suffix('s').unwrap().parse::<u32>().unwrap() < idle.parse().unwrap());
}

#[test]
fn containers_of_ours_may_do_nothing_that_they_need_not() {
    let file = ComposeFile::read();
    assert!(file.programs().count() >= 5);
    for (name, service) in &file.services {
        assert!(service.mem_limit.is_some(), "{name}: it may take all memory of the machine");
        for volume in service.volumes.iter().filter(|volume| !volume.starts_with("./")) {
            let (volume, _) = volume.split_once(':').unwrap();
            assert!(file.volumes.contains_key(volume), "{name}: {volume}");
        }
    }
    for (name, service) in file.programs() {
        assert!(service.read_only && service.cap_add.is_empty(), "{name}");
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
        let Need::Default(drain) = drain.need(program(service)).unwrap() else { panic!() };
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
    assert!(!image.contains("--mount"), "an engine without BuildKit cannot build it");
    let user: Vec<u32> = instruction("USER ").split(':').map(|number| number.parse().unwrap()).collect();
    assert!(user.iter().all(|number| *number > 0));
    let from = instruction("FROM ");
    assert_eq!(from.lines().last(), Some("scratch"), "nothing but the programs");
    for from in from.lines() {
        assert!((from.contains("-slim") || from == "scratch") && !from.contains('/'), "{from}");
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
    let mut services = NativeCompose::up(&file, "demo", &["ingest-two"], variables_of(DEMO)).await;
    let mut operator = PgConnection::connect(&services.secret("database_url_operator")).await.unwrap();

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
    let (_, examined) = services.try_to_run(&file.services["doctor"], &["restante", "doctor"]);
    assert!(examined.contains("accepts the key"), "{examined}");
    // The Postgres of the tests is quick rather than durable, and nothing else is wrong.
    let wrong: Vec<_> = examined
        .lines()
        .filter(|line| line.starts_with("wrong"))
        .filter_map(|line| line.split_whitespace().nth(2))
        .collect();
    assert_eq!(wrong, ["fsync", "full_page_writes", "autovacuum"], "{examined}");
    let answered = services.run_entrypoint(
        &file.services["psql"],
        &["--tuples-only", "--no-align", "--command", "select current_user, count(*) from restante.health"],
    );
    assert!(answered.starts_with("restante_operator_login|"), "{answered}");

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
