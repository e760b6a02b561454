//! The evidence that everything arrived: compares the database with what the API says.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

use super::customer::Batch;
use crate::columns::grouped;

/// The row that the event of the webhook has in the outbox.
pub(super) struct Event {
    pub(super) status: String,
    pub(super) received_at: DateTime<Utc>,
    pub(super) finished_at: Option<DateTime<Utc>>,
    pub(super) lease_owner: Option<String>,
    pub(super) last_error: Option<String>,
}

/// What is stored of a batch.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) status: Option<String>,
    /// The counts that the API gave the worker, by outcome, and `processing`.
    pub(super) counted: BTreeMap<String, i64>,
    pub(super) results_stored: i64,
    pub(super) bytes_stored: i64,
    pub(super) download_started_at: Option<DateTime<Utc>>,
    pub(super) complete_at: Option<DateTime<Utc>>,
    /// The results themselves, counted by outcome.
    pub(super) by_outcome: BTreeMap<String, i64>,
    pub(super) input_tokens: i64,
    pub(super) output_tokens: i64,
    pub(super) custom_ids: HashSet<String>,
    /// How far its submission is.
    pub(super) submission: Option<String>,
    /// The requests whose status is the outcome of their result.
    pub(super) answered: i64,
}

/// Reads the event with this id.
///
/// # Errors
/// If the query fails.
pub(super) async fn event(connection: &mut PgConnection, event_id: &str) -> sqlx::Result<Option<Event>> {
    let row = sqlx::query(
        "select status, received_at, nullif(finished_at, 'infinity') as finished_at, lease_owner, last_error
           from restante.outbox where event_id = $1",
    )
    .bind(event_id)
    .fetch_optional(connection)
    .await?;
    let event = |row: sqlx::postgres::PgRow| {
        Ok(Event {
            status: row.try_get("status")?,
            received_at: row.try_get("received_at")?,
            finished_at: row.try_get("finished_at")?,
            lease_owner: row.try_get("lease_owner")?,
            last_error: row.try_get("last_error")?,
        })
    };
    row.map(event).transpose()
}

/// Reads what is stored of the batch with this id; empty if nothing is.
///
/// # Errors
/// If a query fails.
pub(super) async fn stored(connection: &mut PgConnection, batch_id: &str) -> sqlx::Result<Stored> {
    let mut stored = Stored::default();
    let row = sqlx::query("select * from restante.batch where id = $1").bind(batch_id);
    if let Some(row) = row.fetch_optional(&mut *connection).await? {
        stored.status = row.try_get("status")?;
        for name in ["processing", "succeeded", "errored", "canceled", "expired"] {
            stored.counted.insert(name.to_owned(), row.try_get(name)?);
        }
        stored.results_stored = row.try_get("results_stored")?;
        stored.bytes_stored = row.try_get("bytes_stored")?;
        stored.download_started_at = row.try_get("download_started_at")?;
        stored.complete_at = row.try_get("complete_at")?;
    }
    let outcomes = sqlx::query_as::<_, (String, i64, i64, i64)>(
        "select outcome, count(*), coalesce(sum(input_tokens), 0)::bigint, coalesce(sum(output_tokens), 0)::bigint
           from restante.batch_result where batch_id = $1 group by outcome",
    );
    for (outcome, count, input, output) in outcomes.bind(batch_id).fetch_all(&mut *connection).await? {
        stored.by_outcome.insert(outcome, count);
        stored.input_tokens += input;
        stored.output_tokens += output;
    }
    let custom_ids = sqlx::query_scalar("select custom_id from restante.batch_result where batch_id = $1");
    stored.custom_ids = custom_ids.bind(batch_id).fetch_all(&mut *connection).await?.into_iter().collect();
    let submission = sqlx::query_as(
        "select s.status::text,
                (select count(*) from restante.batch_request as r
                   join restante.batch_result as a on a.batch_id = r.batch_id and a.custom_id = r.custom_id
                  where r.part = p.id and r.batch_id = p.batch_id and r.status = a.outcome)
           from restante.submission_part as p join restante.submission as s on s.name = p.submission
          where p.batch_id = $1",
    );
    if let Some((status, answered)) = submission.bind(batch_id).fetch_optional(connection).await? {
        (stored.submission, stored.answered) = (Some(status), answered);
    }
    Ok(stored)
}

