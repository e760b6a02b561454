//! One download of a batch's results, in parts: while some parts are written, the next one is read.
//!
//! Each part is one commit, together with the batch's counts. Reading and writing take turns within the future of the
//! handler. So an error in one of them ends the others, and nothing runs on after the handler is cancelled.

use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use sqlx::PgConnection;

use crate::api::{self, Batch, ResultsStream};
use crate::handler::{Context, Error};
use crate::telemetry;

use super::copy::{COPY_COLUMNS, CopyBuffer};
use super::line::Row;
use super::lines::{LINE_BYTES_MAX, Lines};
use super::seen::Seen;

/// The size of a part: large enough for a quick COPY, and small enough for memory not to matter.
const PART_BYTES: usize = 3 * 1024 * 1024;

/// How many bytes are sent, or read, before the other side gets its turn. sqlx copies what it sends.
const TURN_BYTES: usize = 64 * 1024;

/// How many parts may be written at once; while fewer are, the next one is read. Postgres takes three times as long for
/// a part as we do, and two of its processes write in parallel.
const PARTS_MAX: usize = 3;

/// Stores the results. Returns the first line that could not be read, with the reason, if there was one.
pub(super) async fn run(cx: &Context<'_>, batch: &Batch) -> Result<Option<String>, Error> {
    let (spare, spares) = mpsc::channel();
    let mut source = Source::open(cx, batch, spares).await?;
    // After a break the lines that came before it are written as well, so that the next attempt has less to do.
    let written =
        source.parts().map(|part| store(cx, batch, part, &spare).boxed()).buffer_unordered(PARTS_MAX);
    let rows = written.try_fold(0, async |sum, rows| Ok(sum + rows)).await?;
    match source.broken_off {
        None => Ok(source.fault),
        // Trouble, so that no attempt counts however often the download breaks off: each one gets further.
        Some(error) if rows > 0 => Err(Error::Trouble(BREATH, error.into())),
        Some(error) => Err(Error::Retryable(error.into())),
    }
}

/// The wait after a download that stored some results and broke off. The next one reads from the beginning again.
const BREATH: Duration = Duration::from_secs(30);

/// Where the results come from.
struct Source<'a, 'b> {
    cx: &'a Context<'b>,
    batch: &'a Batch,
    chunks: ResultsStream,
    /// Parts that have been written, whose memory is used again.
    spares: mpsc::Receiver<CopyBuffer>,
    lines: Lines,
    is_ended: bool,
    broken_off: Option<api::Error>,
    /// The results that an earlier download has stored or this one has read.
    seen: Seen,
    /// The first line that could not be read, and why.
    fault: Option<String>,
}

/// Notes that the download begins. Returns which results an earlier one has stored.
async fn begin(connection: &mut PgConnection, batch: &Batch, account: &str) -> sqlx::Result<Seen> {
    sqlx::query!(
        "update restante.batch set download_started_at = clock_timestamp() where id = $1 and account = $2",
        batch.id,
        account,
    )
    .execute(&mut *connection)
    .await?;
    let room = Seen::of(usize::try_from(batch.expected_results()).unwrap_or(0));
    sqlx::query_scalar!(
        "select custom_id from restante.batch_result where batch_id = $1 and account = $2",
        batch.id,
        account,
    )
    .fetch(connection)
    .try_fold(room, async |mut seen, custom_id| {
        seen.insert(&custom_id);
        Ok(seen)
    })
    .await
}

impl<'a, 'b> Source<'a, 'b> {
    async fn open(
        cx: &'a Context<'b>,
        batch: &'a Batch,
        spares: mpsc::Receiver<CopyBuffer>,
    ) -> Result<Self, Error> {
        let account = cx.event.account_or_default();
        let seen = begin(&mut *cx.connection().await?, batch, account).await?;
        let chunks = cx.api.results(batch).await?;
        let lines = Lines::new(LINE_BYTES_MAX);
        Ok(Self { cx, batch, chunks, spares, lines, is_ended: false, broken_off: None, seen, fault: None })
    }

