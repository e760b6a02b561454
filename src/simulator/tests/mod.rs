//! The simulator over real sockets.

mod batches;
mod gate;
mod results;
mod webhooks;
mod world;
