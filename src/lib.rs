//! Mail for Claude workloads, held in Postgres until it has been dealt with.
//!
//! `restante-ingest` stores each signed webhook of the Claude API as a row of `restante.outbox` before it answers 2xx.
//! A worker claims the rows, oldest first, and runs a [handler](handler::Handler) for each: what the handler writes and
//! the completion of its event are one commit. This library is both of them, and what a worker of your own is made of.
//!
//! # A handler
//!
//! It names the types it answers and reads what it needs of the event. `Ok` commits, `Err` rolls back and says what
//! becomes of the event; the table is in [`handler`].
//!
//! ```
//! use anyhow::anyhow;
//! use restante::handler::{self, Context, Error, Handler};
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
//! [`service::worker`] is the whole of its `main`. Beside `restante-worker` it [subscribes](registry::Registry::subscribe):
//! it then gets rows of its own, with attempts of its own, also for types that a built-in handler answers. Where it
//! takes the place of `restante-worker`, it adds to [`handlers::registry`].
//!
//! ```no_run
//! # use restante::handler::{self, Context, Handler};
//! # struct ReserveStock;
//! # impl Handler for ReserveStock {
//! #     const EVENT_TYPES: &'static [&'static str] = &["order.placed"];
//! #     type Payload = serde_json::Value;
//! #     async fn handle(&self, _: &mut Context<'_>, _: Self::Payload) -> handler::Result { Ok(()) }
//! # }
//! use restante::{registry::Registry, service};
//!
//! fn main() -> std::process::ExitCode {
//!     service::worker(async |_config, _pool| Ok(Registry::new().subscribe("orders", ReserveStock)))
//! }
//! ```
//!
//! # A test
//!
//! [`worker::run_until_idle`] runs handlers on a database until nothing is left that may run now. [`database::migrate`]
//! makes the schema, and `select restante.enqueue('order.placed', '{..}')` an event. `examples/orders-worker` is such a
//! worker as a crate of its own, with its migration and its tests.
//!
//! # The modules
//!
//! They stand in the order in which an event passes them; a module imports only from those above it
//! (`tests/it/tidy.rs` holds the floors).

// Floor 0: words. No IO, nothing imported from the floors below.
pub mod event;

pub mod config;
pub mod envelope;
pub mod retry;
pub mod signature;

// Floor 1: doors. Each owns one thing outside the process.
pub mod api;
pub mod database;
pub mod ops;
pub mod outbox;
pub mod telemetry;

// Floor 2: the contract between the worker and those who extend it.
pub mod handler;
pub mod registry;

// Floor 3: what is done with events.
pub mod batch;
pub mod handlers;

// Floor 4: engines.
pub mod ingest;
pub mod worker;

// Floor 5: what surrounds an engine in its process.
pub mod service;

/// The page that a stranger reads first: its code compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
