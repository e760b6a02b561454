//! Which of several servers takes writes: the way to it is kept open while programs run, through a switchover and back.

use std::time::Duration;

use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::lent::close_idle;
use super::pool::{open, servers};
use super::session::Session;
use super::{Error, answered};

/// How often the server in use is asked whether it still takes writes.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long lies between two rounds over all servers while none of them takes writes.
const SEARCH_EVERY: Duration = Duration::from_millis(250);

/// Keeps a pool on the one of several servers that takes writes, for as long as what comes back lives. Where `url` names one
/// server, there is nothing to keep: what takes over has its name then, and each new connection finds it.
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
        let _closed = closed.do_until(follow(pool, servers)).await;
    }))))
}

/// Never ends.
async fn follow(pool: PgPool, servers: Vec<PgConnectOptions>) {
    let mut current = 0;
    loop {
        // The one in use first, since most often it was the connection alone that broke.
        let order = (0..servers.len()).map(|step| (current + step) % servers.len());
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
        if index != current {
            let server = &servers[index];
            tracing::warn!(
                host = server.get_host(),
                port = server.get_port(),
                "another server takes writes now"
            );
            current = index;
            pool.set_connect_options(server.clone());
            close_idle(&pool);
        }
        watch(connection).await;
        close_idle(&pool);
    }
}

/// Returns when the server has gone, or takes no writes any more.
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
