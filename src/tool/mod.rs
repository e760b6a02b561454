//! What the hand tool has beside the outbox: processes of its own, and a Postgres to try things on.
//!
//! Neither ingest nor worker uses any of it.

pub mod postgres;
pub mod postgres_bin;
pub mod process;
pub mod process_table;
