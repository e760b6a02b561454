//! `batch.completed` and its spellings: a batch may have ended; store its results, every one of them.
//!
//! The event is a hint and proves nothing: the API is asked. Results are streamed into `restante.batch_result` in parts of a
//! few megabytes, each committed with the progress it makes, so that a download that breaks off goes on where it was: the
//! API knows no other place to begin than the beginning, and what is already here is passed over. The batch is complete
//! when there are as many different results as the API counts, which no end of a stream can feign.

mod copy;
mod json;
mod line;
mod lines;
mod shape;

use std::collections::HashSet;
use std::time::Duration;

use anyhow::anyhow;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use crate::api::Batch;
use crate::batch::{BatchRef, is_complete, observe};
use crate::handler::{self, Context, Error, Handler};
use crate::{retry, telemetry};

use copy::{COPY_COLUMNS, CopyBuffer};
use line::Row;
use lines::{LINE_BYTES_MAX, Lines};

/// How much is gathered before it is written: large enough for COPY to be quick, small enough to be nothing in memory.
const PART_BYTES: usize = 4 * 1024 * 1024;

/// Stores the results of a batch.
#[derive(Debug)]
pub struct BatchResults {
    /// How long to wait where the batch has not ended yet.
    pub poll: Duration,
}

impl Handler for BatchResults {
    const EVENT_TYPES: &'static [&'static str] = &[
        "batch.ended",
        "batch.completed",
        "batch.canceled",
        "batch.cancelled",
        "batch.expired",
        "batch.failed",
        "message_batch.ended",
        "message_batch.completed",
        "message_batch.canceled",
        "message_batch.expired",
        "message_batch.failed",
    ];
    /// About a week: results can be had for 29 days, and nobody should lose them over a long weekend.
    const RETRY: retry::Policy = retry::Policy {
        attempts_max: 60,
        first: Duration::from_secs(1),
        cap: Duration::from_secs(6 * 60 * 60),
    };
    /// Without a byte, that is: every chunk is progress. Longer than the API client waits, so that it says what happened.
    const TIMEOUT: Duration = Duration::from_secs(90);
    type Payload = BatchRef;

    async fn handle(&self, cx: &mut Context<'_>, payload: BatchRef) -> handler::Result {
        let id = payload.into_id()?;
        if is_complete(cx.pool(), &id).await? {
            return Ok(());
        }
        let batch = cx.api.batch(&id).await?;
        let mut checkpoint = cx.checkpoint().await?;
        observe(&mut checkpoint, std::slice::from_ref(&batch)).await?;
        checkpoint.commit().await?;
        if !batch.is_terminal() {
            return Err(Error::Snooze(self.poll));
        }
        if let Some(archived_at) = batch.archived_at {
            return Err(Error::Permanent(anyhow!(
                "the results are gone: the batch was archived at {archived_at}"
            )));
        }

        let fault = Download::new(cx, &batch).await?.run().await?;
        complete(cx, &batch, fault).await
    }
}

/// One download of a batch's results.
struct Download<'a, 'b> {
    cx: &'a Context<'b>,
    batch: &'a Batch,
    /// The results that are here already, from an earlier download or from this one.
    stored: HashSet<Box<str>>,
    part: CopyBuffer,
    part_line_bytes: i64,
    /// The first line that could not be read, and why.
    fault: Option<String>,
}

impl<'a, 'b> Download<'a, 'b> {
    async fn new(cx: &'a Context<'b>, batch: &'a Batch) -> Result<Self, Error> {
        sqlx::query!(
            "update restante.batch set download_started_at = clock_timestamp() where id = $1",
            batch.id
        )
        .execute(cx.pool())
        .await?;
        let stored =
            sqlx::query_scalar!("select custom_id from restante.batch_result where batch_id = $1", batch.id)
                .fetch(cx.pool())
                .map_ok(String::into_boxed_str)
                .try_collect()
                .await?;
        Ok(Self { cx, batch, stored, part: CopyBuffer::new(), part_line_bytes: 0, fault: None })
    }

