//! The wire cases against the command, over real TCP, with timeouts short enough for a test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use pulsegate_conformance::tcp::TcpTarget;
use pulsegate_conformance::{
    Files, Limits, Login, Options, RemoteStream, Report, Target, run_parallel,
};

/// Large enough for the largest packet.
const MAX_FILE: usize = 10 * 1024 * 1024 + 512 * 1024;

/// A server that ends with the test, however the test ends.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_pulsegate"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "warn"])
            .args(["--flag-timeout", "600ms", "--idle-timeout", "1s", "--tick", "20ms"])
            .args(arguments)
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

fn limits() -> Limits {
    Limits {
        flag_timeout: Duration::from_millis(600),
        idle_timeout: Duration::from_secs(1),
        tick: Duration::from_millis(20),
        ..Limits::host()
    }
}

fn check(server: &Server, limits: &Limits, filter: Option<&str>) -> Report {
    let factory =
        || Ok(Box::new(TcpTarget::new(server.address, limits.clone())) as Box<dyn Target>);
    let options = Options { filter: filter.map(str::to_owned), ..Options::default() };
    let report = run_parallel(factory, &options);
    assert!(report.is_success(), "{} of {} cases failed", report.failed(), report.cases.len());
    report
}

/// Adds a user whose password is the name.
fn add_user(users: &Path, name: &str, role: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pulsegate"))
        .args(["user", "add", name, "--role", role, "--password-stdin", "--users"])
        .arg(users)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(name.as_bytes()).expect("the command reads the password");
    drop(stdin);
    assert!(child.wait().expect("the command ends").success(), "user {name} is added");
}

#[test]
fn the_command_keeps_the_wire_contract() {
    let scratch = tempfile::tempdir().expect("a directory");
    let (users, files) = (scratch.path().join("users.toml"), scratch.path().join("files"));
    std::fs::create_dir(&files).expect("a directory for files");
    add_user(&users, "admin", "operator");
    add_user(&users, "meter", "device");
    let max_file = MAX_FILE.to_string();
    let server = Server::start([
        OsStr::new("--users"),
        users.as_os_str(),
        OsStr::new("--files"),
        files.as_os_str(),
        OsStr::new("--max-file-bytes"),
        OsStr::new(&max_file),
        OsStr::new("--remote-stream"),
        OsStr::new("login"),
    ]);
    let limits = Limits {
        device: Some(Login::new("meter", "meter")),
        files: Some(Files { max_file: MAX_FILE, full_at: Some(MAX_FILE), ..Files::host() }),
        ..limits()
    };
    let report = check(&server, &limits, None);
    // Nothing is switched off here.
    assert_eq!(report.skipped(), 1, "a host can be asked everything");
}

#[test]
fn what_is_switched_off_is_refused() {
    let server = Server::start(["--log-output", "off"]);
    let limits = Limits { files: None, remote_stream: RemoteStream::Off, log: false, ..limits() };
    assert_eq!(limits.flags_off(), [2, 3, 4, 9]);
    check(&server, &limits, Some("switched_off"));
}

#[test]
fn remote_stream_may_be_open_to_everybody() {
    let files = tempfile::tempdir().expect("a directory");
    let server = Server::start([
        OsStr::new("--files"),
        files.path().as_os_str(),
        OsStr::new("--remote-stream"),
        OsStr::new("open"),
    ]);
    let limits = Limits { remote_stream: RemoteStream::Open, ..limits() };
    assert_eq!(check(&server, &limits, Some("remote_stream/")).skipped(), 0);
}
