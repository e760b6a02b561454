//! Configuration files, good and wrong, as ingest and the worker read them.

mod example;
mod good;
mod wrong;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::config::tests::with;
use crate::config::{Faults, Ingest, Loaded, Worker};

const FILE: &str = "/etc/restante/restante.toml";
/// Two keys, of bytes 0 to 31, and of 32 bytes 7.
const KEY: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "whsec_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";

/// The files that lie beside the one of the configuration.
fn beside(path: &Path) -> io::Result<String> {
    // Without what `./` leaves in it.
    let path: PathBuf = path.components().collect();
    Ok(match path.to_str().unwrap() {
        "/etc/restante/keys" | "/run/keys" => format!("{KEY}\n"),
        "/etc/restante/other-keys" => format!("{OTHER_KEY}\n"),
        "/etc/restante/two-keys" => format!("{KEY}\n{OTHER_KEY}\n"),
        "/etc/restante/hex-secrets" => {
            "correct horse, battery staple\nanother one of enough letters\n".to_owned()
        }
        "/etc/restante/api-key" => "sk-ant-of-a-file\n".to_owned(),
        "/etc/restante/admin-key" => "sk-ant-admin\n".to_owned(),
        "/etc/restante/empty" => "\n".to_owned(),
        "/etc/restante/bad-keys" => "whsec_canary!".to_owned(),
        "/etc/restante/quoted-key" => "'sk-ant-canary'".to_owned(),
        "/etc/restante" => return Err(ErrorKind::IsADirectory.into()),
        _ => return Err(ErrorKind::NotFound.into()),
    })
}

fn variables(more: &[(&str, &str)]) -> Vec<(String, String)> {
    with(&[&[("RESTANTE_CONFIG", FILE), ("OWN_KEYS", KEY), ("CANARY", "canary")], more].concat())
}

fn reading(text: &str) -> impl Fn(&Path) -> io::Result<String> {
    move |path| if path == Path::new(FILE) { Ok(text.to_owned()) } else { beside(path) }
}

fn ingest(text: &str, variables: Vec<(String, String)>) -> Result<Loaded<Ingest>, Faults> {
    Ingest::from_vars(variables, &reading(text))
}

fn worker(text: &str, variables: Vec<(String, String)>) -> Result<Loaded<Worker>, Faults> {
    Worker::from_vars(variables, &reading(text))
}

/// The same without one of the variables.
fn without(name: &str, mut variables: Vec<(String, String)>) -> Vec<(String, String)> {
    variables.retain(|(set, _)| set != name);
    variables
}
