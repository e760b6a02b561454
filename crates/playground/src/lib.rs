//! What the demo, the tests, the example and the measuring try things on.
//!
//! A private [Postgres](postgres) and guarded [processes](process): each ends with the process that started it, even if that
//! process is killed, and leaves nothing behind. Tests also find a [`World`], which has a database of its own and verbs for what
//! happens in it, a [`Ledger`], which shows which handlers ran, and a [`ScriptedApi`], which answers what a test tells it to. The
//! Claude API as it really behaves is `restante-simulator`.

mod answer;
pub mod cluster;
mod eventually;
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
pub use ledger::Ledger;
pub use program::Program;
pub use scripted_api::ScriptedApi;
pub use world::World;
