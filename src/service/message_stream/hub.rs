//! Wakes readers when there is something new of their message: by notifications on one connection, and by one query a second for
//! all of them, because notifications may get lost.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgListener;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::database::{self, Address};
use crate::message::reading::{CHANNEL, progress};

/// How often all messages that are read are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long the listening connection may be silent before it is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(30);

/// Who reads what.
pub(super) struct Hub {
    readers: Arc<Readers>,
    database_url: Address,
    pool: PgPool,
    /// They start with the first reader: most workers have none.
    tasks: OnceLock<[AbortOnDropHandle<()>; 2]>,
}

type Readers = Mutex<HashMap<i64, Vec<Arc<Notify>>>>;

impl Hub {
    pub(super) fn new(database_url: Address, pool: PgPool) -> Arc<Self> {
        Arc::new(Self { readers: Arc::default(), database_url, pool, tasks: OnceLock::new() })
    }

    /// Follows a message, until the answer is dropped.
    pub(super) fn follow(self: &Arc<Self>, message: i64) -> Following {
        let news = Arc::new(Notify::new());
        lock(&self.readers).entry(message).or_default().push(Arc::clone(&news));
        self.tasks.get_or_init(|| {
            let listening = listen_for_ever(self.database_url.clone(), Arc::clone(&self.readers));
            let looking = look_for_ever(self.pool.clone(), Arc::clone(&self.readers));
            [AbortOnDropHandle::new(tokio::spawn(listening)), AbortOnDropHandle::new(tokio::spawn(looking))]
        });
        Following { readers: Arc::clone(&self.readers), message, news }
    }
}

/// One reader of one message.
pub(super) struct Following {
    readers: Arc<Readers>,
    message: i64,
    news: Arc<Notify>,
}

impl Following {
    /// Waits until there may be something new since the last call.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut readers = lock(&self.readers);
        if let Some(of_message) = readers.get_mut(&self.message) {
            of_message.retain(|news| !Arc::ptr_eq(news, &self.news));
            if of_message.is_empty() {
                readers.remove(&self.message);
            }
        }
    }
}

fn lock(readers: &Readers) -> MutexGuard<'_, HashMap<i64, Vec<Arc<Notify>>>> {
    readers.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(readers: &Readers, message: i64) {
    lock(readers).get(&message).into_iter().flatten().for_each(|news| news.notify_one());
}

fn wake_all(readers: &Readers) {
    lock(readers).values().flatten().for_each(|news| news.notify_one());
}

/// Never ends.
async fn look_for_ever(pool: PgPool, readers: Arc<Readers>) {
    let mut seen: HashMap<i64, (String, i32, i64)> = HashMap::new();
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let ids: Vec<i64> = lock(&readers).keys().copied().collect();
        if ids.is_empty() {
            seen.clear();
            continue;
        }
        match database::answered(progress(&pool, &ids)).await {
            Ok(now) => {
                let now: HashMap<_, _> =
                    now.into_iter().map(|it| (it.id, (it.status, it.attempt, it.seq))).collect();
                for id in ids.iter().filter(|id| seen.get(*id) != now.get(*id)) {
                    wake(&readers, *id);
                }
                seen = now;
            }
            Err(error) => {
                let error = database::told(&error);
                tracing::debug!(error, "the messages that somebody reads along could not be looked at");
            }
        }
    }
}

/// Never ends.
async fn listen_for_ever(url: Address, readers: Arc<Readers>) {
    loop {
        // Any error means a new connection: notifications may have been lost with the old one.
        if let Err(error) = listen(&url, &readers).await {
            let error = database::told(error.as_ref());
            tracing::warn!(error, "cannot listen for partial text; readers get it once a second");
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn listen(url: &Address, readers: &Readers) -> anyhow::Result<()> {
    let pool = database::pool(&url.now(), "restante-worker partial text", 1)?;
    let _primary = database::keep_at(&pool, url)?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    listener.listen(CHANNEL).await?;
    wake_all(readers);
    loop {
        match timeout(SILENCE, listener.recv()).await {
            Ok(hint) => match hint?.payload() {
                "" => wake_all(readers),
                messages => messages
                    .split(',')
                    .filter_map(|message| message.parse().ok())
                    .for_each(|message| wake(readers, message)),
            },
            Err(_silence) => {
                timeout(SILENCE, sqlx::query("select").execute(&mut listener)).await??;
            }
        }
    }
}
