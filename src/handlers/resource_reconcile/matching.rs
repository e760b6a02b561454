//! Which changes a webhook tells of. Each webhook tells of one change.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::changes::Candidate;
use super::webhooks::Webhook;
use crate::outbox::missed::TOLERANCE;

/// How far apart the times are, if the webhook may tell of this change.
fn distance(candidate: &Candidate, webhook: &Webhook) -> Option<TimeDelta> {
    let Candidate { subject, change, .. } = candidate;
    let distance = (webhook.created_at - change.happened_at).abs();
    let is_of_it = webhook.event_type == change.event_type && webhook.subject == *subject;
    (is_of_it && (change.which.is_none() || distance.to_std().is_ok_and(|distance| distance <= TOLERANCE)))
        .then_some(distance)
}

/// For each change, in their order, the webhook that tells of it. The nearest pairs go together first; a webhook of `taken` tells of
/// another change already.
pub(super) fn told_by<'a>(
    candidates: &[Candidate],
    webhooks: &'a [Webhook],
    taken: &HashSet<String>,
) -> Vec<Option<&'a Webhook>> {
    let mut pairs: Vec<(TimeDelta, DateTime<Utc>, usize, usize)> = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        for (with, webhook) in webhooks.iter().enumerate() {
            if let Some(distance) =
                distance(candidate, webhook).filter(|_| !taken.contains(&webhook.event_id))
            {
                pairs.push((distance, webhook.created_at, at, with));
            }
        }
    }
    pairs.sort_unstable();
    let mut told = vec![None; candidates.len()];
    let mut used = HashSet::new();
    for (_, _, at, with) in pairs {
        if told[at].is_none() && used.insert(with) {
            told[at] = Some(&webhooks[with]);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::super::changes::Change;
    use super::*;

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_793_534_400 + seconds, 0).unwrap()
    }

    fn idled(seconds: i64) -> Candidate {
        let change = Change {
            event_type: "session.status_idled".to_owned(),
            happened_at: time(seconds),
            which: Some(format!("sevt_{seconds}")),
        };
        Candidate { key: "sesn_1".to_owned(), subject: "sesn_1".to_owned(), parent_id: None, change }
    }

    fn webhook(event_id: &str, seconds: i64) -> Webhook {
        Webhook {
            event_id: event_id.to_owned(),
            event_type: "session.status_idled".to_owned(),
            subject: "sesn_1".to_owned(),
            created_at: time(seconds),
        }
    }

    fn told(candidates: &[Candidate], webhooks: &[Webhook], taken: &[&str]) -> Vec<Option<String>> {
        let taken = taken.iter().map(|id| (*id).to_owned()).collect();
        let told = told_by(candidates, webhooks, &taken);
        told.into_iter().map(|webhook| webhook.map(|webhook| webhook.event_id.clone())).collect()
    }

    #[test]
    fn each_webhook_tells_of_the_change_that_is_nearest_and_of_no_other() {
        let webhooks = [webhook("late", 104), webhook("early", 100)];
        let some = |id: &str| Some(id.to_owned());

        assert_eq!(told(&[idled(100), idled(104)], &webhooks, &[]), [some("early"), some("late")]);
        assert_eq!(told(&[idled(100), idled(104)], &webhooks[..1], &[]), [None, some("late")]);
        assert_eq!(told(&[idled(100)], &webhooks, &["early"]), [some("late")]);
        assert_eq!(told(&[idled(60)], &webhooks, &[]), [None], "it is of another time");
    }

    #[test]
    fn what_happens_once_is_told_by_a_webhook_of_any_time() {
        let mut once = idled(100);
        once.change.which = None;
        assert_eq!(told(&[once], &[webhook("late", 4000)], &[]), [Some("late".to_owned())]);
    }
}
