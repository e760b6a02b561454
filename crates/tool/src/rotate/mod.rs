//! `restante rotate`: leads an operator from an old key to a new one without losing a delivery or a call.
//!
//! It reads from `restante.key_use` which services have which key, and says the next step. It shows fingerprints and never a key. It
//! writes only where it is asked to: the new key into the file that the services read.

mod key_file;
mod state;
mod step;

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use self::key_file::{KeyFile, Written};
use self::state::State;
use self::step::Step;
use crate::surroundings::Surroundings;
use restante::database;
use restante::event::ANTHROPIC;
use restante::internals::key_use::Fingerprint;

/// The exit code while a step is left.
const GOES_ON: u8 = 3;

/// The exit code of a program that was stopped by Ctrl-C.
const STOPPED: u8 = 130;

/// How often `--wait` looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is being rotated.
#[derive(Clone, Debug)]
struct Rotation {
    kind: KindOfKey,
    /// The sender, or the account.
    party: String,
    /// The fingerprint of the new key; if unknown, it is the one that came last.
    new: Option<String>,
    /// How long the old key must not have been needed, in seconds.
    quiet_seconds: f64,
}

/// Leads through the rotation of a key: shows which services have which key and when it was used last, and says the next step
///
/// Without a kind it shows all keys. Keys are shown by their fingerprints, as `restante config` and the logs show them, never
/// themselves. A signing key: make the new one at the sender, `restante rotate signing --new-key-file FILE` puts it beside the old
/// one, the sender signs with it, and `--drop-old` takes the old one away once nobody needs it. An API key: make the new one in the
/// Console, `restante rotate api --new-key-file FILE` puts it in the place of the old one, which the Console disables once no
/// service uses it. The services read their files again by themselves, and need no restart. The secrets of endpoints are rotated
/// with `restante endpoint rotate`.
///
/// Exits 0 if the rotation is complete, or the old key may go; 3 while a step is left; 1 if it could not look or write.
#[derive(Args, Debug)]
pub(super) struct RotateArgs {
    /// Which key
    kind: Option<KindOfKey>,
    /// The sender that signs with it, or the account whose API it is for
    #[arg(default_value = ANTHROPIC)]
    party: String,
    /// Puts the key in this file (- for the standard input) into the file that the services read: a signing key beside the old
    /// ones, an API key in their place
    #[arg(long, value_name = "FILE", requires = "kind")]
    new_key_file: Option<PathBuf>,
    /// The file that the services read; without it, the one that the _FILE variable of the key names
    #[arg(long, value_name = "FILE", requires = "kind")]
    file: Option<PathBuf>,
    /// The key is a raw secret of the older scheme (ANTHROPIC_WEBHOOK_SECRET)
    #[arg(long)]
    raw_secret: bool,
    /// The fingerprint of the new key; without it, that of the key in --new-key-file, or of the one that came last
    #[arg(long, value_name = "FINGERPRINT")]
    new: Option<String>,
    /// Waits until every running service has the new key, and then until the old one may go
    #[arg(long, requires = "kind")]
    wait: bool,
    /// How long the old key must not have been needed before it may go
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    quiet_minutes: u32,
    /// Takes every signing key but the new one out of the file, once they may go
    #[arg(long, requires = "kind", conflicts_with = "new_key_file")]
    drop_old: bool,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum KindOfKey {
    /// Deliveries of a sender are signed with it
    Signing,
    /// The API is called with it
    Api,
    /// What belongs to the organization is read with it
    Admin,
}

impl KindOfKey {
    /// The word in `restante.key_use`.
    fn as_str(self) -> &'static str {
        match self {
            KindOfKey::Signing => "signing",
            KindOfKey::Api => "api",
            KindOfKey::Admin => "admin",
        }
    }
}

