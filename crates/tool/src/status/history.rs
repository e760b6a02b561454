//! How much history there is, and when the next week of it goes.

use std::fmt::Write as _;

use serde::Serialize;
use sqlx::{FromRow, PgConnection};

use super::figures::{bytes, clean, lasting};

/// The weeks of the history, as `restante.retention_overview` has them.
#[derive(Clone, Debug, Default, FromRow, Serialize)]
pub(super) struct History {
    /// How many there are, this week included.
    pub(super) weeks: i64,
    pub(super) bytes: i64,
    /// The week that goes next; null where no week goes as a whole.
    pub(super) next_week: Option<String>,
    pub(super) next_bytes: Option<i64>,
    /// Negative where it should have gone.
    pub(super) next_goes_in_seconds: Option<f64>,
    /// For how long a week has waited for a lock that somebody holds on the outbox.
    pub(super) pending_seconds: Option<f64>,
    /// How many tables and weeks should have been gone through a day ago.
    pub(super) overdue: i64,
}

/// Reads it. Sizes are those of files, so no row is read.
pub(super) async fn look(tx: &mut PgConnection) -> sqlx::Result<History> {
    sqlx::query_as(
        "with k as materialized (select * from restante.retention_overview)
         select w.weeks, w.bytes, n.relation as next_week, n.bytes as next_bytes,
                extract(epoch from n.goes_at - clock_timestamp())::float8 as next_goes_in_seconds,
                w.pending_seconds, w.overdue
           from (select count(*) filter (where k.begins_at is not null) as weeks,
                        coalesce(sum(k.bytes) filter (where k.begins_at is not null), 0)::bigint as bytes,
                        extract(epoch from clock_timestamp() - min(k.pending_since))::float8 as pending_seconds,
                        count(*) filter (where k.is_overdue) as overdue
                   from k) as w
           left join lateral (select * from k where k.goes_at is not null order by k.goes_at limit 1) as n on true",
    )
    .fetch_one(tx)
    .await
}

/// What goes next, and what keeps it from going; nothing where no week goes as a whole.
pub(super) fn text(history: &History) -> String {
    let mut text = String::new();
    if let (Some(week), Some(seconds)) = (&history.next_week, history.next_goes_in_seconds) {
        let noun = if history.weeks == 1 { "week" } else { "weeks" };
        let when = if seconds > 0.0 { format!("in {}", lasting(seconds)) } else { "now".to_owned() };
        let _ = writeln!(
            text,
            "history: {} {noun} with {}; {} ({}) goes {when}",
            history.weeks,
            bytes(history.bytes),
            clean(week),
            bytes(history.next_bytes.unwrap_or_default())
        );
    }
    if let Some(seconds) = history.pending_seconds {
        let _ = writeln!(
            text,
            "a week has waited for {} to be dropped: somebody holds a lock on the outbox",
            lasting(seconds)
        );
    }
    if history.overdue > 0 {
        let _ = writeln!(
            text,
            "RETENTION IS BEHIND with {} tables or weeks: see restante.retention_overview where is_overdue",
            history.overdue
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_next_and_what_it_waits_for_is_said() {
        let kept = History { weeks: 3, bytes: 2_500_000_000, ..History::default() };
        assert_eq!(text(&kept), "");

        let going = History {
            next_week: Some("outbox_2026w40".to_owned()),
            next_bytes: Some(1_000_000_000),
            next_goes_in_seconds: Some(-5.0),
            pending_seconds: Some(300.0),
            overdue: 2,
            ..kept
        };
        assert_eq!(
            text(&going),
            "history: 3 weeks with 2.5 GB; outbox_2026w40 (1.0 GB) goes now\n\
             a week has waited for 5 min to be dropped: somebody holds a lock on the outbox\n\
             RETENTION IS BEHIND with 2 tables or weeks: see restante.retention_overview where is_overdue\n"
        );
    }
}
