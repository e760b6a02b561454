//! Runs `restante demo` as a person does: it works, and it leaves nothing behind, however it ends.

#![expect(clippy::unwrap_used, reason = "in a test, to panic is to fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use restante_playground::process::Signal;
use restante_playground::{Program, eventually};
use tempfile::TempDir;

/// A running demo, and the temporary directory in which it makes all its files.
struct Demo {
    process: Program,
    directory: TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // As for /tmp. If root runs this test, the server and its guard run as another user, who can remove the server's
        // directory only if that user may write here.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let arguments = [&["demo"], arguments].concat();
        let variables = [("TMPDIR", directory.path().to_str().unwrap())];
        Self { process: Program::start(env!("CARGO_BIN_EXE_restante"), &arguments, &variables), directory }
    }

    /// Waits until none of the demo's files and processes is left.
    async fn left_nothing_behind(self) {
        // The search below would also find the guard of the demo itself.
        drop(self.process);
        let here = self.directory.path();
        eventually("nothing left of the demo", async || {
            let files = fs::read_dir(here).unwrap().count();
            (files == 0 && processes_of(here).is_empty()).then_some(())
        })
        .await;
    }
}

/// The processes that work in the directory, were started with it as an argument, or know it from their environment.
fn processes_of(directory: &Path) -> Vec<String> {
    let mark = directory.to_str().unwrap();
    let mentions = |path: &Path| {
        let told = ["cmdline", "environ"].map(|file| fs::read(path.join(file)).unwrap_or_default());
        let works_in = fs::read_link(path.join("cwd")).is_ok_and(|path| path.starts_with(directory));
        works_in || told.iter().any(|text| String::from_utf8_lossy(text).contains(mark))
    };
    let Ok(table) = fs::read_dir("/proc") else { return Vec::new() };
    let processes =
        table.flatten().filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    processes
        .map(|entry| entry.path())
        .filter(|path| mentions(path))
        .map(|path| path.display().to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tells_its_story_and_leaves_nothing_behind() {
    let mut demo = Demo::start(&["--requests", "300"]);
    demo.process.until_logged("restante-worker is").await;
    if Path::new("/proc").exists() {
        assert!(
            !processes_of(demo.directory.path()).is_empty(),
            "the search finds the processes of the demo while they run"
        );
    }

    let status = demo.process.ended().await;
    let story = demo.process.log();

    assert!(status.success(), "{story}");
    for line in [
        "restante.submit_batch",
        "every request has its one result",
        "One SQL statement in, 300 answers out.",
        "restante.send_message",
        ", and it is done",
        "the library standardwebhooks verifies it: ntf_",
        "a signed webhook that its receiver verified",
        "select outcome, count(*)",
        "It works.",
    ] {
        assert!(story.contains(line), "{line:?} is not in:\n{story}");
    }
    assert!(!story.contains("whsec_") && !story.contains("sk-ant-"), "{story}");
    demo.left_nothing_behind().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_demo_leaves_nothing_behind() {
    for moment in [
        "Postgres starts",
        "restante-ingest receives webhooks",
        "sends them to the API",
        "the text in restante.message_chunk",
    ] {
        let mut demo = Demo::start(&[]);
        demo.process.until_logged(moment).await;

        demo.process.signal(Signal::Interrupt);

        assert_eq!(demo.process.ended().await.code(), Some(130), "{moment}\n{}", demo.process.log());
        demo.left_nothing_behind().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demo_that_was_killed_leaves_nothing_behind() {
    let mut demo = Demo::start(&["--keep", "--requests", "10"]);
    demo.process.until_logged("It goes on running").await;

    demo.process.kill_hard();

    demo.left_nothing_behind().await;
}
