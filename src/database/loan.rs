//! Connections of a pool that are closed if a statement on them was cut off.
//!
//! A future that is dropped between a statement and its answer leaves the answer on its way. sqlx 0.9 skips most
//! answers left like this, but not all: after a `COPY` that was cut off, the next user of the connection reads an
//! answer that was meant for the last one. So a connection is closed unless all its statements are known to be
//! answered; and the pool checks each connection that comes back.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgConnection, PgPool, Postgres};
use tokio::time::{sleep, timeout};

use super::is_parting;
use super::pool::ACQUIRE_SECONDS;

/// How often to look whether a connection has come back while the pool opens a new one.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A connection of a pool. It is closed when this is dropped, unless it was given back.
#[derive(Debug)]
pub struct Loan(Option<PoolConnection<Postgres>>);

impl Loan {
    /// Takes a connection from the pool.
    ///
    /// # Errors
    /// `PoolTimedOut` if none is available in time, or the error of opening one.
    pub async fn of(pool: &PgPool) -> sqlx::Result<Self> {
        acquire(pool).await.map(Self::from)
    }

    /// Gives it back to its pool, because all its statements were answered.
    pub fn give_back(mut self) {
        drop(self.0.take());
    }

    /// Gives it back if the database only refused a statement; closes it if the error means that it is useless.
    pub fn give_back_after(self, error: &sqlx::Error) {
        if !is_parting(error) {
            self.give_back();
        }
    }
}

impl From<PoolConnection<Postgres>> for Loan {
    fn from(connection: PoolConnection<Postgres>) -> Self {
        Self(Some(connection))
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(mut connection) = self.0.take() {
            connection.close_on_drop();
        }
    }
}

impl Deref for Loan {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.0.as_ref().expect("only what ends the loan takes it")
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("only what ends the loan takes it")
    }
}

/// Takes a connection from the pool, also one that becomes idle while the pool tries to open another.
pub(super) async fn acquire(pool: &PgPool) -> sqlx::Result<PoolConnection<Postgres>> {
    let acquired = pool.acquire();
    tokio::pin!(acquired);
    let looking = async {
        loop {
            tokio::select! {
                biased;
                acquired = &mut acquired => return acquired,
                // sqlx keeps trying to connect while the server refuses new connections, even if one comes back
                // meanwhile.
                () = sleep(LOOK_EVERY) => if let Some(connection) = pool.try_acquire() {
                    return Ok(connection);
                } else if pool.num_idle() > 0 {
                    // All places of the pool are with users who try to connect. Whoever begins anew takes an idle
                    // connection first.
                    acquired.set(pool.acquire());
                }
            }
        }
    };
    let acquired = timeout(Duration::from_secs(ACQUIRE_SECONDS), looking).await;
    acquired.map_err(|_| sqlx::Error::PoolTimedOut)?
}

/// Runs statements in a transaction and rolls it back, to see whether they succeed.
///
/// # Errors
/// As [`Loan::of`], or the error of a statement.
pub async fn tried<T>(
    pool: &PgPool,
    statements: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
) -> sqlx::Result<T> {
    let mut loan = Loan::of(pool).await?;
    let mut transaction = loan.begin().await?;
    let answer = statements(&mut transaction).await;
    drop(transaction);
    match answer {
        Ok(answer) => {
            loan.give_back();
            Ok(answer)
        }
        Err(error) => {
            loan.give_back_after(&error);
            Err(error)
        }
    }
}
