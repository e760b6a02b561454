//! A stand-in for the API in measurements of results: it has one ended batch, whose results are in a file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::AsRawFd;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use restante_playground::scripted_api::{Answer, ScriptedApi, results_path};
use serde_json::json;

/// The batch.
pub(crate) const BATCH: &str = "msgbatch_01bench";

/// An API with one batch.
pub(crate) struct StandIn {
    pub(crate) origin: String,
    pub(crate) lines: usize,
    pub(crate) bytes: u64,
    /// The file has no name any more, and exists while it is open here.
    _results: File,
}

impl StandIn {
    /// Writes `lines` result lines and serves them.
    pub(crate) async fn start(lines: usize) -> anyhow::Result<Self> {
        let results = results(lines)?;
        let bytes = results.metadata()?.len();
        let api = ScriptedApi::new().await;
        let headers = format!("content-type: application/x-jsonl\r\ncontent-length: {bytes}\r\n");
        let path = format!("/proc/self/fd/{}", results.as_raw_fd());
        api.results(BATCH, Answer::file(&headers, path));
        let (errored, expired) = (lines / 100, lines / 100);
        let counts = [lines - errored - expired, errored, 0, expired].map(|count| count as u32);
        api.batch(&api.ended(BATCH, counts));
        let nothing = json!({ "data": [], "has_more": false, "first_id": null, "last_id": null });
        api.answer("/v1/messages/batches", Answer::json(&nothing));
        Ok(Self { origin: api.origin, lines, bytes, _results: results })
    }

    pub(crate) fn results_url(&self) -> String {
        format!("{}{}", self.origin, results_path(BATCH))
    }
}

/// Writes result lines of 2.5 KB on average: 98 % answers, 1 % errors, 1 % expired. The file has no name any more.
fn results(lines: usize) -> anyhow::Result<File> {
    let path = std::env::temp_dir().join(format!("restante-results-{:016x}", rand::random::<u64>()));
    let file = File::options().create_new(true).read(true).write(true).open(&path)?;
    std::fs::remove_file(&path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut random = StdRng::seed_from_u64(7);
    let words: Vec<String> = (0..2000).map(|_| word(&mut random)).collect();
    let mut text = String::new();
    for number in 0..lines {
        write!(out, r#"{{"custom_id":"request-{number:09}","result":"#)?;
        if number < lines / 100 {
            out.write_all(
                concat!(
                    r#"{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error","#,
                    r#""message":"params.max_tokens: too large"},"request_id":"req_01"}}}"#,
                )
                .as_bytes(),
            )?;
        } else if number < 2 * (lines / 100) {
            out.write_all(br#"{"type":"expired"}}"#)?;
        } else {
            text.clear();
            let length = random.random_range(600..3600);
            while text.len() < length {
                text.push_str(&words[random.random_range(0..words.len())]);
                text.push_str(if random.random_ratio(1, 15) { r".\n" } else { " " });
            }
            write!(
                out,
                concat!(
                    r#"{{"type":"succeeded","message":{{"id":"msg_01{number:020}","type":"message","role":"assistant","#,
                    r#""model":"claude-sonnet-4-5-20250929","content":[{{"type":"text","text":"{text}","#,
                    r#""citations":null}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":{input},"#,
                    r#""cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":{output},"#,
                    r#""service_tier":"batch"}}}}}}}}"#
                ),
                number = number,
                text = text,
                input = random.random_range(100..5000),
                output = length / 4,
            )?;
        }
        out.write_all(b"\n")?;
    }
    Ok(out.into_inner()?)
}

/// A made-up word, so that the texts compress like real ones.
pub(crate) fn word(random: &mut StdRng) -> String {
    let syllables =
        ["ba", "con", "de", "fer", "ing", "la", "mo", "ner", "per", "qui", "ro", "sta", "ti", "ul", "ver"];
    (0..random.random_range(1..5)).map(|_| syllables[random.random_range(0..syllables.len())]).collect()
}
