//! How the lines of a stream end.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// How lines end. The standard of server-sent events knows all three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LineEnd {
    /// A line feed
    Lf,
    /// A carriage return and a line feed
    Crlf,
    /// A carriage return
    Cr,
}
