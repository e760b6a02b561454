//! The simulator over real sockets.

mod batches;
mod gate;
mod messages;
mod resources;
mod results;
mod sessions;
mod webhooks;
mod world;
