//! What the programs do about signals at odd moments and about limits of the machine.

use std::process::Command;

use restante_playground::process::Signal;
use secrecy::ExposeSecret;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::processes::{API_KEY, INGEST, WORKER};
use crate::support::sender::signing_key;
use crate::support::{Delivery, Process, Sender, SimulatedApi, World, eventually};

/// Waits until a process catches SIGTERM.
async fn until_it_catches_sigterm(process: &Process) {
    const SIGTERM: u32 = 15;
    let status = format!("/proc/{}/status", process.pid());
    eventually("a handler of SIGTERM", async || {
        let status = std::fs::read_to_string(&status).ok()?;
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        (caught >> (SIGTERM - 1) & 1 == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_the_configuration_is_being_read_or_the_database_is_awaited_is_no_failure() {
    let directory = tempfile::tempdir().unwrap();
    for (number, program) in [INGEST, WORKER].into_iter().enumerate() {
        // Reading this file blocks until another process writes to it.
        let file = directory.path().join(number.to_string());
        assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
        let key = signing_key();
        let variables = [
            ("DATABASE_URL_FILE", file.to_str().unwrap()),
            ("ANTHROPIC_WEBHOOK_SIGNING_KEY", key.as_str()),
            ("ANTHROPIC_API_KEY", API_KEY),
            ("RESTANTE_LISTEN", "127.0.0.1:0"),
            ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ];
        let mut early = Process::start(program, &variables);
        until_it_catches_sigterm(&early).await;
        early.signal(Signal::Terminate);
        // No server listens there.
        let nowhere = "postgres://nobody:pw@127.0.0.1:9/nothing";
        tokio::task::spawn_blocking({
            let file = file.clone();
            move || std::fs::write(file, nowhere)
        })
        .await
        .unwrap()
        .unwrap();
        assert_eq!(early.ended().await.code(), Some(0), "{}", early.log());

        let mut waiting = [("DATABASE_URL", nowhere); 5];
        waiting[1..].copy_from_slice(&variables[1..]);
        let mut waiting = Process::start(program, &waiting);
        until_it_catches_sigterm(&waiting).await;
        assert_eq!(waiting.stopped().await, Some(0), "{}", waiting.log());
        assert!(waiting.log().contains("told to stop before the database answered"), "{}", waiting.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_that_goes_away_and_a_rotation_of_logs_end_nothing() {
    let world = World::new().await;
    let api = SimulatedApi::start().await;
    for mut program in
        [Process::ingest(&world.url, &[]).await, Process::worker(&world.url, &api.url, &[]).await]
    {
        let told_of =
            ["no file of the configuration has changed", "there is nothing to read anew", "signal\":12"];
        for (signal, told) in ["HUP", "USR1", "USR2"].iter().zip(told_of) {
            let pid = program.pid().to_string();
            assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().unwrap().success());
            program.until_logged(told).await;
        }

        assert_eq!(program.ops("/livez").await.0, 200);
        assert_eq!(program.stopped().await, Some(0), "{}", program.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_ingest_takes_deliveries_for_a_while_and_says_that_it_leaves() {
    let world = World::new().await;
    let more = [("RESTANTE_LINGER_SECONDS", "300"), ("RESTANTE_DRAIN_SECONDS", "3600")];
    let mut ingest = Process::ingest(&world.url, &more).await;
    let sender = Sender::to(ingest.address());
    assert_eq!(sender.status(&Delivery::event("whe_1", "session.created", "")).await, 204);

    ingest.signal(Signal::Terminate);
    ingest.until_logged("told to stop").await;

    let (status, page) = ingest.ops("/readyz").await;
    assert!(status == 503 && page.contains("the process is stopping"), "{page}");
    for number in 2..5 {
        let answer =
            sender.post(&Delivery::event(&format!("whe_{number}"), "session.created", "")).await.unwrap();
        assert_eq!((answer.status, answer.headers["connection"].to_str().unwrap()), (204, "close"));
    }
    assert_eq!(sender.raw(b"GET /webhook HTTP/1.1\r\nhost: a\r\n\r\n").await, 503);
    assert_eq!(world.value("select count(*) from restante.outbox").await, "4");
    // A second signal does not wait.
    assert_eq!(ingest.stopped().await, Some(130));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_files_may_be_open_keep_no_delivery_out() {
    let world = World::new().await;
    let key = signing_key();
    let variables = [
        ("DATABASE_URL", world.url.expose_secret()),
        ("ANTHROPIC_WEBHOOK_SIGNING_KEY", key.as_str()),
        ("RESTANTE_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_OPS_LISTEN", "127.0.0.1:0"),
        ("RESTANTE_LINGER_SECONDS", "0"),
        ("INGEST", INGEST),
    ];
    let mut ingest = Process::start_with("/bin/sh", &["-c", "ulimit -n 80; exec \"$INGEST\""], &variables);
    ingest.until_logged("receiving deliveries").await;
    assert!(ingest.log().contains("because of the limit of open files"), "{}", ingest.log());

    let mut idle = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(ingest.address()).await.unwrap();
        // Some of them begin a request and never complete it.
        if number % 4 == 0 {
            let _may_be_closed = stream.write_all(b"POST /webhook HTTP/1.1\r\n").await;
        }
        idle.push(stream);
    }
    let sender = Sender::without_kept_connections(ingest.address());
    for number in 0..20 {
        let delivery = Delivery::event(&format!("whe_{number}"), "session.created", "");
        assert_eq!(sender.status(&delivery).await, 204);
    }

    assert_eq!(world.value("select count(*) from restante.outbox").await, "20");
    assert_eq!(ingest.ops("/readyz").await.0, 200);
    drop(idle);
    assert_eq!(ingest.stopped().await, Some(0), "{}", ingest.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_notifications_keeps_no_delivery_waiting() {
    const FLOODS: usize = 4;
    let world = World::new().await;
    let api = SimulatedApi::start().await;
    let ingest = Process::ingest(&world.url, &[]).await;
    let mut worker = Process::worker(&world.url, &api.url, &[]).await;
    let sender = Sender::to(ingest.address());
    let floods: Vec<_> = (0..FLOODS)
        .map(|_| {
            let pool = world.pool.clone();
            tokio::spawn(async move {
                let shout = "select pg_notify($1, repeat('x', 7000) || n) from generate_series(1, 500) as n";
                loop {
                    sqlx::query(shout)
                        .bind(restante::internals::outbox::CHANNEL)
                        .execute(&pool)
                        .await
                        .unwrap();
                }
            })
        })
        .collect();

    for number in 0..50 {
        let delivery = Delivery::event(&format!("whe_{number}"), "owl.arrived", "");
        assert_eq!(sender.status(&delivery).await, 204);
    }
    eventually("all of them dealt with", async || {
        let ended = "select count(*) = 50 from restante.outbox where status = 'ignored'";
        (world.value(ended).await == "true").then_some(())
    })
    .await;

    for flood in floods {
        flood.abort();
    }
    assert_eq!(worker.stopped().await, Some(0), "{}", worker.log());
}
