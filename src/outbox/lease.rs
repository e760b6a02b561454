//! Leases: the right of one attempt to run and settle its event.

use std::time::Duration;

use sqlx::{PgConnection, PgExecutor};

use crate::outbox::claim::interval;

/// The right of one attempt to run and settle its event. It ends when the row's token has moved on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The event's number in the outbox.
    pub id: i64,
    /// The event's lease token at the claim. It only grows, so no later claim has the same one.
    pub token: i64,
}

/// Renews leases for another `lease` from now, by the database's clock, and answers those that are still ours.
///
/// A row that somebody has locked is not waited for and keeps the time it had: our own open transaction holds it, which
/// nobody can claim past, or a person is changing it, which ends the lease in any case.
///
/// # Errors
/// What the database says; then nothing was renewed.
pub async fn renew(
    executor: impl PgExecutor<'_>,
    leases: &[Lease],
    lease: Duration,
) -> sqlx::Result<Vec<Lease>> {
    let (ids, tokens): (Vec<i64>, Vec<i64>) = leases.iter().map(|lease| (lease.id, lease.token)).unzip();
    let rows = sqlx::query!(
        r#"
        with ours as materialized (
          select l.id, l.lease_token
            from unnest($1::bigint[], $2::bigint[]) as t (id, token)
            join restante.outbox_live as l on l.id = t.id and l.lease_token = t.token and l.status = 'running'),
        free as materialized (
          select l.id from restante.outbox_live as l
           where l.id in (select id from ours) and l.status = 'running' for no key update skip locked),
        renewed as (
          update restante.outbox_live as l set lease_until = clock_timestamp() + $3
            from free where l.id = free.id)
        select id as "id!", lease_token as "token!" from ours
        "#,
        &ids,
        &tokens,
        interval(lease),
    )
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|row| Lease { id: row.id, token: row.token }).collect())
}

/// The statement that begins a transaction of an attempt.
///
/// One that is silent for longer than `patience`, or one statement of it that takes longer, is ended by the database: whoever
/// opened it may have lost its network, or stand still, and can not let go of what it has locked itself.
pub fn begin(patience: Duration) -> String {
    let ms = patience.as_millis().clamp(1, PATIENCE_MS_MAX);
    format!("begin; set local idle_in_transaction_session_timeout = {ms}; set local statement_timeout = {ms}")
}

/// Postgres counts its timeouts in an `integer` of milliseconds.
const PATIENCE_MS_MAX: u128 = i32::MAX as u128;

/// Locks the event of a lease until the transaction ends: meanwhile nobody can claim it, nor change it by hand.
/// Answers false where the lease was lost.
///
/// # Errors
/// What the database says.
pub async fn hold(transaction: &mut PgConnection, lease: Lease) -> sqlx::Result<bool> {
    let held = sqlx::query_scalar!(
        r#"
        select true as "held!" from restante.outbox_live
         where id = $1 and lease_token = $2 and status = 'running' for no key update
        "#,
        lease.id,
        lease.token,
    )
    .fetch_optional(transaction)
    .await;
    match held {
        Ok(held) => Ok(held.is_some()),
        // It was moved to the history by hand while we waited for it.
        Err(error) if crate::database::is_moved_row(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
