//! To be written.

pub mod copy;
mod json;
pub mod line;
pub mod lines;
