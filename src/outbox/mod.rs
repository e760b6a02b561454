//! The outbox: every statement that writes it, one function for each change of state.
//!
//! Ingest and handlers [insert](insert_events); workers [claim](claim()), [renew](lease::renew) and settle
//! ([finish](settle::finish), [fail](settle::fail), [hand_back](settle::hand_back)). Nothing else writes `restante.outbox`,
//! except a person's UPDATE, which a trigger makes safe (`migrations/0005_operator.sql`).
//!
//! Every statement of an attempt carries the lease token of its claim. If the row has another token, the lease was
//! lost: the statement changes nothing, and its result says so.

pub mod breaker;
pub mod budget;
pub mod claim;
mod delivered;
pub mod health;
pub mod insert;
mod journal;
mod keys;
pub mod lease;
pub mod life;
pub mod missed;
pub mod outcome;
mod refusals;
pub mod retention;
pub mod settle;
pub mod status;
pub mod trouble;
pub mod upkeep;
pub mod waiting;

pub use claim::{Claimed, claim, claim_except};
pub use delivered::Delivered;
pub use insert::{Source, Stored, insert_events, insert_journaled};
pub use journal::{JournalReport, note_journal};
pub use keys::note_key_use;
pub use lease::Lease;
pub use outcome::Outcome;
pub use refusals::{Refused, note_refusals};

/// The NOTIFY channel for hints that there is something new. A hint is never needed, only quicker than the next poll.
pub const CHANNEL: &str = "restante_outbox";
