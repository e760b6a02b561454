//! Parsers for the values of flags.

use std::time::Duration;

/// The heading of the flags about results in the help.
pub(super) const RESULTS: &str = "Batches and answers";

/// Parses a number of seconds, or a factor for one.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a number that is 0 or more".to_owned()),
    }
}

/// Parses a share, from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// Converts seconds to a duration; zero if they are negative or too many.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
