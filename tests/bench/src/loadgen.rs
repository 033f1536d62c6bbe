//! A closed-loop load generator: one thread, one epoll instance, one shared read buffer.

mod churn;
mod connection;
mod report;
mod steady;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use mio::event::Event;
use mio::{Events, Poll};
use socket2::{Domain, Protocol, Socket, Type};

use crate::dialect::{Dialect, Speaks};
use crate::host;
use churn::Churn;
pub use report::{Figures, Report};
use steady::Steady;

/// Connections from one loopback address before the next one is used: the kernel gives out half of the ephemeral ports
/// at once, and then searches longer with every connection.
const PORTS_PER_SOURCE: usize = 10_000;
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
    /// How many connections at once.
    pub connections: usize,
    /// What each of them does.
    pub work: Work,
    /// What the server makes of it.
    pub speaks: Speaks,
    /// Runs before anything is counted.
    pub warm_up: Duration,
    /// What is counted.
    pub duration: Duration,
}

/// What a connection does, over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// It stays, and sends a request for every reply.
    Requests {
        /// Requests outstanding.
        depth: usize,
        /// What is sent.
        dialect: Dialect,
    },
    /// It connects, sends its flag and a heartbeat, reads the answer and closes; then the next one does.
    Churn,
}

/// A moment of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// The load is about to begin.
    Ready,
    /// The warm-up is over.
    Begin,
    /// The load is still on, the last reply has been counted.
    End,
}

/// Connects to a server, blocking; the `index`th connection chooses its source address so that ports suffice.
pub fn connect(address: SocketAddr, index: usize) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .context("cannot make a socket; is the descriptor limit reached?")?;
    if is_loopback(address)
        && let Some(source) = source_beyond_first(index)
    {
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

/// Whether every address of 127.0.0.0/8 can be the source of a connection.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST)
}

/// Addresses 127.0.0.2 and up for what goes beyond the first address's ports.
fn source_beyond_first(index: usize) -> Option<Ipv4Addr> {
    let step = u8::try_from(index / PORTS_PER_SOURCE).ok()?;
    (step > 0).then(|| Ipv4Addr::new(127, 0, 0, step.saturating_add(1)))
}

/// Applies a load and reports what came of it. `mark` is called at each of its moments.
pub fn run(load: &Load, mark: &mut dyn FnMut(Mark)) -> Result<Report> {
    ensure!(load.connections > 0, "at least one connection");
    match load.work {
        Work::Requests { depth, dialect } => {
            ensure!(depth > 0, "a depth of at least one");
            drive(&mut Steady::connect(load, depth, dialect)?, load, mark)
        }
        Work::Churn => drive(&mut Churn::begin(load)?, load, mark),
    }
}

/// What one kind of work does with the events of its sockets.
trait Engine {
    fn poll(&mut self) -> &mut Poll;

    /// Serves the connection that an event names.
    fn serve(&mut self, event: &Event, report: &mut Report) -> Result<()>;

    /// How often each connection has been served, with 0 for one that was lost.
    fn served(&self) -> Vec<u64>;
}

fn drive(engine: &mut impl Engine, load: &Load, mark: &mut dyn FnMut(Mark)) -> Result<Report> {
    let mut report = Report::new()?;
    let mut events = Events::with_capacity(load.connections.clamp(64, 4096));
    mark(Mark::Ready);
    turn_for(engine, load.warm_up, &mut events, &mut report)?;

    // Errors are kept: a connection lost in the warm-up is lost for the measurement too.
    report.begin_counting();
    let before = engine.served();
    mark(Mark::Begin);
    let busy = host::own_thread_time();
    let began = Instant::now();
    turn_for(engine, load.duration, &mut events, &mut report)?;
    report.elapsed = began.elapsed();
    report.busy = host::own_thread_time().saturating_sub(busy);
    mark(Mark::End);
    report.finish(
        engine.served().iter().zip(&before).map(|(now, before)| now.saturating_sub(*before)),
    );
    Ok(report)
}

/// Registration gives each fresh socket its first writable event, so the first requests need no code of their own.
fn turn_for(
    engine: &mut impl Engine,
    duration: Duration,
    events: &mut Events,
    report: &mut Report,
) -> Result<()> {
    let end = Instant::now() + duration;
    loop {
        match engine.poll().poll(events, Some(LOOK)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other.context("cannot wait for sockets")?,
        }
        for event in events.iter() {
            engine.serve(event, report)?;
        }
        if Instant::now() >= end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_change_only_when_ports_run_out() {
        assert_eq!(source_beyond_first(0), None);
        assert_eq!(source_beyond_first(9_999), None);
        assert_eq!(source_beyond_first(10_000), Some(Ipv4Addr::new(127, 0, 0, 2)));
        assert_eq!(source_beyond_first(20_000), Some(Ipv4Addr::new(127, 0, 0, 3)));
    }
}
