//! The picture: a snapshot as text for people, or as JSON for programs. Pure: the same snapshot gives the same text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::SecondsFormat;
use restante::event::ANTHROPIC;
use restante::internals::outbox::status::{STATES, UNFINISHED};
use serde_json::{Value, json};

use super::figures::{bar, bytes, clean, lasting, percent, rounded};
use super::history;
use super::snapshot::{Batch, Events, OldTransaction, Reason, Snapshot, Submission};
use crate::columns::grouped;

/// The first of the states have a line also while there are no such events: those are the statuses.
const ALWAYS_SHOWN: usize = UNFINISHED.len();

const READ_ONLY: &str = "the database takes no writes, because this server is a standby: nothing is received, claimed or finished here\n";

/// How much of a reason is shown.
const REASON_CHARS_MAX: usize = 140;

/// How many types are named beside a status. Each type that dies has a reason of its own, so more of them are.
fn types_named(status: &str) -> usize {
    if status == "dead" { 8 } else { 3 }
}

/// One object on a line: the snapshot, and `statuses`, which sums up its events.
pub(super) fn json(snapshot: &Snapshot) -> String {
    let statuses: BTreeMap<_, _> = STATES
        .iter()
        .map(|status| {
            let (events, longest_wait_seconds) = total(snapshot, status);
            (status, json!({ "events": events, "longest_wait_seconds": longest_wait_seconds }))
        })
        .collect();
    let mut object = json!(snapshot);
    if let Value::Object(fields) = &mut object {
        fields.insert("statuses".to_owned(), json!(statuses));
    }
    format!("{object}\n")
}

/// Lines for a terminal of some hundred columns.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let looked_at = snapshot.looked_at.to_rfc3339_opts(SecondsFormat::Secs, true);
    let pace =
        snapshot.finished_per_second.map(|pace| format!("   {} events finished per second", rounded(pace)));
    let read_only = if snapshot.takes_writes { "" } else { READ_ONLY };
    let head = format!(
        "{looked_at}{}\n{read_only}{}{}{}",
        pace.unwrap_or_default(),
        health(snapshot),
        services(snapshot),
        calls(snapshot)
    );
    [
        head,
        events(snapshot),
        subscribers(snapshot),
        submissions(snapshot),
        batches(snapshot),
        remarks(snapshot),
    ]
    .into_iter()
    .filter(|part| !part.is_empty())
    .collect::<Vec<_>>()
    .join("\n")
}

/// The last picture, below a line that says why there is no newer one.
pub(super) fn text_while_away(problem: &str, last: &Snapshot) -> String {
    format!("NO ANSWER, TRYING AGAIN: {}\nthe last picture:\n\n{}", clean(problem), text(last))
}

/// What a person should know before all else, a line each.
fn health(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for concern in &snapshot.health {
        let verb = if concern.state == "act" { "ACT on" } else { "look at" };
        let _ = writeln!(text, "{verb} {}: {}", clean(&concern.question), clean(&concern.sentence));
    }
    if !text.is_empty() {
        text += "the next step of each: select question, next_step, since from restante.health where state <> 'ok'\n\n";
    }
    text
}

fn services(snapshot: &Snapshot) -> String {
    let service = |name: &str, connections: i64| match connections {
        0 => format!("NO {name} is connected"),
        1 => format!("{name} is connected (1 connection)"),
        many => format!("{name} is connected ({many} connections)"),
    };
    let said: Vec<_> = snapshot.services.iter().map(|s| service(&s.name, s.connections)).collect();
    if said.is_empty() {
        return String::new();
    }
    let webhook = match snapshot.last_webhook_seconds_ago {
        Some(seconds) => format!("the last webhook came {} ago", lasting(seconds)),
        None => "no webhook is among the last 1,000 events".to_owned(),
    };
    let unexplained = snapshot
        .unexplained_change_seconds
        .map(|seconds| format!("what no webhook told was last looked for {} ago\n", lasting(seconds)));
    format!("{}\n{webhook}\n{}", said.join(", "), unexplained.unwrap_or_default())
}

/// A line for each class of call of which a limit is known, or which was limited.
fn calls(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for calls in &snapshot.calls {
        let account =
            if calls.account == ANTHROPIC { String::new() } else { format!(" of {}", clean(&calls.account)) };
        let per_second = |calls: Option<f64>| {
            calls.map_or_else(|| "unknown".to_owned(), |calls| format!("{}/s", rounded(calls)))
        };
        let _ = writeln!(
            text,
            "calls to the API, {}{account}: limit {}, pace {}, {} in the last minute, {} times limited; {}",
            clean(&calls.class),
            per_second(calls.limit_per_second),
            per_second(calls.pace_per_second),
            grouped(calls.used_last_minute),
            grouped(calls.times_limited),
            clean(&calls.stands)
        );
    }
    if snapshot.calls_not_listed > 0 {
        let _ =
            writeln!(text, "and {} more: see restante.governor_overview", grouped(snapshot.calls_not_listed));
    }
    text
}

