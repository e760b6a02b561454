//! What these tests need beside the playground: the services as processes, deliveries, and servers of other kinds.

pub mod compose_file;
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
