//! The built command as a child of the test, and devices that talk to it over blocking sockets.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

pub(crate) mod device;

/// What a machine that runs tests may take for anything; no rule of the protocol is measured by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

const PULSEGATE: &str = env!("CARGO_BIN_EXE_pulsegate");

/// A server that ends with the test, however the test ends.
pub(crate) struct Server {
    child: Child,
    /// What the first line on standard output said.
    pub(crate) address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// `pulsegate serve` on a free loopback port, unless `args` say where.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(PULSEGATE);
        command.arg("serve");
        Self::spawn(command, args)
    }

    /// The same with a lowered limit, soft and hard: an option of the shell's `ulimit` and its value.
    pub(crate) fn start_limited(limit: &str, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let script = format!("ulimit {limit} && exec \"$0\" serve \"$@\"");
        command.args(["-c", &script, PULSEGATE]);
        Self::spawn(command, args)
    }

    /// The same in a network namespace.
    pub(crate) fn start_in(namespace: &str, args: &[&str]) -> Self {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, PULSEGATE, "serve"]);
        Self::spawn(command, args)
    }

    fn spawn(mut command: Command, args: &[&str]) -> Self {
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        // Held from here on, so that a panic below ends the child too.
        let mut server = Self { child, address, log: Arc::default(), reader: None };
        let stderr = server.child.stderr.take().expect("stderr is piped");
        let log = Arc::clone(&server.log);
        server.reader = Some(std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                log.lock().expect("no reader panics").push(line);
            }
        }));
        let stdout = server.child.stdout.take().expect("stdout is piped");
        let (sender, first) = mpsc::channel();
        std::thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = sender.send(line);
            // A full pipe would stop the server.
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let line = first.recv_timeout(PATIENCE).expect("the server says where it listens");
        let address = line.strip_prefix("listening on ").and_then(|rest| rest.strip_suffix('\n'));
        let Some(address) = address.and_then(|address| address.parse().ok()) else {
            panic!("first line {line:?}, log {:?}", server.log());
        };
        server.address = address;
        server
    }

    /// What stands on standard error so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("the reader of the log does not panic").clone()
    }

    /// Waits until `enough` of the log's lines hold `part`, and gives them.
    pub(crate) fn wait_for_log(&self, part: &str, enough: usize) -> Vec<String> {
        let start = Instant::now();
        loop {
            let lines: Vec<_> = self.log().into_iter().filter(|line| line.contains(part)).collect();
            if lines.len() >= enough {
                return lines;
            }
            let waited = start.elapsed();
            assert!(waited < PATIENCE, "{enough} lines of {part:?} in {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the `closed` line of this peer's connection.
    pub(crate) fn wait_for_close(&self, peer: SocketAddr) -> String {
        let start = Instant::now();
        loop {
            if let Some(lines) = self.closes().remove(&peer) {
                return lines.into_iter().next().expect("a line");
            }
            assert!(start.elapsed() < PATIENCE, "{peer} stays: {:#?}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The `closed` lines so far, by the peer's address.
    pub(crate) fn closes(&self) -> HashMap<SocketAddr, Vec<String>> {
        let mut closes = HashMap::<_, Vec<String>>::new();
        for line in self.log().into_iter().filter(|line| line.contains(" closed session=")) {
            let remote = field(&line, "remote").parse().expect("an address in the log");
            closes.entry(remote).or_default().push(line);
        }
        closes
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal)
            .expect("the child has not been waited for");
    }

    /// Waits for the server's end by itself, and for the rest of its log.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let status = wait(&mut self.child);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader of the log does not panic");
        }
        status
    }

    /// SIGTERM must end a server that still works with exit code 0.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{:#?}", self.log());
        self.log()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("the server's log: {log:#?}");
        }
    }
}

fn wait(child: &mut Child) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            return status;
        }
        if start.elapsed() > PATIENCE {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the command has not ended by itself");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a command line that should end by itself, with `input` on standard input.
pub(crate) fn run(args: &[&str], input: &str) -> Output {
    use std::io::Write;
    let mut child = Command::new(PULSEGATE)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    // A command that reads nothing may be gone already.
    let _ = child.stdin.take().expect("stdin is piped").write_all(input.as_bytes());
    // Short outputs only: they fit the pipes.
    let status = wait(&mut child);
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    child.stdout.take().expect("stdout is piped").read_to_end(&mut stdout).expect("readable");
    child.stderr.take().expect("stderr is piped").read_to_end(&mut stderr).expect("readable");
    Output { status, stdout, stderr }
}

/// `pulsegate user …`, which must succeed; gives what it prints on standard output.
pub(crate) fn user(args: &[&str], input: &str) -> String {
    let output = run(&[&["user"], args].concat(), input);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
}

/// The value of `name=value` or `name="value"` on a log line.
pub(crate) fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let value = line
        .split(' ')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or_else(|| panic!("no {name}= in {line}"));
    value.trim_matches('"')
}
