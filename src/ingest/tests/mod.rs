//! Ingest as its senders see it: raw bytes on a socket, the answers to them, and what is stored then.

mod answers;
mod deliveries;
mod door;
mod framing;
mod journal;
mod key_uses;
mod limits;
mod refusals;
mod senders;
mod shutdown;