/// Runs the command.
///
/// # Errors
/// If the database cannot be asked, or a file cannot be read or written, or has no valid key.
pub(super) async fn run(
    args: RotateArgs,
    url: &SecretString,
    surroundings: &Surroundings,
) -> anyhow::Result<ExitCode> {
    let Some(kind) = args.kind else {
        let mut connection = database::connect(url, "restante rotate").await?;
        database::check_schema(&mut connection).await?;
        print!("{}", state::all(&mut connection).await?);
        return Ok(ExitCode::SUCCESS);
    };
    let put = match &args.new_key_file {
        Some(path) => Some(put_new_key(&args, kind, &read_new_key(path)?, surroundings)?),
        None => None,
    };
    let new = args.new.clone().or(put.map(|fingerprint| fingerprint.to_string()));
    let rotation = Rotation {
        kind,
        party: args.party.clone(),
        new,
        quiet_seconds: f64::from(args.quiet_minutes) * 60.0,
    };
    let step = if args.wait {
        match wait(&rotation, url, &surroundings.stop).await? {
            Some(step) => step,
            None => {
                eprintln!("stopped on request; the rotation stands as it is");
                return Ok(ExitCode::from(STOPPED));
            }
        }
    } else {
        let state = State::read(&rotation, url).await?;
        print!("{}", state.told());
        step::next(&rotation, &state)
    };
    println!("{}", step.told(&rotation));
    if args.drop_old {
        return drop_old(&args, kind, &step, surroundings);
    }
    Ok(if step.is_last() { ExitCode::SUCCESS } else { ExitCode::from(GOES_ON) })
}

/// Follows a rotation until the old key may go; none if the operator stops it. A database that goes away is waited for.
async fn wait(
    rotation: &Rotation,
    url: &SecretString,
    stop: &CancellationToken,
) -> anyhow::Result<Option<Step>> {
    let mut last = String::new();
    loop {
        let said = match State::read(rotation, url).await {
            Ok(state) => match step::next(rotation, &state) {
                step if step.is_last() => return Ok(Some(step)),
                Step::NothingToWaitFor => bail!("{}", Step::NothingToWaitFor.told(rotation)),
                step => step.told(rotation),
            },
            Err(error) => format!("waiting for the database: {}", database::told(error.as_ref())),
        };
        // The seconds in it change with each look.
        let kind_of_line: String = said.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        if kind_of_line != last {
            println!("{said}");
            last = kind_of_line;
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

fn key_file(args: &RotateArgs, kind: KindOfKey, surroundings: &Surroundings) -> anyhow::Result<KeyFile> {
    KeyFile::of(kind, args.raw_secret, args.party == ANTHROPIC, args.file.as_deref(), surroundings)
}

/// Writes the new key into the file of the services, and says what to do if they do not see it.
fn put_new_key(
    args: &RotateArgs,
    kind: KindOfKey,
    new_key: &SecretString,
    surroundings: &Surroundings,
) -> anyhow::Result<Fingerprint> {
    let file = key_file(args, kind, surroundings)?;
    let (new, written) = file.put(new_key)?;
    match written {
        Written::Now => println!("{} has the new key {new} now", file.path.display()),
        Written::Before => println!("{} had the key {new} already", file.path.display()),
    }
    Ok(new)
}

fn drop_old(
    args: &RotateArgs,
    kind: KindOfKey,
    step: &Step,
    surroundings: &Surroundings,
) -> anyhow::Result<ExitCode> {
    let Step::OldMayGo { new, old } = step else {
        if step.is_last() {
            return Ok(ExitCode::SUCCESS);
        }
        println!("nothing is taken out of the file as long as that is so");
        return Ok(ExitCode::from(GOES_ON));
    };
    if kind != KindOfKey::Signing {
        println!("an API key is disabled in the Console; its file has only the new one");
        return Ok(ExitCode::SUCCESS);
    }
    let file = key_file(args, kind, surroundings)?;
    file.keep_only(new)?;
    println!("{} has only the key {new} now; {} is gone", file.path.display(), old.join(", "));
    Ok(ExitCode::SUCCESS)
}

fn read_new_key(path: &Path) -> anyhow::Result<SecretString> {
    let mut text = String::new();
    if path.as_os_str() == "-" {
        io::stdin()
            .read_to_string(&mut text)
            .context("the new key could not be read from the standard input")?;
    } else {
        text = std::fs::read_to_string(path)
            .with_context(|| format!("the new key could not be read from {}", path.display()))?;
    }
    Ok(text.trim().to_owned().into())
}
