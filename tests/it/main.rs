//! What the whole of Restante promises, shown on a real Postgres; and on the real processes where a process matters.

mod support;

mod attempts;
mod leases;
mod operator;
mod order;
