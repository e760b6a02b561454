//! A transaction that owns its connection.
//!
//! The transaction of sqlx borrows its connection, or gives it back to the pool whatever happened on it. This one
//! returns its connection only if the database has answered its `commit` or `rollback`. Otherwise it is dropped with
//! its connection, and a [`Loan`](super::Loan) or a [`Lent`](super::Lent) that is dropped is closed. So a `begin` that
//! was cancelled half way, which leaves a transaction open that sqlx 0.9 does not know of, does no harm here.
//!
//! sqlx counts the transactions of a connection, and makes a savepoint of one that a handler begins within ours. So the
//! count must be one while ours is open. sqlx lowers the count only through the borrowing type, so it stays at one when
//! ours has ended. The next transaction here takes that into account, and so does `pool` when the connection goes back.

use std::mem;
use std::ops::{Deref, DerefMut};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, raw_sql};

/// A transaction on a connection of its own.
#[derive(Debug)]
pub struct OwnedTransaction<C>(C);

impl<C: DerefMut<Target = PgConnection>> OwnedTransaction<C> {
    /// Begins a transaction with `statement`, which may also set settings of the transaction.
    ///
    /// # Errors
    /// The error of the statement; the connection is then dropped.
    pub async fn begin(mut connection: C, statement: String) -> sqlx::Result<Self> {
        let statement = AssertSqlSafe(statement);
        if connection.is_in_transaction() {
            connection.execute(raw_sql(statement)).await?;
        } else {
            // The borrowing transaction would roll back when dropped.
            mem::forget(connection.begin_with(statement).await?);
        }
        Ok(Self(connection))
    }

    /// Commits, and returns the connection.
    ///
    /// # Errors
    /// The error of the commit; the connection is then dropped. If the database did not answer, the commit may have
    /// happened.
    pub async fn commit(self) -> sqlx::Result<C> {
        self.end("commit").await
    }

    /// Rolls back, and returns the connection.
    ///
    /// # Errors
    /// The error of the rollback; the connection is then dropped.
    pub async fn roll_back(self) -> sqlx::Result<C> {
        self.end("rollback").await
    }

    async fn end(mut self, statement: &'static str) -> sqlx::Result<C> {
        self.0.execute(raw_sql(statement)).await?;
        Ok(self.0)
    }
}

/// Resets sqlx's count of transactions on a connection whose transactions have all ended.
///
/// # Errors
/// The error of a `begin`, if the connection broke.
pub(super) async fn forget_ended(connection: &mut PgConnection) -> sqlx::Result<()> {
    if connection.is_in_transaction() {
        // `begin_with` fails while sqlx counts a transaction, and rolls that one back. The empty transaction is for
        // this `rollback`, which would otherwise put a warning into the log of the server.
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
