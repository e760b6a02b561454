//! Shares of a pool: each keeps a few connections from one statement to the next.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use super::loan::{LOOK_EVERY, Loan, acquire};
use super::pool::{ACQUIRE_SECONDS, close_idle};
use super::{answered, is_parting};

/// A share of a pool that keeps a few connections from one statement to the next.
///
/// The pool checks and cleans a connection that comes back, which takes two more round trips than the statement itself.
/// A connection on which all went well needs neither. Users wait in the order in which they came.
#[derive(Clone, Debug)]
pub struct Connections {
    pool: PgPool,
    share: Arc<Semaphore>,
    spare: Arc<Mutex<Vec<Spare>>>,
    spare_max: usize,
    shares: Arc<Shares>,
}

/// What the shares of one pool know of each other: while a user waits for a connection, none of them keeps a spare one. A server that
/// lets in few connections has no other for that user.
#[derive(Debug, Default)]
struct Shares {
    spares: Mutex<Vec<Weak<Mutex<Vec<Spare>>>>>,
    /// How many users wait.
    waiting: AtomicUsize,
}

impl Shares {
    /// A user waits, until what is returned is dropped.
    fn wait(&self) -> impl Drop + use<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        for spare in lock(&self.spares).iter().filter_map(Weak::upgrade) {
            give_back_if(&spare, |_| true);
        }
        Waiting(&self.waiting)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Spare {
    connection: Loan,
    /// When it was taken from its pool.
    since: Instant,
    /// When it was last used.
    used: Instant,
}

/// How long a connection stays away from its pool, so that the pool can close those that have become old.
const AWAY_MAX: Duration = Duration::from_secs(60);
/// How long a spare connection waits for its next use, at least: longer than the time between two polls for work, or
/// each poll would cost four statements instead of one. After that it goes back to the pool for other users: if the
/// server lets in fewer connections than the pool may open, the spare ones could be all there are.
const UNUSED_MAX: Duration = Duration::from_secs(2);
/// The most spare connections of a share, and never more than a quarter of the pool; the others go back to the pool,
/// where any user may take them.
const SPARE_MAX: usize = 4;

impl Connections {
    /// Uses at most `share` connections of `pool` at a time, and gives all back when the pool is closed. Call it within
    /// a tokio runtime.
    pub fn of(pool: &PgPool, share: u32) -> Self {
        Self::among(pool, share, Arc::default())
    }

    /// Another share of the same pool. Neither keeps a spare connection while a user of the other waits for one.
    #[must_use]
    pub fn beside(&self, share: u32) -> Self {
        Self::among(&self.pool, share, Arc::clone(&self.shares))
    }

    fn among(pool: &PgPool, share: u32, shares: Arc<Shares>) -> Self {
        let spare = Arc::<Mutex<Vec<Spare>>>::default();
        lock(&shares.spares).push(Arc::downgrade(&spare));
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
        Self { pool: pool.clone(), share: Arc::new(Semaphore::new(share as usize)), spare, spare_max, shares }
    }

    /// Runs one statement that commits by itself, and waits for it as [`answered`] does.
    ///
    /// # Errors
    /// As [`lend`](Self::lend), or the error of the statement; an IO error if the database does not answer in time.
    pub async fn run<T>(
        &self,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> sqlx::Result<T> {
        answered(self.run_to_its_end(statement)).await
    }

    /// Runs statements that each commit by themselves, however long they take.
    ///
    /// # Errors
    /// As [`lend`](Self::lend), or the error of a statement.
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

    /// Lends a spare connection, or one from the pool.
    ///
    /// # Errors
    /// `PoolTimedOut` if none is available in time, or the error of opening one.
    pub async fn lend(&self) -> sqlx::Result<Lent> {
        let turn = Arc::clone(&self.share).acquire_owned();
        let turn = timeout(Duration::from_secs(ACQUIRE_SECONDS), turn).await;
        let Ok(Ok(turn)) = turn else { return Err(sqlx::Error::PoolTimedOut) };
        let spare = lock(&self.spare).pop();
        let lent = match spare {
            Some(spare) => spare,
            None => {
                let (connection, now) = (self.loan().await?, Instant::now());
                Spare { connection, since: now, used: now }
            }
        };
        Ok(Lent { lent: Some(lent), home: self.clone(), _turn: turn })
    }

    /// A connection from the pool, beside those of the share, which is closed unless it is given back.
    ///
    /// # Errors
    /// As [`connection`](Self::connection).
    pub async fn loan(&self) -> sqlx::Result<Loan> {
        self.connection().await.map(Loan::from)
    }

    /// A connection from the pool, beside those of the share. When it is dropped, the pool checks it. Opening one takes some
    /// milliseconds; for whoever waits longer, spare ones are given back.
    ///
    /// # Errors
    /// As [`Loan::of`].
    pub async fn connection(&self) -> sqlx::Result<PoolConnection<Postgres>> {
        let acquired = acquire(&self.pool);
        tokio::pin!(acquired);
        tokio::select! {
            biased;
            acquired = &mut acquired => acquired,
            () = sleep(LOOK_EVERY) => {
                let _waiting = self.shares.wait();
                acquired.await
            }
        }
    }
}

/// A connection that was lent. Dropping it closes it, because a statement on it may be unanswered. The spare
/// connections then go back to the pool, which checks them: what went wrong here, such as a restart of the database,
/// may have happened to all.
#[derive(Debug)]
pub struct Lent {
    lent: Option<Spare>,
    home: Connections,
    /// Dropped last, so that the next user waits until the connection is back.
    _turn: OwnedSemaphorePermit,
}

impl Lent {
    /// Keeps it for the next user, because all went well: no transaction is open, and no statement was cut off.
    pub fn keep(mut self) {
        let Some(lent) = self.lent.take() else { return };
        let mut spare = lock(&self.home.spare);
        let has_room = lent.since.elapsed() < AWAY_MAX
            && spare.len() < self.home.spare_max
            && self.home.shares.waiting.load(Ordering::SeqCst) == 0
            && !self.home.pool.is_closed();
        if has_room {
            spare.push(Spare { used: Instant::now(), ..lent });
        } else {
            lent.connection.give_back();
        }
    }

    /// Gives it back to the pool, which rolls back an open transaction and checks that no answer is on its way.
    pub fn give_back(mut self) {
        if let Some(lent) = self.lent.take() {
            lent.connection.give_back();
        }
    }

    /// Gives it back if the database only refused a statement. If the server is gone, closes the idle ones in the pool
    /// too.
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

/// Gives back the spare connections that are due. All statements on them were answered.
fn give_back_if(spare: &Mutex<Vec<Spare>>, is_due: impl Fn(&Spare) -> bool) {
    for spare in lock(spare).extract_if(.., |spare| is_due(spare)) {
        spare.connection.give_back();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
