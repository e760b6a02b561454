//! Outages by schedule: for some time every call is refused.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tokio::time::Duration;

use super::flags::{duration, seconds};
use super::refusal::Refusal;
use super::refusals;

/// A time in which every call is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    /// Seconds from the start of the simulator, or from the change of its faults, to the beginning.
    #[serde(default)]
    pub after_seconds: f64,
    /// How long it lasts.
    pub seconds: f64,
    /// What calls are answered: a status, or an error code of the API. 401 is a key that is refused.
    #[serde(default = "unavailable", deserialize_with = "refusals::known")]
    pub error: String,
}

fn unavailable() -> String {
    "503".to_owned()
}

impl Outage {
    fn lasts(&self, since: Duration) -> bool {
        let begins = duration(self.after_seconds);
        since >= begins && since < begins.saturating_add(duration(self.seconds))
    }
}

impl FromStr for Outage {
    type Err = String;

    /// Reads `AFTER:SECONDS` or `AFTER:SECONDS:ERROR`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (after, lasts, error) = match parts.as_slice() {
            [after, lasts] => (*after, *lasts, "503"),
            [after, lasts, error] => (*after, *lasts, *error),
            _ => return Err("expected AFTER:SECONDS or AFTER:SECONDS:ERROR".to_owned()),
        };
        refusals::refusal(error).ok_or_else(|| refusals::unknown(error))?;
        Ok(Self { after_seconds: seconds(after)?, seconds: seconds(lasts)?, error: error.to_owned() })
    }
}

/// The refusal of the outage that there is, so long after the faults were set.
pub(super) fn refusal(outages: &[Outage], since: Duration) -> Option<Refusal> {
    let outage = outages.iter().find(|outage| outage.lasts(since))?;
    refusals::refusal(&outage.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_and_ends_by_its_schedule() {
        let outages: Vec<Outage> = ["1:2", "10:5:401"].map(|text| text.parse().unwrap()).into();
        let is_out = |second| refusal(&outages, Duration::from_secs(second)).is_some();

        assert_eq!(
            [0, 1, 2, 3, 9, 10, 14, 15].map(is_out),
            [false, true, true, false, false, true, true, false]
        );
        for wrong in ["1", "a:1", "1:-1", "1:2:teapot"] {
            assert!(wrong.parse::<Outage>().is_err(), "{wrong}");
        }
    }
}
