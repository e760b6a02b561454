//! The doctor compares clocks: signatures of deliveries are judged by that of this machine, leases by that of the database.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::header::DATE;
use reqwest::{Client, redirect};
use restante::api;

use super::check::{Check, Database, Needs};
use super::finding::Finding;

pub(super) const CHECKS: &[Check] =
    &[Check { subject: "clock", needs: Needs::Server, ask: |database| Box::pin(of_database(database)) }];

/// How many seconds the clocks of this machine and the database may differ. Signatures tolerate 300 s, logs less.
const SKEW_SECONDS_MAX: i64 = 5;

/// The same for the API, whose answers carry whole seconds and may come from a cache in between.
const API_SKEW_SECONDS_MAX: i64 = 15;

/// How long the API may take to answer.
const PATIENCE: Duration = Duration::from_secs(8);

async fn of_database(database: &mut Database) -> sqlx::Result<Vec<Finding>> {
    let question = "select clock_timestamp()";
    // The first execution also prepares the statement, which takes longer on the way there than on the way back.
    sqlx::query_scalar::<_, DateTime<Utc>>(question).fetch_one(&mut database.connection).await?;
    let asked = Utc::now();
    let theirs: DateTime<Utc> = sqlx::query_scalar(question).fetch_one(&mut database.connection).await?;
    let ours = asked + (Utc::now() - asked) / 2;
    Ok(vec![judge("the database's clock", theirs - ours, SKEW_SECONDS_MAX)])
}

/// Compares this machine's clock with the date of an answer of the API. `None` if there is no such answer: another check says why.
pub(super) async fn of_api(settings: &api::Settings) -> Option<Finding> {
    let client = Client::builder().redirect(redirect::Policy::none()).timeout(PATIENCE).no_proxy();
    let client = match &settings.proxy {
        Some(proxy) => client.proxy(reqwest::Proxy::all(proxy.clone()).ok()?),
        None => client,
    };
    // Without the key: the date of any answer will do.
    let asked = Utc::now();
    let answer = client.build().ok()?.head(settings.base_url.clone()).send().await.ok()?;
    let ours = asked + (Utc::now() - asked) / 2;
    let theirs = DateTime::parse_from_rfc2822(answer.headers().get(DATE)?.to_str().ok()?).ok()?;
    Some(judge("the API's clock", theirs.to_utc() - ours, API_SKEW_SECONDS_MAX))
}

fn judge(whose: &str, ahead: TimeDelta, seconds_max: i64) -> Finding {
    let seconds = ahead.num_milliseconds() as f64 / 1e3;
    let says = format!("{whose} and this machine's differ by {:.3} s", seconds.abs());
    if ahead.num_seconds().abs() < seconds_max {
        return Finding::fine("clock", says);
    }
    let why = "a signed delivery is refused if its time is more than 300 s from that of ingest's machine";
    Finding::wrong(
        "clock",
        says,
        why,
        "run NTP (chrony, systemd-timesyncd) on both machines: chronyc tracking",
    )
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn clocks_may_differ_by_a_little_either_way() {
        for (milliseconds, verdict) in [
            (0, Verdict::Fine),
            (4_999, Verdict::Fine),
            (-4_999, Verdict::Fine),
            (5_000, Verdict::Wrong),
            (-90_000, Verdict::Wrong),
        ] {
            let judged = judge("its clock", TimeDelta::milliseconds(milliseconds), SKEW_SECONDS_MAX);
            assert_eq!(judged.verdict, verdict, "{milliseconds}");
        }
    }
}
