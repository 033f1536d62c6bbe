//! Connections that stay: each keeps `depth` requests outstanding.
//!
//! For every reply that arrives the next request is sent, all those of one wake-up in one write. Requests and replies
//! are the same bytes over and over, so both directions are periodic streams, and sending or checking is one slice of
//! a block prepared beforehand.

use std::io::Write;

use anyhow::{Context, Result};
use mio::event::Event;
use mio::{Interest, Poll, Token};

use super::connection::{Connection, Script};
use super::{Engine, Load, READ_BUFFER, Report, connect};
use crate::dialect::{Dialect, Exchange};

pub(super) struct Steady {
    script: Script,
    poll: Poll,
    buffer: Vec<u8>,
    connections: Vec<Option<Connection>>,
}

impl Steady {
    pub(super) fn connect(load: &Load, depth: usize, dialect: Dialect) -> Result<Self> {
        let exchange = Exchange::new(dialect, load.speaks);
        let script = Script::new(&exchange, depth);
        let poll = Poll::new().context("cannot make an epoll instance")?;
        let mut connections = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let mut stream = connect(load.address, index)?;
            if let Some(flag) = exchange.flag {
                stream.write_all(&[flag]).context("cannot send the flag")?;
            }
            stream.set_nonblocking(true).context("cannot make a socket non-blocking")?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry()
                .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .context("cannot watch a socket")?;
            connections.push(Some(Connection::new(stream, &script)));
        }
        Ok(Self { script, poll, buffer: vec![0; READ_BUFFER], connections })
    }
}

impl Engine for Steady {
    fn poll(&mut self) -> &mut Poll {
        &mut self.poll
    }

    fn serve(&mut self, event: &Event, report: &mut Report) -> Result<()> {
        let slot = &mut self.connections[event.token().0];
        let Some(connection) = slot else { return Ok(()) };
        if let Err(error) = connection.turn(&self.script, &mut self.buffer, report) {
            report.lose(&error);
            *slot = None;
        }
        Ok(())
    }

    fn served(&self) -> Vec<u64> {
        let served =
            |slot: &Option<Connection>| slot.as_ref().map_or(0, |connection| connection.served);
        self.connections.iter().map(served).collect()
    }
}
