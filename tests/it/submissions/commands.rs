//! `restante submit` and `restante results`, run as a person runs them, with the rights of an application.

use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use secrecy::ExposeSecret;
use serde_json::Value;

use super::{api_at, requests, submit, work, work_to_rest};
use crate::support::processes::tool;
use crate::support::{Process, SimulatedApi, World, cluster, eventually};

/// The URL of the world's database with the rights of an application and no others.
fn url(world: &World) -> String {
    url_of(world, "restante_app")
}

fn url_of(world: &World, role: &str) -> String {
    format!("{}?options[role]={role}", world.url.expose_secret())
}

/// Runs a command with this standard input.
fn run(world: &World, arguments: &[&str], input: &[u8]) -> Output {
    run_with(&url(world), arguments, input)
}

fn run_with(url: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(tool());
    command.args(arguments).env_clear().env("DATABASE_URL", url);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
    // The command may end before it has read everything.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Requests `first` to `last`, one a line.
fn file(first: usize, last: usize) -> String {
    let requests = requests(first, last);
    requests.as_array().unwrap().iter().map(|request| format!("{request}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_out_and_its_answers_come_back_in_its_order() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    let path = tempfile::tempdir().unwrap();
    let (asked, answers) = (path.path().join("requests.jsonl"), path.path().join("answers.jsonl"));
    std::fs::write(&asked, file(1, 300)).unwrap();

    let submitted = run(
        &world,
        &["submit", asked.to_str().unwrap(), "--name", "n", "--tag", "t", "--account", "anthropic"],
        b"",
    );
    assert!(submitted.status.success(), "{}", said(&submitted));
    assert_eq!(String::from_utf8(submitted.stdout).unwrap(), "n is submitted: 300 requests, 0.0 MB\n");
    let row = "select concat_ws(' ', tag, account, requests, status) from restante.submission";
    assert_eq!(world.value(row).await, "t anthropic 300 waiting");
    work_to_rest(&world, &api_at(&api.url)).await;
    let written = run(&world, &["results", "n", "--output", answers.to_str().unwrap()], b"");
    assert!(written.status.success(), "{}", said(&written));

    let written = std::fs::read_to_string(&answers).unwrap();
    let ids: Vec<String> = written
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["custom_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, (1..=300).map(|n| format!("r-{n}")).collect::<Vec<_>>());
    let stored: Vec<String> = sqlx::query_scalar(
        "select a.line from restante.batch_result as a join restante.batch_request as r using (custom_id) order by r.position",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert_eq!(written, stored.iter().map(|line| format!("{line}\n")).collect::<String>());
    for role in ["restante_app", "restante_operator"] {
        let output = run_with(&url_of(&world, role), &["results", "n"], b"");
        assert_eq!(output.stdout, written.as_bytes(), "{role}: {}", said(&output));
    }
    let refused = run_with(
        &url_of(&world, "restante_operator"),
        &["submit", "-", "--name", "o"],
        file(1, 1).as_bytes(),
    );
    assert!(said(&refused).contains("this login may not submit"), "{}", said(&refused));
}

#[tokio::test]
async fn a_database_without_the_tables_is_told_to_be_migrated() {
    let empty = cluster::empty_database().await;
    for command in [&["submit", "-", "--name", "n"][..], &["results", "n"]] {
        let output = run_with(empty.expose_secret(), command, b"");
        assert_eq!(output.status.code(), Some(1));
        assert!(said(&output).contains("run `restante migrate`"), "{}", said(&output));
    }
}

#[tokio::test]
async fn what_a_line_asks_is_kept_as_it_is_written() {
    let world = World::new().await;
    let input = b"\xef\xbb\xbf {\"params\": {\"n\":1.0e1,  \"s\":\"\\u00e9\\u0000\\ud800\"},\t\"custom_id\":\"a\"}\r\n\n";

    let submitted = run(&world, &["submit", "-", "--name", "n"], input);

    assert!(submitted.status.success(), "{}", said(&submitted));
    let params = world.value("select params::text from restante.batch_request").await;
    assert_eq!(params, r#"{"n":1.0e1,  "s":"\u00e9\u0000\ud800"}"#);
}

#[tokio::test]
async fn a_mistake_names_its_line_and_nothing_is_submitted() {
    let world = World::new().await;
    let good = file(1, 2000);
    let line = |n| file(n, n);
    for (input, expected) in [
        (
            format!("{good}{{\"custom_id\""),
            "line 2001: it is no JSON: EOF while parsing an object (column 12)",
        ),
        (format!("{good}{{\"params\":{{}}}}\n"), "line 2001: custom_id is missing"),
        (
            format!("{good}{{\"custom_id\":\"a b\",\"params\":{{}}}}\n"),
            "line 2001: custom_id \"a b\" must have 1 to 64 of the characters a-z A-Z 0-9 _ -",
        ),
        (format!("{good}{{\"custom_id\":\"a\"}}\n"), "line 2001: params is missing"),
        (format!("{good}{}{}", line(2001), line(1999)), "line 2002: custom_id \"r-1999\" is there twice"),
        (format!("{}{good}", line(2000)), "line 2001: custom_id \"r-2000\" is there twice"),
        (
            format!(
                "{good}{{\"custom_id\":\"deep\",\"params\":{{\"x\":{}{}}}}}\n",
                "[".repeat(1_000_000),
                "]".repeat(1_000_000)
            ),
            "line 2001: stack depth limit exceeded",
        ),
        ("{}\n7\n".to_owned(), "line 1: custom_id is missing\nline 2: it is no object"),
        ("\n \n".to_owned(), "- has no request"),
    ] {
        let output = run(&world, &["submit", "-", "--name", "n"], input.as_bytes());

        assert_eq!(output.status.code(), Some(1), "{expected}");
        let said = said(&output);
        assert!(said.contains(expected) && said.contains("nothing was submitted"), "{expected}: {said}");
    }
    for table in ["submission", "batch_request", "outbox"] {
        assert_eq!(world.value(&format!("select count(*) from restante.{table}")).await, "0", "{table}");
    }
    let missing = run(&world, &["submit", "/nowhere.jsonl", "--name", "n"], b"");
    assert!(
        said(&missing).contains("/nowhere.jsonl:\nit cannot be opened: No such file"),
        "{}",
        said(&missing)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_is_stopped_while_it_reads_submits_nothing() {
    let world = World::new().await;
    let path = tempfile::tempdir().unwrap();
    let pipe = path.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let arguments = ["submit", pipe.to_str().unwrap(), "--name", "n"];
    let mut submits = Process::start_with(tool(), &arguments, &[("DATABASE_URL", &url(&world))]);
    // This waits until the command has opened it, too.
    let mut writer = std::fs::File::options().write(true).open(&pipe).unwrap();
    writer.write_all(file(1, 3).as_bytes()).unwrap();

    assert_eq!(submits.stopped().await, Some(1));

    assert!(submits.log().contains("stopped on request; nothing was submitted"), "{}", submits.log());
    eventually("nothing is left of it", async || {
        let left = "select count(*) from pg_stat_activity where application_name = 'restante submit' and datname = current_database()";
        (world.value(left).await == "0").then_some(())
    })
    .await;
    assert_eq!(world.value("select count(*) from restante.batch_request").await, "0");
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let world = World::new().await;
    submit(&world, "taken", &requests(1, 1)).await;
    world
        .sql("insert into restante.batch_request (submission, custom_id, params) values ('begun', 'a', '{}')")
        .await;

    for (name, expected) in [
        ("taken", "there is a submission named taken already"),
        ("begun", "there are requests under the name begun, which were not submitted"),
    ] {
        let output = run(&world, &["submit", "-", "--name", name], file(1, 3).as_bytes());
        assert!(!output.status.success() && said(&output).contains(expected), "{}", said(&output));
    }
    assert_eq!(world.value("select count(*) from restante.batch_request").await, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_said_and_written_only_if_asked_for() {
    let api = SimulatedApi::start().await;
    let world = World::new().await;
    let code = |output: &Output| output.status.code();
    let unknown = run(&world, &["results", "n"], b"");
    assert!(code(&unknown) == Some(1) && said(&unknown).contains("no submission named n"));
    submit(&world, "n", &requests(1, 20)).await;

    let early = run(&world, &["results", "n"], b"");
    assert_eq!((code(&early), early.stdout.len()), (Some(3), 0));
    let expected = "20 of 20 answers are missing (the requests: 20 waiting). The submission is waiting";
    assert!(said(&early).contains(expected), "{}", said(&early));

    work_to_rest(&world, &api_at(&api.url)).await;
    world.sql("delete from restante.batch_result where custom_id in ('r-3', 'r-7')").await;
    let some = run(&world, &["results", "n"], b"");
    assert_eq!((code(&some), some.stdout.len()), (Some(3), 0));
    assert!(said(&some).contains("2 of 20 answers are missing"), "{}", said(&some));
    let partial = run(&world, &["results", "n", "--partial"], b"");
    assert_eq!(code(&partial), Some(0));
    assert_eq!(partial.stdout.iter().filter(|byte| **byte == b'\n').count(), 18);
    assert!(said(&partial).contains("2 of 20 answers are missing"), "{}", said(&partial));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_waits_ends_with_the_last_answer_or_where_a_person_decides() {
    let simulated = SimulatedApi::start().await;
    let world = World::new().await;
    let path = tempfile::tempdir().unwrap();
    let asked = path.path().join("requests.jsonl");
    std::fs::write(&asked, file(1, 20)).unwrap();
    let url = url(&world);
    let start = |name: &str| {
        let arguments = ["submit", asked.to_str().unwrap(), "--wait", "--name", name];
        Process::start_with(tool(), &arguments, &[("DATABASE_URL", &url)])
    };

    let mut waits = start("n");
    waits.until_logged("n: waiting, 20 requests").await;
    work_to_rest(&world, &api_at(&simulated.url)).await;
    assert_eq!(waits.ended().await.code(), Some(0), "{}", waits.log());
    assert!(waits.log().contains("n: complete, 20 requests"), "{}", waits.log());

    let mut waits = start("called-off");
    waits.until_logged("called-off: waiting").await;
    world.sql("update restante.submission set status = 'cancelled' where name = 'called-off'").await;
    assert_eq!(waits.ended().await.code(), Some(3), "{}", waits.log());

    let mut waits = start("left");
    waits.until_logged("left: waiting").await;
    assert_eq!(waits.stopped().await, Some(130));
    work(&world, &api_at(&simulated.url)).await;
    eventually("what was left goes on by itself", async || {
        work_to_rest(&world, &api_at(&simulated.url)).await;
        let status = world.value("select status from restante.submission where name = 'left'").await;
        (status == "complete").then_some(())
    })
    .await;
}

/// What passes through the commands is larger than the memory that they may take.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_commands_take_no_more_memory_for_a_large_file() {
    const REQUESTS: usize = 20_000;
    const MEMORY_KIB_MAX: usize = 64 * 1024;
    let peak_kib = crate::batches::memory::peak_memory_kib;
    let world = World::new().await;
    let path = tempfile::tempdir().unwrap();
    let asked = path.path().join("requests.jsonl");
    let mut writer = std::io::BufWriter::new(std::fs::File::create(&asked).unwrap());
    let text = "x".repeat(5_500);
    for n in 0..REQUESTS {
        writeln!(writer, r#"{{"custom_id":"r-{n}","params":{{"text":"{text}"}}}}"#).unwrap();
    }
    writer.into_inner().unwrap();
    assert!(std::fs::metadata(&asked).unwrap().len() / 1024 > MEMORY_KIB_MAX as u64);

    let arguments = ["submit", asked.to_str().unwrap(), "--wait", "--name", "n"];
    let mut submits = Process::start_with(tool(), &arguments, &[("DATABASE_URL", &url(&world))]);
    submits.until_logged("n: waiting").await;
    let peak = peak_kib(submits.pid());
    assert!(peak <= MEMORY_KIB_MAX, "{peak} KiB to submit");
    submits.stopped().await;

    world.sql("update restante.batch_request set batch_id = 'b'").await;
    world
        .sql(
            "insert into restante.batch_result (batch_id, custom_id, outcome, line)
              select 'b', custom_id, 'succeeded', params::text from restante.batch_request",
        )
        .await;
    let mut command = Command::new(tool());
    command.args(["results", "n", "--partial"]).env_clear().env("DATABASE_URL", url(&world));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let (mut out, mut buffer, mut bytes, mut peak) = (child.stdout.take().unwrap(), vec![0; 1 << 20], 0, 0);
    loop {
        let read = out.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        if bytes < 100_000_000 {
            peak = peak_kib(child.id());
        }
        bytes += read;
    }
    assert!(child.wait().unwrap().success());
    assert!(bytes / 1024 > MEMORY_KIB_MAX && peak > 0, "{bytes} bytes prove nothing");
    assert!(peak <= MEMORY_KIB_MAX, "{peak} KiB for {bytes} bytes of answers");
}
