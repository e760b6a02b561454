//! The values of flags: what they may be, and what they mean.

use std::time::Duration;

/// The heading of the flags about results in the help.
pub(super) const RESULTS: &str = "Batches and answers";

/// A command-line value in seconds, or a factor of such.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a number that is 0 or more".to_owned()),
    }
}

/// A command-line value that is a share of a whole.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// A length of time given in seconds; nothing where it is negative or too long to be one.
pub(super) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}
