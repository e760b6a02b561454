//! Connections that are lent, and closed wherever a conversation on them was cut.
//!
//! A future that is dropped between a question and its answer leaves the answer on its way. sqlx 0.9 reads past most of what
//! is left like this, and not past all of it: after a `COPY` that was cut, the next user of the connection reads what was
//! answered to somebody else. So a connection is closed unless it is known that its conversation came to its end; and what
//! goes back to its pool is asked for a proof there.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Connection, PgConnection, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::pool::ACQUIRE_SECONDS;
use super::{answered, is_parting};

/// How often a pool that is about to open another connection is asked whether one has come back.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A connection of a pool that is closed when this is dropped, unless it was given back.
#[derive(Debug)]
pub struct Loan(Option<PoolConnection<Postgres>>);

impl Loan {
    /// One that nobody else uses.
    ///
    /// # Errors
    /// What the pool says.
    pub async fn of(pool: &PgPool) -> sqlx::Result<Self> {
        let acquired = pool.acquire();
        tokio::pin!(acquired);
        loop {
            tokio::select! {
                biased;
                acquired = &mut acquired => return Ok(Self(Some(acquired?))),
                // sqlx goes on trying to connect where the server lets nobody in any more, whatever comes back meanwhile.
                () = sleep(LOOK_EVERY) => if let Some(connection) = pool.try_acquire() {
                    return Ok(Self(Some(connection)));
                }
            }
        }
    }

    /// Gives it back to its pool, because what was asked on it was answered.
    pub fn give_back(mut self) {
        drop(self.0.take());
    }

