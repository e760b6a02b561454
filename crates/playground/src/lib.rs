//! Helpers for the demo, the tests, the example and the benches.
//!
//! A private [Postgres](postgres) and guarded [processes](process): each ends with the process that started it, even if
//! that process is killed, and leaves nothing behind. For tests there are also a [`World`], which has a database of its
//! own and verbs for what happens in it, a [`Ledger`], which shows which handlers ran, and a [`ScriptedApi`], which
//! gives the answers that a test sets. `restante-simulator` behaves like the real Claude API.

mod answer;
pub mod cluster;
mod eventually;
mod free_port;
mod ledger;
mod nothing_runs;
pub mod postgres;
pub mod postgres_bin;
pub mod process;
pub mod process_table;
mod program;
pub mod scripted_api;
pub mod world;

pub use answer::Answer;
pub use eventually::eventually;
pub use free_port::free_port;
pub use ledger::Ledger;
pub use program::Program;
pub use scripted_api::ScriptedApi;
pub use world::World;
