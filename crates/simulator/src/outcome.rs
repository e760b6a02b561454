//! The outcome of one request of a batch, drawn from the seed and its `custom_id` alone.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::dice;
use super::flags::{RESULTS, share};

/// How one request of a batch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The model answered.
    Succeeded,
    /// The API answered with an error.
    Errored,
    /// The batch was cancelled first.
    Canceled,
    /// The batch ran out of time first.
    Expired,
}

/// How the requests of a batch divide among the outcomes. The rest succeeds.
#[derive(Args, Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[command(next_help_heading = RESULTS)]
pub struct Shares {
    /// Share of a batch's requests that end `errored`
    #[arg(id = "errored_share", long = "errored-share", value_name = "SHARE", default_value = "0.03", value_parser = share)]
    pub errored: f64,
    /// Share of a batch's requests that end `canceled` although no client cancelled the batch
    #[arg(id = "canceled_share", long = "canceled-share", value_name = "SHARE", default_value = "0.01", value_parser = share)]
    pub canceled: f64,
    /// Share of a batch's requests that end `expired`
    #[arg(id = "expired_share", long = "expired-share", value_name = "SHARE", default_value = "0.01", value_parser = share)]
    pub expired: f64,
}

impl Shares {
    /// All requests succeed.
    pub const FLAWLESS: Shares = Shares { errored: 0.0, canceled: 0.0, expired: 0.0 };

    /// The share that succeeds.
    pub fn succeeded(&self) -> f64 {
        (1.0 - self.errored - self.canceled - self.expired).max(0.0)
    }

    /// The outcome of a request, the same at every call.
    pub fn outcome(&self, seed: u64, custom_id: &str) -> Outcome {
        let roll = dice::roll(seed, "outcome", custom_id);
        match roll {
            r if r < self.errored => Outcome::Errored,
            r if r < self.errored + self.canceled => Outcome::Canceled,
            r if r < self.errored + self.canceled + self.expired => Outcome::Expired,
            _ => Outcome::Succeeded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_divide_as_the_shares_say() {
        let shares = Shares { errored: 0.2, canceled: 0.1, expired: 0.0 };
        let drawn: Vec<Outcome> = (0..10_000).map(|n| shares.outcome(7, &format!("r-{n}"))).collect();

        let count = |outcome| drawn.iter().filter(|&&one| one == outcome).count();
        assert!((1850..2150).contains(&count(Outcome::Errored)), "{}", count(Outcome::Errored));
        assert!((850..1150).contains(&count(Outcome::Canceled)), "{}", count(Outcome::Canceled));
        assert_eq!(count(Outcome::Expired), 0);
    }

    #[test]
    fn another_seed_draws_other_outcomes() {
        let shares = Shares { errored: 0.5, canceled: 0.0, expired: 0.0 };
        let drawn = |seed| (0..64).map(|n| shares.outcome(seed, &n.to_string())).collect::<Vec<_>>();

        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
