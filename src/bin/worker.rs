//! `restante-worker`: claims events from the outbox and runs the built-in handlers.

use std::process::ExitCode;

use restante::{handlers, service};

fn main() -> ExitCode {
    service::worker(async |config, _pool| Ok(handlers::registry(config.handlers)))
}
