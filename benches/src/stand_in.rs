//! A stand-in for the API: one ended batch whose results lie in a file, served with as little work as possible.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// The batch.
pub const BATCH: &str = "msgbatch_01bench";

/// A server of one batch. Its threads end with the process.
pub struct StandIn {
    pub address: SocketAddr,
    pub lines: usize,
    pub bytes: u64,
}

impl StandIn {
    /// Writes so many result lines and serves them.
    pub fn start(lines: usize) -> anyhow::Result<Self> {
        let file = Arc::new(results(lines)?);
        let bytes = file.metadata()?.len();
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let file = Arc::clone(&file);
                // A client that goes away is none of ours.
                thread::spawn(move || serve(stream, &file, address, lines).ok());
            }
        });
        Ok(Self { address, lines, bytes })
    }

    pub fn results_url(&self) -> String {
        results_url(self.address)
    }
}

fn results_url(address: SocketAddr) -> String {
    format!("http://{address}/v1/messages/batches/{BATCH}/results")
}

/// Answers the requests of one connection.
fn serve(stream: TcpStream, results: &File, address: SocketAddr, lines: usize) -> io::Result<()> {
    let mut answer = stream.try_clone()?;
    let mut request = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if request.read_line(&mut first)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while header != "\r\n" {
            header.clear();
            request.read_line(&mut header)?;
        }
        let path = first.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default();
        if path.ends_with("/results") {
            let length = results.metadata()?.len();
            write!(
                answer,
                "HTTP/1.1 200 OK\r\ncontent-type: application/x-jsonl\r\ncontent-length: {length}\r\n\r\n"
            )?;
            // A handle of its own would share the position, so this one is opened anew.
            let mut file = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(results)))?;
            file.rewind()?;
            // From file to socket within the kernel: io::copy knows sendfile(2).
            io::copy(&mut Read::by_ref(&mut file), &mut answer)?;
        } else {
            let body = if path.ends_with(BATCH) {
                batch(address, lines)
            } else {
                r#"{"data":[],"has_more":false,"first_id":null,"last_id":null}"#.to_owned()
            };
            let length = body.len();
            write!(
                answer,
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )?;
        }
    }
}

fn batch(address: SocketAddr, lines: usize) -> String {
    let (errored, expired) = (lines / 100, lines / 100);
    let succeeded = lines - errored - expired;
    let now = chrono::Utc::now().to_rfc3339();
    format!(
        concat!(
            r#"{{"id":"{id}","type":"message_batch","processing_status":"ended","request_counts":{{"processing":0,"#,
            r#""succeeded":{succeeded},"errored":{errored},"canceled":0,"expired":{expired}}},"ended_at":"{now}","#,
            r#""created_at":"{now}","expires_at":"{now}","archived_at":null,"cancel_initiated_at":null,"#,
            r#""results_url":"{url}"}}"#
        ),
        id = BATCH,
        succeeded = succeeded,
        errored = errored,
        expired = expired,
        now = now,
        url = results_url(address),
    )
}

/// Result lines of 2.5 KB in the middle: 98 % answers, 1 % errors, 1 % expired. The file has no name any more.
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

/// A word that does not exist, so that texts compress as texts do.
fn word(random: &mut StdRng) -> String {
    let syllables =
        ["ba", "con", "de", "fer", "ing", "la", "mo", "ner", "per", "qui", "ro", "sta", "ti", "ul", "ver"];
    (0..random.random_range(1..5)).map(|_| syllables[random.random_range(0..syllables.len())]).collect()
}
