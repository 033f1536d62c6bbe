//! How late a server closes clients that have gone silent.
//!
//! Each client connects, sends its flag and a heartbeat, reads the answer, has its kernel acknowledge it at once, and
//! says nothing more. Nothing else moves meanwhile, so the last sign of life lies between the moment before the
//! heartbeat was sent and the moment after the answer was acknowledged: some ten microseconds. Lateness counts from the
//! second; who is closed before the timeout has passed since the first was closed early beyond doubt.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use crate::dialect::{Dialect, Exchange, Speaks};
use crate::host::{self, Cores};
use crate::loadgen;
use crate::server::Server;

/// An answer that takes longer has been lost.
const REPLY_LIMIT: Duration = Duration::from_secs(10);
/// Whoever is not closed so long after the deadline is taken for forgotten.
const PATIENCE: Duration = Duration::from_secs(30);
/// A lateness beyond this is recorded as this, in microseconds.
const LONGEST: u64 = 600_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many clients.
    pub clients: usize,
    /// The silence after which the server says it closes.
    pub idle_timeout: Duration,
    /// The time over which the clients' last heartbeats are spread.
    pub spread: Duration,
    /// Where the server and the clients run.
    pub cores: Cores,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Clients that were closed in time or late, by microseconds of lateness.
    pub lateness: Histogram<u64>,
    /// Clients closed before their time.
    pub early: u64,
    /// By how much the first of them was, at least.
    pub earliest: Duration,
    /// Clients that the server has forgotten.
    pub forgotten: u64,
    /// The longest that any last exchange took, and with it what the figures may be wrong by.
    pub slowest_exchange: Duration,
}

impl Outcome {
    /// Whether every client was closed, and none early.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.early == 0 && self.forgotten == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lateness ms    ")?;
        for percentile in [50.0, 90.0, 99.0, 100.0] {
            let ms = self.lateness.value_at_percentile(percentile) as f64 / 1000.0;
            write!(f, "  p{percentile} {ms:.1}")?;
        }
        write!(f, "\nclosed early     {}", self.early)?;
        if self.early > 0 {
            write!(f, ", by up to {:.1} ms", self.earliest.as_secs_f64() * 1000.0)?;
        }
        writeln!(f, "\nnot closed       {}", self.forgotten)?;
        let exchange = self.slowest_exchange.as_secs_f64() * 1000.0;
        write!(f, "slowest exchange {exchange:.2} ms")
    }
}

/// A client that has gone silent.
struct Silent {
    /// Open as long as the server leaves it.
    stream: Option<mio::net::TcpStream>,
    sent_at: Instant,
    acknowledged_at: Instant,
}

/// Starts a server, lets clients go silent, and waits for the end of each.
pub fn measure(command: &str, plan: &Plan) -> Result<Outcome> {
    ensure!(plan.clients > 0, "at least one client");
    ensure!(
        plan.spread < plan.idle_timeout,
        "a spread of {:?} is not below the idle timeout of {:?}: the first would be closed while the last connect",
        plan.spread,
        plan.idle_timeout
    );
    host::raise_descriptor_limit()?;
    let server = Server::start(command, &[plan.cores.server], &[plan.cores.load])?;
    let poll = Poll::new().context("cannot make an epoll instance")?;
    let mut clients = Vec::with_capacity(plan.clients);
    let began = Instant::now();
    for index in 0..plan.clients {
        let due = plan.spread.mul_f64(index as f64 / plan.clients as f64);
        thread::sleep(due.saturating_sub(began.elapsed()));
        let mut client = fall_silent(server.address, index)?;
        if let Some(stream) = &mut client.stream {
            poll.registry()
                .register(stream, Token(index), Interest::READABLE)
                .context("cannot watch a socket")?;
        }
        clients.push(client);
    }
    await_ends(poll, clients, plan.idle_timeout)
}

fn fall_silent(address: SocketAddr, index: usize) -> Result<Silent> {
    let exchange = Exchange::new(Dialect::Heartbeat, Speaks::Protocol);
    let mut stream = loadgen::connect(address, index)?;
    stream.set_read_timeout(Some(REPLY_LIMIT)).context("cannot set a time limit")?;
    let sent_at = Instant::now();
    stream.write_all(&exchange.opening()).context("cannot send a heartbeat")?;
    let mut reply = vec![0; exchange.reply.len()];
    stream.read_exact(&mut reply).with_context(|| format!("no answer to client {index}"))?;
    ensure!(reply == exchange.reply, "a heartbeat got another reply than expected");
    acknowledge(&stream)?;
    let acknowledged_at = Instant::now();
    stream.set_nonblocking(true).context("cannot make a socket non-blocking")?;
    let stream = Some(mio::net::TcpStream::from_std(stream));
    Ok(Silent { stream, sent_at, acknowledged_at })
}

/// Sends an acknowledgement that the kernel may have put off for up to 40 ms.
pub(crate) fn acknowledge(stream: &impl AsFd) -> Result<()> {
    SockRef::from(stream).set_tcp_quickack(true).context("cannot set TCP_QUICKACK")
}

fn await_ends(mut poll: Poll, mut clients: Vec<Silent>, idle_timeout: Duration) -> Result<Outcome> {
    let mut outcome = Outcome {
        lateness: Histogram::new_with_bounds(1, LONGEST, 3).context("cannot make a histogram")?,
        early: 0,
        earliest: Duration::ZERO,
        forgotten: 0,
        slowest_exchange: Duration::ZERO,
    };
    let mut events = Events::with_capacity(1024);
    let mut open = clients.len();
    let until = Instant::now() + idle_timeout + PATIENCE;
    while open > 0 && Instant::now() < until {
        match poll.poll(&mut events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other.context("cannot wait for sockets")?,
        }
        let now = Instant::now();
        for event in &events {
            let client = &mut clients[event.token().0];
            if client.stream.as_mut().is_some_and(has_ended) {
                client.stream = None;
                open -= 1;
                outcome.count(client, now, idle_timeout);
            }
        }
    }
    outcome.forgotten = open as u64;
    Ok(outcome)
}

/// Whether a FIN or a reset has come.
fn has_ended(stream: &mut mio::net::TcpStream) -> bool {
    loop {
        match stream.read(&mut [0; 64]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

impl Outcome {
    fn count(&mut self, client: &Silent, now: Instant, idle_timeout: Duration) {
        let exchange = client.acknowledged_at.saturating_duration_since(client.sent_at);
        self.slowest_exchange = self.slowest_exchange.max(exchange);
        let early = (client.sent_at + idle_timeout).saturating_duration_since(now);
        if early > Duration::ZERO {
            self.early += 1;
            self.earliest = self.earliest.max(early);
            return;
        }
        let late = now.saturating_duration_since(client.acknowledged_at + idle_timeout);
        self.lateness.saturating_record(u64::try_from(late.as_micros()).unwrap_or(u64::MAX));
    }
}
