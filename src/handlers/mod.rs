//! To be written.
pub mod batch_results;