fn events(snapshot: &Snapshot) -> String {
    let mut rows = vec![["status", "events", "oldest", "what"].map(str::to_owned).to_vec()];
    for (place, status) in STATES.into_iter().enumerate() {
        let (events, longest_wait) = total(snapshot, status);
        if events == 0 && place >= ALWAYS_SHOWN {
            continue;
        }
        rows.push(vec![
            status.to_owned(),
            at_least(snapshot, events),
            longest_wait.map(lasting).unwrap_or_default(),
            types(snapshot, status),
        ]);
    }
    aligned(&rows, &[1, 2])
}

/// How many events have a status, and how long the first of them has been waiting, in seconds.
fn total(snapshot: &Snapshot, status: &str) -> (i64, Option<f64>) {
    let of_status = || snapshot.events.iter().filter(|events| events.status == status);
    let longest_wait = of_status().map(|events| events.longest_wait_seconds).reduce(f64::max);
    (of_status().map(|events| events.events).sum(), longest_wait)
}

/// A count, marked where counting was cut short and it may be one that was cut.
fn at_least(snapshot: &Snapshot, count: i64) -> String {
    let is_cut = snapshot.counted_up_to.is_some() && count > 0;
    format!("{}{}", if is_cut { ">=" } else { "" }, grouped(count))
}

fn types(snapshot: &Snapshot, status: &str) -> String {
    let of_status: Vec<&Events> = snapshot.events.iter().filter(|events| events.status == status).collect();
    let mut named: Vec<String> =
        of_status.iter().take(types_named(status)).map(|events| kind(events)).collect();
    match of_status.len().saturating_sub(named.len()) {
        0 => {}
        1 => named.push("and one more type".to_owned()),
        more => named.push(format!("and {more} more types")),
    }
    let mut text = named.join(", ");
    let run_out: i64 = of_status.iter().map(|events| events.leases_run_out).sum();
    if run_out > 0 {
        let _ = write!(text, " ({} with a lease that ran out)", grouped(run_out));
    }
    text
}

fn kind(events: &Events) -> String {
    let subscriber = match events.subscriber.as_str() {
        "" => String::new(),
        subscriber => format!(" for {}", clean(subscriber)),
    };
    let sender = match events.sender.as_str() {
        ANTHROPIC => String::new(),
        sender => format!(" of {}", clean(sender)),
    };
    format!("{} {}{sender}{subscriber}", grouped(events.events), clean(&events.event_type))
}

fn subscribers(snapshot: &Snapshot) -> String {
    let mut rows = vec![["subscriber", "events", "oldest", "types"].map(str::to_owned).to_vec()];
    for subscriber in &snapshot.subscribers {
        let own = || snapshot.events.iter().filter(|events| events.subscriber == subscriber.subscriber);
        let oldest = own().map(|events| events.longest_wait_seconds).reduce(f64::max);
        rows.push(vec![
            clean(&subscriber.subscriber),
            at_least(snapshot, own().map(|events| events.events).sum()),
            oldest.map(lasting).unwrap_or_default(),
            clean(&subscriber.types.join(", ")),
        ]);
    }
    if rows.len() == 1 { String::new() } else { aligned(&rows, &[1, 2]) }
}

fn submissions(snapshot: &Snapshot) -> String {
    let mut rows = vec![["submission", "requests", "age", "state"].map(str::to_owned).to_vec()];
    rows.extend(snapshot.submissions.iter().map(submission));
    if rows.len() == 1 {
        return String::new();
    }
    let mut text = aligned(&rows, &[1, 2]);
    if snapshot.submissions_not_listed > 0 {
        let _ = writeln!(text, "and {} more that are not complete", grouped(snapshot.submissions_not_listed));
    }
    text
}

/// The line of one submission. Until a batch has ended, the API does not say how much of it is done.
fn submission(submission: &Submission) -> Vec<String> {
    let mut state = submission.state.clone();
    if submission.parts > 1 {
        let _ = write!(state, " ({} parts)", grouped(submission.parts));
    }
    match (submission.likely_end_in_seconds, submission.expires_in_seconds) {
        (Some(seconds), _) => state += &format!(", likely for {} more", lasting(seconds)),
        (None, Some(seconds)) if seconds > 0.0 => {
            state += &format!(", for {} at most", lasting(seconds));
        }
        _ => {}
    }
    if let Some(reason) = &submission.reason {
        state += &format!(": {}", shortened(reason));
    }
    let tag = submission.tag.as_ref().map_or_else(String::new, |tag| format!(" [{}]", clean(tag)));
    vec![
        format!("{}{tag}", clean(&submission.submission)),
        grouped(submission.requests),
        lasting(submission.age_seconds),
        state,
    ]
}

