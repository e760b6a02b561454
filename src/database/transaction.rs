//! A transaction that owns its connection.
//!
//! The transaction of sqlx borrows its connection, or gives it back to the pool whatever happened on it. This one
//! returns its connection only if the database has answered its `commit` or `rollback`. Otherwise it is dropped with
//! its connection, and a [`Loan`](super::Loan) or a [`Lent`](super::Lent) that is dropped is closed. So a `begin` that
//! was cancelled half way, which leaves a transaction open that sqlx 0.9 does not know of, does no harm here.
//!
//! sqlx counts the transactions of a connection, and makes a savepoint of one that a handler begins within ours. So ours is
//! begun and ended by the trait that sqlx's own transaction uses. It is in `sqlx-core`, the crate below sqlx.

use std::ops::{Deref, DerefMut};

use sqlx::postgres::PgTransactionManager;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqlSafeStr};
use sqlx_core::transaction::TransactionManager;

/// A transaction on a connection of its own.
#[derive(Debug)]
pub struct OwnedTransaction<C>(C);

impl<C: DerefMut<Target = PgConnection>> OwnedTransaction<C> {
    /// Begins a transaction with `statement`, which may also set settings of the transaction.
    ///
    /// # Errors
    /// The error of the statement; the connection is then dropped.
    pub async fn begin(mut connection: C, statement: String) -> sqlx::Result<Self> {
        PgTransactionManager::begin(&mut connection, Some(AssertSqlSafe(statement).into_sql_str())).await?;
        Ok(Self(connection))
    }

    /// Commits, and returns the connection.
    ///
    /// # Errors
    /// The error of the commit; the connection is then dropped. If the database did not answer, the commit may have
    /// happened.
    pub async fn commit(mut self) -> sqlx::Result<C> {
        // With the savepoints that a handler has left open.
        while self.0.is_in_transaction() {
            PgTransactionManager::commit(&mut self.0).await?;
        }
        Ok(self.0)
    }

    /// Rolls back, and returns the connection.
    ///
    /// # Errors
    /// The error of the rollback; the connection is then dropped.
    pub async fn roll_back(mut self) -> sqlx::Result<C> {
        while self.0.is_in_transaction() {
            PgTransactionManager::rollback(&mut self.0).await?;
        }
        Ok(self.0)
    }
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
