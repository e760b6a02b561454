//! The settings of a simulator: one struct for the command line, its help and its defaults.

use clap::{Args, Parser};
use secrecy::SecretString;

use super::faults::Faults;
use super::flags::{RESULTS, seconds, share};
use super::outcome::Shares;
use super::workspace::Workspace;

const WEBHOOKS: &str = "Webhooks";

/// The settings of a simulator.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// URL that webhooks are delivered to; without it none are sent
    #[arg(help_heading = WEBHOOKS, long, value_name = "URL")]
    pub webhook_url: Option<String>,
    /// Signs webhooks by the Standard Webhooks scheme: `whsec_` and the key in base64
    #[arg(help_heading = WEBHOOKS, long, value_name = "KEY")]
    pub signing_key: Option<SecretString>,
    /// Signs webhooks by the older scheme (`anthropic-signature`) too; the secret is used as given
    #[arg(help_heading = WEBHOOKS, long, value_name = "SECRET")]
    pub webhook_secret: Option<SecretString>,
    /// The only API key that is accepted; without it any key is
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<SecretString>,
    /// A further workspace, `NAME:API_KEY` or `NAME:API_KEY:WEBHOOK_URL:SIGNING_KEY`, with objects of its own; may be repeated
    #[arg(long = "workspace", value_name = "WORKSPACE")]
    pub workspaces: Vec<Workspace>,
    /// Seed of ids, outcomes and faults: the same seed gives the same ones [default: a new seed at each start]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Origin that `results_url` names, such as `http://simulator:4010` [default: the request's Host]
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,

    /// Seconds from the creation of a batch to its end
    #[arg(help_heading = RESULTS, long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub batch_seconds: f64,
    /// Seconds from the cancelling of a batch to its end
    #[arg(help_heading = RESULTS, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub cancel_seconds: f64,
    /// Makes new batches look this much older, so that the 29 days of their results run out
    #[arg(help_heading = RESULTS, long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub batch_age_seconds: f64,
    /// How a batch's requests end.
    #[command(flatten)]
    pub shares: Shares,
    /// Bytes of text in an answer
    #[arg(help_heading = RESULTS, long, value_name = "BYTES", default_value_t = 400)]
    pub text_bytes: usize,
    /// Share of results whose text is `--huge-text-bytes` long
    #[arg(help_heading = RESULTS, long, value_name = "SHARE", default_value = "0", value_parser = share)]
    pub huge_share: f64,
    /// Bytes of text in a huge result
    #[arg(help_heading = RESULTS, long, value_name = "BYTES", default_value_t = 4 << 20)]
    pub huge_text_bytes: usize,

    /// Seconds that a session runs after a message before it is idle again
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub session_seconds: f64,

    /// Sends webhooks with their type at the top level, and a batch's id as `data.batch_id`
    #[arg(help_heading = WEBHOOKS, long)]
    pub top_level_type: bool,
    /// Attempts to deliver an event before it is dropped
    #[arg(help_heading = WEBHOOKS, long, value_name = "N", default_value_t = 3)]
    pub webhook_attempts: u32,
    /// Multiplies the 5 to 120 seconds between two attempts
    #[arg(help_heading = WEBHOOKS, long, value_name = "FACTOR", default_value = "1", value_parser = seconds)]
    pub webhook_backoff: f64,
    /// Seconds that the endpoint has to answer
    #[arg(help_heading = WEBHOOKS, long, value_name = "SECONDS", default_value = "15", value_parser = seconds)]
    pub webhook_timeout_seconds: f64,
    /// How many deliveries are in flight at once
    #[arg(help_heading = WEBHOOKS, long, value_name = "N", default_value_t = 32)]
    pub webhook_concurrency: usize,
    /// Failed attempts in a row that disable the endpoint; the real API goes by time, and does not say how long
    #[arg(help_heading = WEBHOOKS, long, value_name = "N", default_value_t = 1000)]
    pub webhook_failures: u32,

    /// The faults at the start; `/_simulator/faults` changes them later.
    #[command(flatten)]
    pub faults: Faults,
}

impl Default for Settings {
    /// The settings of an empty command line.
    fn default() -> Settings {
        #[derive(Parser)]
        struct Bare {
            #[command(flatten)]
            settings: Settings,
        }
        Bare::parse_from(["simulate"]).settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_command_line() {
        let settings = Settings::default();

        assert_eq!((settings.webhook_attempts, settings.text_bytes), (3, 400));
        assert!((settings.shares.succeeded() - 0.95).abs() < 1e-9);
        assert!(settings.seed.is_none());
    }

    #[test]
    fn no_secret_shows_in_debug() {
        let key = Some(SecretString::from("hush".to_owned()));
        let settings = Settings {
            api_key: key.clone(),
            signing_key: key.clone(),
            webhook_secret: key,
            ..Settings::default()
        };

        assert!(!format!("{settings:?}").contains("hush"));
    }
}
