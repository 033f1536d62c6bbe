//! What an idle session costs in resident memory.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::dialect::{Dialect, Exchange, Speaks};
use crate::host::{self, Cores};
use crate::loadgen;
use crate::server::Server;

/// Descriptors that a process needs besides its connections.
const RESERVE: u64 = 64;
/// A heartbeat that takes longer has been lost.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
/// Lets the server finish what the last connection started.
const SETTLE: Duration = Duration::from_millis(500);

/// The cost of idle sessions.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// How many were open.
    pub sessions: usize,
    /// Resident memory with one session that had exchanged a heartbeat, in bytes.
    pub before: u64,
    /// Resident memory with all of them.
    pub after: u64,
}

impl Cost {
    /// Resident bytes per session.
    #[must_use]
    pub fn per_session(&self) -> f64 {
        self.after.saturating_sub(self.before) as f64 / self.sessions as f64
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (before, after) = (self.before / 1024, self.after / 1024);
        writeln!(f, "resident before {before} KiB, after {after} KiB")?;
        let bytes = self.per_session();
        write!(f, "{bytes:.0} bytes per idle session, {} sessions", self.sessions)
    }
}

/// Opens `sessions` connections, exchanges one heartbeat on each, and compares the server's resident memory.
///
/// Memory of the kernel (sockets, their queues) is not part of it: every shape of server pays the same there.
pub fn measure(command: &str, speaks: Speaks, sessions: usize, cores: Cores) -> Result<Cost> {
    ensure!(sessions > 0, "at least one session");
    let limit = host::raise_descriptor_limit()?;
    ensure!(sessions as u64 + RESERVE <= limit, "the descriptor limit is {limit}");
    let server = Server::start(command, &[cores.server], &[cores.load])?;
    let exchange = Exchange::new(Dialect::Heartbeat, speaks);
    // What the first session brings about once (pages touched, queues made) is no session's cost.
    let first = open(&server, &exchange, 0)?;
    thread::sleep(SETTLE);
    let before = host::resident(server.pid())?;
    let mut open_sessions = Vec::with_capacity(sessions);
    for index in 1..=sessions {
        open_sessions.push(open(&server, &exchange, index)?);
    }
    thread::sleep(SETTLE);
    let after = host::resident(server.pid())?;
    for session in open_sessions.iter_mut().chain([&mut { first }]) {
        ensure!(still_open(session), "a session was closed while the measurement lasted");
    }
    Ok(Cost { sessions, before, after })
}

fn open(server: &Server, exchange: &Exchange, index: usize) -> Result<TcpStream> {
    let mut stream = loadgen::connect(server.address, index)?;
    stream.set_read_timeout(Some(REPLY_LIMIT)).context("cannot set a time limit")?;
    stream.write_all(&exchange.opening()).context("cannot send a heartbeat")?;
    let mut reply = vec![0; exchange.reply.len()];
    stream.read_exact(&mut reply).with_context(|| format!("no answer on session {index}"))?;
    ensure!(reply == exchange.reply, "a heartbeat got another reply than expected");
    Ok(stream)
}

fn still_open(session: &mut TcpStream) -> bool {
    let waits = session.set_nonblocking(true).map(|()| session.read(&mut [0]));
    matches!(waits, Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock)
}
