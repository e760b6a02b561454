//! The command line of `restante`, the hand tool.

use std::process::ExitCode;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Parser, Subcommand};
use secrecy::{ExposeSecret, SecretString};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::configuration::{self, Service};
use super::demo::{self, DemoArgs};
use super::doctor::{self, DoctorArgs};
use super::endpoint::{self, EndpointArgs};
use super::explain::{self, ExplainArgs};
use super::results::{self, ResultsArgs};
use super::rotate::{self, RotateArgs};
use super::status::{self, StatusArgs};
use super::submit::{self, SubmitArgs};
use super::surroundings::Surroundings;
use super::{healthcheck, migrate};
use restante::internals::config::{
    ANTHROPIC_API_KEY, ANTHROPIC_WEBHOOK_SECRET, ANTHROPIC_WEBHOOK_SIGNING_KEY, DATABASE_URL, Faults, Loaded,
    Program, RESTANTE_LOG, RESTANTE_OPS_LISTEN, RUST_LOG, SigningKey, Tool, Variable, help_for,
    help_for_command,
};
use restante::internals::telemetry;
use restante::internals::telemetry::Flush;
use restante::service;
use restante_simulator::cli::SimulateArgs;
use restante_simulator::send::{self, SendArgs};
use restante_simulator::{Settings, Simulator};

/// Keeps what the Claude API sends in Postgres until it has been dealt with: the hand tool
///
/// The services are restante-ingest and restante-worker; see their --help.
#[derive(Debug, Parser)]
#[command(name = "restante", version, after_long_help = help_for(Program::Tool))]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Brings the database's schema to the version of this program
    ///
    /// Prints the versions before and after, and which migrations ran. Run it before new programs start. If the schema is up to
    /// date it does nothing. Several at once take turns.
    #[command(after_long_help = needs_database())]
    Migrate {
        /// Give the roles their rights again, as after a restore without them (pg_restore --no-acl)
        #[arg(long)]
        grants: bool,
    },
    #[command(after_long_help = demo::SURROUNDINGS)]
    Demo(DemoArgs),
    #[command(after_long_help = reads(&[SIGNING_KEY, WEBHOOK_SECRET, API_KEY]) + IN_PLACE_OF_FLAGS)]
    Simulate(Box<SimulateArgs>),
    #[command(after_long_help = reads(&[SIGNING_KEY, WEBHOOK_SECRET]) + IN_PLACE_OF_FLAGS)]
    Send(SendArgs),
    #[command(after_long_help = needs_database())]
    Status(StatusArgs),
    #[command(after_long_help = needs_database())]
    Explain(ExplainArgs),
    #[command(after_long_help = needs_database())]
    Submit(SubmitArgs),
    #[command(after_long_help = needs_database())]
    Results(ResultsArgs),
    #[command(after_long_help = needs_database())]
    Endpoint(EndpointArgs),
    #[command(after_long_help = needs_database())]
    Rotate(RotateArgs),
    /// Asks a service whether it is ready; exits 0 if it is, else 1 with the reason
    ///
    /// Without a URL it asks the listener of RESTANTE_OPS_LISTEN. If that is not set, it asks the default ones of ingest
    /// (127.0.0.1:9091) and worker (127.0.0.1:9092): one has to answer, and each that answers has to be ready.
    #[command(after_long_help = reads(&[&RESTANTE_OPS_LISTEN.facts]))]
    Healthcheck(HealthcheckArgs),
    /// Shows which configuration the services would start with, without the secrets; exits 1 if they would not start
    #[command(after_long_help = format!("For ingest. {}\nFor the worker. {}", help_for(Program::Ingest), help_for(Program::Worker)))]
    Config(ConfigArgs),
    /// Examines the configuration, the database, the way to the API and that of the webhooks; exits 1 if something is wrong
    ///
    /// Each line says what was found; if it is not as it should be, the next two say why that matters and what to do. Exit code
    /// 0: nothing is wrong, though there may be warnings. It changes nothing, and stores nothing.
    #[command(after_long_help = help_for(Program::Tool))]
    Doctor(DoctorArgs),
}

#[derive(Args, Debug)]
struct HealthcheckArgs {
    /// The ops listener, such as http://127.0.0.1:9092; without a path, /readyz is added
    url: Option<Url>,
}

#[derive(Args, Debug)]
struct ConfigArgs {
    /// The service to show; both if none is given
    service: Option<Service>,
}

const SIGNING_KEY: &Variable = &ANTHROPIC_WEBHOOK_SIGNING_KEY.facts;
const WEBHOOK_SECRET: &Variable = &ANTHROPIC_WEBHOOK_SECRET.facts;
const NO_DATABASE: &str = "DATABASE_URL is not set: give the address of the database";
const API_KEY: &Variable = &ANTHROPIC_API_KEY.facts;

