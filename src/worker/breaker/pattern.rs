//! The pattern of events that wait for the API: a regular expression of Postgres over `restante.need_name()`, which is
//! `ACCOUNT/SUBSCRIBER/TYPE`.

use crate::registry::Need;

/// Accounts, and the parts of the API that do not answer them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waits<'a> {
    /// As events name them: the empty name stands for none.
    pub(super) accounts: &'a [String],
    pub(super) parts: &'a [String],
}

/// The pattern of the events whose handler needs one of these parts; none, if no handler does.
///
/// Of two handlers whose types cover an event the one with the longer type answers it. Where that needs nothing of the parts, the event is
/// spared.
pub(super) fn of(waits: &[Waits<'_>], needs: &[Need]) -> Option<String> {
    let alternatives: Vec<String> = waits.iter().filter_map(|waits| of_one(*waits, needs)).collect();
    (!alternatives.is_empty()).then(|| format!("^(?:{})$", alternatives.join("|")))
}

fn of_one(waits: Waits<'_>, needs: &[Need]) -> Option<String> {
    let is_needed = |need: &&Need| need.part.is_some_and(|part| waits.parts.iter().any(|name| name == part));
    let (needing, others): (Vec<&Need>, Vec<&Need>) = needs.iter().partition(is_needed);
    if needing.is_empty() {
        return None;
    }
    let within = |other: &&&Need| {
        needing.iter().any(|need| {
            let covers = |pattern: &str| {
                pattern.strip_suffix('*').is_some_and(|start| other.event_type.starts_with(start))
            };
            need.subscriber == other.subscriber && covers(need.event_type)
        })
    };
    let spared: Vec<String> = others.iter().filter(within).map(|need| name(need)).collect();
    let spared = if spared.is_empty() { String::new() } else { format!("(?!(?:{})$)", spared.join("|")) };
    let accounts: Vec<String> = waits.accounts.iter().map(|account| escaped(account)).collect();
    let needing: Vec<String> = needing.into_iter().map(name).collect();
    Some(format!("(?:{})/{spared}(?:{})", accounts.join("|"), needing.join("|")))
}

/// The subscriber and the type of a handler.
fn name(need: &Need) -> String {
    let event_type = match need.event_type.strip_suffix('*') {
        Some(start) => escaped(start) + ".*",
        None => escaped(need.event_type),
    };
    format!("{}/{event_type}", escaped(&need.subscriber))
}

/// The text as it matches itself.
fn escaped(text: &str) -> String {
    let is_plain =
        |character: char| !character.is_ascii() || character.is_ascii_alphanumeric() || character == '_';
    text.chars()
        .flat_map(|character| (!is_plain(character)).then_some('\\').into_iter().chain([character]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(subscriber: &str, event_type: &'static str, part: Option<&'static str>) -> Need {
        Need { subscriber: subscriber.to_owned(), event_type, part }
    }

    fn pattern(accounts: &[&str], parts: &[&str], needs: &[Need]) -> Option<String> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        of(&[Waits { accounts: &owned(accounts), parts: &owned(parts) }], needs)
    }

    #[test]
    fn it_matches_what_needs_a_part_and_spares_what_a_longer_type_answers() {
        let needs = [
            need("", "session.*", Some("sessions")),
            need("", "session.updated", None),
            need("", "batch.poll", Some("batches")),
            need("audit", "session.updated", None),
            need("notify", "notify.*", None),
        ];
        assert_eq!(
            pattern(&["anthropic", ""], &["sessions"], &needs).as_deref(),
            Some(r"^(?:(?:anthropic|)/(?!(?:/session\.updated)$)(?:/session\..*))$")
        );
        assert_eq!(
            pattern(&["a.b"], &["batches", "sessions"], &needs[2..]).as_deref(),
            Some(r"^(?:(?:a\.b)/(?:/batch\.poll))$")
        );
        assert_eq!(pattern(&["anthropic"], &["vaults"], &needs), None);
    }
}
