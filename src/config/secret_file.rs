//! Files that hold a secret: those of `_FILE` variables, and those that the configuration file names.

use std::path::Path;

use secrecy::zeroize::Zeroizing;

use super::variable::{Fallible, unfit};
use super::{BYTE_ORDER_MARK, ReadFile};

/// The text of a file that holds a secret and nothing else.
pub(super) fn secret_of_file(read_file: ReadFile<'_>, path: &Path) -> Fallible<Zeroizing<String>> {
    match read_file(path).map(Zeroizing::new) {
        Ok(mut text) if !text.trim_start_matches(BYTE_ORDER_MARK).trim().is_empty() => {
            // Editors and `echo` end a file with a newline that is no part of the secret.
            if text.ends_with('\n') {
                text.pop();
                if text.ends_with('\r') {
                    text.pop();
                }
            }
            Ok(text)
        }
        Ok(_) => Err(unfit("the file is empty", "Put the secret into it, and nothing else")),
        // The path stays unsaid: sooner or later somebody puts the secret itself here.
        Err(error) => Err(unfit(
            format!("the file cannot be read ({})", error.kind()),
            "Give the path of a text file that this program may read",
        )),
    }
}
