//! The next step of a rotation, from how the keys stand.

use super::state::{Known, State, ago};
use super::{KindOfKey, Rotation};

/// What is to be done next.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// No running service has a key of this sender or account.
    NoService,
    /// There is only one key, and no new one is known: a person has to make it.
    NothingToWaitFor,
    /// These services do not have the new key yet.
    Load { new: String, lacking: Vec<String> },
    /// Every service has it, and nobody has used it.
    FirstUse { new: String },
    /// Somebody needed an old key not long ago.
    OldIsNeeded { old: String, needed: String },
    /// The old ones may go.
    OldMayGo { new: String, old: Vec<String> },
    /// There is no old key any more.
    Complete { new: String },
}

/// The next step. It is on the safe side: an old key may go only once the new one has been used.
pub(super) fn next(rotation: &Rotation, state: &State) -> Step {
    if state.services.is_empty() {
        return Step::NoService;
    }
    let is_loaded = |key: &&Known| key.loaded_by > 0;
    let newest = || state.keys.iter().find(is_loaded).map(|key| key.fingerprint.clone());
    let Some(new) = rotation.new.clone().or_else(newest) else { return Step::NoService };
    let lacking: Vec<String> = state
        .services
        .iter()
        .filter(|service| !service.fingerprints.contains(&new))
        .map(|service| format!("{} {}", service.program, service.process))
        .collect();
    if !lacking.is_empty() {
        return Step::Load { new, lacking };
    }
    // A key that no service has any more is old as long as requests that began with it may be under way.
    let is_recent = |key: &Known| key.last_needed_seconds_ago.is_some_and(|ago| ago < rotation.quiet_seconds);
    let old: Vec<&Known> = state
        .keys
        .iter()
        .filter(|key| key.fingerprint != new && (is_loaded(key) || is_recent(key)))
        .collect();
    let is_used = state.keys.iter().any(|key| key.fingerprint == new && key.last_used_seconds_ago.is_some());
    if old.is_empty() && rotation.new.is_none() {
        let had_another = state.keys.len() > 1;
        return if had_another { Step::Complete { new } } else { Step::NothingToWaitFor };
    }
    if !is_used {
        return Step::FirstUse { new };
    }
    let needed = old.iter().filter_map(|key| Some((key, key.last_needed_seconds_ago?)));
    let latest = needed.min_by(|(_, one), (_, other)| one.total_cmp(other));
    if let Some((key, seconds)) = latest.filter(|(_, seconds)| *seconds < rotation.quiet_seconds) {
        return Step::OldIsNeeded { old: key.fingerprint.clone(), needed: ago(Some(seconds)) };
    }
    let old: Vec<String> = old.iter().map(|key| key.fingerprint.clone()).collect();
    if old.is_empty() { Step::Complete { new } } else { Step::OldMayGo { new, old } }
}

impl Step {
    /// Is nothing to be waited for any more?
    pub(super) fn is_last(&self) -> bool {
        matches!(self, Step::OldMayGo { .. } | Step::Complete { .. })
    }

