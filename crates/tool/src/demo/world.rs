//! The world of the demo: every program that runs for it, from start to end.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, PgConnection};
use url::Url;

use super::LOOK_EVERY;
use super::customer::Customer;
use super::evidence::{self, Stored};
use super::receiver::Receiver;
use super::stage::{self, Backstage, Program, Secrets};
use super::story::Story;
use crate::healthcheck::{self, Health};
use crate::surroundings::Surroundings;
use restante::database;
use restante_playground::postgres::PrivatePostgres;

/// How long the simulated batch takes. A real one takes up to 24 hours.
pub(super) const BATCH_SECONDS: &str = "2";

/// How long the simulated API takes for each piece of a streamed answer, so that a person sees it grow.
const STREAM_PAUSE_MILLISECONDS: &str = "50";

/// How long the worker may take to become ready.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// The database of the demo, as a user would name it.
pub(super) const DATABASE: &str = "restante";

/// The running programs. Fields are dropped in this order, so that a user ends before what it uses.
pub(super) struct World {
    pub(super) connection: PgConnection,
    /// With the rights of an application.
    pub(super) application: PgConnection,
    pub(super) customer: Customer,
    pub(super) worker: Program,
    api: Program,
    pub(super) receiver: Receiver,
    pub(super) ingest: Program,
    pub(super) backstage: Backstage,
    pub(super) webhook_url: Url,
    pub(super) database_url: SecretString,
    pub(super) postgres: PrivatePostgres,
}

impl World {
    pub(super) async fn start(surroundings: &Surroundings, story: &mut Story) -> anyhow::Result<World> {
        stage::programs(surroundings)?;
        let secrets = Secrets::new();
        let (signing_key, api_key) = (secrets.signing_key.expose_secret(), secrets.api_key.expose_secret());

        let starting = stage::start_postgres(surroundings);
        let postgres = story
            .during("Postgres starts, with a password of its own:", starting, |postgres| {
                authority(&postgres.url(""))
            })
            .await?;
        let database_url = database(&postgres).await?;
        let migrating = async { Ok(database::migrate(&database_url).await?) };
        story
            .during("restante migrate:", migrating, |(before, after)| {
                format!("the schema went from version {before} to {after}")
            })
            .await?;

        let ingest_url = login(&database_url, "ingest").await?;
        let worker_url = login(&database_url, "worker").await?;
        let application_url = login(&database_url, "app").await?;

        let backstage = Backstage::new(surroundings)?;
        let mut ingest = backstage.start(
            "restante-ingest",
            &[],
            &[
                &stage::of_service(&ingest_url)[..],
                &[
                    ("RESTANTE_LISTEN", "127.0.0.1:0"),
                    ("RESTANTE_LINGER_SECONDS", "0"),
                    ("ANTHROPIC_WEBHOOK_SIGNING_KEY", signing_key),
                ],
            ]
            .concat(),
        )?;
        let listening = ingest.address("receiving deliveries");
        let webhook_address =
            story.during("restante-ingest receives webhooks:", listening, ToString::to_string).await?;
        let webhook_url: Url = format!("http://{webhook_address}/webhooks/anthropic").parse()?;

        let mut api = backstage.start(
            "restante",
            &[
                "simulate",
                "--listen",
                "127.0.0.1:0",
                "--webhook-url",
                webhook_url.as_str(),
                "--batch-seconds",
                BATCH_SECONDS,
                "--stream-pause-milliseconds",
                STREAM_PAUSE_MILLISECONDS,
            ],
            &[("ANTHROPIC_API_KEY", api_key), ("ANTHROPIC_WEBHOOK_SIGNING_KEY", signing_key)],
        )?;
        let listening = api.address("answering as the Claude API");
        let api_address =
            story.during("restante simulate is the Claude API:", listening, ToString::to_string).await?;
        let api_url: Url = format!("http://{api_address}/").parse()?;

        let mut worker = backstage.start(
            "restante-worker",
            &[],
            &[
                &stage::of_service(&worker_url)[..],
                &[
                    ("ANTHROPIC_BASE_URL", api_url.as_str()),
                    ("ANTHROPIC_API_KEY", api_key),
                    // The receiver is on this machine.
                    ("RESTANTE_ALLOW_PRIVATE_ENDPOINTS", "true"),
                ],
            ]
            .concat(),
        )?;
        story.during("restante-worker is", ready(&mut worker), |()| "ready".to_owned()).await?;

        let receiver = Receiver::start(&secrets.endpoint_secret).await?;
        let mut connection = database::connect(&database_url, "restante demo").await?;
        receiver.add_as_endpoint(&mut connection, &secrets.endpoint_secret).await?;
        story.step(&format!("a receiver of notifications is an endpoint of Restante: {}", receiver.url()))?;
        let application = database::connect(&application_url, "restante demo").await?;
        let customer = Customer::new(api_url, secrets.api_key.clone())?;
        backstage.keep_secret("signing-key", signing_key)?;
        backstage.keep_secret("database-url", database_url.expose_secret())?;
        backstage.keep_secret("pgpass", &stage::pgpass(&database_url.expose_secret().parse()?))?;
        Ok(World {
            connection,
            application,
            customer,
            worker,
            api,
            receiver,
            ingest,
            backstage,
            webhook_url,
            database_url,
            postgres,
        })
    }

