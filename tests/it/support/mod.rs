//! What these tests need in addition to the playground: the services as processes, deliveries, and other servers.

pub mod compose_file;
pub mod cutter;
pub mod forwarder;
pub mod native_compose;
pub mod processes;
pub mod sender;
pub mod servers;
mod simulated_api;

pub use restante_playground::{Ledger, World, cluster, eventually, scripted_api as api, world};

pub use processes::Process;
pub use sender::{Delivery, Sender};
pub use simulated_api::SimulatedApi;