/// Returns each discrepancy as a sentence; none if everything that was posted has arrived.
pub(super) fn discrepancies(
    posted: &HashSet<String>,
    said: &Batch,
    event: &Event,
    stored: &Stored,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut expect = |holds: bool, otherwise: String| {
        if !holds {
            found.push(otherwise);
        }
    };
    let total = i64::try_from(posted.len()).unwrap_or(i64::MAX);
    let said_counts = without_zeros(&said.request_counts);
    expect(event.status == "done", format!("the event is {}", event.status));
    expect(said.processing_status == "ended", format!("the API calls the batch {}", said.processing_status));
    expect(
        said_counts.values().sum::<i64>() == total,
        format!("the API counts {said_counts:?} for {} requests", grouped(total)),
    );
    expect(stored.status.as_deref() == Some("ended"), format!("the batch is stored as {:?}", stored.status));
    expect(stored.complete_at.is_some(), "the batch is not marked as complete".to_owned());
    expect(
        without_zeros(&stored.counted) == said_counts,
        format!("the API counts {said_counts:?}, the row of the batch says {:?}", stored.counted),
    );
    expect(
        without_zeros(&stored.by_outcome) == said_counts,
        format!("the API counts {said_counts:?}, the results themselves are {:?}", stored.by_outcome),
    );
    expect(
        stored.results_stored == total,
        format!("{} results are noted for {} requests", grouped(stored.results_stored), grouped(total)),
    );
    expect(
        stored.submission.as_deref() == Some("complete"),
        format!("the submission is {:?}", stored.submission),
    );
    expect(
        stored.answered == total,
        format!("{} requests have the outcome of their result", grouped(stored.answered)),
    );
    let missing = posted.difference(&stored.custom_ids).count();
    let foreign = stored.custom_ids.difference(posted).count();
    expect(missing == 0, format!("{missing} requests have no result"));
    expect(foreign == 0, format!("{foreign} results belong to no request"));
    found
}

fn without_zeros(counts: &BTreeMap<String, i64>) -> BTreeMap<String, i64> {
    counts.iter().filter(|(_, count)| **count != 0).map(|(name, count)| (name.clone(), *count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(pairs: &[(&str, i64)]) -> BTreeMap<String, i64> {
        pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn arrived() -> (HashSet<String>, Batch, Event, Stored) {
        let posted: HashSet<String> = ["a", "b", "c"].map(str::to_owned).into();
        let said = counts(&[("processing", 0), ("succeeded", 2), ("errored", 1)]);
        let batch = Batch { processing_status: "ended".into(), request_counts: said.clone() };
        let event = Event {
            status: "done".into(),
            received_at: Utc::now(),
            finished_at: Some(Utc::now()),
            lease_owner: None,
            last_error: None,
        };
        let stored = Stored {
            status: Some("ended".into()),
            counted: said,
            results_stored: 3,
            complete_at: Some(Utc::now()),
            by_outcome: counts(&[("succeeded", 2), ("errored", 1)]),
            custom_ids: posted.clone(),
            submission: Some("complete".into()),
            answered: 3,
            ..Stored::default()
        };
        (posted, batch, event, stored)
    }

    #[test]
    fn nothing_is_said_when_everything_arrived() {
        let (posted, batch, event, stored) = arrived();

        assert_eq!(discrepancies(&posted, &batch, &event, &stored), Vec::<String>::new());
    }

    #[test]
    fn whatever_is_not_as_it_should_be_is_found() {
        type Spoil = fn(&mut HashSet<String>, &mut Batch, &mut Event, &mut Stored);
        let spoils: [(Spoil, &str); 11] = [
            (|_, _, event, _| event.status = "dead".into(), "the event is dead"),
            (|_, batch, _, _| batch.processing_status = "in_progress".into(), "the API calls the batch"),
            (|_, _, _, stored| stored.status = None, "is stored as"),
            (|_, _, _, stored| stored.complete_at = None, "not marked as complete"),
            (|_, _, _, stored| stored.counted = counts(&[("succeeded", 3)]), "the row of the batch"),
            (|_, _, _, stored| stored.by_outcome = counts(&[("succeeded", 2)]), "the results themselves"),
            (|_, _, _, stored| stored.results_stored = 2, "2 results are noted"),
            (|_, _, _, stored| stored.submission = Some("submitted".into()), "the submission is"),
            (|_, _, _, stored| stored.answered = 2, "2 requests have the outcome"),
            (|_, _, _, stored| _ = stored.custom_ids.remove("a"), "1 requests have no result"),
            (|_, _, _, stored| _ = stored.custom_ids.insert("z".into()), "1 results belong to no request"),
        ];
        for (spoil, said) in spoils {
            let (mut posted, mut batch, mut event, mut stored) = arrived();
            spoil(&mut posted, &mut batch, &mut event, &mut stored);

            let found = discrepancies(&posted, &batch, &event, &stored);

            assert!(found.len() == 1 && found[0].contains(said), "{said}: {found:?}");
        }
    }

    #[test]
    fn a_request_that_the_api_lost_is_found() {
        let (mut posted, batch, event, stored) = arrived();
        posted.insert("d".to_owned());

        assert!(!discrepancies(&posted, &batch, &event, &stored).is_empty());
    }
}
