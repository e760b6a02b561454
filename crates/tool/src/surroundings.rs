//! What the process was given by whoever started it.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

/// The environment, and where things are.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// The program that runs; the services lie beside it.
    pub executable: PathBuf,
    /// Where directories may be made that do not last.
    pub temporary: PathBuf,
    /// Cancelled when somebody wants the program to end.
    pub stop: CancellationToken,
}

impl Surroundings {
    /// A variable of the environment.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
