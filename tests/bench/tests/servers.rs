//! Every baseline as the process that a measurement runs, under a short load.

use std::io::{Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use pulsegate_bench::compare::{self, Plan, Run, Side};
use pulsegate_bench::dialect::{Dialect, Exchange, FLAG_CONTROL, Speaks};
use pulsegate_bench::host::Cores;
use pulsegate_bench::loadgen::Work;
use pulsegate_bench::server::Server;
use pulsegate_bench::{idle, lateness, loadgen, shards, soak};
use pulsegate_conformance::pace::undisturbed;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pulsegate-bench");
const CORES: Cores = Cores { server: 0, load: 0 };
const PLAN: Plan = Plan {
    rounds: 1,
    connections: 9,
    work: Work::Requests { depth: 3, dialect: Dialect::Heartbeat },
    warm_up: Duration::from_millis(20),
    duration: Duration::from_millis(300),
    cores: CORES,
};

/// What leaves a load of 0.3 s the time to serve everybody, and a device the time to beat.
const HELD_UP: Duration = Duration::from_millis(150);

fn measure(sides: &[Side], plan: &Plan) -> Vec<Vec<Run>> {
    undisturbed(HELD_UP, || compare::measure(sides, plan)).unwrap()
}

fn side(arguments: &str, speaks: Speaks) -> Side {
    Side { name: arguments.to_owned(), command: format!("{PROGRAM} {arguments}"), speaks }
}

#[test]
fn shapes_answer_heartbeats() {
    let names =
        ["shape-task", "shape-task --shared-buffer", "shape-shard-asyncfd", "shape-shard-mio"];
    let sides = names.map(|name| side(name, Speaks::Protocol));
    for (side, runs) in sides.iter().zip(measure(&sides, &PLAN)) {
        assert!(runs[0].report.requests > 0, "{}", side.name);
        assert!(runs[0].report.least > 0, "{}", side.name);
    }
}

#[test]
fn echoes_return_packets_larger_than_any_buffer() {
    let sides = ["echo-epoll", "echo-tokio"].map(|name| side(name, Speaks::Echo));
    let work = Work::Requests { depth: 3, dialect: Dialect::Cycle(300_000) };
    compare::measure(&sides, &Plan { work, ..PLAN }).unwrap();
}

#[test]
fn a_comparison_names_both_sides() {
    let sides = [side("shape-shard-mio", Speaks::Protocol), side("echo-epoll", Speaks::Echo)];
    let runs = measure(&sides, &PLAN);
    let text = compare::describe(&sides, &runs);
    assert!(text.contains("server CPU/request") && text.contains("p99"), "{text}");
    assert!(text.contains("shape-shard-mio") && text.contains("echo-epoll"), "{text}");
}

#[test]
fn connections_come_and_go() {
    let sides = [side("shape-shard-mio", Speaks::Protocol), side("echo-epoll", Speaks::Echo)];
    for runs in measure(&sides, &Plan { work: Work::Churn, ..PLAN }) {
        let report = &runs[0].report;
        assert!(report.least > 0, "a lane stands still: {report}");
        // A lane may have moved the bytes of its first request before counting began.
        let counted = report.requests.saturating_sub(PLAN.connections as u64);
        assert!(report.bytes >= counted * 68, "34 bytes each way at least: {report}");
    }
}

#[test]
fn a_connection_with_another_answer_is_an_error() {
    let sides = [side("echo-epoll", Speaks::Protocol)];
    let error = compare::measure(&sides, &Plan { work: Work::Churn, ..PLAN }).unwrap_err();
    assert!(format!("{error:#}").contains("the reply differs"), "{error:#}");
}

#[test]
fn silent_clients_are_timed() {
    let command = format!("{PROGRAM} shape-shard-mio --idle-timeout 0.6");
    let plan = lateness::Plan {
        clients: 50,
        idle_timeout: Duration::from_millis(600),
        spread: Duration::from_millis(100),
        cores: CORES,
    };
    let outcome = lateness::measure(&command, &plan).unwrap();
    assert_eq!((outcome.lateness.len() + outcome.early, outcome.forgotten), (50, 0), "{outcome}");
    // A server whose timeout is shorter than said.
    let longer = Duration::from_secs(2);
    let outcome =
        lateness::measure(&command, &lateness::Plan { idle_timeout: longer, ..plan }).unwrap();
    assert_eq!(outcome.early, 50, "{outcome}");
    assert!(!outcome.is_right());
}

#[test]
fn a_fleet_loses_devices_and_goes_on() {
    let command = format!("{PROGRAM} shape-shard-mio --idle-timeout 0.8");
    let plan = soak::Plan {
        sessions: Some(60),
        beat: Duration::from_millis(200),
        dying: 20,
        idle_timeout: Duration::from_millis(800),
        duration: Duration::from_secs(3),
        cores: CORES,
    };
    let outcome = soak::run(&command, &plan).unwrap();
    assert!(outcome.latency.len() > 100, "{outcome}");
    assert!(outcome.died > 20 && outcome.lateness.len() + outcome.early > 10, "{outcome}");
    // A server that takes the living for dead.
    let timeout = Duration::from_secs(5);
    let plan = soak::Plan { beat: Duration::from_secs(4), idle_timeout: timeout, dying: 0, ..plan };
    let outcome = soak::run(&command, &plan).unwrap();
    assert!(outcome.false_closes > 0 && !outcome.is_right(), "{outcome}");
}

#[test]
fn shards_are_compared_with_one() {
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("not run: two shards need two cores");
        return;
    }
    // A server of one thread; its number of shards is an idle timeout to it.
    let command = format!("{PROGRAM} shape-shard-mio --idle-timeout {{shards}}0");
    let plan = shards::Plan {
        rounds: 2,
        shards: 2,
        connections: 9,
        depth: 2,
        warm_up: 0.02,
        seconds: 0.3,
        cores: CORES,
    };
    let program = Path::new(PROGRAM);
    let pairs = undisturbed(HELD_UP, || shards::measure(program, &command, &plan)).unwrap();
    assert!(pairs.iter().all(|(one, all)| one.rate > 0.0 && all.rate > 0.0), "{pairs:?}");
    assert!(shards::measure(program, "self shape-shard-mio", &plan).is_err());
}