const IN_PLACE_OF_FLAGS: &str = "\
A secret without a flag comes from its variable; if that holds several, the first one is used. Other users of the system
can see arguments in its list of processes, but not variables.
";

/// Help for the variables of a command and those of the log, which every command reads.
fn reads(variables: &[&Variable]) -> String {
    help_for_command(Program::Tool, &[variables, &[&RESTANTE_LOG.facts, &RUST_LOG.facts]].concat(), &[])
}

/// Help for the variables of a command that needs a database.
fn needs_database() -> String {
    let database = &DATABASE_URL.facts;
    help_for_command(Program::Tool, &[database, &RESTANTE_LOG.facts, &RUST_LOG.facts], &[database])
}

/// Runs a command, and returns the exit code of the process.
///
/// # Errors
/// If the configuration is faulty, or the command could not do its work.
pub(crate) async fn run(cli: Cli, surroundings: Surroundings) -> anyhow::Result<ExitCode> {
    let read = Tool::from_vars(surroundings.variables.iter().cloned(), &configuration::read_file);
    match cli.command {
        Command::Migrate { grants } => {
            let (tool, _flush) = started(read)?;
            let url = tool.database_url.context(NO_DATABASE)?;
            Ok(print_and_exit_code(&(migrate::run(&url, grants).await?, true)))
        }
        Command::Demo(args) => demo::run(args, &surroundings).await,
        Command::Simulate(args) => {
            let (tool, _flush) = started(read)?;
            simulate(*args, &tool, surroundings.stop).await
        }
        Command::Send(args) => {
            let (tool, _flush) = started(read)?;
            send::run(with_keys(args, &tool)).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Status(args) => {
            let (tool, _flush) = started(read)?;
            let url = tool.database_url.context(NO_DATABASE)?;
            status::run(args, &url, tool.journal_dir.as_deref(), surroundings.stop).await?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain(args) => {
            let (tool, _flush) = started(read)?;
            let url = tool.database_url.context(NO_DATABASE)?;
            explain::run(args, &url).await
        }
        Command::Submit(args) => {
            let (tool, _flush) = started(read)?;
            let url = tool.database_url.context(NO_DATABASE)?;
            submit::run(args, &url, surroundings.stop).await
        }
        Command::Results(args) => {
            let (tool, _flush) = started(read)?;
            let url = tool.database_url.context(NO_DATABASE)?;
            results::run(args, &url, surroundings.stop).await
        }
        Command::Endpoint(args) => {
            let (tool, _flush) = started(read)?;
            let url = tool.database_url.context(NO_DATABASE)?;
            endpoint::run(args, &url).await
        }
        Command::Rotate(args) => {
            let (tool, _flush) = started(read)?;
            let url = tool.database_url.context(NO_DATABASE)?;
            rotate::run(args, &url, &surroundings).await
        }
        Command::Healthcheck(args) => {
            let (tool, _flush) = started(read)?;
            Ok(print_and_exit_code(&healthcheck::run(args.url, tool.ops_listen).await?))
        }
        // These two report faults of the configuration themselves.
        Command::Config(args) => Ok(config(args.service, &surroundings)),
        Command::Doctor(args) => Ok(print_and_exit_code(&doctor::run(&args, &surroundings.variables).await)),
    }
}

/// Returns the configuration of a command, and starts its log.
fn started(read: Result<Loaded<Tool>, Faults>) -> anyhow::Result<(Tool, Flush)> {
    let Loaded { config, warnings, .. } = read?;
    let flush = telemetry::init_on_stderr(config.log.format, &config.log.filter)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    Ok((config, flush))
}

/// Prints what a command found. The exit code says whether all is well.
fn print_and_exit_code((text, is_well): &(String, bool)) -> ExitCode {
    print!("{text}");
    if *is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn config(service: Option<Service>, surroundings: &Surroundings) -> ExitCode {
    let services = service.map_or(vec![Service::Ingest, Service::Worker], |service| vec![service]);
    let described =
        services.into_iter().map(|service| configuration::describe(service, &surroundings.variables));
    let (texts, sound): (Vec<_>, Vec<_>) = described.unzip();
    print_and_exit_code(&(texts.join("\n"), sound.into_iter().all(|is_sound| is_sound)))
}

async fn simulate(args: SimulateArgs, tool: &Tool, stop: CancellationToken) -> anyhow::Result<ExitCode> {
    let listener = service::bind("--listen", args.listen).await?;
    let settings = args.into_settings();
    let simulator = Simulator::new(Settings {
        signing_key: settings.signing_key.or_else(|| signing_key(tool)),
        webhook_secret: settings.webhook_secret.or_else(|| webhook_secret(tool)),
        api_key: settings.api_key.or_else(|| tool.api.as_ref().map(|api| api.key.clone())),
        ..settings
    });
    if simulator.sends_unsigned() {
        tracing::warn!(
            "webhooks are sent unsigned, and ingest will refuse them: give --signing-key or --webhook-secret"
        );
    }
    tracing::info!(address = %listener.local_addr()?, seed = simulator.seed(), "answering as the Claude API");
    simulator.serve(listener, stop).await?;
    Ok(ExitCode::SUCCESS)
}

fn with_keys(args: SendArgs, tool: &Tool) -> SendArgs {
    // A secret on the command line chooses the scheme, and no variable may overrule it.
    if args.signing_key.is_some() || args.secret.is_some() {
        return args;
    }
    SendArgs { signing_key: signing_key(tool), secret: webhook_secret(tool), ..args }
}

/// The first signing key, written as the Console shows it.
fn signing_key(tool: &Tool) -> Option<SecretString> {
    let first: &SigningKey = tool.keys.standard.first()?;
    Some(format!("whsec_{}", STANDARD.encode(first.expose_secret())).into())
}

fn webhook_secret(tool: &Tool) -> Option<SecretString> {
    let first: &SigningKey = tool.keys.older.first()?;
    String::from_utf8(first.expose_secret().to_vec()).ok().map(SecretString::from)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn tool(variables: &[(&str, &str)]) -> Tool {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Tool::from_vars(variables, &configuration::read_file).unwrap().config
    }

    fn parsed(line: &str) -> Command {
        Cli::try_parse_from(line.split(' ')).unwrap().command
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_known_by_its_name() {
        assert!(matches!(parsed("restante migrate"), Command::Migrate { grants: false }));
        assert!(matches!(parsed("restante doctor worker --json"), Command::Doctor(_)));
        assert!(matches!(parsed("restante simulate --listen 127.0.0.1:0"), Command::Simulate(_)));
        assert!(matches!(parsed("restante send --type vault.created"), Command::Send(_)));
        assert!(matches!(parsed("restante submit - --name n --wait"), Command::Submit(_)));
        assert!(Cli::try_parse_from("restante submit file --name".split(' ').chain([""])).is_err());
        assert!(matches!(parsed("restante results n --partial"), Command::Results(_)));
        assert!(matches!(parsed("restante endpoint add https://a.example/ --name a"), Command::Endpoint(_)));
        assert!(matches!(parsed("restante rotate signing one --wait"), Command::Rotate(_)));
        let Command::Config(args) = parsed("restante config worker") else { panic!("no config") };
        assert_eq!(args.service, Some(Service::Worker));
        let Command::Healthcheck(args) = parsed("restante healthcheck http://h:1") else {
            panic!("no healthcheck")
        };
        assert_eq!(args.url.unwrap().as_str(), "http://h:1/");
    }

    #[test]
    fn help_of_every_command_ends_with_the_variables_it_reads() {
        let mut command = Cli::command();
        command.build();
        for (name, variables) in [
            ("migrate", &["DATABASE_URL"][..]),
            ("status", &["DATABASE_URL"]),
            ("submit", &["DATABASE_URL"]),
            ("results", &["DATABASE_URL"]),
            ("endpoint", &["DATABASE_URL"]),
            ("rotate", &["DATABASE_URL"]),
            ("simulate", &[SIGNING_KEY.name, WEBHOOK_SECRET.name, API_KEY.name]),
            ("send", &[SIGNING_KEY.name, WEBHOOK_SECRET.name]),
            ("healthcheck", &["RESTANTE_OPS_LISTEN"]),
            ("config", &["RESTANTE_LISTEN", "RESTANTE_CONCURRENCY"]),
            ("doctor", &["DATABASE_URL", API_KEY.name, "ANTHROPIC_BASE_URL"]),
            ("demo", &["PG_BIN"]),
        ] {
            let help = command.find_subcommand_mut(name).unwrap().render_long_help().to_string();
            let environment = help.split_once("Environment:").unwrap_or_else(|| panic!("{name}: {help}")).1;
            for variable in variables {
                assert!(environment.contains(variable), "{name} {variable}: {help}");
            }
        }
    }

    #[test]
    fn keys_come_from_variables_where_no_flag_gives_one() {
        let tool = tool(&[
            (
                SIGNING_KEY.name,
                "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= whsec_c2Vjb25kIGtleSBzZWNvbmQga2V5",
            ),
            (WEBHOOK_SECRET.name, "raw-secret"),
        ]);
        let args = |line| match parsed(line) {
            Command::Send(args) => with_keys(args, &tool),
            other => panic!("{other:?}"),
        };
        let shown = |secret: Option<SecretString>| secret.map(|secret| secret.expose_secret().to_owned());

        let both = args("restante send");
        assert_eq!(
            shown(both.signing_key).as_deref(),
            Some("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
        );
        assert_eq!(shown(both.secret).as_deref(), Some("raw-secret"));

        let flagged = args("restante send --secret other");
        assert!(flagged.signing_key.is_none());
        assert_eq!(shown(flagged.secret).as_deref(), Some("other"));
    }
}
