//! Does what `docker compose up` does, without docker: runs the commands, variables and health checks of the compose file,
//! in its order, as processes of this machine. A private Postgres replaces the image of Postgres.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use restante_playground::free_port;
use restante_playground::postgres::PrivatePostgres;
use tempfile::TempDir;

use super::compose_file::{ComposeFile, Condition, Service, interpolated, project_file};
use super::processes::{INGEST, WORKER, tool};
use super::{Process, cluster, eventually};

/// The running services of a profile. Dropping this ends them all.
pub struct NativeCompose {
    outside: BTreeMap<String, String>,
    processes: BTreeMap<String, Process>,
    postgres: PrivatePostgres,
    /// The port of this machine for each port of a container.
    ports: BTreeMap<u16, u16>,
    /// The hosts in addresses of containers: the names of the services, and the addresses that containers listen on.
    hosts: Vec<String>,
    /// The secrets, with the addresses of this machine in them.
    secrets: TempDir,
}

/// Where containers see the secrets that they are given.
const SECRETS: &str = "/run/secrets/";

impl NativeCompose {
    /// Starts the services of a profile, each once the conditions of its dependencies are met. Those of `twins` are left out:
    /// they are like another one, and here both would listen on the same ports.
    pub async fn up(
        file: &ComposeFile,
        profile: &str,
        twins: &[&str],
        outside: BTreeMap<String, String>,
    ) -> Self {
        let mut services = file.of_profile(profile);
        services.retain(|name, _| !twins.contains(name));
        // A separate server, because roles belong to a whole server.
        let postgres = tokio::task::spawn_blocking(cluster::start_crashable).await.unwrap();
        let mut ports = free_ports(&[8080, 9091, 9092, 4010]);
        let port = url::Url::parse(&postgres.url("postgres")).unwrap().port().unwrap();
        ports.insert(5432, port);
        let hosts = services.keys().copied().chain(["0.0.0.0", "127.0.0.1"]).map(str::to_owned).collect();
        let secrets = tempfile::tempdir().unwrap();
        let mut running = Self { outside, processes: BTreeMap::new(), postgres, ports, hosts, secrets };
        for (name, secret) in &file.secrets {
            let text = project_file(&interpolated(&secret.file, &running.outside));
            std::fs::write(running.secrets.path().join(name), running.here(&text)).unwrap();
        }
        let mut started = BTreeSet::new();
        while started.len() < services.len() {
            let next = services.iter().find(|(name, service)| {
                !started.contains(*name)
                    && service.depends_on.keys().all(|other| started.contains(other.as_str()))
            });
            let (name, service) = next.expect("no circle of dependencies");
            for (other, dependency) in &service.depends_on {
                running.until(other, services[other.as_str()], dependency.condition).await;
            }
            running.start(name, service);
            started.insert(*name);
        }
        for (name, service) in &services {
            if !service.healthcheck.disable {
                running.until(name, service, Condition::ServiceHealthy).await;
            }
        }
        running
    }

    /// Stops a service, and waits until it has ended.
    pub async fn stop(&mut self, name: &str) {
        let mut process = self.processes.remove(name).expect("a service that runs");
        assert_eq!(process.stopped().await, Some(0), "{}", process.log());
    }

    /// Translates the addresses in a text from those between containers to those of this machine, and paths of secrets likewise.
    pub fn here(&self, text: &str) -> String {
        let mut text = text.replace(SECRETS, &format!("{}/", self.secrets.path().display()));
        for host in &self.hosts {
            for (port, here) in &self.ports {
                text = text.replace(&format!("{host}:{port}"), &format!("127.0.0.1:{here}"));
            }
        }
        text
    }

    /// The variables of a service's container.
    pub fn variables(&self, service: &Service) -> BTreeMap<String, String> {
        service.variables(&self.outside).into_iter().map(|(name, value)| (name, self.here(&value))).collect()
    }

    /// The value of a secret.
    pub fn secret(&self, name: &str) -> String {
        std::fs::read_to_string(self.secrets.path().join(name)).unwrap().trim().to_owned()
    }

    /// Runs the entry point of a service with these arguments to its end. Returns its output; panics if it fails.
    pub fn run_entrypoint(&self, service: &Service, arguments: &[&str]) -> String {
        // Compose reads two dollars as one.
        let entrypoint: Vec<_> = service.entrypoint.iter().map(|word| word.replace("$$", "$")).collect();
        let command: Vec<_> =
            entrypoint.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        self.run(service, &command)
    }