#[test]
fn idle_sessions_are_counted() {
    let command = format!("{PROGRAM} shape-task");
    let cost = idle::measure(&command, Speaks::Protocol, 200, CORES).unwrap();
    assert!(cost.per_session() > 4096.0, "a buffer of 4 KiB each, but {cost:?}");
}

#[test]
fn shapes_close_silent_sessions_and_no_others() {
    for shape in ["shape-task", "shape-shard-asyncfd", "shape-shard-mio"] {
        let command = format!("{PROGRAM} {shape} --idle-timeout 0.4");
        let silence =
            undisturbed(HELD_UP, || silence_until_closed(&Server::start(&command, &[0], &[0])?));
        let silence = silence.unwrap();
        // The server's stamp is a little older than this side's.
        assert!(silence > Duration::from_millis(380), "{shape}: {silence:?}");
    }
}

/// Beats for longer than the timeout, then waits for the end of the connection.
fn silence_until_closed(server: &Server) -> anyhow::Result<Duration> {
    let exchange = Exchange::new(Dialect::Heartbeat, Speaks::Protocol);
    let mut stream = loadgen::connect(server.address, 0)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(&[FLAG_CONTROL])?;
    let mut reply = vec![0; exchange.reply.len()];
    for _ in 0..6 {
        thread::sleep(Duration::from_millis(150));
        stream.write_all(&exchange.request)?;
        stream.read_exact(&mut reply)?;
    }
    let silent = Instant::now();
    ensure!(stream.read(&mut reply)? == 0, "more than one reply");
    Ok(silent.elapsed())
}

#[test]
fn a_server_that_says_nothing_is_an_error() {
    assert!(Server::start("true", &[0], &[0]).is_err());
    assert!(Server::start("", &[0], &[0]).is_err());
    assert!(Server::start("/no/such/program", &[0], &[0]).is_err());
}
