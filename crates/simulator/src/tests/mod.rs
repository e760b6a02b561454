//! The simulator over real sockets.

mod batches;
mod creation;
mod gate;
mod messages;
mod resources;
mod results;
mod send;
mod sessions;
mod webhooks;
mod workspaces;
mod world;
