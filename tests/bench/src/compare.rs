//! Two or more servers under the same load, turn about.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::dialect::Speaks;
use crate::host::{self, Cores};
use crate::loadgen::{self, Load, Mark, Report, Work};
use crate::server::Server;
use crate::stats::Summary;

/// A server to measure.
#[derive(Clone, Debug)]
pub struct Side {
    /// What the report calls it.
    pub name: String,
    /// Its command line.
    pub command: String,
    /// What it does with bytes.
    pub speaks: Speaks,
}

/// The load that every side gets.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each side runs.
    pub rounds: usize,
    /// How many connections at once.
    pub connections: usize,
    /// What each of them does.
    pub work: Work,
    /// Runs before anything is counted.
    pub warm_up: Duration,
    /// What is counted.
    pub duration: Duration,
    /// Where servers and the load generator run.
    pub cores: Cores,
}

/// One run of one side.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the load generator saw.
    pub report: Report,
    /// CPU time of the server, all its threads, in the measured time.
    pub server_time: Duration,
    /// Resident memory of the server under the load, in bytes.
    pub resident: u64,
}

impl Run {
    /// Requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.report.rate()
    }

    /// The latency that one request in a hundred exceeds, in microseconds.
    #[must_use]
    pub fn p99(&self) -> f64 {
        self.report.micros_at(99.0)
    }

    /// CPU time of the server per request, in nanoseconds.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.server_time.as_secs_f64() * 1e9 / self.report.requests as f64
    }

    /// The share of the measured time that the server was at work.
    #[must_use]
    pub fn server_share(&self) -> f64 {
        self.server_time.as_secs_f64() / self.report.elapsed.as_secs_f64()
    }

    /// Replies of the least served connection for each reply of the most served one.
    #[must_use]
    pub fn fairness(&self) -> f64 {
        self.report.least as f64 / self.report.most as f64
    }
}

/// Runs every side once per round and returns the runs of each side.
///
/// Odd rounds go backwards: what drifts while a round lasts falls on each side alike.
pub fn measure(sides: &[Side], plan: &Plan) -> Result<Vec<Vec<Run>>> {
    ensure!(plan.rounds > 0, "at least one round");
    host::raise_descriptor_limit()?;
    let mut runs = vec![Vec::new(); sides.len()];
    for round in 0..plan.rounds {
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for index in order {
            let run = run_once(&sides[index], plan)
                .with_context(|| format!("round {round}, {}", sides[index].name))?;
            runs[index].push(run);
        }
    }
    Ok(runs)
}

fn run_once(side: &Side, plan: &Plan) -> Result<Run> {
    let server = Server::start(&side.command, &[plan.cores.server], &[plan.cores.load])?;
    let load = Load {
        address: server.address,
        connections: plan.connections,
        work: plan.work,
        speaks: side.speaks,
        warm_up: plan.warm_up,
        duration: plan.duration,
    };
    let mut at_begin = None;
    let mut at_end = None;
    let report = loadgen::run(&load, &mut |mark| {
        let sample = host::cpu_time(server.pid());
        match mark {
            Mark::Ready => {}
            Mark::Begin => at_begin = Some(sample),
            Mark::End => {
                at_end = Some(sample.and_then(|time| Ok((time, host::resident(server.pid())?))))
            }
        }
    })?;
    let began = at_begin.context("the load never began")??;
    let (ended, resident) = at_end.context("the load never ended")??;
    let first = report.first_error.as_deref().unwrap_or_default();
    ensure!(report.errors == 0, "{} connections were lost, first: {first}", report.errors);
    ensure!(report.requests > 0, "not one reply");
    Ok(Run { report, server_time: ended.saturating_sub(began), resident })
}

/// Ratios of one side's figures to another's, run by run.
#[must_use]
pub fn ratios(runs: &[Run], base: &[Run], figure: impl Fn(&Run) -> f64) -> Summary {
    Summary::of(runs.iter().zip(base).map(|(run, base)| figure(run) / figure(base)))
}

/// The comparison of two sides, as text.
#[must_use]
pub fn describe(sides: &[Side; 2], runs: &[Vec<Run>]) -> String {
    let [a, b] = runs else { return String::new() };
    let mut lines = Vec::new();
    for (pair, (a, b)) in a.iter().zip(b).enumerate() {
        let ratios = FIGURES.map(|(name, figure)| format!("{name} {:.3}", figure(a) / figure(b)));
        let (a, b) = (a.report.rate(), b.report.rate());
        lines.push(format!("pair {pair}: a {a:.0}/s, b {b:.0}/s; a/b: {}", ratios.join(", ")));
    }
    lines.push("a/b, median (least–greatest):".to_owned());
    for (name, figure) in FIGURES {
        lines.push(format!("  {name:<19} {:.3}", ratios(a, b, figure)));
    }
    for (side, runs) in sides.iter().zip(runs) {
        lines.push(format!("{}: {}", side.name, side.command));
        let of = |figure: fn(&Run) -> f64| Summary::of(runs.iter().map(figure));
        lines.push(format!("  requests/s          {:.0}", of(Run::rate)));
        let mib = of(|run| {
            run.report.bytes as f64 / run.report.elapsed.as_secs_f64() / (1024.0 * 1024.0)
        });
        lines.push(format!("  MiB/s, both ways    {mib:.1}"));
        lines.push(format!("  latency p50 us      {:.1}", of(|run| run.report.micros_at(50.0))));
        lines.push(format!("  latency p99 us      {:.1}", of(Run::p99)));
        lines.push(format!("  least/most served   {:.3}", of(Run::fairness)));
        lines.push(format!("  server CPU ns/req   {:.0}", of(Run::cost)));
        lines.push(format!("  server busy         {:.2}", of(Run::server_share)));
        lines.push(format!("  generator busy      {:.2}", of(|run| run.report.busy_share())));
        lines.push(format!("  server RSS KiB      {:.0}", of(|run| run.resident as f64 / 1024.0)));
    }
    lines.join("\n")
}

/// A figure of a run.
type Figure = fn(&Run) -> f64;

/// What is compared run by run.
const FIGURES: [(&str, Figure); 3] =
    [("requests/s", Run::rate), ("server CPU/request", Run::cost), ("p99", Run::p99)];