    pub(super) async fn stored(&mut self, batch_id: &str) -> anyhow::Result<Stored> {
        Ok(evidence::stored(&mut self.connection, batch_id).await?)
    }

    /// Fails if one of the programs has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        [&mut self.ingest, &mut self.api, &mut self.worker].into_iter().try_for_each(Program::check)
    }

    /// Ends everything, in the order in which fields are dropped, and reports what could not be ended.
    pub(super) async fn end(self, story: &mut Story) -> anyhow::Result<()> {
        let World { connection, application, worker, api, ingest, backstage, postgres, .. } = self;
        let ending = async move {
            drop((connection, application));
            tokio::task::spawn_blocking(move || {
                [worker, api, ingest].into_iter().try_for_each(Program::end)?;
                drop(backstage);
                postgres.stop().context("cannot stop Postgres")
            })
            .await?
        };
        story.title("The end")?;
        story.finish("Every program is stopped, and its files are removed", ending).await
    }
}

/// Waits until the worker's ops listener reports that it is ready.
async fn ready(worker: &mut Program) -> anyhow::Result<()> {
    let url = healthcheck::url_of(worker.address("answering /livez, /readyz and /metrics").await?)?;
    let deadline = Instant::now() + READY_PATIENCE;
    loop {
        let health = healthcheck::ask(&url).await?;
        if matches!(health, Health::Ready(_)) {
            return Ok(());
        }
        worker.check()?;
        if Instant::now() >= deadline {
            bail!(worker.fault("is not ready"));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Makes a database as a user would, and returns its URL.
async fn database(postgres: &PrivatePostgres) -> anyhow::Result<SecretString> {
    let mut connection = database::connect(&without_tls(postgres, "postgres"), "restante demo").await?;
    sqlx::query("create database restante").execute(&mut connection).await?;
    Ok(without_tls(postgres, DATABASE))
}

/// Makes a login with the rights of a service's role and no more, and returns the URL of the database for it.
async fn login(database_url: &SecretString, service: &str) -> anyhow::Result<SecretString> {
    let (name, password) = (format!("demo_{service}"), format!("{:032x}", rand::random::<u128>()));
    let make = format!("create role {name} login password '{password}' in role restante_{service}");
    let mut connection = database::connect(database_url, "restante demo").await?;
    sqlx::query(AssertSqlSafe(make)).execute(&mut connection).await?;
    let mut url: Url = database_url.expose_secret().parse()?;
    let named = url.set_username(&name).and_then(|()| url.set_password(Some(&password)));
    named.map_err(|()| anyhow::anyhow!("the URL of the database takes no login"))?;
    Ok(url.to_string().into())
}

/// The URL of a database with TLS turned off, whatever PGSSLMODE says: this server has no certificate.
fn without_tls(postgres: &PrivatePostgres, database: &str) -> SecretString {
    format!("{}?sslmode=disable", postgres.url(database)).into()
}

/// The host and port of a URL, without its login.
fn authority(url: &str) -> String {
    let url = Url::parse(url).ok();
    url.and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port()?))).unwrap_or_default()
}