    /// Stores what comes. Answers with the first line that could not be read, where there was one.
    async fn run(mut self) -> Result<Option<String>, Error> {
        let mut chunks = self.cx.api.results(self.batch).await?;
        let mut lines = Lines::new(LINE_BYTES_MAX);
        let mut broken_off = None;
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) => lines.push(chunk),
                Err(error) => {
                    broken_off = Some(error);
                    break;
                }
            }
            self.cx.progress();
            while let Some(line) = self.note(lines.next(), &lines) {
                self.take(&line, lines.number());
                if self.part.len_bytes() >= PART_BYTES {
                    self.store().await?;
                }
            }
        }
        if broken_off.is_none() {
            while let Some(line) = self.note(lines.finish(), &lines) {
                self.take(&line, lines.number());
            }
        }
        // Also what came before the break, so that the next attempt has less to do.
        self.store().await?;
        match broken_off {
            Some(error) => Err(error.into()),
            None => Ok(self.fault),
        }
    }

    /// The line, if there is one. One that is too long is noted, and the lines behind it can still be read.
    fn note(&mut self, line: Result<Option<Bytes>, lines::TooLong>, lines: &Lines) -> Option<Bytes> {
        line.unwrap_or_else(|error| {
            let _first = self.fault.get_or_insert_with(|| format!("line {}: {error}", lines.number()));
            Some(Bytes::new())
        })
    }

    /// Adds a line to the part, unless it is here already.
    fn take(&mut self, line: &[u8], number: u64) {
        if line.is_empty() {
            return;
        }
        match Row::read(line) {
            Ok(row) => {
                if !self.stored.contains(row.custom_id.as_ref()) {
                    self.part.push(&self.batch.id, &row);
                    self.part_line_bytes += i64::try_from(line.len()).unwrap_or(i64::MAX);
                    self.stored.insert(row.custom_id.into());
                }
            }
            Err(error) => {
                let _first = self.fault.get_or_insert_with(|| format!("line {number}: {error}"));
            }
        }
    }

    /// Commits the part together with the progress it makes, while the lease is ours.
    async fn store(&mut self) -> Result<(), Error> {
        if self.part.rows() == 0 {
            return Ok(());
        }
        let mut checkpoint = self.cx.checkpoint().await?;
        let statement =
            format!("copy restante.batch_result ({COPY_COLUMNS}) from stdin with (format binary)");
        let mut copy = checkpoint.copy_in_raw(&statement).await?;
        copy.send(self.part.finish()).await?;
        let rows = copy.finish().await?;
        sqlx::query!(
            "update restante.batch set results_stored = results_stored + $2, bytes_stored = bytes_stored + $3 where id = $1",
            self.batch.id,
            i64::try_from(rows).unwrap_or(i64::MAX),
            self.part_line_bytes,
        )
        .execute(&mut *checkpoint)
        .await?;
        self.cx.commit(checkpoint).await?;
        metrics::counter!(telemetry::metric::RESULTS_ROWS_TOTAL).increment(rows);
        metrics::counter!(telemetry::metric::RESULTS_BYTES_TOTAL)
            .increment(u64::try_from(self.part_line_bytes).unwrap_or(0));
        self.part.clear();
        self.part_line_bytes = 0;
        self.cx.progress();
        Ok(())
    }
}

/// Says that the batch is complete, if it is: in the attempt's transaction, and by counting what is really here.
async fn complete(cx: &mut Context<'_>, batch: &Batch, fault: Option<String>) -> handler::Result {
    let expected = batch.expected_results();
    let tx = cx.tx().await?;
    let counted = sqlx::query!(
        r#"
        select count(*) as "results!", coalesce(sum(octet_length(line)), 0) + coalesce(sum(octet_length(raw)), 0) as "bytes!"
          from restante.batch_result where batch_id = $1
        "#,
        batch.id
    )
    .fetch_one(&mut *tx)
    .await?;
    // No batch is empty: the API takes none without requests. Where it gives no count, or one that can not be read, a stream
    // that was cut before its first byte would pass for all there is.
    if expected == 0 {
        let results = counted.results;
        return Err(Error::Retryable(anyhow!(
            "{results} results are here, and the API does not say how many there are"
        )));
    }
    if counted.results != expected {
        let fault = fault.map_or_else(String::new, |fault| format!("; {fault}"));
        return Err(Error::Retryable(anyhow!("{} of {expected} results are here{fault}", counted.results)));
    }
    sqlx::query!(
        "update restante.batch set complete_at = clock_timestamp(), results_stored = $2, bytes_stored = $3 where id = $1",
        batch.id,
        counted.results,
        counted.bytes,
    )
    .execute(&mut *tx)
    .await?;
    cx.set_result(
        &serde_json::json!({ "batch_id": batch.id, "results": counted.results, "bytes": counted.bytes }),
    );
    tracing::info!(
        batch.id = batch.id,
        results = counted.results,
        bytes = counted.bytes,
        "every result of the batch is stored"
    );
    Ok(())
}
