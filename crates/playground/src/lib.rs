//! What the demo, the tests, the example and the measuring try things on.
//!
//! A [Postgres](postgres) and [processes](process) of their own: whatever is started here ends with whoever started it, also
//! where that one is killed, and leaves nothing behind. For tests there are beside them a [`World`] with a database of its
//! own and verbs for what happens in it, a [`Ledger`] that shows which handlers ran, and a [`ScriptedApi`] that answers what a
//! test tells it to. The Claude API as it really behaves is `restante-simulator`.

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
