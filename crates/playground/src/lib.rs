//! What the demo, the tests, the example and the measuring try things on: a Postgres and processes of their own.
//!
//! Whatever is started here ends with whoever started it, also where that one is killed, and leaves nothing behind.

pub mod postgres;
pub mod postgres_bin;
pub mod process;
pub mod process_table;
