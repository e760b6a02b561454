//! A transaction that owns its connection.
//!
//! The transaction of sqlx borrows its connection, or gives it back to the pool whatever happened on it. This one passes its
//! connection on only where the database answered its end. Dropped anywhere else, it drops its connection, and a
//! [`Loan`](super::Loan) or a [`Lent`](super::Lent) that is dropped is closed. So a `begin` that was cancelled half way, which
//! leaves a transaction open that sqlx 0.9 does not know of, does no harm here.
//!
//! sqlx counts the transactions of a connection, and makes a savepoint of one that a handler begins within ours. So the count
//! must say one while ours is open. sqlx lowers it only through the borrowing type, hence it stays at one when ours has ended; the
//! next transaction here takes that into account, and `pool` does when the connection goes back.

use std::mem;
use std::ops::{Deref, DerefMut};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, raw_sql};

/// A transaction on a connection of its own.
#[derive(Debug)]
pub struct OwnedTransaction<C>(C);

impl<C: DerefMut<Target = PgConnection>> OwnedTransaction<C> {
    /// Begins a transaction with this statement, which may go on with settings of the transaction.
    ///
    /// # Errors
    /// What the database says; then the connection is dropped.
    pub async fn begin(mut connection: C, statement: String) -> sqlx::Result<Self> {
        let statement = AssertSqlSafe(statement);
        if connection.is_in_transaction() {
            connection.execute(raw_sql(statement)).await?;
        } else {
            // Or its end would be a rollback.
            mem::forget(connection.begin_with(statement).await?);
        }
        Ok(Self(connection))
    }

    /// Commits, and returns the connection.
    ///
    /// # Errors
    /// What the database says; then the connection is dropped. Where the database says nothing, the commit may have arrived.
    pub async fn commit(self) -> sqlx::Result<C> {
        self.end("commit").await
    }

    /// Rolls back, and returns the connection.
    ///
    /// # Errors
    /// What the database says; then the connection is dropped.
    pub async fn roll_back(self) -> sqlx::Result<C> {
        self.end("rollback").await
    }

    async fn end(mut self, statement: &'static str) -> sqlx::Result<C> {
        self.0.execute(raw_sql(statement)).await?;
        Ok(self.0)
    }
}

/// Has sqlx count no transaction on a connection, whose transactions have all ended by now.
///
/// # Errors
/// What the database says.
pub(super) async fn forget_ended(connection: &mut PgConnection) -> sqlx::Result<()> {
    if connection.is_in_transaction() {
        // sqlx refuses a statement of our own where it counts a transaction, and rolls that back. Here it is this empty one, or the
        // `rollback` would put a warning into the log of the server.
        connection.execute(raw_sql("begin")).await?;
        drop(connection.begin_with("begin").await);
    }
    Ok(())
}

impl<C: DerefMut<Target = PgConnection>> Deref for OwnedTransaction<C> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.0
    }
}

impl<C: DerefMut<Target = PgConnection>> DerefMut for OwnedTransaction<C> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.0
    }
}
