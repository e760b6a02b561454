//! What the shop can rely on, shown with a real Postgres, and with the real process where a process matters.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

mod crash;
mod desk;
mod handlers;
mod shop;
