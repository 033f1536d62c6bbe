//! A server under test, as a child process.

use std::env;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::host;

/// How long a server may take until it says where it listens.
const START_LIMIT: Duration = Duration::from_secs(15);

/// A running server. Dropping it ends the process.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Server {
    /// Starts `command`, words separated by white space, the first word `self` meaning this very program.
    ///
    /// The process inherits `cores` from a moment's pinning of the calling thread, which ends up on `own_cores`: so any
    /// program can be placed, with all its threads, and no code runs between fork and exec.
    pub fn start(command: &str, cores: &[usize], own_cores: &[usize]) -> Result<Self> {
        let mut words = command.split_whitespace();
        let program = match words.next() {
            None => bail!("no command to start"),
            Some("self") => env::current_exe().context("this program has no path")?,
            Some(word) => word.into(),
        };
        host::pin(cores)?;
        let started =
            Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        host::pin(own_cores)?;
        let mut child = started.with_context(|| format!("cannot start `{command}`"))?;
        match await_address(&mut child) {
            Ok(address) => Ok(Self { child, address }),
            Err(error) => {
                end(&mut child);
                Err(error.context(format!("`{command}` did not start")))
            }
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn end(child: &mut Child) {
    // Fails only where the process is gone already, which is what is wanted.
    let _ = child.kill();
    let _ = child.wait();
}

fn await_address(child: &mut Child) -> Result<SocketAddr> {
    let stdout = child.stdout.take().context("the server has no standard output")?;
    let (sender, receiver) = mpsc::channel();
    // A thread, because reading a pipe has no time limit; it goes on reading so that the server never blocks on it.
    thread::spawn(move || first_line(stdout, &sender));
    let line = receiver.recv_timeout(START_LIMIT).context("no line on its standard output")??;
    let address = line
        .trim()
        .strip_prefix("listening on ")
        .with_context(|| format!("unexpected line `{line}`"))?;
    address.parse().with_context(|| format!("no address in `{line}`"))
}

fn first_line(stdout: ChildStdout, sender: &Sender<io::Result<String>>) {
    let mut reader = BufReader::new(stdout);
    let mut line = String::new();
    let read = reader.read_line(&mut line).map(|_| line);
    if sender.send(read).is_ok() {
        let _ = io::copy(&mut reader, &mut io::sink());
    }
}