    /// Runs a command in a container of a service to its end. Returns its output; panics if it fails.
    pub fn run(&self, service: &Service, command: &[&str]) -> String {
        let (has_succeeded, text) = self.try_to_run(service, command);
        assert!(has_succeeded, "{command:?}: {text}");
        text
    }

    /// The same, but it may fail. Returns whether it succeeded, and its output.
    pub fn try_to_run(&self, service: &Service, command: &[&str]) -> (bool, String) {
        let arguments = command[1..].iter().map(|argument| self.here(argument));
        let output = Command::new(self.program(command[0]))
            .args(arguments)
            .env_clear()
            .envs(self.variables(service))
            .env("PGPORT", self.ports[&5432].to_string())
            .env("PATH", format!("{}:/usr/bin:/bin", self.postgres.programs().display()))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        (output.status.success(), text)
    }

    fn start(&mut self, name: &str, service: &Service) {
        if name == "postgres" {
            return self.start_postgres(service);
        }
        let variables = self.variables(service);
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let arguments: Vec<_> = service.command[1..]
            .iter()
            .map(|argument| self.here(&interpolated(argument, &self.outside)))
            .collect();
        let program = self.program(&service.command[0]);
        self.processes
            .insert(name.to_owned(), Process::start_with(program.to_str().unwrap(), &arguments, &variables));
    }

    /// Does what the image does with an empty volume: makes the database and runs the scripts.
    fn start_postgres(&self, service: &Service) {
        let create = format!("create database {}", service.variables(&self.outside)["POSTGRES_DB"]);
        self.psql(service, "postgres", &["--command", &create]);
        self.run_scripts(service);
    }

    /// Runs the scripts that the image runs when its volume is empty.
    pub fn run_scripts(&self, service: &Service) {
        for volume in &service.volumes {
            let (path, inside) = volume.split_once(':').unwrap();
            if inside.starts_with("/docker-entrypoint-initdb.d/") {
                assert!(is_there(path), "{path}");
                self.psql(service, &service.variables(&self.outside)["POSTGRES_DB"], &["--file", path]);
            }
        }
    }

    fn psql(&self, service: &Service, database: &str, arguments: &[&str]) {
        let ran = Command::new(self.program("psql"))
            .args([
                "--quiet",
                "--no-psqlrc",
                "--set=ON_ERROR_STOP=1",
                "--dbname",
                &self.postgres.url(database),
            ])
            .args(arguments)
            .envs(self.variables(service))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    }

    async fn until(&mut self, name: &str, service: &Service, condition: Condition) {
        match condition {
            Condition::ServiceCompletedSuccessfully => {
                let process = self.processes.get_mut(name).unwrap();
                let status = process.ended().await;
                assert!(status.success(), "{name}: {}", process.log());
            }
            Condition::ServiceHealthy => {
                eventually(&format!("{name} is healthy"), async || self.is_healthy(service).then_some(()))
                    .await;
            }
        }
    }

    fn is_healthy(&self, service: &Service) -> bool {
        let (kind, command) = service.healthcheck.test.split_first().expect("a health check");
        assert_eq!(kind, "CMD", "without a shell, which the image may not have");
        let checked = Command::new(self.program(&command[0]))
            .args(command[1..].iter().map(|argument| self.here(argument)))
            .env_clear()
            .envs(self.variables(service))
            .env("PGPORT", self.ports[&5432].to_string())
            .output()
            .unwrap();
        checked.status.success()
    }

    fn program(&self, name: &str) -> PathBuf {
        match name {
            "restante" => tool().into(),
            "restante-ingest" => INGEST.into(),
            "restante-worker" => WORKER.into(),
            // Usually the clients are next to the server; otherwise they are on the PATH.
            other => Some(self.postgres.programs().join(other))
                .filter(|path| path.exists())
                .unwrap_or(other.into()),
        }
    }

    /// The URL of a database for its superuser.
    pub fn admin_url(&self, database: &str) -> String {
        self.postgres.url(database)
    }
}

/// Picks a port of this machine for each port of a container.
fn free_ports(ports: &[u16]) -> BTreeMap<u16, u16> {
    let mut free = BTreeSet::new();
    while free.len() < ports.len() {
        free.insert(free_port().unwrap());
    }
    ports.iter().copied().zip(free).collect()
}

/// Does this path, which a build of the image copies, exist?
pub fn is_there(path: &str) -> bool {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists()
}
