//! The first scene: an application submits a batch, and a webhook says when its results are there.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};

use super::customer::{Batch, Delivery};
use super::evidence::{self, Event, Stored};
use super::story::Story;
use super::world::{BATCH_SECONDS, World};
use super::{LOOK_EVERY, PATIENCE, submission};
use crate::columns::{aligned, grouped, indented};

/// How long the results may take to be stored.
const RESULTS_PATIENCE: Duration = Duration::from_secs(300);

/// Plays the scene.
///
/// # Errors
/// If not every request has its one result, or the API and the database disagree.
pub(super) async fn play(requests: u32, world: &mut World, story: &mut Story) -> anyhow::Result<()> {
    story.title("A batch of requests")?;
    let batch_id = submit(world, requests, story).await?;
    let delivery = await_delivery(world, &batch_id, story).await?;
    let event = await_done(world, &batch_id, &delivery, story).await?;
    let (said, stored) = (world.customer.batch(&batch_id).await?, world.stored(&batch_id).await?);
    tell_times(story, &delivery, &event, &stored)?;

    story.title("Did everything arrive?")?;
    story.say(&compared(&said, &stored))?;
    let custom_ids: HashSet<String> = (1..=requests).map(submission::custom_id).collect();
    let discrepancies = evidence::discrepancies(&custom_ids, &said, &event, &stored);
    if !discrepancies.is_empty() {
        bail!("what arrived is not what was submitted:\n  {}", discrepancies.join("\n  "));
    }
    story.say(
        "The API's counts, the row of the batch and the results agree; every request has its one result.",
    )?;
    story.say(&format!("One SQL statement in, {} answers out.", grouped(requests.into())))?;
    Ok(())
}

/// Submits the batch, and returns its id once the API has it.
async fn submit(world: &mut World, requests: u32, story: &mut Story) -> anyhow::Result<String> {
    story.say(&indented(&submission::statement(requests)))?;
    let submitting = submission::submit(&mut world.application, requests);
    let doing = format!("an application submits {} requests in one statement:", grouped(requests.into()));
    story.during(&doing, submitting, |id| format!("submission {id}")).await?;
    let sending = submission::sent(&mut world.connection);
    story.during("a worker sends them to the API as a batch:", sending, String::clone).await
}

/// Waits until the webhook of the batch's end has been answered with a 2xx.
async fn await_delivery(world: &mut World, batch_id: &str, story: &mut Story) -> anyhow::Result<Delivery> {
    let waiting = async {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tried = world.customer.deliveries().await?;
            let last = tried.last().map(|last| format!("{:?} {:?}", last.status, last.error));
            let taken =
                |delivery: &Delivery| delivery.status.is_some_and(|status| (200..300).contains(&status));
            if let Some(delivery) = tried.into_iter().find(taken) {
                return Ok(delivery);
            }
            world.check()?;
            if Instant::now() >= deadline {
                let last = last.unwrap_or_else(|| "none was sent".to_owned());
                bail!(
                    world
                        .ingest
                        .fault(&format!("accepted no webhook of {batch_id} (the last answer: {last})"))
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    story
        .during(
            &format!("the API works on it (here {BATCH_SECONDS} s, really up to 24 h), then sends a signed webhook:"),
            waiting,
            |delivery| format!("{}, {}", delivery.event_type, delivery.event_id),
        )
        .await
}

/// Waits until the event of the webhook is finished.
async fn await_done(
    world: &mut World,
    batch_id: &str,
    delivery: &Delivery,
    story: &mut Story,
) -> anyhow::Result<Event> {
    let waiting = async {
        let deadline = Instant::now() + RESULTS_PATIENCE;
        loop {
            let event = evidence::event(&mut world.connection, &delivery.event_id).await?;
            let event =
                event.context("ingest answered a webhook with a 2xx, but its event is not in the outbox")?;
            if event.finished_at.is_some() {
                return Ok(event);
            }
            world.check()?;
            if event.status == "dead" || Instant::now() >= deadline {
                let stored = world.stored(batch_id).await?.results_stored;
                let (status, error) = (&event.status, event.last_error.as_deref().unwrap_or("no error"));
                bail!(
                    world
                        .worker
                        .fault(&format!("got no further than {stored} results (event {status}: {error})"))
                );
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    story
        .during("a worker claims the event and stores the results:", waiting, |event| event.status.clone())
        .await
}

/// Prints what happened after the webhook was sent, and when. All times are from this machine's clock.
fn tell_times(story: &mut Story, delivery: &Delivery, event: &Event, stored: &Stored) -> anyhow::Result<()> {
    let after = |at: DateTime<Utc>| (at - delivery.at).num_microseconds().unwrap_or(i64::MAX) as f64 / 1e3;
    let mut line = |milliseconds: f64, what: String| story.say(&format!("{milliseconds:>14.1} ms  {what}"));
    line(0.0, "the webhook is sent".to_owned())?;
    line(after(event.received_at), "ingest has verified its signature, and stores the event".to_owned())?;
    let status = delivery.status.map(|status| status.to_string()).unwrap_or_default();
    line(delivery.milliseconds, format!("the event is committed, and ingest answers {status}"))?;
    if let Some(at) = stored.download_started_at {
        let worker = event.lease_owner.as_deref().unwrap_or("a worker");
        line(after(at), format!("{worker} has claimed the event; the download begins"))?;
    }
    if let Some(at) = stored.complete_at {
        let (results, bytes) = (grouped(stored.results_stored), grouped(stored.bytes_stored));
        line(after(at), format!("{results} results are stored ({bytes} bytes), counted and complete"))?;
    }
    if let Some(at) = event.finished_at {
        line(after(at), format!("the event is {}", event.status))?;
    }
    Ok(())
}

/// A table of the API's counts and those of the stored results, and the tokens.
fn compared(said: &Batch, stored: &Stored) -> String {
    let mut outcomes: Vec<&String> = said.request_counts.keys().chain(stored.by_outcome.keys()).collect();
    outcomes.sort();
    outcomes.dedup();
    let count = |count: Option<&i64>| grouped(*count.unwrap_or(&0));
    let rows: Vec<_> = outcomes
        .into_iter()
        .map(|name| {
            vec![name.clone(), count(said.request_counts.get(name)), count(stored.by_outcome.get(name))]
        })
        .collect();
    let names = ["outcome", "the API says", "in the database"].map(str::to_owned);
    let (input, output) = (grouped(stored.input_tokens), grouped(stored.output_tokens));
    format!("{}\n\nTokens: {input} in, {output} out.", indented(&aligned(&names, &rows)))
}
