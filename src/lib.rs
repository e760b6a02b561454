//! Mail for Claude workloads, kept in Postgres until it has been handled.
//!
//! `restante-ingest` stores each signed webhook of the Claude API as a row of `restante.outbox` before it answers 2xx.
//! A worker claims the rows, oldest first, and runs a [`Handler`] for each. What the handler writes and the completion
//! of its event are one commit. With this library you build a worker of your own.
//!
//! # A handler
//!
//! A handler names the event types it answers, and reads what it needs from the event. `Ok` commits; `Err` rolls back
//! and decides what happens to the event, as the table in [`handler`] shows.
//!
//! ```
//! use anyhow::anyhow;
//! use restante::{Context, Error, Handler, handler};
//!
//! /// Takes what was ordered from the stock.
//! struct ReserveStock;
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     sku: String,
//!     quantity: i32,
//! }
//!
//! impl Handler for ReserveStock {
//!     const EVENT_TYPES: &'static [&'static str] = &["order.placed"];
//!     type Payload = Order;
//!
//!     async fn handle(&self, cx: &mut Context<'_>, order: Order) -> handler::Result {
//!         let reserved = sqlx::query("update stock set available = available - $2 where sku = $1 and available >= $2")
//!             .bind(&order.sku)
//!             .bind(order.quantity)
//!             .execute(cx.tx().await?)
//!             .await?;
//!         match reserved.rows_affected() {
//!             1 => Ok(()),
//!             _ => Err(Error::Permanent(anyhow!("too little of {} is left", order.sku))),
//!         }
//!     }
//! }
//! ```
//!
//! An event has a sender, and if that is the Claude API, an account: [`Senders`] says whose events a handler answers, and
//! [`Context::api`] calls the API with the key of the account.
//!
//! # A worker
//!
//! The `main` of a worker is one call of `service::worker`. It needs the cargo feature `service`, which provides the
//! rest of the process: variables, log, metrics, signals, health. A program that has these already calls
//! [`worker::run`].
//!
//! A worker that runs next to `restante-worker` [subscribes](Registry::subscribe): it gets rows of its own, with
//! attempts of their own, even for types that a built-in handler answers. A worker that replaces `restante-worker` adds
//! its handlers to [`handlers::registry`].
//!
//! ```no_run
//! # #[cfg(feature = "service")] mod program {
//! # use restante::{Context, Handler, handler};
//! # struct ReserveStock;
//! # impl Handler for ReserveStock {
//! #     const EVENT_TYPES: &'static [&'static str] = &["order.placed"];
//! #     type Payload = serde_json::Value;
//! #     async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result { Ok(()) }
//! # }
//! use restante::{Registry, service};
//!
//! fn main() -> std::process::ExitCode {
//!     service::worker(async |_config, _pool| Ok(Registry::new().subscribe("orders", ReserveStock)))
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! # A test
//!
//! [`database::migrate`] creates the schema, and `select restante.enqueue('order.placed', '{..}')` stores an event.
//! [`worker::run_until_idle`] then runs handlers until no event is left that may run now. `examples/orders-worker` is
//! such a worker as a crate of its own, with its migration and its tests.
//!
//! Everything that is not named on this page is in `internals`, for our own programs. It may change with any release.

// A module imports only from modules above it; tests/it/tidy.rs checks that. What our programs need of modules without
// `pub` is exported in `internals`.

// Floor 0: words. No IO, no clock.
pub mod event;

mod envelope;
mod json;
mod key_use;
pub mod retry;
#[cfg(feature = "service")]
mod signature;

// Floor 1: doors. Each owns one thing outside the process.
mod trace;

pub mod api;
pub mod database;
mod egress;

#[cfg(feature = "service")]
mod ops;
mod outbox;
mod telemetry;

// Floor 2: the contract between the worker and a handler.
pub mod handler;
pub mod registry;

// Floor 3: what is done with events.
mod batch;
mod message;
mod submission;

pub mod handlers;

// Floor 4: engines.
#[cfg(feature = "service")]
mod ingest;
#[cfg(feature = "service")]
mod page;
pub mod worker;

// Floor 5: what surrounds an engine in its process.
#[cfg(feature = "service")]
mod config;
#[cfg(feature = "service")]
pub mod service;

pub use event::Event;
pub use handler::{Context, Error, Handler, Senders};
pub use outbox::Source;
pub use registry::Registry;

/// For our own programs and their tests only. It may change with any release.
#[doc(hidden)]
pub mod internals {
    pub mod batch {
        pub use crate::batch::*;
    }
    #[cfg(feature = "service")]
    pub mod config {
        pub use crate::config::*;
    }
    pub mod egress {
        pub use crate::egress::*;
    }
    pub mod envelope {
        pub use crate::envelope::*;
    }
    #[cfg(feature = "service")]
    pub mod ingest {
        pub use crate::ingest::*;
    }
    #[cfg(feature = "service")]
    pub mod ops {
        pub use crate::ops::*;
    }
    pub mod key_use {
        pub use crate::key_use::*;
    }
    pub mod outbox {
        pub use crate::outbox::*;
    }
    #[cfg(feature = "service")]
    pub mod page {
        pub use crate::page::*;
    }
    #[cfg(feature = "service")]
    pub mod signature {
        pub use crate::signature::*;
    }
    pub mod telemetry {
        pub use crate::telemetry::*;
    }
    pub mod trace {
        pub use crate::trace::*;
    }
}

/// Compiles the code in the README, the page that a newcomer reads first.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
