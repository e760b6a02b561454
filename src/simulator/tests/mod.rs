//! The simulator over real sockets.

mod batches;
mod gate;
mod messages;
mod results;
mod webhooks;
mod world;
