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

/// The result of [`renew`]. A lease that is in neither list is lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// They last for one lease time from now.
    pub renewed: Vec<Lease>,
    /// They are still ours, and end when they did before: another session has locked the event, and may be about to
    /// change it.
    pub locked: Vec<Lease>,
}

/// Renews leases for another `lease` from now, by the database's clock. Does not wait for a row that another session
/// has locked.
///
/// # Errors
/// The database is away or did not answer. Then count no lease as renewed.
pub async fn renew(
    executor: impl PgExecutor<'_>,
    leases: &[Lease],
    lease: Duration,
) -> sqlx::Result<Renewed> {
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
        select id as "id!", lease_token as "token!", exists (select from free where free.id = ours.id) as "renewed!"
          from ours
        "#,
        &ids,
        &tokens,
        interval(lease),
    )
    .fetch_all(executor)
    .await?;
    let mut answer = Renewed::default();
    for row in rows {
        let list = if row.renewed { &mut answer.renewed } else { &mut answer.locked };
        list.push(Lease { id: row.id, token: row.token });
    }
    Ok(answer)
}

/// Writes the sign of life of the worker `owner`, which counts for one lease from now.
///
/// # Errors
/// The database is away or did not answer.
pub async fn give_sign(executor: impl PgExecutor<'_>, owner: &str, lease: Duration) -> sqlx::Result<()> {
    sqlx::query!("select restante.give_sign($1, $2)", owner, interval(lease)).fetch_one(executor).await?;
    Ok(())
}

/// Takes the worker `owner` off the list at its orderly end, and those workers that have given no sign for a day.
///
/// # Errors
/// The database is away or did not answer.
pub async fn sign_off(executor: impl PgExecutor<'_>, owner: &str) -> sqlx::Result<()> {
    sqlx::query!(
        "delete from restante.worker where owner = $1 or alive_until < clock_timestamp() - interval '1 day'",
        owner
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// The statement that begins a transaction of an attempt.
///
/// Postgres ends the transaction when it is silent for longer than `patience`, or when one of its statements takes
/// longer: the worker may have lost its network or hang, and then cannot release its locks itself.
pub fn begin(patience: Duration) -> String {
    let ms = patience.as_millis().clamp(1, PATIENCE_MS_MAX);
    format!("begin; set local idle_in_transaction_session_timeout = {ms}; set local statement_timeout = {ms}")
}

/// Postgres counts its timeouts in an `integer` of milliseconds.
const PATIENCE_MS_MAX: u128 = i32::MAX as u128;

/// The result of [`hold`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Until the transaction ends no worker can claim the event, and no person can change it.
    Yes,
    /// Another session has locked it.
    Locked,
    /// The lease was lost.
    Lost,
}

/// Locks the event of a lease until the transaction ends. Does not wait for a lock.
///
/// # Errors
/// The database is away or did not answer.
pub async fn hold(transaction: &mut PgConnection, lease: Lease) -> sqlx::Result<Held> {
    let held = sqlx::query_scalar!(
        r#"
        select true as "held!" from restante.outbox_live
         where id = $1 and lease_token = $2 and status = 'running' for no key update skip locked
        "#,
        lease.id,
        lease.token,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if held.is_some() {
        return Ok(Held::Yes);
    }
    Ok(if super::settle::is_ours(transaction, lease).await? { Held::Locked } else { Held::Lost })
}
