//! To be written.

mod json;
pub mod line;
pub mod lines;
