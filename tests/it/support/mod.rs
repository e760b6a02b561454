//! A world for each test: a database of its own, and verbs for what happens in it.

pub mod api;
pub mod cluster;
pub mod compose_file;
mod eventually;
pub mod forwarder;
pub mod handlers;
pub mod native_compose;
pub mod processes;
pub mod sender;
pub mod servers;
mod simulated_api;
pub mod world;

pub use eventually::eventually;
pub use handlers::Ledger;
pub use processes::Process;
pub use sender::{Delivery, Sender};
pub use simulated_api::SimulatedApi;
pub use world::World;
