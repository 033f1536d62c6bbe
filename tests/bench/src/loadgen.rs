//! A closed-loop load generator: one thread, one epoll instance, one shared read buffer.
//!
//! Each connection keeps `depth` requests outstanding: for every reply that arrives it sends the next request, all
//! those of one wake-up in one write. Requests and replies are the same bytes over and over, so both directions are
//! periodic streams, and sending or checking is one slice of a block prepared beforehand.

mod connection;
mod report;

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::dialect::{Dialect, Exchange, Speaks};
use crate::host;
use connection::{Connection, Script};
pub use report::Report;

/// Connections from one loopback address before the next one is used: below the range of ephemeral ports.
const PORTS_PER_SOURCE: usize = 25_000;
/// Holds the largest burst that a socket gives at once without many reads.
const READ_BUFFER: usize = 256 * 1024;
/// Wakes the loop to look at the clock when nothing arrives.
const LOOK: Duration = Duration::from_millis(50);
/// A stuck connection attempt ends the run.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// One load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The server.
    pub address: SocketAddr,
    /// How many connections.
    pub connections: usize,
    /// Requests outstanding on each.
    pub depth: usize,
    /// What is sent.
    pub dialect: Dialect,
    /// What the server makes of it.
    pub speaks: Speaks,
    /// Runs before anything is counted.
    pub warm_up: Duration,
    /// What is counted.
    pub duration: Duration,
}

/// An end of the measured time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The warm-up is over.
    Begin,
    /// The load is still on, the last reply has been counted.
    End,
}

/// Connects to a server, blocking; the `index`th connection chooses its source address so that ports suffice.
pub fn connect(address: SocketAddr, index: usize) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .context("cannot make a socket; is the descriptor limit reached?")?;
    let loopback = address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST);
    if loopback && let Some(source) = source_beyond_first(index) {
        socket
            .bind(&SocketAddr::from((source, 0)).into())
            .context("cannot bind a source address")?;
    }
    socket
        .connect_timeout(&address.into(), CONNECT_LIMIT)
        .with_context(|| format!("connection {index}"))?;
    socket.set_tcp_nodelay(true).context("cannot set TCP_NODELAY")?;
    Ok(socket.into())
}

/// Addresses 127.0.0.2 and up for what goes beyond the first address's ports.
fn source_beyond_first(index: usize) -> Option<Ipv4Addr> {
    let step = u8::try_from(index / PORTS_PER_SOURCE).ok()?;
    (step > 0).then(|| Ipv4Addr::new(127, 0, 0, step.saturating_add(1)))
}

/// Applies a load and reports what came of it. `mark` is called at both ends of the measured time.
pub fn run(load: &Load, mark: &mut dyn FnMut(Mark)) -> Result<Report> {
    ensure!(load.connections > 0 && load.depth > 0, "at least one connection and a depth of one");
    let exchange = Exchange::new(load.dialect, load.speaks);
    let script = Script::new(&exchange, load.depth);
    let mut generator = Generator::connect(load, exchange.flag, &script)?;
    generator.turn_for(load.warm_up)?;

    generator.begin_counting();
    mark(Mark::Begin);
    let busy = host::own_thread_time();
    let began = Instant::now();
    generator.turn_for(load.duration)?;
    let elapsed = began.elapsed();
    let busy = host::own_thread_time().saturating_sub(busy);
    mark(Mark::End);
    Ok(generator.finish(elapsed, busy))
}

struct Generator<'a> {
    script: &'a Script,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    connections: Vec<Option<Connection>>,
    report: Report,
    served_before: Vec<u64>,
}

impl<'a> Generator<'a> {
    fn connect(load: &Load, flag: Option<u8>, script: &'a Script) -> Result<Self> {
        let poll = Poll::new().context("cannot make an epoll instance")?;
        let mut connections = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let mut stream = connect(load.address, index)?;
            if let Some(flag) = flag {
                stream.write_all(&[flag]).context("cannot send the flag")?;
            }
            stream.set_nonblocking(true).context("cannot make a socket non-blocking")?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .context("cannot watch a socket")?;
            connections.push(Some(Connection::new(stream, script)));
        }
        Ok(Self {
            script,
            poll,
            events: Events::with_capacity(load.connections.clamp(64, 4096)),
            buffer: vec![0; READ_BUFFER],
            served_before: vec![0; connections.len()],
            connections,
            report: Report::new()?,
        })
    }

    /// Errors are kept: a connection lost in the warm-up is lost for the measurement too.
    fn begin_counting(&mut self) {
        self.report.latency.reset();
        self.report.bytes = 0;
        for (before, connection) in self.served_before.iter_mut().zip(&self.connections) {
            *before = connection.as_ref().map_or(0, |connection| connection.served);
        }
    }

    /// Registration gives each fresh socket its first writable event, so the first requests need no code of their own.
    fn turn_for(&mut self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        loop {
            match self.poll.poll(&mut self.events, Some(LOOK)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => other.context("cannot wait for sockets")?,
            }
            for event in &self.events {
                let slot = &mut self.connections[event.token().0];
                let Some(connection) = slot else { continue };
                if let Err(error) = connection.turn(self.script, &mut self.buffer, &mut self.report)
                {
                    self.report.lose(&error);
                    *slot = None;
                }
            }
            if Instant::now() >= end {
                return Ok(());
            }
        }
    }

    fn finish(mut self, elapsed: Duration, busy: Duration) -> Report {
        let served =
            self.connections.iter().zip(&self.served_before).map(|(connection, before)| {
                // A lost connection counts as the least served there can be.
                connection.as_ref().map_or(0, |connection| connection.served - before)
            });
        let served: Vec<u64> = served.collect();
        self.report.least = served.iter().copied().min().unwrap_or(0);
        self.report.most = served.iter().copied().max().unwrap_or(0);
        self.report.requests = self.report.latency.len();
        self.report.elapsed = elapsed;
        self.report.busy = busy;
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_change_only_when_ports_run_out() {
        assert_eq!(source_beyond_first(0), None);
        assert_eq!(source_beyond_first(24_999), None);
        assert_eq!(source_beyond_first(25_000), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(source_beyond_first(50_000), Some(Ipv4Addr::new(127, 0, 0, 3)));
    }
}
