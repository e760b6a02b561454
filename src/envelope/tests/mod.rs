//! Bodies as the API sends them, as others might, and as nobody should.

mod anything;
mod data;
mod reading;

use super::read;
use crate::event::NewEvent;

const SENT_AT: i64 = 1_793_534_400;

fn read_text(body: &str) -> NewEvent {
    read(body.as_bytes(), Some("whe_header"), SENT_AT).unwrap()
}
