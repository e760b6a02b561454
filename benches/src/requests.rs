//! Requests of a batch, in a file: one line of JSON for each, as the API takes them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sqlx::postgres::PgPoolCopyExt;

use crate::cluster::Database;
use crate::stand_in::word;

/// How much goes to Postgres at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A file of requests. It is removed when this is dropped.
pub(crate) struct Requests {
    pub(crate) path: PathBuf,
    pub(crate) count: usize,
    pub(crate) bytes: u64,
}

impl Requests {
    /// Writes `count` requests of 500 bytes on average.
    pub(crate) fn write(count: usize) -> anyhow::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("restante-requests-{:016x}.jsonl", rand::random::<u64>()));
        let file = File::create_new(&path)?;
        // From here on the file is removed, also if it cannot be written.
        let mut requests = Self { path, count, bytes: 0 };
        let mut out = BufWriter::with_capacity(PIECE_BYTES, file);
        let mut random = StdRng::seed_from_u64(11);
        let words: Vec<String> = (0..2000).map(|_| word(&mut random)).collect();
        let mut text = String::new();
        for number in 0..count {
            text.clear();
            let length = random.random_range(250..450);
            while text.len() < length {
                text.push_str(&words[random.random_range(0..words.len())]);
                text.push_str(if random.random_ratio(1, 15) { r".\n" } else { " " });
            }
            writeln!(
                out,
                concat!(
                    r#"{{"custom_id":"request-{number:09}","params":{{"model":"claude-sonnet-4-5-20250929","#,
                    r#""max_tokens":1024,"messages":[{{"role":"user","content":"{text}"}}]}}}}"#
                ),
                number = number,
                text = text,
            )?;
        }
        requests.bytes = out.into_inner()?.metadata()?.len();
        Ok(requests)
    }

    /// Writes all of them into `restante.batch_request` under `name`.
    pub(crate) async fn copy_into(&self, database: &Database, name: &str) -> anyhow::Result<()> {
        // Quote and delimiter are two bytes that JSON never contains, so each line is one value.
        database
            .run("create unlogged table line (position bigint generated always as identity, line json)")
            .await?;
        let copy = r"copy line (line) from stdin with (format csv, quote e'\x01', delimiter e'\x02')";
        let mut lines = database.pool.copy_in_raw(copy).await?;
        let mut file = BufReader::with_capacity(PIECE_BYTES, File::open(&self.path)?);
        loop {
            let piece = file.fill_buf()?.to_vec();
            if piece.is_empty() {
                break;
            }
            file.consume(piece.len());
            lines.send(piece).await?;
        }
        lines.finish().await?;
        database
            .run(&format!(
                "insert into restante.batch_request (submission, custom_id, params)
                 select '{name}', line->>'custom_id', line->'params' from line order by position;
                 drop table line"
            ))
            .await?;
        database.expect("select count(*) from restante.batch_request", self.count).await
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // If this fails, the file stays in the directory for temporary files.
        let _ = fs::remove_file(&self.path);
    }
}
