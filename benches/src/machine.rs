//! The machine: what it is, and how much of it other processes used during a measurement. Reads /proc, so it needs Linux.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

/// What a reader must know about the machine to judge the figures.
#[derive(Debug)]
pub(crate) struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: u64,
    pub kernel: String,
    /// The version of `postgres`, as it prints it.
    pub postgres: String,
    /// The versions of `rustc`, `node` and `python3`, as far as they are installed.
    pub versions: Vec<String>,
}

impl Machine {
    /// Describes the machine, and the Postgres in `pg_bin`.
    pub(crate) fn look(pg_bin: &Path) -> anyhow::Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
        let meminfo = fs::read_to_string("/proc/meminfo")?;
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory_kib: u64 = field(&meminfo, "MemTotal")
            .and_then(|value| value.split_whitespace().next()?.parse().ok())
            .unwrap_or(0);
        let version = |program: &Path| {
            let output = Command::new(program).arg("--version").output().ok()?;
            Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
        };
        Ok(Self {
            processor: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory_kib.div_ceil(1024 * 1024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            postgres: version(&pg_bin.join("postgres")).unwrap_or_default(),
            versions: [("", "rustc"), ("node ", "node"), ("", "python3")]
                .into_iter()
                .filter_map(|(label, program)| Some(format!("{label}{}", version(program.as_ref())?)))
                .collect(),
        })
    }
}

/// The CPU time that a tree of processes and the whole machine have used up to a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    at: Instant,
    tree: Duration,
    busy: Duration,
}

impl Usage {
    /// The usage of a process and of all processes that it started.
    pub(crate) fn now(root: u32) -> anyhow::Result<Self> {
        Ok(Self { at: Instant::now(), tree: tree_cpu(root)?, busy: machine_cpu()? })
    }

    /// The time that the tree has used.
    pub(crate) fn cpu(&self) -> Duration {
        self.tree
    }

    /// The time that the tree has used since `before`.
    pub(crate) fn cpu_since(&self, before: &Self) -> Duration {
        self.tree.saturating_sub(before.tree)
    }

    /// The part of the machine, 0 to 1, that processes outside the tree have used since `before`.
    pub(crate) fn foreign_since(&self, before: &Self) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let whole = self.at.duration_since(before.at).as_secs_f64() * cores as f64;
        let busy = self.busy.saturating_sub(before.busy).saturating_sub(self.cpu_since(before));
        (busy.as_secs_f64() / whole).clamp(0.0, 1.0)
    }
}

/// The largest memory that a process has held so far, in MiB.
pub(crate) fn peak_memory_mib(pid: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    let kib: f64 = line.split_whitespace().nth(1).context("VmHWM has no value")?.parse()?;
    Ok(kib / 1024.0)
}

/// /proc counts in hundredths of a second on every current Linux (`getconf CLK_TCK`).
const TICK: Duration = Duration::from_millis(10);

fn tree_cpu(root: u32) -> anyhow::Result<Duration> {
    let mut parents = HashMap::new();
    let mut ticks = HashMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // Processes come and go meanwhile.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = fields.split(' ').collect();
        // proc(5), counted from the state: parent 1; utime, stime, and those of children waited for, 11 to 14.
        let number = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        parents.insert(pid, number(1).unwrap_or(0) as u32);
        ticks.insert(pid, (11..=14).filter_map(number).sum::<u64>());
    }
    let below = |mut pid: u32| {
        while pid != root {
            match parents.get(&pid) {
                Some(parent) if *parent != pid => pid = *parent,
                _ => return false,
            }
        }
        true
    };
    let sum: u64 = ticks.iter().filter(|(pid, _)| below(**pid)).map(|(_, ticks)| *ticks).sum();
    Ok(TICK * u32::try_from(sum)?)
}

/// The first line of /proc/stat: user nice system idle iowait irq softirq steal.
fn machine_cpu() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let fields: Vec<u64> = stat
        .lines()
        .next()
        .context("/proc/stat is empty")?
        .split_whitespace()
        .skip(1)
        .map_while(|field| field.parse().ok())
        .collect();
    let busy: u64 = [0, 1, 2, 5, 6, 7].iter().filter_map(|index| fields.get(*index)).sum();
    Ok(Duration::from_millis(busy * 10))
}
