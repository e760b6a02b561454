//! Unknown names of variables, and which variable each probably means.

use std::collections::BTreeMap;

use secrecy::zeroize::Zeroizing;

use super::table::VARIABLES;
use super::{BYTE_ORDER_MARK, Warning};

/// One warning for each `RESTANTE_*` variable that no program reads, and for each known name behind a byte order mark.
pub(super) fn unknown(variables: &BTreeMap<String, Zeroizing<String>>) -> Vec<Warning> {
    let known = |name: &str| {
        VARIABLES.iter().any(|v| {
            name == v.name || (v.secret && name.strip_suffix("_FILE").is_some_and(|name| name == v.name))
        })
    };
    let marked = variables
        .keys()
        .filter(|name| name.strip_prefix(BYTE_ORDER_MARK).is_some_and(known))
        .map(|name| Warning {
            variable: name.trim_start_matches(BYTE_ORDER_MARK).to_owned(),
            message: "a byte order mark is before its name, so no program finds it: save the file as UTF-8 without one"
                .to_owned(),
        });
    variables
        .iter()
        .filter(|(name, value)| {
            name.starts_with("RESTANTE_") && !known(name) && !is_service_link(name, value)
        })
        .map(|(name, _)| {
            let message = match nearest(name) {
                Some(nearest) => format!("no program reads it; did you mean {nearest}?"),
                None => "no program reads it; --help lists the variables".to_owned(),
            };
            Warning { variable: name.clone(), message }
        })
        .chain(marked)
        .collect()
}

/// Kubernetes sets variables of its own in every pod for each service, named after the service: `RESTANTE_PORT` and
/// the like for a service called `restante`.
fn is_service_link(name: &str, value: &str) -> bool {
    name.contains("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.contains("_PORT_")
        || (name.ends_with("_PORT") && value.contains("://"))
}

/// The known name that a misspelt one most likely means.
fn nearest(unknown: &str) -> Option<&'static str> {
    let bare = unknown.strip_prefix("RESTANTE_").unwrap_or(unknown);
    if let Some(variable) = VARIABLES.iter().find(|v| v.name == bare) {
        return Some(variable.name);
    }
    nearest_of(unknown, VARIABLES.iter().map(|v| v.name))
}

/// The one of these names that a misspelt one most likely stands for.
pub(super) fn nearest_of(unknown: &str, names: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    names
        .map(|name| (distance(unknown, name), name))
        .min()
        // A third of the letters: generous, because a wrong guess costs the reader only one line.
        .filter(|(distance, name)| distance * 3 <= name.len())
        .map(|(_, name)| name)
}

/// How many letters must be inserted, removed or changed (Levenshtein distance).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, r) in right.iter().enumerate() {
            let changed = diagonal + usize::from(l != *r);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::super::Tool;
    use super::super::tests::{no_files, vars};
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognised() {
        for (unknown, known) in [
            ("RESTANTE_CONCURENCY", Some("RESTANTE_CONCURRENCY")),
            ("RESTANTE_LEASE_SECS", Some("RESTANTE_LEASE_SECONDS")),
            ("RESTANTE_DATABASE_URL", Some("DATABASE_URL")),
            ("RESTANTE_ANTHROPIC_API_KEY", Some("ANTHROPIC_API_KEY")),
            ("RESTANTE_COLOUR_OF_THE_STAMPS", None),
        ] {
            assert_eq!(nearest(unknown), known, "{unknown}");
        }
    }

    #[test]
    fn unknown_names_are_warned_of_and_those_of_kubernetes_are_not() {
        let loaded = Tool::from_vars(
            vars(&[
                ("RESTANTE_LISTN", "x"),
                ("RESTANTE_LISTEN_FILE", "x"),
                ("RESTANTE_PORT", "tcp://10.0.0.1:80"),
                ("RESTANTE_INGEST_SERVICE_HOST", "10.0.0.1"),
                ("RESTANTE_INGEST_PORT_8080_TCP_ADDR", "10.0.0.1"),
                ("HOME", "/root"),
            ]),
            &no_files,
        )
        .unwrap();

        let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "RESTANTE_LISTEN_FILE: no program reads it; did you mean RESTANTE_LISTEN?",
                "RESTANTE_LISTN: no program reads it; did you mean RESTANTE_LISTEN?",
            ]
        );
    }
}
