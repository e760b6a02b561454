//! Where the database is, and with which login: a new login may take the place of the one in use while the program runs.
//!
//! The new one is used once the database has let it in. Until then the former one stays in use, so that it does not matter whether an
//! operator first changes the password in the database or in the file. Only the login can change: another server or another database
//! would be another outbox.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::pool::{close_idle, farewell, open, servers};
use super::session::Session;
use super::{Error, primary, told};

/// How often a login that the database does not let in yet is tried again.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The URL of the database as it is now. Clones see the same.
#[derive(Clone)]
pub struct Address(watch::Receiver<SecretString>);

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address([secret])")
    }
}

impl From<SecretString> for Address {
    /// One that never changes.
    fn from(url: SecretString) -> Self {
        Self(watch::channel(url).1)
    }
}

impl Address {
    /// An address, and the way to give it another login.
    pub fn new(url: SecretString) -> (Self, Login) {
        Self::of("DATABASE_URL", url)
    }

    /// The same for the address that this variable says.
    pub fn of(variable: &'static str, url: SecretString) -> (Self, Login) {
        let (in_use, address) = watch::channel(url);
        let login = Login { variable, in_use: Arc::new(in_use), trial: None, waiting: Waiting::default() };
        (Self(address), login)
    }

    /// The URL with the login that is in use.
    pub fn now(&self) -> SecretString {
        self.0.borrow().clone()
    }

    /// Waits until the login is another one.
    async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Keeps a pool at an address until the returned handle is dropped: new connections use its login as it is then, and of several
/// servers the one that takes writes. Connections with the former login stay open for the half hour that a connection lives at most.
///
/// # Errors
/// [`Error::Address`] or [`Error::Url`].
pub fn keep_at(pool: &PgPool, address: &Address) -> Result<AbortOnDropHandle<()>, Error> {
    let name = pool.connect_options().get_application_name().unwrap_or("restante").to_owned();
    let mut address = address.clone();
    address.0.mark_unchanged();
    let known = servers(&address.now(), &name)?;
    let (pool, mut closed) = (pool.clone(), pool.close_event());
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let _closed = closed.do_until(keep(pool, address, known, &name)).await;
    })))
}

/// Never ends.
async fn keep(pool: PgPool, mut address: Address, mut known: Vec<PgConnectOptions>, name: &str) {
    let mut current = 0;
    loop {
        if let Some(server) = known.get(current).or(known.first()) {
            pool.set_connect_options(server.clone());
        }
        tokio::select! {
            () = primary::follow(&pool, &known, &mut current) => {}
            () = address.changed() => {}
        }
        // A login is in use only once a connection was made with it, so it can be read.
        if let Ok(servers) = servers(&address.now(), name) {
            known = servers;
        }
        close_idle(&pool);
    }
}

/// Gives an [`Address`] another login.
#[derive(Debug)]
pub struct Login {
    variable: &'static str,
    in_use: Arc<watch::Sender<SecretString>>,
    trial: Option<AbortOnDropHandle<()>>,
    waiting: Waiting,
}

/// Why a new login is not in use yet. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Waiting(Arc<Mutex<Option<String>>>);

impl Waiting {
    /// In one line; `None` where no login waits.
    pub fn told(&self) -> Option<String> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Login {
    /// Why the login that was offered last is not in use yet.
    pub fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }

    /// Offers the URL as it is in the configuration now. Returns at once; a new login is tried until the database lets it in. Call it
    /// within a tokio runtime.
    pub fn offer(&mut self, url: SecretString) {
        // Whatever was offered before is not in the configuration any more.
        self.trial = None;
        *self.waiting.lock() = None;
        if is_same(&self.in_use.borrow(), &url) {
            return;
        }
        if !differ_in_login_only(&self.in_use.borrow(), &url) {
            let problem = format!(
                "{} names another server or database, or other parameters: that takes a new start",
                self.variable
            );
            tracing::warn!("{problem}; the former one stays in use");
            *self.waiting.lock() = Some(problem);
            return;
        }
        let (variable, in_use, waiting) = (self.variable, Arc::clone(&self.in_use), self.waiting.clone());
        let trial = async move {
            until_let_in(variable, &url, &waiting).await;
            *waiting.lock() = None;
            in_use.send_replace(url);
            tracing::info!(
                "the database lets in the login of {variable} as it has changed; new connections use it"
            );
        };
        self.trial = Some(AbortOnDropHandle::new(tokio::spawn(trial)));
    }
}

/// Returns when one of the servers lets the login in.
async fn until_let_in(variable: &str, url: &SecretString, waiting: &Waiting) {
    loop {
        let Err(problem) = try_each(url).await else { return };
        let is_first = waiting
            .lock()
            .replace(format!("the new login of {variable} is not in use yet: {problem}"))
            .is_none();
        if is_first {
            tracing::warn!(
                error = problem,
                "the database does not let in the login of {variable} as it has changed; the former one stays in use, and the \
                 new one is tried each second"
            );
        }
        sleep(TRY_EVERY).await;
    }
}

async fn try_each(url: &SecretString) -> Result<(), String> {
    let servers = servers(url, "restante login").map_err(|error| told(&error))?;
    let mut last = told(&Error::NoServer);
    for options in &servers {
        match open(options, Session::Tool).await {
            Ok(connection) => {
                farewell(connection).await;
                return Ok(());
            }
            Err(error) => last = told(&super::pool::unreachable(&error, options)),
        }
    }
    Err(last)
}

fn is_same(one: &SecretString, other: &SecretString) -> bool {
    one.expose_secret() == other.expose_secret()
}

/// Do both name the same servers and the same database, in the same way?
fn differ_in_login_only(one: &SecretString, other: &SecretString) -> bool {
    let places = |url: &SecretString| -> Option<Vec<String>> {
        let urls = super::servers::servers(url.expose_secret()).ok()?.urls;
        urls.iter().map(without_login).collect()
    };
    let one = places(one);
    one.is_some() && one == places(other)
}

fn without_login(url: &SecretString) -> Option<String> {
    let mut url: Url = url.expose_secret().parse().ok()?;
    // A URL without a host has neither, and no login either.
    let _without_host = (url.set_username(""), url.set_password(None));
    let others: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| !matches!(&**name, "user" | "password"))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.set_query(None);
    Some(format!("{url} {others:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_login_can_change_while_a_program_runs() {
        let now = SecretString::from("postgres://a:one@h:5432,i:5432/d?sslmode=require");
        for (url, is_login) in [
            ("postgres://a:two@h:5432,i:5432/d?sslmode=require", true),
            ("postgres://b:p%40ss@h:5432,i:5432/d?sslmode=require", true),
            ("postgres://h:5432,i:5432/d?sslmode=require&user=b&password=two", true),
            ("postgres://a:one@h:5432/d?sslmode=require", false),
            ("postgres://a:one@h:5432,i:5432/e?sslmode=require", false),
            ("postgres://a:one@h:5432,i:5432/d?sslmode=disable", false),
            ("mysql://a:one@h/d", false),
        ] {
            assert_eq!(differ_in_login_only(&now, &url.into()), is_login, "{url}");
        }
    }

    #[test]
    fn an_address_shows_nothing_of_itself() {
        let address = Address::from(SecretString::from("postgres://a:hush@h/d"));
        assert!(!format!("{address:?}").contains("hush"));
    }
}
