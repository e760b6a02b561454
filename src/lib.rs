//! Mail for Claude workloads, held in Postgres until it has been dealt with.
//!
//! `restante-ingest` stores each signed webhook of the Claude API as a row of `restante.outbox` before it answers 2xx.
//! A worker claims the rows, oldest first, and runs a [`Handler`] for each: what the handler writes and the completion of
//! its event are one commit. A worker of your own is made of this library.
//!
//! # A handler
//!
//! It names the types it answers and reads what it needs of the event. `Ok` commits, `Err` rolls back and says what
//! becomes of the event; the table is in [`handler`].
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
//! # A worker
//!
//! `service::worker` is the whole of its `main`. It comes with the cargo feature `service`, which brings what surrounds a
//! worker in its process: variables, log, metrics, signals, health. A program that has these already calls [`worker::run`].
//!
//! Beside `restante-worker` it [subscribes](Registry::subscribe): it then gets rows of its own, with attempts of its own,
//! also for types that a built-in handler answers. Where it takes the place of `restante-worker`, it adds to
//! [`handlers::registry`].
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
//! [`worker::run_until_idle`] runs handlers on a database until nothing is left that may run now. [`database::migrate`]
//! makes the schema, and `select restante.enqueue('order.placed', '{..}')` an event. `examples/orders-worker` is such a
//! worker as a crate of its own, with its migration and its tests.
//!
//! Everything that is not named on this page is in `internals`, for our own programs, and changes with any release.

// The modules stand in the order in which an event passes them; a module imports only from those above it (tests/it/tidy.rs
// holds the floors). Those without `pub` are named in `internals`, as far as our programs need them.

// Floor 0: words. No IO, nothing imported from the floors below.
pub mod event;

mod envelope;
pub mod retry;
#[cfg(feature = "service")]
mod signature;

// Floor 1: doors. Each owns one thing outside the process.
pub mod api;
pub mod database;

#[cfg(feature = "service")]
mod ops;
mod outbox;
mod telemetry;

// Floor 2: the contract between the worker and those who extend it.
pub mod handler;
pub mod registry;

// Floor 3: what is done with events.
mod batch;
pub mod handlers;

// Floor 4: engines.
#[cfg(feature = "service")]
mod ingest;
pub mod worker;

// Floor 5: what surrounds an engine in its process.
#[cfg(feature = "service")]
mod config;
#[cfg(feature = "service")]
pub mod service;

pub use event::Event;
pub use handler::{Context, Error, Handler};
pub use outbox::Source;
pub use registry::Registry;

/// What our own programs and their tests need beside the above. No promise is made of it: it changes with any release.
#[doc(hidden)]
pub mod internals {
    pub mod batch {
        pub use crate::batch::*;
    }
    #[cfg(feature = "service")]
    pub mod config {
        pub use crate::config::*;
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
    pub mod outbox {
        pub use crate::outbox::*;
    }
    #[cfg(feature = "service")]
    pub mod signature {
        pub use crate::signature::*;
    }
    pub mod telemetry {
        pub use crate::telemetry::*;
    }
}

/// The page that a stranger reads first: its code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
