//! The command line of `restante simulate`.

use std::net::SocketAddr;

use clap::Args;

use super::Settings;

/// Answers as the Claude API does, and sends its webhooks, until it is stopped
///
/// It keeps everything in memory. Point ANTHROPIC_BASE_URL at it; any API key is accepted unless --api-key is given.
/// You can also control it over HTTP: POST /_simulator/batches {"requests": 1000} makes a batch, POST
/// /_simulator/events {"type": "session.status_idled", "id": "sesn_example"} sends a webhook, POST /_simulator/faults
/// changes what goes wrong, GET /_simulator/deliveries and /_simulator/requests list what happened. Each kind starts with one
/// object (sesn_example, vlt_example, agent_example, ...). Make others as with the API, with its beta header
/// (anthropic-beta: managed-agents-2026-04-01), or with POST /_simulator/resources {"type": "session"}.
/// With --workspace there are several workspaces. The key in its x-api-key decides whose a request is, also one to /_simulator/;
/// with any other key it is for the first workspace.
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// The address and port to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4010")]
    pub listen: SocketAddr,
    #[command(flatten)]
    settings: Settings,
}

impl SimulateArgs {
    /// The settings for the simulator.
    pub fn into_settings(self) -> Settings {
        self.settings
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Simulate {
        #[command(flatten)]
        args: SimulateArgs,
    }

    #[test]
    fn the_command_line_is_sound() {
        Simulate::command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let line = "simulate --webhook-url http://127.0.0.1:8080/webhook --lost-share 0.25 --errored-share 0 --seed 7";
        let settings = Simulate::parse_from(line.split(' ')).args.into_settings();

        assert_eq!(settings.webhook_url.as_deref(), Some("http://127.0.0.1:8080/webhook"));
        assert_eq!(
            (settings.faults.lost_share, settings.shares.errored, settings.seed),
            (0.25, 0.0, Some(7))
        );
    }

    #[test]
    fn a_share_above_one_is_refused() {
        assert!(Simulate::try_parse_from(["simulate", "--lost-share", "2"]).is_err());
    }
}
