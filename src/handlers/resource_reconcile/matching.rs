//! Which changes a webhook tells of. Each webhook tells of one change; one change may have several, where two updates in a row are one.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};

use super::changes::Candidate;
use super::webhooks::Webhook;
use crate::outbox::missed::TOLERANCE;

/// How far apart the times are, if the webhook may tell of this change.
fn distance(candidate: &Candidate, webhook: &Webhook) -> Option<TimeDelta> {
    let Candidate { subject, change, .. } = candidate;
    let distance = (webhook.created_at - change.happened_at).abs();
    let is_near = distance.to_std().is_ok_and(|distance| distance <= TOLERANCE);
    let is_of_it = webhook.event_type == change.event_type && webhook.subject == *subject;
    let is_of_its_time = match (&change.which, change.happened_after) {
        (None, _) => true,
        (Some(_), None) => is_near,
        (Some(_), Some(after)) => {
            webhook.created_at > after && (is_near || webhook.created_at < change.happened_at)
        }
    };
    (is_of_it && is_of_its_time).then_some(distance)
}

/// When the last webhook was made that tells of this change, which one of `told_at` tells of. All that were made before the object was
/// looked at are of what it showed then; one made later may tell of the next change.
pub(super) fn told_until(
    candidate: &Candidate,
    told_at: DateTime<Utc>,
    webhooks: &[Webhook],
    looked_at: DateTime<Utc>,
) -> DateTime<Utc> {
    let of_it = webhooks.iter().filter(|webhook| distance(candidate, webhook).is_some());
    let times = of_it.map(|webhook| webhook.created_at).filter(|created_at| *created_at <= looked_at);
    times.max().max(Some(told_at)).unwrap_or(told_at)
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
            happened_after: None,
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
    fn what_has_no_time_of_its_own_is_told_by_a_webhook_from_between_the_two_states() {
        let mut updated = idled(1000);
        updated.change.happened_after = Some(time(100));
        let of = |seconds| told(&[updated.clone()], &[webhook("whe", seconds)], &[]) != [None];

        assert_eq!([100, 101, 500, 1030, 1031].map(of), [false, true, true, true, false]);
    }

    #[test]
    fn a_change_has_all_webhooks_that_were_made_before_its_object_was_looked_at() {
        let mut updated = idled(1000);
        updated.change.happened_after = Some(time(100));
        let webhooks = [webhook("first", 990), webhook("second", 1001), webhook("of the next", 1010)];

        assert_eq!(told_until(&updated, time(990), &webhooks, time(1005)), time(1001));
        assert_eq!(told_until(&updated, time(1001), &webhooks, time(995)), time(1001), "the clocks differ");
    }

    #[test]
    fn what_happens_once_is_told_by_a_webhook_of_any_time() {
        let mut once = idled(100);
        once.change.which = None;
        assert_eq!(told(&[once], &[webhook("late", 4000)], &[]), [Some("late".to_owned())]);
    }
}
