//! A lock that nobody can spoil.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes the lock. What it guards is complete at every moment, so a panic elsewhere does not spoil it.
pub(super) fn held<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
