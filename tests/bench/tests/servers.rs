//! Every baseline as the process that a measurement runs, under a short load.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use pulsegate_bench::compare::{self, Plan, Side};
use pulsegate_bench::dialect::{Dialect, Exchange, FLAG_CONTROL, Speaks};
use pulsegate_bench::server::Server;
use pulsegate_bench::{idle, loadgen};

const PROGRAM: &str = env!("CARGO_BIN_EXE_pulsegate-bench");
const PLAN: Plan = Plan {
    rounds: 1,
    connections: 9,
    depth: 3,
    dialect: Dialect::Heartbeat,
    warm_up: Duration::from_millis(20),
    duration: Duration::from_millis(200),
    server_core: 0,
    load_core: 0,
};

fn side(arguments: &str, speaks: Speaks) -> Side {
    Side { name: arguments.to_owned(), command: format!("{PROGRAM} {arguments}"), speaks }
}

#[test]
fn shapes_answer_heartbeats() {
    let names =
        ["shape-task", "shape-task --shared-buffer", "shape-shard-asyncfd", "shape-shard-mio"];
    let sides = names.map(|name| side(name, Speaks::Protocol));
    for (side, runs) in sides.iter().zip(compare::measure(&sides, &PLAN).unwrap()) {
        assert!(runs[0].report.requests > 0, "{}", side.name);
        assert!(runs[0].report.least > 0, "{}", side.name);
    }
}

#[test]
fn echoes_return_packets_larger_than_any_buffer() {
    let sides = ["echo-epoll", "echo-tokio"].map(|name| side(name, Speaks::Echo));
    compare::measure(&sides, &Plan { dialect: Dialect::Cycle(300_000), ..PLAN }).unwrap();
}

#[test]
fn a_comparison_names_both_sides() {
    let sides = [side("shape-shard-mio", Speaks::Protocol), side("echo-epoll", Speaks::Echo)];
    let runs = compare::measure(&sides, &PLAN).unwrap();
    let text = compare::describe(&sides, &runs);
    assert!(text.contains("requests/s a/b"), "{text}");
    assert!(text.contains("shape-shard-mio") && text.contains("echo-epoll"), "{text}");
}

#[test]
fn idle_sessions_are_counted() {
    let command = format!("{PROGRAM} shape-task");
    let cost = idle::measure(&command, Speaks::Protocol, 200, (0, 0)).unwrap();
    assert!(cost.per_session() > 4096.0, "a buffer of 4 KiB each, but {cost:?}");
}

#[test]
fn shapes_close_silent_sessions_and_no_others() {
    for shape in ["shape-task", "shape-shard-asyncfd", "shape-shard-mio"] {
        let command = format!("{PROGRAM} {shape} --idle-timeout 0.4");
        let server = Server::start(&command, 0, 0).unwrap();
        let silence = silence_until_closed(&server).unwrap();
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
    assert!(Server::start("true", 0, 0).is_err());
    assert!(Server::start("", 0, 0).is_err());
    assert!(Server::start("/no/such/program", 0, 0).is_err());
}
