//! Connections that come and go: connect, flag, heartbeat, answer, close, and the next one.
//!
//! The client closes first and then waits for the server's end, so a server cannot gain by closing late, and the port
//! that rests in TIME-WAIT afterwards is always a client's. Ports are dealt out here, one after the other over many
//! addresses of 127.0.0.0/8: the kernel's own choice runs out of them within seconds.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Poll, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Engine, Load, Report, is_loopback};
use crate::dialect::{Dialect, Exchange, FLAG_CONTROL, Speaks};

/// An answer that is longer than this is wrong.
const REPLY_BUFFER: usize = 256;
/// A port comes up again after PORTS × SOURCES connections, long after its minute of TIME-WAIT.
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 50_000;
const SOURCES: u32 = 250;

/// The connection whose port is dealt next, over all runs of this process.
static DEALT: AtomicU32 = AtomicU32::new(0);

/// Where the next connection comes from.
fn next_source() -> SocketAddr {
    let n = DEALT.fetch_add(1, Ordering::Relaxed);
    let [_, _, _, last] = (1 + n % SOURCES).to_be_bytes();
    let [_, _, high, low] = (FIRST_PORT + n / SOURCES % PORTS).to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, 1, 0, last), u16::from_be_bytes([high, low])))
}

/// One connection at a time, and what has been done of its life.
struct Lane {
    stream: TcpStream,
    began: Instant,
    sent: usize,
    received: usize,
    /// How many connections have come and gone.
    served: u64,
}

pub(super) struct Churn {
    address: SocketAddr,
    /// What each connection sends, and what it must get; an echo is sent the same bytes.
    opening: Vec<u8>,
    reply: Vec<u8>,
    poll: Poll,
    lanes: Vec<Option<Lane>>,
}

impl Churn {
    pub(super) fn begin(load: &Load) -> Result<Self> {
        let exchange = Exchange::new(Dialect::Heartbeat, Speaks::Protocol);
        let mut opening = vec![FLAG_CONTROL];
        opening.extend(&exchange.request);
        let reply = match load.speaks {
            Speaks::Protocol => exchange.reply,
            Speaks::Echo => opening.clone(),
        };
        let poll = Poll::new().context("cannot make an epoll instance")?;
        let mut churn = Self { address: load.address, opening, reply, poll, lanes: Vec::new() };
        for index in 0..load.connections {
            let lane = churn.connect(index, 0)?;
            churn.lanes.push(Some(lane));
        }
        Ok(churn)
    }

    /// Begins to connect; the socket is writable when that has come to an end.
    fn connect(&self, index: usize, served: u64) -> Result<Lane> {
        let began = Instant::now();
        let domain = Domain::for_address(self.address);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))
            .context("cannot make a socket; is the descriptor limit reached?")?;
        socket.set_nonblocking(true).context("cannot make a socket non-blocking")?;
        if is_loopback(self.address) {
            // Else the minute of an earlier connection from this port keeps it, whoever that was with.
            socket.set_reuse_address(true).context("cannot set SO_REUSEADDR")?;
            let source = next_source();
            socket.bind(&source.into()).with_context(|| format!("cannot bind {source}"))?;
        }
        match socket.connect(&self.address.into()) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::INPROGRESS) => {}
            other => other.context("cannot connect")?,
        }
        socket.set_tcp_nodelay(true).context("cannot set TCP_NODELAY")?;
        let mut stream = TcpStream::from_std(socket.into());
        self.poll
            .registry()
            .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
            .context("cannot watch a socket")?;
        Ok(Lane { stream, began, sent: 0, received: 0, served })
    }
}

impl Engine for Churn {
    fn poll(&mut self) -> &mut Poll {
        &mut self.poll
    }

    fn serve(&mut self, event: &Event, report: &mut Report) -> Result<()> {
        let index = event.token().0;
        let Some(lane) = &mut self.lanes[index] else { return Ok(()) };
        let served = match lane.turn(&self.opening, &self.reply, report) {
            Ok(false) => return Ok(()),
            Ok(true) => {
                let nanoseconds =
                    u64::try_from(lane.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                report.record(nanoseconds, 1);
                lane.served + 1
            }
            Err(error) => {
                report.lose(&error);
                self.lanes[index] = None;
                return Ok(());
            }
        };
        // The old one first: its descriptor may be all that is left.
        self.lanes[index] = None;
        self.lanes[index] = Some(self.connect(index, served)?);
        Ok(())
    }

    fn served(&self) -> Vec<u64> {
        self.lanes.iter().map(|lane| lane.as_ref().map_or(0, |lane| lane.served)).collect()
    }
}

impl Lane {
    /// Goes on as far as the socket allows; whether the connection has come to its end.
    fn turn(&mut self, opening: &[u8], reply: &[u8], report: &mut Report) -> io::Result<bool> {
        while self.sent < opening.len() {
            let Some(n) = or_block(self.stream.write(&opening[self.sent..]))? else {
                return Ok(false);
            };
            self.sent += n;
            report.bytes += n as u64;
        }
        let mut buffer = [0; REPLY_BUFFER];
        loop {
            let Some(n) = or_block(self.stream.read(&mut buffer))? else { return Ok(false) };
            let complete = self.received == reply.len();
            if n == 0 {
                return if complete { Ok(true) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
            if reply.get(self.received..self.received + n) != Some(&buffer[..n]) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply differs"));
            }
            self.received += n;
            report.bytes += n as u64;
            if self.received == reply.len() {
                self.stream.shutdown(Shutdown::Write)?;
            }
        }
    }
}

/// `None` where the socket has to be waited for.
fn or_block(moved: io::Result<usize>) -> io::Result<Option<usize>> {
    match moved {
        Ok(n) => Ok(Some(n)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_port_is_dealt_twice_in_a_row() {
        let dealt: HashSet<_> = (0..2000).map(|_| next_source()).collect();
        assert_eq!(dealt.len(), 2000);
        assert!(dealt.iter().all(|source| source.ip().is_loopback() && source.port() >= 10_000));
    }
}
