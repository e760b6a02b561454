//! A world for each test: a database of its own, and verbs for what happens in it.

pub mod cluster;
pub mod handlers;
pub mod world;

pub use handlers::Ledger;
pub use world::World;
