//! The picture and the JSON of snapshots made up for the purpose.

use chrono::{DateTime, Utc};
use expect_test::expect;

use super::*;
use crate::status::calls::Calls;
use crate::status::history::History;
use crate::status::snapshot::{Concern, Reason, Service, Submission, Subscriber};

fn moment() -> DateTime<Utc> {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn batch(id: &str, progress: &str, requests: i64, results_stored: i64) -> Batch {
    Batch {
        id: id.to_owned(),
        progress: progress.to_owned(),
        requests,
        results_stored,
        bytes_stored: results_stored * 800,
        results_deadline: None,
        results_vanish_in_seconds: Some(28.5 * 86_400.0),
        results_per_second: None,
        seconds_left: None,
    }
}

fn events(status: &str, event_type: &str, events: i64, longest_wait_seconds: f64) -> Events {
    Events {
        status: status.to_owned(),
        event_type: event_type.to_owned(),
        subscriber: String::new(),
        sender: ANTHROPIC.to_owned(),
        events,
        longest_wait_seconds,
        leases_run_out: 0,
    }
}

fn reason(because: &str, reason: &str, events: i64, events_in_all: i64, next: f64) -> Reason {
    Reason {
        because: because.to_owned(),
        reason: reason.to_owned(),
        events,
        events_in_all,
        next_attempt_in_seconds: next,
    }
}

fn service(name: &str, connections: i64) -> Service {
    Service { name: name.to_owned(), connections }
}

fn submission(name: &str, state: &str) -> Submission {
    Submission {
        submission: name.to_owned(),
        tag: None,
        state: state.to_owned(),
        reason: None,
        requests: 250_000,
        parts: 1,
        age_seconds: 4_000.0,
        likely_end_in_seconds: None,
        expires_in_seconds: None,
    }
}

fn busy() -> Snapshot {
    Snapshot {
        finished_per_second: Some(812.4),
        events: vec![
            events("pending", "session.status_idled", 1_100, 12.2),
            events("pending", "batch.ended", 104, 3.0),
            Events { sender: "staging".to_owned(), ..events("pending", "file.created", 9, 2.0) },
            events("pending", "file.deleted", 8, 2.0),
            events("pending", "vault.created", 7, 2.0),
            Events { leases_run_out: 1, ..events("running", "batch.ended", 2, 4_000.0) },
            Events { subscriber: "orders".to_owned(), ..events("retry", "batch.ended", 3, 300.0) },
            events("dead", "session.\u{1b}[2Jstatus", 1, 200_000.0),
            events("standing", "batch.reconcile", 1, 900_000.0),
        ],
        reasons: vec![
            reason(
                "trouble",
                "the API does not serve this key or account: 401 authentication_error: invalid x-api-key",
                7,
                9,
                599.0,
            ),
            reason("failed", &format!("line\n{}", "long ".repeat(40)), 1, 1, -3.0),
        ],
        last_webhook_seconds_ago: Some(12.0),
        unexplained_change_seconds: Some(200.0),
        paused_types: vec!["message.*".to_owned()],
        subscribers: vec![Subscriber {
            subscriber: "orders".to_owned(),
            types: vec!["batch.ended".to_owned(), "file.*".to_owned()],
        }],
        services: vec![service("restante-ingest", 1), service("restante-worker", 0)],
        batches: vec![
            Batch {
                results_per_second: Some(12_345.6),
                seconds_left: Some(3.95),
                ..batch("msgbatch_1", "downloading", 100_000, 51_234)
            },
            batch("msgbatch_2", "ended", 1_000, 0),
            batch("msgbatch_3", "complete", 10, 10),
            Batch {
                results_vanish_in_seconds: Some(-7_300.0),
                results_per_second: Some(0.0),
                ..batch("msgbatch_4", "downloading", 200, 199)
            },
        ],
        submissions: vec![
            Submission {
                reason: Some("400\ninvalid".to_owned()),
                ..submission("s\u{1b}1", "refused by the API")
            },
            Submission {
                tag: Some("night".to_owned()),
                parts: 3,
                likely_end_in_seconds: Some(1_500.0),
                expires_in_seconds: Some(80_000.0),
                ..submission("invoices", "the API works on it")
            },
            Submission { expires_in_seconds: Some(80_000.0), ..submission("letters", "the API works on it") },
        ],
        submissions_not_listed: 4,
        batches_not_listed: 2,
        batches_under_way: 1,
        requests_under_way: 5_000,
        history: History {
            weeks: 9,
            bytes: 1_234_000_000,
            next_week: Some("outbox_2026w39".to_owned()),
            next_bytes: Some(200_000_000),
            next_goes_in_seconds: Some(400_000.0),
            ..History::default()
        },
        old_transactions: vec![OldTransaction {
            kind: "session".to_owned(),
            holder: "4711".to_owned(),
            role: Some("alice".to_owned()),
            state: Some("idle in transaction".to_owned()),
            open_for_seconds: Some(8_000.0),
            transactions: Some(120_000),
        }],
        ..Snapshot::empty(moment())
    }
}

#[test]
fn calls_of_the_api_have_a_line_for_each_class() {
    let calls = |account: &str, class: &str, limit_per_second| Calls {
        account: account.to_owned(),
        class: class.to_owned(),
        limit_per_second,
        pace_per_second: limit_per_second.map(|limit: f64| limit * 0.97),
        used_last_minute: 5_790,
        times_limited: 1,
        stands: "at its limit's pace".to_owned(),
    };
    let snapshot = Snapshot {
        calls: vec![calls(ANTHROPIC, "messages", Some(100.0)), calls("staging", "objects", None)],
        calls_not_listed: 3,
        ..Snapshot::empty(moment())
    };
    expect![[r#"
        2026-11-22T12:00:00Z
        calls to the API, messages: limit 100/s, pace 97/s, 5,790 in the last minute, 1 times limited; at its limit's pace
        calls to the API, objects of staging: limit unknown, pace unknown, 5,790 in the last minute, 1 times limited; at its limit's pace
        and 3 more: see restante.governor_overview
    "#]]
    .assert_eq(text(&snapshot).split("\nstatus").next().unwrap());
}

#[test]
fn a_busy_database_is_shown_on_one_screen() {
    expect![[r#"
        2026-11-22T12:00:00Z   812 events finished per second
        restante-ingest is connected (1 connection), NO restante-worker is connected
        the last webhook came 12 s ago
        what no webhook told was last looked for 3 min ago

        status    events  oldest  what
        pending    1,228    12 s  1,100 session.status_idled, 104 batch.ended, 9 file.created of staging, and 2 more types
        running        2  66 min  2 batch.ended (1 with a lease that ran out)
        retry          3   5 min  3 batch.ended for orders
        blocked        0
        paused         0
        dead           1     2 d  1 session.�[2Jstatus
        standing       1    10 d  1 batch.reconcile

        subscriber  events  oldest  types
        orders           3   5 min  batch.ended, file.*

        submission        requests     age  state
        s�1                250,000  66 min  refused by the API: 400�invalid
        invoices [night]   250,000  66 min  the API works on it (3 parts), likely for 25 min more
        letters            250,000  66 min  the API works on it, for 22 h at most
        and 4 more that are not complete

        msgbatch_1  [##########----------]   51 %  51,234 of 100,000  41.0 MB  12,346 lines/s   4 s left  vanish in 28 d
        msgbatch_2  [--------------------]    0 %         0 of 1,000     0 kB                  not begun  vanish in 28 d
        msgbatch_3  [####################]  100 %           10 of 10     8 kB                   complete
        msgbatch_4  [###################-]   99 %         199 of 200   159 kB       0 lines/s             VANISHED 2 h ago
        and 2 more batches that have ended
        1 batch under way at the API, with 5,000 requests

        because of us: 7 events wait (and 2 for other reasons): the API does not serve this key or account: 401 authentication_error: invalid x-api-key; next attempt in 9 min
        after a failure: 1 event waits for the next attempt: line�long long long long long long long long long long long long long long long long long long long long long long long long long long long...; next attempt as soon as a worker claims it
        held by restante.pause: message.*
        history: 9 weeks with 1.2 GB; outbox_2026w39 (200.0 MB) goes in 4 d
        vacuum is held back by session 4711 of alice (idle in transaction), open for 2 h, 120,000 transactions old
    "#]].assert_eq(&text(&busy()));
}

#[test]
fn where_nothing_waits_the_picture_says_so_in_few_lines() {
    expect![[r#"
        2026-11-22T12:00:00Z

        status   events  oldest  what
        pending       0
        running       0
        retry         0
        blocked       0
        paused        0
        dead          0
    "#]]
    .assert_eq(&text(&Snapshot::empty(moment())));
}

#[test]
fn counts_that_were_cut_short_say_at_least() {
    let snapshot = Snapshot {
        events: vec![events("pending", "a", 100_000, 1.0)],
        counted_up_to: Some(100_000),
        sees_all_transactions: false,
        ..Snapshot::empty(moment())
    };

    expect![[r#"
        2026-11-22T12:00:00Z

        status      events  oldest  what
        pending  >=100,000     1 s  100,000 a
        running          0
        retry            0
        blocked          0
        paused           0
        dead             0

        old transactions of other logins cannot be seen: grant pg_read_all_stats to this one
        the backlog is large: at most 100,000 events of a kind were counted
    "#]]
    .assert_eq(&text(&snapshot));
}

#[test]
fn what_a_person_should_act_on_comes_first() {
    let concern = |question: &str, state: &str, sentence: &str| Concern {
        question: question.to_owned(),
        state: state.to_owned(),
        sentence: sentence.to_owned(),
        next_step: None,
        since: None,
    };
    let health = vec![
        concern(
            "silence",
            "act",
            "The sender a\u{1b}b has sent nothing for 4 h; it usually sends within 20 min.",
        ),
        concern("horizon", "look", "Vacuum is held back by the session 4711, open for 8 min."),
    ];
    let said = text(&Snapshot {
        health,
        services: vec![service("restante-worker", 1)],
        ..Snapshot::empty(moment())
    });

    let top: Vec<_> = said.lines().skip(1).take(5).collect();
    assert_eq!(
        top,
        [
            "ACT on silence: The sender a\u{fffd}b has sent nothing for 4 h; it usually sends within 20 min.",
            "look at horizon: Vacuum is held back by the session 4711, open for 8 min.",
            "the next step of each: select question, next_step, since from restante.health where state <> 'ok'",
            "",
            "restante-worker is connected (1 connection)",
        ]
    );
}

#[test]
fn a_database_that_takes_no_writes_is_told_of_at_the_top() {
    let snapshot = Snapshot { takes_writes: false, ..Snapshot::empty(moment()) };

    let said = text(&snapshot);

    let line = "the database takes no writes, because this server is a standby";
    assert!(said.lines().nth(1).is_some_and(|second| second.starts_with(line)), "{said}");
}

#[test]
fn while_the_database_is_away_the_last_picture_stays_below_a_line_that_says_so() {
    let text = text_while_away("connection refused", &busy());

    assert!(text.starts_with("NO ANSWER, TRYING AGAIN: connection refused\n"), "{text}");
    assert!(text.ends_with(&super::text(&busy())));
}

#[test]
fn json_has_the_snapshot_and_its_sums_on_one_line() {
    let snapshot = Snapshot { batches: busy().batches[..1].to_vec(), ..busy() };
    let line = json(&snapshot);

    assert_eq!(line.lines().count(), 1);
    let object: Value = serde_json::from_str(&line).unwrap();
    expect![[r#"
        {
          "batches": [
            {
              "bytes_stored": 40987200,
              "id": "msgbatch_1",
              "progress": "downloading",
              "requests": 100000,
              "results_deadline": null,
              "results_per_second": 12345.6,
              "results_stored": 51234,
              "results_vanish_in_seconds": 2462400.0,
              "seconds_left": 3.95
            }
          ],
          "batches_not_listed": 2,
          "batches_under_way": 1,
          "calls": [],
          "calls_not_listed": 0,
          "counted_up_to": null,
          "events": [
            {
              "events": 1100,
              "leases_run_out": 0,
              "longest_wait_seconds": 12.2,
              "sender": "anthropic",
              "status": "pending",
              "subscriber": "",
              "type": "session.status_idled"
            },
            {
              "events": 104,
              "leases_run_out": 0,
              "longest_wait_seconds": 3.0,
              "sender": "anthropic",
              "status": "pending",
              "subscriber": "",
              "type": "batch.ended"
            },
            {
              "events": 9,
              "leases_run_out": 0,
              "longest_wait_seconds": 2.0,
              "sender": "staging",
              "status": "pending",
              "subscriber": "",
              "type": "file.created"
            },
            {
              "events": 8,
              "leases_run_out": 0,
              "longest_wait_seconds": 2.0,
              "sender": "anthropic",
              "status": "pending",
              "subscriber": "",
              "type": "file.deleted"
            },
            {
              "events": 7,
              "leases_run_out": 0,
              "longest_wait_seconds": 2.0,
              "sender": "anthropic",
              "status": "pending",
              "subscriber": "",
              "type": "vault.created"
            },
            {
              "events": 2,
              "leases_run_out": 1,
              "longest_wait_seconds": 4000.0,
              "sender": "anthropic",
              "status": "running",
              "subscriber": "",
              "type": "batch.ended"
            },
            {
              "events": 3,
              "leases_run_out": 0,
              "longest_wait_seconds": 300.0,
              "sender": "anthropic",
              "status": "retry",
              "subscriber": "orders",
              "type": "batch.ended"
            },
            {
              "events": 1,
              "leases_run_out": 0,
              "longest_wait_seconds": 200000.0,
              "sender": "anthropic",
              "status": "dead",
              "subscriber": "",
              "type": "session.\u001b[2Jstatus"
            },
            {
              "events": 1,
              "leases_run_out": 0,
              "longest_wait_seconds": 900000.0,
              "sender": "anthropic",
              "status": "standing",
              "subscriber": "",
              "type": "batch.reconcile"
            }
          ],
          "finished_per_second": 812.4,
          "health": [],
          "history": {
            "bytes": 1234000000,
            "next_bytes": 200000000,
            "next_goes_in_seconds": 400000.0,
            "next_week": "outbox_2026w39",
            "overdue": 0,
            "pending_seconds": null,
            "weeks": 9
          },
          "last_webhook_seconds_ago": 12.0,
          "looked_at": "2026-11-22T12:00:00Z",
          "old_transactions": [
            {
              "holder": "4711",
              "kind": "session",
              "open_for_seconds": 8000.0,
              "role": "alice",
              "state": "idle in transaction",
              "transactions": 120000
            }
          ],
          "paused_types": [
            "message.*"
          ],
          "reasons": [
            {
              "because": "trouble",
              "events": 7,
              "events_in_all": 9,
              "next_attempt_in_seconds": 599.0,
              "reason": "the API does not serve this key or account: 401 authentication_error: invalid x-api-key"
            },
            {
              "because": "failed",
              "events": 1,
              "events_in_all": 1,
              "next_attempt_in_seconds": -3.0,
              "reason": "line\nlong long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long long "
            }
          ],
          "requests_under_way": 5000,
          "sees_all_transactions": true,
          "services": [
            {
              "connections": 1,
              "name": "restante-ingest"
            },
            {
              "connections": 0,
              "name": "restante-worker"
            }
          ],
          "statuses": {
            "blocked": {
              "events": 0,
              "longest_wait_seconds": null
            },
            "dead": {
              "events": 1,
              "longest_wait_seconds": 200000.0
            },
            "paused": {
              "events": 0,
              "longest_wait_seconds": null
            },
            "pending": {
              "events": 1228,
              "longest_wait_seconds": 12.2
            },
            "retry": {
              "events": 3,
              "longest_wait_seconds": 300.0
            },
            "running": {
              "events": 2,
              "longest_wait_seconds": 4000.0
            },
            "scheduled": {
              "events": 0,
              "longest_wait_seconds": null
            },
            "standing": {
              "events": 1,
              "longest_wait_seconds": 900000.0
            }
          },
          "submissions": [
            {
              "age_seconds": 4000.0,
              "expires_in_seconds": null,
              "likely_end_in_seconds": null,
              "parts": 1,
              "reason": "400\ninvalid",
              "requests": 250000,
              "state": "refused by the API",
              "submission": "s\u001b1",
              "tag": null
            },
            {
              "age_seconds": 4000.0,
              "expires_in_seconds": 80000.0,
              "likely_end_in_seconds": 1500.0,
              "parts": 3,
              "reason": null,
              "requests": 250000,
              "state": "the API works on it",
              "submission": "invoices",
              "tag": "night"
            },
            {
              "age_seconds": 4000.0,
              "expires_in_seconds": 80000.0,
              "likely_end_in_seconds": null,
              "parts": 1,
              "reason": null,
              "requests": 250000,
              "state": "the API works on it",
              "submission": "letters",
              "tag": null
            }
          ],
          "submissions_not_listed": 4,
          "subscribers": [
            {
              "subscriber": "orders",
              "types": [
                "batch.ended",
                "file.*"
              ]
            }
          ],
          "takes_writes": true,
          "unexplained_change_seconds": 200.0
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&object).unwrap());
}
