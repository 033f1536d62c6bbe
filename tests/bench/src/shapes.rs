//! The measurement of the shapes: each against the raw echo of the same round, as a table.

use std::fmt::Write;

use anyhow::Result;

use crate::compare::{self, Plan, Run, Side};
use crate::dialect::{Dialect, Speaks};
use crate::host::Cores;
use crate::idle;
use crate::loadgen::Work;
use crate::stats::Summary;

/// Connections and depth of each load.
const LOADS: [(usize, usize); 5] = [(64, 1), (64, 16), (1000, 1), (1000, 16), (1, 1)];

/// The echo that everything is compared with, and then the shapes.
fn sides() -> Vec<Side> {
    let side = |name: &str, arguments: &str, speaks| Side {
        name: name.to_owned(),
        command: format!("self {arguments}"),
        speaks,
    };
    vec![
        side("echo-epoll", "echo-epoll", Speaks::Echo),
        side("shape-task", "shape-task", Speaks::Protocol),
        side("shape-task, shared buffer", "shape-task --shared-buffer", Speaks::Protocol),
        side("shape-shard-asyncfd", "shape-shard-asyncfd", Speaks::Protocol),
        side("shape-shard-mio", "shape-shard-mio", Speaks::Protocol),
    ]
}

/// Runs every load on every shape; connections and work of `plan` are replaced.
pub fn throughput(plan: &Plan) -> Result<String> {
    let sides = sides();
    let mut table = String::from(
        "| load | server | requests/s vs. echo | server CPU per request vs. echo | \
         server CPU ns/request | requests/s | p50 µs | p99 µs | \
         least/most served | server busy | generator busy |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for (connections, depth) in LOADS {
        let work = Work::Requests { depth, dialect: Dialect::Heartbeat };
        let runs = compare::measure(&sides, &Plan { connections, work, ..*plan })?;
        for (side, of_side) in sides.iter().zip(&runs) {
            writeln!(
                table,
                "{}",
                row(&format!("{connections} × {depth}"), &side.name, of_side, &runs[0])
            )?;
        }
    }
    Ok(table)
}

fn row(load: &str, name: &str, runs: &[Run], echo: &[Run]) -> String {
    let median = |figure: fn(&Run) -> f64| Summary::of(runs.iter().map(figure)).median;
    format!(
        "| {load} | {name} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} | {:.0} % | {:.0} % |",
        compare::ratios(runs, echo, Run::rate),
        compare::ratios(runs, echo, Run::cost),
        median(Run::cost),
        median(Run::rate),
        median(|run| run.report.micros_at(50.0)),
        median(Run::p99),
        median(Run::fairness),
        median(Run::server_share) * 100.0,
        median(|run| run.report.busy_share()) * 100.0,
    )
}

/// Resident memory per idle session, for every shape.
pub fn idle(sessions: usize, cores: Cores) -> Result<String> {
    let mut table = String::from("| server | resident bytes per idle session |\n| --- | --- |\n");
    for side in sides() {
        let cost = idle::measure(&side.command, side.speaks, sessions, cores)?;
        writeln!(table, "| {} | {:.0} |", side.name, cost.per_session())?;
    }
    Ok(table)
}
