//! Finds which of several servers takes writes, and follows it while a program runs, through a switchover and back.

use std::time::Duration;

use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::pool::{close_idle, open, servers};
use super::session::Session;
use super::{Error, answered};

/// How often to ask the server in use whether it still takes writes.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// The pause between two rounds over all servers while none of them takes writes.
const SEARCH_EVERY: Duration = Duration::from_millis(250);

/// Keeps a pool on the one of several servers that takes writes, until the returned handle is dropped. Returns `None`
/// if `url` names only one server: then a server that takes over gets the same name, and each new connection finds it.
///
/// # Errors
/// [`Error::Address`] or [`Error::Url`].
pub fn keep_on_primary(pool: &PgPool, url: &SecretString) -> Result<Option<AbortOnDropHandle<()>>, Error> {
    let name = pool.connect_options().get_application_name().unwrap_or("restante").to_owned();
    let servers = servers(url, &name)?;
    if servers.len() < 2 {
        return Ok(None);
    }
    let (pool, mut closed) = (pool.clone(), pool.close_event());
    Ok(Some(AbortOnDropHandle::new(tokio::spawn(async move {
        let _closed = closed.do_until(follow(&pool, &servers, &mut 0)).await;
    }))))
}

/// Never ends. `current` is the server in use, of which there is nothing to follow where it is the only one.
pub(super) async fn follow(pool: &PgPool, servers: &[PgConnectOptions], current: &mut usize) {
    if servers.len() < 2 {
        return std::future::pending().await;
    }
    loop {
        // The server in use first, because most often only the connection broke.
        let order = (0..servers.len()).map(|step| (*current + step) % servers.len());
        let mut found = None;
        for index in order {
            if let Ok(connection) = open(&servers[index], Session::Service).await {
                found = Some((index, connection));
                break;
            }
        }
        let Some((index, connection)) = found else {
            sleep(SEARCH_EVERY).await;
            continue;
        };
        if index != *current {
            let server = &servers[index];
            tracing::warn!(
                host = server.get_host(),
                port = server.get_port(),
                "another server of DATABASE_URL takes writes now; new connections go to it"
            );
            *current = index;
            pool.set_connect_options(server.clone());
            close_idle(pool);
        }
        watch(connection).await;
        close_idle(pool);
    }
}

/// Returns when the server does not answer, or takes no writes any more.
async fn watch(mut connection: PgConnection) {
    let mut tick = interval(ASK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let is_standby = sqlx::query_scalar("select pg_is_in_recovery()").fetch_one(&mut connection);
        if !matches!(answered(is_standby).await, Ok(false)) {
            let _gone = connection.close_hard().await;
            return;
        }
    }
}