    /// The step in words.
    pub(super) fn told(&self, rotation: &Rotation) -> String {
        let (party, is_signing) = (&rotation.party, rotation.kind == KindOfKey::Signing);
        let minutes = rotation.quiet_seconds / 60.0;
        match self {
            Step::NoService => format!(
                "no running service has a {} key of {party}: start the services, or give the name of another sender or account",
                rotation.kind.as_str()
            ),
            Step::NothingToWaitFor if is_signing => format!(
                "next: make a new signing key at the sender {party}, and put it beside the old one in the file of the services: \
                 --new-key-file does it"
            ),
            Step::NothingToWaitFor => format!(
                "next: make a new key for {party} in the Console, and put it in the place of the old one in the file of the \
                 services: --new-key-file does it"
            ),
            Step::Load { new, lacking } => format!(
                "next: wait until every service has {new}. It is not in: {}. Each reads its files every second; one whose key \
                 stands in a variable has to be started anew",
                lacking.join(", ")
            ),
            Step::FirstUse { new } if is_signing => format!(
                "next: let the sender {party} sign with {new}: every running service takes it, and no delivery has come with it yet"
            ),
            Step::FirstUse { new } => {
                format!("next: wait for the first call with {new}, which the API has not answered yet")
            }
            Step::OldIsNeeded { old, needed } if is_signing => format!(
                "next: wait until {old} is not needed for {minutes:.0} min; it was {needed}. If it goes on, the sender {party} \
                 still signs with it"
            ),
            Step::OldIsNeeded { old, needed } => {
                format!("next: wait until {old} is not used for {minutes:.0} min; it was {needed}")
            }
            Step::OldMayGo { new, old } if is_signing => format!(
                "{} may go: nobody has needed it for {minutes:.0} min, and every running service takes {new}. --drop-old takes \
                 it out of the file",
                old.join(", ")
            ),
            Step::OldMayGo { new, old } => format!(
                "{} may go: disable it in the Console. Every running service calls the API with {new}",
                old.join(", ")
            ),
            Step::Complete { new } => format!("complete: every running service has {new}, and no old key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::Service;
    use super::*;

    fn known(fingerprint: &str, loaded_by: i32, used: Option<f64>, needed: Option<f64>) -> Known {
        Known {
            fingerprint: fingerprint.to_owned(),
            loaded_by,
            first_seen_seconds_ago: 9.0,
            last_used_seconds_ago: used,
            last_needed_seconds_ago: needed,
        }
    }

    fn service(process: &str, fingerprints: &[&str]) -> Service {
        let fingerprints = fingerprints.iter().map(|text| (*text).to_owned()).collect();
        Service { process: process.to_owned(), program: "restante-ingest".to_owned(), fingerprints }
    }

    fn step(kind: KindOfKey, new: Option<&str>, keys: &[Known], services: &[Service]) -> Step {
        let new = new.map(str::to_owned);
        let rotation = Rotation { kind, party: "anthropic".to_owned(), new, quiet_seconds: 900.0 };
        let state = State { keys: keys.to_vec(), services: services.to_vec() };
        next(&rotation, &state)
    }

    fn text(fingerprint: &str) -> String {
        fingerprint.to_owned()
    }

    #[test]
    fn a_signing_key_goes_step_by_step_and_the_old_one_only_when_nobody_needs_it() {
        let both = [service("a", &["new", "old"]), service("b", &["new", "old"])];
        let step = |keys: &[Known], services: &[Service]| step(KindOfKey::Signing, None, keys, services);

        assert_eq!(step(&[], &[]), Step::NoService);
        assert_eq!(step(&[known("old", 1, None, None)], &[service("a", &["old"])]), Step::NothingToWaitFor);
        assert_eq!(
            step(
                &[known("new", 1, None, None), known("old", 2, Some(1.0), Some(1.0))],
                &[service("a", &["new", "old"]), service("b", &["old"])]
            ),
            Step::Load { new: text("new"), lacking: vec![text("restante-ingest b")] }
        );
        assert_eq!(
            step(&[known("new", 2, None, None), known("old", 2, Some(5000.0), Some(5000.0))], &both),
            Step::FirstUse { new: text("new") }
        );
        assert_eq!(
            step(&[known("new", 2, Some(1.0), Some(1.0)), known("old", 2, Some(30.0), Some(30.0))], &both),
            Step::OldIsNeeded { old: text("old"), needed: text("30 s ago") }
        );
        for needed in [None, Some(901.0)] {
            assert_eq!(
                // A delivery with both signatures uses the old one and does not need it.
                step(&[known("new", 2, Some(1.0), Some(1.0)), known("old", 2, Some(1.0), needed)], &both),
                Step::OldMayGo { new: text("new"), old: vec![text("old")] }
            );
        }
        assert_eq!(
            step(
                &[known("new", 1, Some(1.0), Some(1.0)), known("old", 0, Some(5000.0), Some(5000.0))],
                &[service("a", &["new"])]
            ),
            Step::Complete { new: text("new") }
        );
    }

    #[test]
    fn an_api_key_that_no_service_has_is_old_until_its_last_call_is_long_over() {
        let keys = |used| [known("new", 1, Some(1.0), Some(1.0)), known("old", 0, used, used)];
        let services = [service("a", &["new"])];
        let step = |used| step(KindOfKey::Api, Some("new"), &keys(used), &services);

        assert_eq!(step(Some(60.0)), Step::OldIsNeeded { old: text("old"), needed: text("60 s ago") });
        assert_eq!(step(Some(901.0)), Step::Complete { new: text("new") });
    }

    #[test]
    fn a_new_key_that_no_service_has_yet_is_waited_for() {
        let old = [known("old", 1, Some(1.0), Some(1.0))];
        assert_eq!(
            step(KindOfKey::Signing, Some("new"), &old, &[service("a", &["old"])]),
            Step::Load { new: text("new"), lacking: vec![text("restante-ingest a")] }
        );
    }
}