    fn parts(&mut self) -> BoxStream<'_, CopyBuffer> {
        stream::unfold(self, |source| async move { Some((source.part().await?, source)) }).boxed()
    }

    /// The next part, which is full or the last one. `None` at the end.
    async fn part(&mut self) -> Option<CopyBuffer> {
        let mut part = self.spares.try_recv().unwrap_or_default();
        let mut turn_bytes = 0;
        loop {
            while let Some(line) = self.line() {
                self.take(&line, &mut part);
                if part.len_bytes() >= PART_BYTES {
                    return Some(part);
                }
                turn_bytes += line.len();
                if turn_bytes >= TURN_BYTES {
                    turn_bytes = 0;
                    tokio::task::yield_now().await;
                }
            }
            if self.is_ended || self.broken_off.is_some() {
                return (part.rows() > 0).then_some(part);
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.lines.push(chunk),
                Some(Err(error)) => self.broken_off = Some(error),
                None => self.is_ended = true,
            }
            self.cx.progress();
        }
    }

    /// The next line, if all of it has arrived. A line that is too long is noted and skipped.
    fn line(&mut self) -> Option<Bytes> {
        loop {
            match if self.is_ended { self.lines.finish() } else { self.lines.next() } {
                Ok(line) => return line,
                Err(error) => self.note(&error),
            }
        }
    }

    /// Adds a line to the part, unless its result was seen before.
    fn take(&mut self, line: &[u8], part: &mut CopyBuffer) {
        match Row::read(line) {
            Ok(row) => {
                if self.seen.insert(&row.custom_id) {
                    part.push(self.cx.event.account_or_default(), &self.batch.id, &row);
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

/// Commits a part together with the batch's counts, if the attempt still has its lease. Returns how many results it has.
///
/// The commit does not wait for the disk. That loses nothing: a crash of the server may lose the last parts, and the
/// next download brings them again. A later commit cannot survive the crash without them, and so neither can the one
/// that marks the batch complete.
async fn store(
    cx: &Context<'_>,
    batch: &Batch,
    mut part: CopyBuffer,
    spare: &mpsc::Sender<CopyBuffer>,
) -> Result<u64, Error> {
    let rows = write(cx, batch, &mut part).await?;
    metrics::counter!(telemetry::metric::RESULTS_ROWS_TOTAL).increment(rows);
    metrics::counter!(telemetry::metric::RESULTS_BYTES_TOTAL).increment(part.line_bytes() as u64);
    cx.progress();
    part.clear();
    // The receiver is gone once all lines have been read.
    let _ = spare.send(part);
    Ok(rows)
}

/// Returns how many rows were written.
async fn write(cx: &Context<'_>, batch: &Batch, part: &mut CopyBuffer) -> Result<u64, Error> {
    // If this is cancelled, because another part fails or the lease is lost, the connection is closed: in the middle of
    // a COPY it can send nothing else.
    let mut draft = cx.draft().await?;
    let statement = format!("copy restante.batch_result ({COPY_COLUMNS}) from stdin with (format binary)");
    let mut copy = draft.copy_in_raw(&statement).await?;
    for piece in part.finish().chunks(TURN_BYTES) {
        copy.send(piece).await?;
    }
    let rows = copy.finish().await?;
    sqlx::query!(
        "update restante.batch set results_stored = results_stored + $2, bytes_stored = bytes_stored + $3
          where id = $1 and account = $4",
        batch.id,
        i64::try_from(rows).unwrap_or(i64::MAX),
        i64::try_from(part.line_bytes()).unwrap_or(i64::MAX),
        cx.event.account_or_default(),
    )
    .execute(&mut *draft)
    .await?;
    draft.commit().await?;
    Ok(rows)
}
