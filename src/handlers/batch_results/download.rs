//! One download of a batch's results, in parts: while one is being written, the next is read.
//!
//! Each part is one commit together with the progress it makes. Reading and writing take turns within the future of the handler,
//! so that whatever ends one of them ends the other, and nothing is left running where the handler is cancelled. At most two
//! parts are held: who reads faster than the database writes, waits.

use std::mem;

use bytes::Bytes;
use futures_util::future::try_join;
use futures_util::{StreamExt, TryStreamExt};

use crate::api::{self, Batch, ResultsStream};
use crate::handler::{self, Context, Error};
use crate::telemetry;

use super::copy::{COPY_COLUMNS, CopyBuffer};
use super::line::Row;
use super::lines::{LINE_BYTES_MAX, Lines};
use super::seen::Seen;

/// How much is gathered before it is written: large enough for COPY to be quick, small enough to be nothing in memory.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// How much is sent, and how much is read, before the other side gets its turn. sqlx copies what it sends.
const TURN_BYTES: usize = 64 * 1024;

/// Stores what comes. Answers with the first line that could not be read, where there was one.
pub(super) async fn run(cx: &Context<'_>, batch: &Batch) -> Result<Option<String>, Error> {
    let mut source = Source::open(cx, batch).await?;
    let (mut part, mut next) = (CopyBuffer::new(), CopyBuffer::new());
    loop {
        let (stop, ()) =
            try_join(async { Ok(source.fill(&mut next).await) }, store(cx, batch, &mut part)).await?;
        mem::swap(&mut part, &mut next);
        let end = match stop {
            Stop::Full => continue,
            Stop::End => Ok(source.fault),
            Stop::BrokenOff(error) => Err(error.into()),
        };
        // Also what came before a break, so that the next attempt has less to do.
        store(cx, batch, &mut part).await?;
        return end;
    }
}

/// Where the results come from.
struct Source<'a, 'b> {
    cx: &'a Context<'b>,
    batch: &'a Batch,
    chunks: ResultsStream,
    lines: Lines,
    /// Nothing more comes.
    is_ended: bool,
    /// The results that are here already, from an earlier download or from this one.
    seen: Seen,
    /// The first line that could not be read, and why.
    fault: Option<String>,
}

/// Why no more is read into a part.
enum Stop {
    Full,
    End,
    BrokenOff(api::Error),
}

impl<'a, 'b> Source<'a, 'b> {
    async fn open(cx: &'a Context<'b>, batch: &'a Batch) -> Result<Self, Error> {
        sqlx::query!(
            "update restante.batch set download_started_at = clock_timestamp() where id = $1",
            batch.id
        )
        .execute(cx.pool())
        .await?;
        let room = Seen::of(usize::try_from(batch.expected_results()).unwrap_or(0));
        let seen =
            sqlx::query_scalar!("select custom_id from restante.batch_result where batch_id = $1", batch.id)
                .fetch(cx.pool())
                .try_fold(room, async |mut seen, custom_id| {
                    seen.insert(&custom_id);
                    Ok(seen)
                })
                .await?;
        let chunks = cx.api.results(batch).await?;
        Ok(Self { cx, batch, chunks, lines: Lines::new(LINE_BYTES_MAX), is_ended: false, seen, fault: None })
    }

    /// Reads until the part is full, or nothing more comes.
    async fn fill(&mut self, part: &mut CopyBuffer) -> Stop {
        let mut turn_bytes = 0;
        loop {
            while let Some(line) = self.line() {
                self.take(&line, part);
                if part.len_bytes() >= PART_BYTES {
                    return Stop::Full;
                }
                turn_bytes += line.len();
                if turn_bytes >= TURN_BYTES {
                    turn_bytes = 0;
                    tokio::task::yield_now().await;
                }
            }
            if self.is_ended {
                return Stop::End;
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.lines.push(chunk),
                Some(Err(error)) => return Stop::BrokenOff(error),
                None => self.is_ended = true,
            }
            self.cx.progress();
        }
    }

    /// The next line, where it is here. One that is too long is noted, and the lines behind it can still be read.
    fn line(&mut self) -> Option<Bytes> {
        loop {
            match if self.is_ended { self.lines.finish() } else { self.lines.next() } {
                Ok(line) => return line,
                Err(error) => self.note(&error),
            }
        }
    }

    /// Adds a line to the part, unless it is here already.
    fn take(&mut self, line: &[u8], part: &mut CopyBuffer) {
        match Row::read(line) {
            Ok(row) => {
                if self.seen.insert(&row.custom_id) {
                    part.push(&self.batch.id, &row);
                }
            }
            Err(error) => self.note(&error),
        }
    }

    fn note(&mut self, error: &dyn std::error::Error) {
        let number = self.lines.number();
        let _first = self.fault.get_or_insert_with(|| format!("line {number}: {error}"));
    }
}

/// Commits a part together with the progress it makes, while the lease is ours.
async fn store(cx: &Context<'_>, batch: &Batch, part: &mut CopyBuffer) -> handler::Result {
    if part.rows() == 0 {
        return Ok(());
    }
    let mut checkpoint = cx.checkpoint().await?;
    let statement = format!("copy restante.batch_result ({COPY_COLUMNS}) from stdin with (format binary)");
    let mut copy = checkpoint.copy_in_raw(&statement).await?;
    for piece in part.finish().chunks(TURN_BYTES) {
        copy.send(piece).await?;
    }
    let rows = copy.finish().await?;
    // Not waiting for the disk loses nothing: a crash of the server may take the last parts, which the next download brings
    // again, and no later commit survives it without them; so none that calls the batch complete.
    sqlx::query!(
        "update restante.batch set results_stored = results_stored + $2, bytes_stored = bytes_stored + $3 where id = $1
         returning set_config('synchronous_commit', 'off', true)",
        batch.id,
        i64::try_from(rows).unwrap_or(i64::MAX),
        i64::try_from(part.line_bytes()).unwrap_or(i64::MAX),
    )
    .fetch_optional(&mut *checkpoint)
    .await?;
    cx.commit(checkpoint).await?;
    metrics::counter!(telemetry::metric::RESULTS_ROWS_TOTAL).increment(rows);
    metrics::counter!(telemetry::metric::RESULTS_BYTES_TOTAL).increment(part.line_bytes() as u64);
    part.clear();
    cx.progress();
    Ok(())
}