fn batches(snapshot: &Snapshot) -> String {
    let mut text = aligned(&snapshot.batches.iter().map(progress).collect::<Vec<_>>(), &[2, 3, 4, 5, 6]);
    if snapshot.batches_not_listed > 0 {
        let _ = writeln!(text, "and {} more batches that have ended", grouped(snapshot.batches_not_listed));
    }
    if snapshot.batches_under_way > 0 {
        let (batches, requests) = (snapshot.batches_under_way, snapshot.requests_under_way);
        let noun = if batches == 1 { "batch" } else { "batches" };
        let _ = writeln!(
            text,
            "{} {noun} under way at the API, with {} requests",
            grouped(batches),
            grouped(requests)
        );
    }
    text
}

/// The line of one batch.
fn progress(batch: &Batch) -> Vec<String> {
    let left = match (batch.progress.as_str(), batch.seconds_left) {
        ("complete", _) => "complete".to_owned(),
        ("ended", _) => "not begun".to_owned(),
        (_, Some(seconds)) => format!("{} left", lasting(seconds)),
        (_, None) => String::new(),
    };
    let vanish = match batch.results_vanish_in_seconds {
        Some(seconds) if seconds < 0.0 => format!("VANISHED {} ago", lasting(-seconds)),
        Some(seconds) if batch.progress != "complete" => format!("vanish in {}", lasting(seconds)),
        _ => String::new(),
    };
    vec![
        clean(&batch.id),
        bar(batch.results_stored, batch.requests),
        percent(batch.results_stored, batch.requests),
        format!("{} of {}", grouped(batch.results_stored), grouped(batch.requests)),
        bytes(batch.bytes_stored),
        batch.results_per_second.map_or_else(String::new, |pace| format!("{} lines/s", rounded(pace))),
        left,
        vanish,
    ]
}

/// What a person should know beside the numbers.
fn remarks(snapshot: &Snapshot) -> String {
    let mut text: String = snapshot.reasons.iter().map(reason).collect();
    if !snapshot.paused_types.is_empty() {
        let _ = writeln!(text, "held by restante.pause: {}", clean(&snapshot.paused_types.join(", ")));
    }
    text += &history::text(&snapshot.history);
    for transaction in &snapshot.old_transactions {
        let _ = writeln!(text, "vacuum is held back by {}", holder(transaction));
    }
    if !snapshot.sees_all_transactions {
        text += "old transactions of other logins cannot be seen: grant pg_read_all_stats to this one\n";
    }
    if let Some(limit) = snapshot.counted_up_to {
        let _ =
            writeln!(text, "the backlog is large: at most {} events of a kind were counted", grouped(limit));
    }
    text
}

/// Why events wait, in a line: the most frequent reason, and when the first of them runs again.
fn reason(reason: &Reason) -> String {
    let (because, wait) = match reason.because.as_str() {
        "trouble" => ("because of us", "wait"),
        "failed" => ("after a failure", "wait for the next attempt"),
        _ => ("too early", "wait"),
    };
    let wait = if reason.events == 1 { wait.replacen("wait", "waits", 1) } else { wait.to_owned() };
    let noun = if reason.events == 1 { "event" } else { "events" };
    let others = match reason.events_in_all - reason.events {
        0 => String::new(),
        others => format!(" (and {} for other reasons)", grouped(others)),
    };
    let next = match reason.next_attempt_in_seconds {
        seconds if seconds > 0.0 => format!("next attempt in {}", lasting(seconds)),
        _ => "next attempt as soon as a worker claims it".to_owned(),
    };
    let text = shortened(&reason.reason);
    format!("{because}: {} {noun} {wait}{others}: {text}; {next}\n", grouped(reason.events))
}

/// As much of a reason as fits.
fn shortened(reason: &str) -> String {
    let text = clean(reason);
    match text.char_indices().nth(REASON_CHARS_MAX) {
        Some((end, _)) => format!("{}...", text[..end].trim_end()),
        None => text,
    }
}

fn holder(transaction: &OldTransaction) -> String {
    let mut text = format!("{} {}", transaction.kind, clean(&transaction.holder));
    if let Some(role) = &transaction.role {
        let _ = write!(text, " of {}", clean(role));
    }
    if let Some(state) = &transaction.state {
        let _ = write!(text, " ({state})");
    }
    if let Some(seconds) = transaction.open_for_seconds {
        let _ = write!(text, ", open for {}", lasting(seconds));
    }
    if let Some(transactions) = transaction.transactions {
        let _ = write!(text, ", {} transactions old", grouped(transactions));
    }
    text
}

/// The rows in columns, those that are named aligned on the right, two blanks between them.
fn aligned(rows: &[Vec<String>], right: &[usize]) -> String {
    let width =
        |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len)).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            match right.contains(&column) {
                true => format!("{cell:>width$}"),
                false => format!("{cell:width$}"),
            }
        });
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests;
