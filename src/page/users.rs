//! Who may look at the page from elsewhere: names, and the hashes of their passwords.
//!
//! A hash is one of bcrypt, as [`User::MADE_WITH`] prints it. To compare with one takes some milliseconds on purpose, so what was
//! right once is remembered for a while, and only a few are compared at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tokio::sync::Semaphore;

/// How long a password that was right is not compared again.
const REMEMBERED: Duration = Duration::from_secs(300);

/// How many passwords are compared at a time, so that whoever guesses takes no more than one core.
const COMPARED_AT_ONCE: usize = 1;

/// The most rounds, as a power of two: with more, each comparison would take seconds.
const ROUNDS_MAX: u32 = 15;

/// The fewest.
const ROUNDS_MIN: u32 = 8;

/// Somebody who may look. `Debug` does not show the hash.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    name: String,
    hash: String,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish_non_exhaustive()
    }
}

impl User {
    /// The command that prints the line of a person. It names the rounds, because `htpasswd` alone makes fewer than are taken here.
    pub const MADE_WITH: &str = "htpasswd -nBC 10 NAME";

    /// Reads a line, `name:hash`.
    ///
    /// # Errors
    /// What is wrong with it. The text of the line is not repeated.
    pub fn read(line: &str) -> Result<User, &'static str> {
        let (name, hash) = line.split_once(':').ok_or("has no colon between the name and the hash")?;
        if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
            return Err("has a name of no or of more than 100 bytes");
        }
        let parts: bcrypt::HashParts = hash.parse().map_err(|_| "has no hash of bcrypt behind its colon")?;
        match parts.get_cost() {
            ..ROUNDS_MIN => Err("has a hash of fewer than 2^8 rounds"),
            ROUNDS_MIN..=ROUNDS_MAX => Ok(User { name: name.to_owned(), hash: hash.to_owned() }),
            _ => Err("has a hash of more than 2^15 rounds"),
        }
    }
}

/// All of them, and what was compared lately. Others may take their place while the page is served; clones are the same.
#[derive(Clone)]
pub struct Users(Arc<Shared>);

struct Shared {
    known: Mutex<Known>,
    /// Only what a header becomes under a random key is remembered.
    key: Hmac<Sha256>,
    places: Arc<Semaphore>,
}

struct Known {
    users: Vec<User>,
    /// Whose line a header was right for, and since when that is known.
    right: HashMap<Vec<u8>, (User, Instant)>,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Users").field(&self.known().users).finish()
    }
}

impl Users {
    /// Those who may look.
    pub fn new(users: Vec<User>) -> Self {
        let key = Hmac::<Sha256>::new(&rand::random::<[u8; 64]>().into());
        let known = Mutex::new(Known { users, right: HashMap::new() });
        Self(Arc::new(Shared { known, key, places: Arc::new(Semaphore::new(COMPARED_AT_ONCE)) }))
    }

    /// From now on only these may look. What was remembered of a person whose line went or changed is forgotten. Returns whether
    /// anything differs.
    pub fn replace(&self, users: Vec<User>) -> bool {
        let mut known = self.known();
        if known.users == users {
            return false;
        }
        let mut right = std::mem::take(&mut known.right);
        known.users = users;
        right.retain(|_, (user, _)| known.has(user));
        known.right = right;
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known().users.is_empty()
    }

    /// Whose header `Authorization: Basic ...` this is.
    pub(super) async fn whose(&self, header: &str) -> Option<String> {
        let seen = self.0.key.clone().chain_update(header).finalize().into_bytes().to_vec();
        if let Some(name) = self.known().remembered(&seen) {
            return Some(name);
        }
        let (name, password) = name_and_password(header)?;
        let (user, first) = {
            let known = self.known();
            (known.of_name(&name).cloned(), known.users.first().cloned())
        };
        // A name that nobody has takes as long as a wrong password.
        let hash = user.clone().or(first)?.hash;
        let place = Arc::clone(&self.0.places).acquire_owned().await.ok()?;
        let compared = tokio::task::spawn_blocking(move || {
            let _place = place;
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        let is_right = compared.await.unwrap_or(false);
        let user = user.filter(|_| is_right)?;
        let mut known = self.known();
        // While the two were compared, the line may have gone.
        if !known.has(&user) {
            return None;
        }
        known.right.retain(|_, (_, at)| at.elapsed() < REMEMBERED);
        known.right.insert(seen, (user, Instant::now()));
        Some(name)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Of two lines with one name the first counts.
    fn of_name(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    fn has(&self, user: &User) -> bool {
        self.of_name(&user.name) == Some(user)
    }

    fn remembered(&self, seen: &[u8]) -> Option<String> {
        let (user, at) = self.right.get(seen)?;
        (at.elapsed() < REMEMBERED).then(|| user.name.clone())
    }
}

fn name_and_password(header: &str) -> Option<(String, String)> {
    let (scheme, value) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, password: &str) -> String {
        format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
    }

    fn ada() -> User {
        let hash = bcrypt::hash("a good password", ROUNDS_MIN).unwrap();
        User::read(&format!("ada:{hash}")).unwrap()
    }

    #[tokio::test]
    async fn only_the_password_of_a_user_is_right_the_first_time_and_later() {
        let users = Users::new(vec![ada()]);

        for _ in 0..2 {
            assert_eq!(users.whose(&header("ada", "a good password")).await.as_deref(), Some("ada"));
        }
        for wrong in [
            header("ada", "a good passwor"),
            header("bob", "a good password"),
            header("", ""),
            "Basic".to_owned(),
            "Basic %%%".to_owned(),
            header("ada", "a good password").replace("Basic", "Bearer"),
        ] {
            assert_eq!(users.whose(&wrong).await, None, "{wrong}");
        }
    }

    #[tokio::test]
    async fn whoever_lost_their_line_or_has_another_one_is_forgotten_at_once_and_nobody_else_is() {
        let of = |name: &str, password: &str| {
            let hash = bcrypt::hash(password, ROUNDS_MIN).unwrap();
            User::read(&format!("{name}:{hash}")).unwrap()
        };
        let [ada, bob, eve] = ["ada", "bob", "eve"].map(|name| of(name, "before"));
        let users = Users::new(vec![ada.clone(), bob, eve]);
        let who = async |password: &str| {
            let mut who = Vec::new();
            for name in ["ada", "bob", "eve"] {
                who.extend(users.whose(&header(name, password)).await);
            }
            who
        };
        assert_eq!(who("before").await, ["ada", "bob", "eve"]);

        let now = vec![ada, of("bob", "after")];
        assert!(users.replace(now.clone()));

        assert_eq!(users.known().right.len(), 1);
        assert_eq!(who("before").await, ["ada"]);
        assert_eq!(who("after").await, ["bob"]);
        assert!(!users.clone().replace(now), "the same once more");
    }

    #[test]
    fn a_line_that_is_no_user_is_refused_without_its_text() {
        let weak = bcrypt::hash("x", 4).unwrap();
        for (line, problem) in [
            ("ada".to_owned(), "has no colon between the name and the hash"),
            (":$2y$10$x".to_owned(), "has a name of no or of more than 100 bytes"),
            ("ada:a good password".to_owned(), "has no hash of bcrypt behind its colon"),
            (format!("ada:{weak}"), "has a hash of fewer than 2^8 rounds"),
        ] {
            assert_eq!(User::read(&line), Err(problem), "{line}");
        }
        assert!(!format!("{:?}", ada()).contains("$2"));
    }
}
