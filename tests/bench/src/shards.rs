//! A server on every core against the same server on one: what a request costs, and whether anybody starves.
//!
//! With one shard, one load generator has the other core. With all of them, as many load generators as shards share the
//! cores with the server, each a process of its own, because no single one could keep several shards busy.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::host::{self, Cores};
use crate::loadgen::Figures;
use crate::server::Server;
use crate::stats::Summary;

/// What a load generator says when it waits for a line that lets it begin.
pub const READY: &str = "ready";
/// What it says when its warm-up is over.
pub const BEGIN: &str = "begin";
/// What it says when the measured time is over; its figures follow.
pub const END: &str = "end";
/// Where the number of shards goes in a command line.
const PLACE: &str = "{shards}";
/// A load generator may take so much longer than it is told to run, for connecting above all.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each side runs.
    pub rounds: usize,
    /// How many shards, cores and load generators are all of them.
    pub shards: usize,
    /// How many connections, over all load generators.
    pub connections: usize,
    /// Requests outstanding on each.
    pub depth: usize,
    /// Seconds before anything is counted.
    pub warm_up: f64,
    /// Seconds that are counted.
    pub seconds: f64,
    /// Where one shard and one load generator run.
    pub cores: Cores,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Requests per second, of all load generators together.
    pub rate: f64,
    /// CPU time of the server per request, in nanoseconds.
    pub cost: f64,
    /// Replies of the least served connection of all for each reply of the most served one.
    pub fairness: f64,
    /// The worst p99 of any load generator, in microseconds.
    pub p99: f64,
}

/// Runs one shard and all of them in turn; `{shards}` in `command` stands for their number. `generator` is this program,
/// whose processes are the load.
pub fn measure(generator: &Path, command: &str, plan: &Plan) -> Result<Vec<(Run, Run)>> {
    ensure!(
        command.contains(PLACE),
        "the server's command needs {PLACE}, where the number of shards goes"
    );
    ensure!(plan.rounds > 0 && plan.shards > 1, "at least one round, and more than one shard");
    ensure!(plan.connections >= plan.shards, "at least one connection for each load generator");
    host::raise_descriptor_limit()?;
    let all: Vec<usize> = (0..plan.shards).collect();
    let run = |shards: usize, server_cores: &[usize], load_cores: &[usize]| {
        let command = command.replace(PLACE, &shards.to_string());
        let server = Server::start(&command, server_cores, load_cores)?;
        run(generator, &server, shards, plan)
    };
    let one = || run(1, &[plan.cores.server], &[plan.cores.load]);
    let many = || run(plan.shards, &all, &all);
    let mut pairs = Vec::new();
    for round in 0..plan.rounds {
        let pair = if round % 2 == 0 {
            let one = one()?;
            (one, many()?)
        } else {
            let many = many()?;
            (one()?, many)
        };
        pairs.push(pair);
    }
    Ok(pairs)
}

/// The load generators inherit the cores of the calling thread.
fn run(generator: &Path, server: &Server, shards: usize, plan: &Plan) -> Result<Run> {
    let (sender, lines) = mpsc::channel();
    let mut loads = Loads(Vec::new());
    for index in 0..shards {
        let share = plan.connections / shards + usize::from(index < plan.connections % shards);
        loads.0.push(start_load(generator, server, share, plan, sender.clone())?);
    }
    drop(sender);
    await_all(&lines, shards, READY)?;
    for child in &mut loads.0 {
        let stdin = child.stdin.as_mut().context("a load generator has no standard input")?;
        stdin.write_all(b"\n").context("a load generator has failed")?;
    }
    await_all(&lines, shards, BEGIN)?;
    let (began, before) = (Instant::now(), host::cpu_time(server.pid())?);
    await_all(&lines, 1, END)?;
    let used = host::cpu_time(server.pid())?.saturating_sub(before);
    let share = used.as_secs_f64() / began.elapsed().as_secs_f64();
    let mut figures = Vec::new();
    while figures.len() < shards {
        let line = next_line(&lines)?;
        if line != END {
            figures.push(line.parse::<Figures>()?);
        }
    }
    summarize(&figures, share)
}

/// The load generators of a run. Dropping them ends the processes.
struct Loads(Vec<Child>);

impl Drop for Loads {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Fails only where the process is gone already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn start_load(
    generator: &Path,
    server: &Server,
    connections: usize,
    plan: &Plan,
    lines: Sender<String>,
) -> Result<Child> {
    let mut child = Command::new(generator)
        .args(["load", "--figures", "--server", &server.address.to_string()])
        .args(["--connections", &connections.to_string()])
        .args(["--depth", &plan.depth.to_string()])
        .args(["--warm-up", &plan.warm_up.to_string(), "--seconds", &plan.seconds.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a load generator")?;
    let stdout = child.stdout.take().context("the load generator has no standard output")?;
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more when the run has failed.
            let _ = lines.send(line);
        }
    });
    Ok(child)
}

fn await_all(lines: &Receiver<String>, mut count: usize, expected: &str) -> Result<()> {
    while count > 0 {
        let line = next_line(lines)?;
        ensure!(line == expected, "a load generator said `{line}`, not `{expected}`");
        count -= 1;
    }
    Ok(())
}

fn next_line(lines: &Receiver<String>) -> Result<String> {
    match lines.recv_timeout(PATIENCE) {
        Ok(line) => Ok(line),
        Err(error) => bail!("a load generator has failed, or said nothing for too long: {error}"),
    }
}

fn summarize(figures: &[Figures], share: f64) -> Result<Run> {
    let lost: u64 = figures.iter().map(|figures| figures.errors).sum();
    ensure!(lost == 0, "{lost} connections were lost");
    let rate: f64 = figures.iter().map(|figures| figures.rate).sum();
    ensure!(rate > 0.0, "not one reply");
    let least = figures.iter().map(|figures| figures.least).min().unwrap_or(0);
    let most = figures.iter().map(|figures| figures.most).max().unwrap_or(0);
    let p99 = figures.iter().map(|figures| figures.p99).fold(0.0, f64::max);
    Ok(Run { rate, cost: share * 1e9 / rate, fairness: least as f64 / most as f64, p99 })
}

/// The measurement as text.
#[must_use]
pub fn describe(pairs: &[(Run, Run)], shards: usize) -> String {
    let mut text = String::new();
    for (index, (one, all)) in pairs.iter().enumerate() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "pair {index}: 1 shard {:.0}/s, {shards} shards {:.0}/s; CPU per request {:.3} of one shard's",
            one.rate,
            all.rate,
            all.cost / one.cost
        );
    }
    let ratio = |figure: fn(&Run) -> f64| {
        Summary::of(pairs.iter().map(|(one, all)| figure(all) / figure(one)))
    };
    let of_all = |figure: fn(&Run) -> f64| Summary::of(pairs.iter().map(|(_, all)| figure(all)));
    let of_one = |figure: fn(&Run) -> f64| Summary::of(pairs.iter().map(|(one, _)| figure(one)));
    let _ = write!(
        text,
        "{shards} shards / 1 shard, median (least–greatest):\n\
         \x20 server CPU/request  {:.3}\n\
         \x20 requests/s          {:.3}, the load generators having a core of their own with one shard only\n\
         least/most served     {shards} shards {:.3}, 1 shard {:.3}\n\
         latency p99 us        {shards} shards {:.0}, 1 shard {:.0}",
        ratio(|run| run.cost),
        ratio(|run| run.rate),
        of_all(|run| run.fairness),
        of_one(|run| run.fairness),
        of_all(|run| run.p99),
        of_one(|run| run.p99),
    );
    text
}
