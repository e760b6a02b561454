//! Which variable a name that no program knows was meant to be.

use super::table::VARIABLES;

/// The known name that a misspelt one most likely stands for.
pub(super) fn nearest(unknown: &str) -> Option<&'static str> {
    let bare = unknown.strip_prefix("RESTANTE_").unwrap_or(unknown);
    if let Some(variable) = VARIABLES.iter().find(|v| v.name == bare) {
        return Some(variable.name);
    }
    VARIABLES
        .iter()
        .map(|v| (distance(unknown, v.name), v.name))
        .min()
        // A third of the letters: generous, since a wrong guess costs a reader one line.
        .filter(|(distance, name)| distance * 3 <= name.len())
        .map(|(_, name)| name)
}

/// How many letters have to be put in, taken out or changed (Levenshtein's distance).
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
}
