//! What the hand tool is made of: its commands, and processes and a Postgres of its own to try things on.
//!
//! Neither ingest nor worker uses any of it.

pub mod cli;
mod columns;
mod configuration;
mod demo;
mod doctor;
mod healthcheck;
mod migrate;
pub mod postgres;
pub mod postgres_bin;
pub mod process;
pub mod process_table;
mod status;