    /// Gives it back where the database merely said no. It is closed where it is of no more use.
    pub fn give_back_after(self, error: &sqlx::Error) {
        if !is_parting(error) {
            self.give_back();
        }
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

/// Runs statements in a transaction and takes back what they did: to see whether they can be run.
///
/// # Errors
/// What the pool or the database says.
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

/// A share of a pool, whose connections stay with their users from one statement to the next.
///
/// What goes back to a pool is looked at and cleaned up, which takes two more round trips than the statement itself. A
/// connection on which all went well needs neither. Users wait in the order in which they came.
#[derive(Clone, Debug)]
pub struct Connections {
    pool: PgPool,
    share: Arc<Semaphore>,
    spare: Arc<Mutex<Vec<Spare>>>,
    spare_max: usize,
}

#[derive(Debug)]
struct Spare {
    connection: Loan,
    /// Since when it has been away from its pool.
    since: Instant,
    /// When it was last used.
    used: Instant,
}

/// How long a connection stays away from its pool, which in its turn closes those that have become old.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// How long one waits for its next use, more or less: longer than from one poll for work to the next, or each poll would cost
/// four statements instead of one. Then anybody may have it: where the server lets in fewer than the pool may open, what lies
/// here would be all there is.
const UNUSED_MAX: Duration = Duration::from_secs(2);
/// So many connections of a share wait for their next use, and at most a quarter of the pool; the others go back to it, where
/// anybody may have them.
const SPARE_MAX: usize = 4;

impl Connections {
    /// At most `share` connections of `pool` at a time; all are given back when it is closed. To be called within a runtime.
    pub fn of(pool: &PgPool, share: u32) -> Self {
        let spare = Arc::<Mutex<Vec<Spare>>>::default();
        let (closed, still_spare) = (pool.close_event(), Arc::downgrade(&spare));
        tokio::spawn(async move {
            tokio::pin!(closed);
            loop {
                let is_closed = timeout(UNUSED_MAX, &mut closed).await.is_ok();
                let Some(spare) = still_spare.upgrade() else { return };
                give_back_if(&spare, |spare| is_closed || spare.used.elapsed() >= UNUSED_MAX);
                if is_closed {
                    return;
                }
            }
        });
        let spare_max = SPARE_MAX.min(pool.options().get_max_connections() as usize / 4);
        Self { pool: pool.clone(), share: Arc::new(Semaphore::new(share as usize)), spare, spare_max }
    }

    /// Runs one statement that commits by itself, and waits for it as [`answered`] does.
    ///
    /// # Errors
    /// What the pool or the database says; an IO error, where it says nothing.
    pub async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        answered(self.run_to_its_end(statement)).await
    }

    /// Runs statements that each commit by themselves, however long they take.
    ///
    /// # Errors
    /// What the pool or the database says.
    pub async fn run_to_its_end<T>(
        &self,
        statements: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        let mut connection = self.lend().await?;
        match statements(&mut connection).await {
            Ok(answer) => {
                connection.keep();
                Ok(answer)
            }
            Err(error) => {
                connection.give_back_after(&error);
                Err(error)
            }
        }
    }

    /// A connection that nobody else uses.
    ///
    /// # Errors
    /// What the pool says, where it has to be asked for one.
    pub async fn lend(&self) -> sqlx::Result<Lent> {
        let turn = Arc::clone(&self.share).acquire_owned();
        let turn = timeout(Duration::from_secs(ACQUIRE_SECONDS), turn).await;
        let Ok(Ok(turn)) = turn else { return Err(sqlx::Error::PoolTimedOut) };
        let spare = lock(&self.spare).pop();
        let lent = match spare {
            Some(spare) => spare,
            None => {
                let (connection, now) = (Loan::of(&self.pool).await?, Instant::now());
                Spare { connection, since: now, used: now }
            }
        };
        Ok(Lent { lent: Some(lent), home: self.clone(), _turn: turn })
    }
}

/// A connection that was lent. Dropped, it is closed, because nobody has said that its conversation came to an end; and the
/// spare ones go back to the pool, which looks at them, since what went wrong here, such as a restart of the database, has
/// happened to all of them.
#[derive(Debug)]
pub struct Lent {
    lent: Option<Spare>,
    home: Connections,
    /// Ends last, when the connection is back.
    _turn: OwnedSemaphorePermit,
}

impl Lent {
    /// Lets the next have it, because all went well: there is no transaction open, and nothing was given up half way.
    pub fn keep(mut self) {
        let Some(lent) = self.lent.take() else { return };
        let mut spare = lock(&self.home.spare);
        let has_room = lent.since.elapsed() < AWAY_MAX
            && spare.len() < self.home.spare_max
            && !self.home.pool.is_closed();
        if has_room {
            spare.push(Spare { used: Instant::now(), ..lent });
        } else {
            lent.connection.give_back();
        }
    }

    /// Gives it back to the pool, which rolls back what may be open and has the proof that no answer is on its way.
    pub fn give_back(mut self) {
        if let Some(lent) = self.lent.take() {
            lent.connection.give_back();
        }
    }

    /// Gives it back where the database merely said no. Where the server is gone, what lies in the pool is closed as well.
    fn give_back_after(self, error: &sqlx::Error) {
        if !is_parting(error) {
            return self.give_back();
        }
        let pool = self.home.pool.clone();
        drop(self);
        close_idle(&pool);
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.lent.is_some() {
            give_back_if(&self.home.spare, |_| true);
        }
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.lent.as_ref().expect("only what ends the loan takes it").connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.lent.as_mut().expect("only what ends the loan takes it").connection
    }
}

/// Closes what lies in a pool, so that nobody has to find out for each of them that its server is gone.
pub(super) fn close_idle(pool: &PgPool) {
    for _ in 0..pool.num_idle() {
        if let Some(mut connection) = pool.try_acquire() {
            connection.close_on_drop();
        }
    }
}

/// Each of them had answered when it was put there.
fn give_back_if(spare: &Mutex<Vec<Spare>>, is_due: impl Fn(&Spare) -> bool) {
    for spare in lock(spare).extract_if(.., |spare| is_due(spare)) {
        spare.connection.give_back();
    }
}

fn lock(spare: &Mutex<Vec<Spare>>) -> MutexGuard<'_, Vec<Spare>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}
