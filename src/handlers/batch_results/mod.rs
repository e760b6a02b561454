//! To be written.

pub mod lines;
