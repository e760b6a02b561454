//! What can be tried while the demo keeps its world running.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use url::Url;

use super::story::Story;
use super::world::{DATABASE, World};
use crate::surroundings::Surroundings;

/// Keeps the world running until the demo is asked to stop, and says what can be done with it.
///
/// # Errors
/// If one of the programs ends.
pub(super) async fn running(
    world: &mut World,
    story: &mut Story,
    surroundings: &Surroundings,
) -> anyhow::Result<()> {
    let directory = world.backstage.directory().display().to_string();
    let restante = surroundings.executable.display();
    let url: Url = world.database_url.expose_secret().parse()?;
    let psql = world.postgres.programs().join("psql");
    let psql = if psql.exists() { psql.display().to_string() } else { "psql".to_owned() };
    let (port, webhook_url) = (url.port().unwrap_or_default(), &world.webhook_url);
    let (api, receiver) = (world.customer.api(), world.receiver.url());

    story.title("It goes on running. Ctrl-C ends it")?;
    story.say(&format!(
            "Connect (the password is in the file):\n  \
             PGPASSFILE={directory}/pgpass {psql} -h 127.0.0.1 -p {port} -U postgres {DATABASE}\n\
             Watch the state of all events:\n  \
             DATABASE_URL_FILE={directory}/database-url {restante} status --watch\n\
             Send one more signed event (the worker fetches its session, which is then in restante.resource):\n  \
             ANTHROPIC_WEBHOOK_SIGNING_KEY_FILE={directory}/signing-key {restante} send --url {webhook_url}\n\
             Send an event that has to wait, because the API has no such batch, and see why (in psql):\n  \
             ANTHROPIC_WEBHOOK_SIGNING_KEY_FILE={directory}/signing-key {restante} send --url {webhook_url} --type batch.completed --id msgbatch_unknown\n  \
             select event_id, waits_for, reason, next_attempt_at from restante.outbox_waiting;\n\
             Send a message, and see it grow (in psql; its answer is then in restante.message):\n  \
             select restante.send_message('{{\"model\": \"claude-opus-5-5\", \"max_tokens\": 1000, \"messages\": [{{\"role\": \"user\", \"content\": \"Hello\"}}]}}', partial => true, callback => '{receiver}');\n  \
             select seq, text from restante.message_chunk where message = (select max(id) from restante.message) order by attempt, seq;\n\
             Have the API run another batch:\n  \
             curl -sS {api}_simulator/batches -d '{{\"requests\": 1000}}'\n\
             Replay finished events (in psql):\n  \
             update restante.outbox set status = 'pending' where type = 'batch.completed' and status = 'done';\n\
             The logs of the programs:\n  \
             tail -f {directory}/*.log"
        ))?;
    loop {
        tokio::select! {
            () = surroundings.stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => world.check()?,
        }
    }
}
