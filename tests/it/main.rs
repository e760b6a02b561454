//! What Restante promises, shown with a real Postgres, and with the real processes where a process matters.

#![expect(
    clippy::unwrap_used,
    unreachable_pub,
    reason = "in a test, to panic is to fail, and nothing is public"
)]

mod support;

mod accounts;
mod agreement;
mod attempts;
mod batches;
mod blame;
mod bodies;
mod bursts;
mod compose;
mod configuration;
mod connections;
mod console;
mod crash;
mod crowd;
mod deploy;
mod documents;
mod elsewhere;
mod endpoints;
mod flat;
mod flood;
mod forget;
mod governor;
mod half_price;
mod health;
mod ingest;
mod interleaved;
mod journal;
mod keys;
mod leases;
mod messages;
mod metrics;
mod odd_deliveries;
mod operator;
mod order;
mod outages;
mod outcomes;
mod page;
mod reconcile;
mod refusals;
mod release_before;
mod resources;
mod retention;
mod roles;
mod runbook;
mod schema;
mod secrets;
mod senders;
mod session_events;
mod shutdown;
mod signals;
mod status;
mod submissions;
mod subscribers;
mod tidy;
mod told;
mod traces;
mod tutorial;
mod upgrade;
mod vanished;
mod waiting;
mod workspaces;
