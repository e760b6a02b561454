//! Who reads the text of which message, as the log tells it: once in ten minutes, though the page renews itself each second.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::gate::Person;

/// After this time, it is told again that somebody reads on.
const AGAIN: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(super) struct Told(Mutex<HashMap<(Option<String>, i64), Instant>>);

impl Told {
    /// Whether the log does not say yet that this person reads this message. Then the caller tells it.
    pub(super) fn is_news(&self, Person(name): &Person, message: i64) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| at.elapsed() < AGAIN);
        match told.entry((name.clone(), message)) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(Instant::now());
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_person_and_each_message_is_told_of_and_the_same_again_is_not() {
        let told = Told::default();
        let [ada, bob] = ["ada", "bob"].map(|name| Person(Some(name.to_owned())));

        let news = [(&ada, 1), (&ada, 1), (&bob, 1), (&ada, 2), (&ada, 2)];

        assert_eq!(
            news.map(|(person, message)| told.is_news(person, message)),
            [true, false, true, true, false]
        );
    }
}
