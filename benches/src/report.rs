//! The report: tables as Markdown, for the terminal and for `docs/benchmarks.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::Bench;
use crate::cluster::OPTIONS;
use crate::figures::{PRODUCT, Table, number};
use crate::goals::GOALS;
use crate::machine::Machine;
use crate::peers::{self, QUEUES, RECEIVERS};
use crate::program::Runtime;

/// The heading of the part of the page that people write. The report keeps everything from there on.
const BY_HAND: &str = "## Where the time goes";

/// Writes the page, and keeps the part that people wrote.
pub(crate) fn write(
    path: &Path,
    machine: &Machine,
    bench: &Bench,
    tables: &[Table],
    foreign: f64,
) -> anyhow::Result<()> {
    let before = fs::read_to_string(path).unwrap_or_default();
    let by_hand = before.find(BY_HAND).map_or("", |at| before[at + BY_HAND.len()..].trim());
    let mut page = String::from("# Benchmarks\n\n");
    page.push_str(
        "Written by `make bench`. Product and peers took turns on one machine, beside one Postgres, in one run; each figure \
         is the median of its rounds. Compare within this page only: another machine, or another hour, gives other \
         figures. `foreign` is the largest part of the machine that was used by others during a round of that row; rows \
         where it is above 0.15 say little.\n\n",
    );
    page.push_str(&conditions(machine, bench, foreign));
    let _ = write!(page, "\n## Goals\n\n{}", goals(tables));
    for measured in tables {
        let _ = write!(page, "\n{}", table(measured));
    }
    let _ = write!(page, "\n{BY_HAND}\n\n{by_hand}\n");
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    Ok(fs::write(path, page)?)
}

/// One table with its title.
pub(crate) fn table(table: &Table) -> String {
    let mut text = format!("## {}\n\n{}\n\n", table.title, table.about);
    let quantities = table.quantities();
    let mut header = vec!["point".to_owned(), "subject".to_owned()];
    header.extend(quantities.iter().map(|quantity| (*quantity).to_owned()));
    if let Some(compared) = table.compared {
        header.push(format!("{PRODUCT} ÷ it ({compared})"));
    }
    header.push("foreign".to_owned());
    let rows = table.rows().into_iter().map(|(point, subject)| {
        let mut row = vec![point.to_owned(), subject.to_owned()];
        row.extend(quantities.iter().map(|quantity| number(table.median(point, subject, quantity))));
        if let Some(compared) = table.compared {
            let ratio = table.median(point, PRODUCT, compared).zip(table.median(point, subject, compared));
            row.push(number(ratio.filter(|_| subject != PRODUCT).map(|(product, peer)| product / peer)));
        }
        row.push(format!("{:.2}", table.foreign(point, subject)));
        row
    });
    lines(&mut text, &header, rows);
    text
}

/// Every goal for which the tables have figures.
pub(crate) fn goals(tables: &[Table]) -> String {
    let header = ["work", "goal", "this run", "met"].map(str::to_owned);
    let mut text = String::new();
    lines(&mut text, &header, GOALS.iter().filter_map(|goal| goal.row(tables)));
    text
}

fn lines(text: &mut String, header: &[String], rows: impl Iterator<Item = Vec<String>>) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "| {} |", header.join(" | "));
    let _ = writeln!(text, "|{}", "---|".repeat(header.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

fn conditions(machine: &Machine, bench: &Bench, foreign: f64) -> String {
    let mut text = String::from("## Conditions\n\n");
    let options: Vec<String> = OPTIONS.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "- {name}: {value}");
    };
    line("date", &chrono::Utc::now().format("%Y-%m-%d %H:%M UTC").to_string());
    line(
        "machine",
        &format!(
            "{} cores of {}, {} GiB, Linux {}; clients, servers and Postgres share it",
            machine.cores, machine.processor, machine.memory_gib, machine.kernel
        ),
    );
    line(
        "Postgres",
        &format!(
            "{}, a cluster of its own for each table, {}; fsync, synchronous_commit, full_page_writes and the rest \
             as they are by default",
            machine.postgres,
            options.join(", ")
        ),
    );
    line(
        "versions",
        &format!(
            "{}; what the peers need beside themselves is in the lock files of `benches/peers`",
            machine.versions.join(", ")
        ),
    );
    line("scale", &format!("{}, {} round(s)", bench.scale.name, bench.scale.rounds));
    line("used by others over the whole run", &format!("{:.0} %", foreign * 100.0));
    for receiver in RECEIVERS {
        let version = peers::version(bench, receiver.runtime, receiver.package).unwrap_or_default();
        line(&format!("receiver {} ({} {version})", receiver.name, receiver.package), receiver.settings);
    }
    for queue in QUEUES {
        let version = peers::version(bench, queue.runtime, queue.name).unwrap_or_default();
        line(&format!("queue {} {version}", queue.name), queue.settings);
    }
    let sdk = peers::version(bench, Runtime::Python, "anthropic").unwrap_or_default();
    line(
        &format!("SDK of results and submit (anthropic {sdk} for Python)"),
        "one process; psycopg for results",
    );
    text
}
