//! What the process gets from its caller: the environment, directories, and the signal to stop.

use std::path::PathBuf;

use tokio_util::sync::CancellationToken;

/// The surroundings of the process.
#[derive(Debug)]
pub(crate) struct Surroundings {
    /// The environment.
    pub variables: Vec<(String, String)>,
    /// The path of this program. The services are in the same directory.
    pub executable: PathBuf,
    /// The directory for temporary directories.
    pub temporary: PathBuf,
    /// Cancelled when the program is asked to stop.
    pub stop: CancellationToken,
}

impl Surroundings {
    /// The value of an environment variable, if it is set.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
