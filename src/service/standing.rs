//! Whether what the files of the configuration say is in force: for `/readyz`, and for the metrics.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{SecondsFormat, Utc};
use metrics::{counter, gauge};

use crate::config::Faults;
use crate::database::Waiting;
use crate::ops::Note;
use crate::telemetry::metric;

/// How many faults a line of `/readyz` says. The log has all of them.
const FAULTS_MAX: usize = 3;

/// What is wrong with the files as they are now, if anything is. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Mutex<Option<String>>>);

impl Standing {
    /// What the files say is in force.
    pub(super) fn used(&self) {
        self.set("used", None);
    }

    /// What the files say cannot be used, because of these faults, of which each is told without a value.
    pub(super) fn faulty(&self, faults: &Faults) {
        let told = faults.faults.iter().take(FAULTS_MAX);
        let told: Vec<String> = told.map(|fault| format!("{}: {}", fault.subject(), fault.problem)).collect();
        let more = faults.faults.len().saturating_sub(FAULTS_MAX);
        let more = if more > 0 { format!("; and {more} more, which the log says") } else { String::new() };
        self.refused(&format!("{}{more}", told.join("; ")));
    }

    /// What the files say cannot be used.
    pub(super) fn refused(&self, problem: &str) {
        let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
        self.set("refused", Some(format!("the files have changed at {now} and cannot be used, so the former ones are in force: {problem}")));
    }

    fn set(&self, answer: &'static str, problem: Option<String>) {
        counter!(metric::CONFIGURATION_CHANGES_TOTAL, "answer" => answer).increment(1);
        gauge!(metric::CONFIGURATION_REFUSED).set(if problem.is_some() { 1.0 } else { 0.0 });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// What `/readyz` shows beside its checks: faults of the files, and a login of the database that is not in use yet.
    pub(super) fn note(self, login: Waiting) -> Note {
        Note::new("configuration", move || {
            let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let told: Vec<String> = [faults, login.told()].into_iter().flatten().collect();
            std::future::ready((!told.is_empty()).then(|| told.join("; ").into()))
        })
    }
}
