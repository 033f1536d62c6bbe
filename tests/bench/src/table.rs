//! A server against a raw echo under one load after the other, as a table.

use std::fmt::Write;

use anyhow::Result;

use crate::compare::{self, Plan, Run, Side};
use crate::dialect::Dialect;
use crate::loadgen::Work;
use crate::stats::Summary;

/// A load: connections and what they do.
type Load = (usize, Work);

const fn heartbeats(connections: usize, depth: usize) -> Load {
    (connections, Work::Requests { depth, dialect: Dialect::Heartbeat })
}

const fn cycle(kib: usize, connections: usize) -> Load {
    (connections, Work::Requests { depth: 1, dialect: Dialect::Cycle(kib * 1024) })
}

const LOADS: [Load; 12] = [
    heartbeats(1, 1),
    heartbeats(64, 1),
    heartbeats(64, 16),
    heartbeats(1000, 1),
    heartbeats(1000, 16),
    cycle(4, 16),
    cycle(32, 16),
    cycle(64, 16),
    cycle(4, 64),
    cycle(32, 64),
    cycle(64, 64),
    (64, Work::Churn),
];

/// Runs both sides under every load, and hands each row out as it is known; connections and work of `plan` are
/// replaced.
pub fn measure(
    sides: &[Side; 2],
    plan: &Plan,
    row: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    let mut head = String::from("| load |");
    for name in ["requests/s", "server CPU per request", "p99"] {
        write!(head, " {name}, {} / {} |", sides[0].name, sides[1].name)?;
    }
    row(&format!("{head} least / most served |\n| --- | --- | --- | --- | --- |"))?;
    for (connections, work) in LOADS {
        let runs = compare::measure(sides, &Plan { connections, work, ..*plan })?;
        let [server, echo] = &runs[..] else { continue };
        row(&format!(
            "| {} | {:.2} | {:.2} | {:.2} | {:.2} |",
            name(connections, work),
            compare::ratios(server, echo, Run::rate),
            compare::ratios(server, echo, Run::cost),
            compare::ratios(server, echo, Run::p99),
            Summary::of(server.iter().map(Run::fairness)).median,
        ))?;
    }
    Ok(())
}

fn name(connections: usize, work: Work) -> String {
    match work {
        Work::Requests { depth, dialect: Dialect::Heartbeat } => {
            format!("heartbeats, {connections} × {depth}")
        }
        Work::Requests { depth, dialect: Dialect::Cycle(bytes) } => {
            format!("`CyclePacket` of {} KiB, {connections} × {depth}", bytes / 1024)
        }
        Work::Churn => format!("connect, flag, heartbeat, close, {connections} at once"),
    }
}
