//! Mail for Claude workloads, held in Postgres until it has been dealt with.
//!
//! The modules stand in the order in which an event passes them; a module imports only from those
//! above it (`tests/it/tidy.rs` holds the floors).

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
pub mod handlers;

// Floor 4: engines.
pub mod ingest;
pub mod worker;

// Floor 5: what surrounds an engine in its process.
pub mod service;

// Beside the path of an event: what the hand tool needs. Neither ingest nor worker uses it.
pub mod simulator;
pub mod tool;
