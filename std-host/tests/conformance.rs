//! The wire cases against the command, over real TCP, with timeouts short enough for a test.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use pulsegate_conformance::tcp::TcpTarget;
use pulsegate_conformance::{Limits, Options, Target, run_parallel};

/// A server that ends with the test, however the test ends.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start() -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_pulsegate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"])
            .args(["--flag-timeout", "600ms", "--idle-timeout", "1s", "--tick", "20ms"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        // Held from here on, so that a panic below ends the child too.
        let mut server = Self { child, address: SocketAddr::from(([127, 0, 0, 1], 0)) };
        let stdout = server.child.stdout.take().expect("stdout is piped");
        let (sender, lines) = mpsc::channel();
        // Reads on after the first line: a full pipe would stop the server.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let line =
            lines.recv_timeout(Duration::from_secs(10)).expect("the server says where it listens");
        let address =
            line.strip_prefix("listening on ").expect("the first line is `listening on ADDR:PORT`");
        server.address = address.trim().parse().expect("an address and a port");
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_command_keeps_the_wire_contract() {
    let server = Server::start();
    let limits = Limits {
        flag_timeout: Duration::from_millis(600),
        idle_timeout: Duration::from_secs(1),
        tick: Duration::from_millis(20),
        ..Limits::host()
    };
    let factory =
        || Ok(Box::new(TcpTarget::new(server.address, limits.clone())) as Box<dyn Target>);
    let report = run_parallel(factory, &Options::default());
    assert!(report.is_success(), "{} of {} cases failed", report.failed(), report.cases.len());
    assert_eq!(report.skipped(), 0, "a host can be asked everything");
}
