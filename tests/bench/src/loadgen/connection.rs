//! One connection of the load generator.

use std::io::{self, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;

use super::Report;
use crate::dialect::Exchange;

/// How much of a periodic stream is laid out in memory: enough that a deep pipeline is one write.
const BLOCK: usize = 64 * 1024;

/// The two periodic streams of an exchange, laid out for slicing.
#[derive(Debug)]
pub(super) struct Script {
    depth: usize,
    request_len: usize,
    requests: Vec<u8>,
    reply_len: usize,
    replies: Vec<u8>,
    checked: usize,
    /// Latencies are kept as nanoseconds from here.
    epoch: Instant,
}

impl Script {
    pub(super) fn new(exchange: &Exchange, depth: usize) -> Self {
        Self {
            depth,
            request_len: exchange.request.len(),
            requests: lay_out(&exchange.request),
            reply_len: exchange.reply.len(),
            replies: lay_out(&exchange.reply),
            checked: exchange.checked,
            epoch: Instant::now(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Whether `input` is what the reply stream holds from `phase` on.
    fn matches(&self, mut phase: usize, mut input: &[u8]) -> bool {
        if self.checked == self.reply_len {
            // Every byte counts: compare in long runs instead of reply by reply.
            while !input.is_empty() {
                let expected = &self.replies[phase..];
                let n = expected.len().min(input.len());
                if input[..n] != expected[..n] {
                    return false;
                }
                input = &input[n..];
                phase = (phase + n) % self.reply_len;
            }
            return true;
        }
        while !input.is_empty() {
            let n = (self.reply_len - phase).min(input.len());
            let head = self.checked.saturating_sub(phase).min(n);
            if input[..head] != self.replies[phase..phase + head] {
                return false;
            }
            input = &input[n..];
            phase = (phase + n) % self.reply_len;
        }
        true
    }
}

/// Whole periods, at least one and as many as fit a block.
fn lay_out(period: &[u8]) -> Vec<u8> {
    period.repeat((BLOCK / period.len()).max(1))
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Bytes of requests that are due, and where in the request they begin.
    owed: usize,
    send_phase: usize,
    reply_phase: usize,
    /// When each outstanding request became due, in a ring: replies come in the order of requests.
    due: Box<[u64]>,
    oldest: usize,
    pub(super) served: u64,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, script: &Script) -> Self {
        Self {
            stream,
            owed: script.depth * script.request_len,
            send_phase: 0,
            reply_phase: 0,
            due: vec![script.now(); script.depth].into(),
            oldest: 0,
            served: 0,
        }
    }

    /// Moves whatever the socket allows, until it would block: the events are edges.
    pub(super) fn turn(
        &mut self,
        script: &Script,
        buffer: &mut [u8],
        report: &mut Report,
    ) -> io::Result<()> {
        self.send(script, report)?;
        loop {
            let n = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            report.bytes += n as u64;
            if !script.matches(self.reply_phase, &buffer[..n]) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply differs"));
            }
            let reached = self.reply_phase + n;
            self.reply_phase = reached % script.reply_len;
            self.replied(reached / script.reply_len, script, report);
            self.send(script, report)?;
            // A read that left room has emptied the socket, and what comes after it is a new edge.
            if n < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Records the replies and makes as many requests due.
    fn replied(&mut self, replies: usize, script: &Script, report: &mut Report) {
        if replies == 0 {
            return;
        }
        let now = script.now();
        let mut run = (self.due[self.oldest], 0);
        for _ in 0..replies {
            let due = self.due[self.oldest];
            if due != run.0 {
                report.record(now - run.0, run.1);
                run = (due, 0);
            }
            run.1 += 1;
            self.due[self.oldest] = now;
            self.oldest = (self.oldest + 1) % script.depth;
        }
        report.record(now - run.0, run.1);
        self.served += replies as u64;
        self.owed += replies * script.request_len;
    }

    fn send(&mut self, script: &Script, report: &mut Report) -> io::Result<()> {
        while self.owed > 0 {
            let block = &script.requests[self.send_phase..];
            let Some(n) = progress(self.stream.write(&block[..block.len().min(self.owed)]))? else {
                return Ok(());
            };
            self.owed -= n;
            self.send_phase = (self.send_phase + n) % script.request_len;
            report.bytes += n as u64;
        }
        Ok(())
    }
}

/// `None` where the socket takes nothing now.
fn progress(written: io::Result<usize>) -> io::Result<Option<usize>> {
    match written {
        Ok(n) => Ok(Some(n)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::{Dialect, Speaks};

    #[test]
    fn replies_are_checked_at_any_split() {
        for dialect in [Dialect::Heartbeat, Dialect::Cycle(7), Dialect::Cycle(100_000)] {
            let exchange = Exchange::new(dialect, Speaks::Protocol);
            let script = Script::new(&exchange, 1);
            let stream = exchange.reply.repeat(3);
            for (at, step) in [(0, 1), (1, 5), (exchange.reply.len() - 1, 43)] {
                let end = stream.len().min(at + step * 40);
                for from in (at..end).step_by(step) {
                    let input = &stream[from..(from + step).min(stream.len())];
                    assert!(script.matches(from % exchange.reply.len(), input));
                }
            }
            let mut wrong = stream.clone();
            wrong[exchange.reply.len() + 9] ^= 1;
            assert!(!script.matches(0, &wrong));
        }
    }
}
