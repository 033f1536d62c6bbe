//! The socket trait on smoltcp, for microcontrollers.
//!
//! The stack's rings are the only buffers: commands are read where the receive ring holds them and
//! replies are written into the transmit ring. One scratch buffer, shared by all sockets, shows
//! commands that wrap around the ring's end in one piece and carries an echo from ring to ring.
//!
//! The receive ring and the scratch must hold the longest command and its header
//! ([`Limits::longest_head`]), the transmit ring must hold the longest reply (the server's scratch
//! memory): [`fits`] tells.
//!
//! smoltcp does not say when bytes arrived or were acknowledged. [`Record::observe`] finds out by
//! comparing queue lengths: call it for every connected socket after each poll of the interface,
//! so that silence counts from when the proof of life arrived.
//!
//! ```
//! use pulsegate_core::adapter::smoltcp::{Record, TcpSocket, fits, instant};
//! use pulsegate_core::frame::Limits;
//! use pulsegate_core::socket::{End, Socket};
//! use smoltcp::socket::tcp;
//!
//! let buffer = || tcp::SocketBuffer::new(vec![0; 512]);
//! let mut socket = tcp::Socket::new(buffer(), buffer());
//! let mut scratch = [0; 264];
//! assert!(fits(&socket, &Limits::SMALL, &scratch, 384));
//!
//! let now = instant(smoltcp::time::Instant::from_secs(5));
//! let mut record = Record::new(now);
//! record.observe(now, &socket);
//! let mut socket = TcpSocket::new(now, &mut socket, &mut record, &mut scratch);
//! assert_eq!(socket.rx(1).end, End::Failed); // never connected
//! ```

use embassy_time::{Duration, Instant};
use smoltcp::socket::tcp;

use crate::frame::Limits;
use crate::socket::{End, Finish, Progress, Proof, Rx, Socket};

/// A moment of smoltcp's clock; both clocks must have the same zero.
#[must_use]
pub fn instant(at: smoltcp::time::Instant) -> Instant {
    Instant::from_micros(u64::try_from(at.total_micros()).unwrap_or(0))
}

/// A moment in smoltcp's clock.
#[must_use]
pub fn stack_instant(at: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
}

/// A span of smoltcp's clock.
#[must_use]
pub fn duration(span: smoltcp::time::Duration) -> Duration {
    Duration::from_micros(span.total_micros())
}

/// A span in smoltcp's clock.
#[must_use]
pub fn stack_duration(span: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_micros(span.as_micros())
}

/// Whether the buffers of a socket suffice for packets within `limits` and replies of up to
/// `reply` bytes; without that, sessions would wait for what cannot come.
#[must_use]
pub fn fits(socket: &tcp::Socket<'_>, limits: &Limits, scratch: &[u8], reply: usize) -> bool {
    let head = limits.longest_head();
    socket.recv_capacity() >= head && scratch.len() >= head && socket.send_capacity() >= reply
}

/// What is kept for each connection beside its socket.
#[derive(Debug, Clone)]
pub struct Record {
    received_at: Instant,
    acknowledged_at: Instant,
    /// Counts while something is unacknowledged.
    owed_since: Instant,
    /// Queue lengths when they were last seen.
    unread: usize,
    unacknowledged: usize,
    /// Bytes moved and not yet reported.
    received: usize,
    sent: usize,
}

impl Record {
    /// For a connection that was established at `now`: the handshake is a proof of life.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            received_at: now,
            acknowledged_at: now,
            owed_since: now,
            unread: 0,
            unacknowledged: 0,
            received: 0,
            sent: 0,
        }
    }

    /// Notes what has arrived and what has been acknowledged since the last time.
    pub fn observe(&mut self, now: Instant, socket: &tcp::Socket<'_>) {
        let (unread, unacknowledged) = (socket.recv_queue(), socket.send_queue());
        if unread > self.unread {
            self.received = self.received.saturating_add(unread - self.unread);
            self.received_at = now;
        }
        if unacknowledged < self.unacknowledged {
            self.acknowledged_at = now;
        }
        self.unread = unread;
        self.unacknowledged = unacknowledged;
    }

    fn send(&mut self, now: Instant, socket: &mut tcp::Socket<'_>, bytes: &[u8]) -> usize {
        let len = socket.send_slice(bytes).unwrap_or(0);
        if len > 0 && self.unacknowledged == 0 {
            self.owed_since = now;
        }
        self.unacknowledged = socket.send_queue();
        self.sent = self.sent.saturating_add(len);
        len
    }
}

/// One connection, borrowed for one turn.
#[derive(Debug)]
pub struct TcpSocket<'a, 's> {
    now: Instant,
    socket: &'a mut tcp::Socket<'s>,
    record: &'a mut Record,
    scratch: &'a mut [u8],
}

impl<'a, 's> TcpSocket<'a, 's> {
    /// Puts a socket and its record together. `scratch` is free between two turns.
    pub fn new(
        now: Instant,
        socket: &'a mut tcp::Socket<'s>,
        record: &'a mut Record,
        scratch: &'a mut [u8],
    ) -> Self {
        record.observe(now, socket);
        Self { now, socket, record, scratch }
    }

    fn end(&self) -> End {
        match self.socket.state() {
            tcp::State::Closed | tcp::State::Listen => End::Failed,
            tcp::State::CloseWait
            | tcp::State::LastAck
            | tcp::State::Closing
            | tcp::State::TimeWait => End::Finished,
            tcp::State::SynSent
            | tcp::State::SynReceived
            | tcp::State::Established
            | tcp::State::FinWait1
            | tcp::State::FinWait2 => End::Open,
        }
    }
}

impl Socket for TcpSocket<'_, '_> {
    fn rx(&mut self, want: usize) -> Rx<'_> {
        let end = self.end();
        let want = want.min(self.socket.recv_queue()).min(self.scratch.len());
        let in_one_piece = self.socket.peek(usize::MAX).map_or(0, <[u8]>::len);
        let bytes = if in_one_piece >= want {
            self.socket.peek(in_one_piece).unwrap_or_default()
        } else {
            // The command wraps around the ring's end.
            let piece = self.scratch.get_mut(..want).unwrap_or_default();
            let len = self.socket.peek_slice(piece).unwrap_or(0);
            piece.get(..len).unwrap_or_default()
        };
        Rx { bytes, end }
    }

    fn consume(&mut self, len: usize) {
        let mut left = len;
        // Twice where the bytes wrap around the ring's end.
        while left > 0 {
            let drop = |bytes: &mut [u8]| (left.min(bytes.len()), left.min(bytes.len()));
            match self.socket.recv(drop) {
                Ok(dropped @ 1..) => left -= dropped,
                Ok(0) | Err(_) => break,
            }
        }
        self.record.unread = self.socket.recv_queue();
    }

    fn room(&mut self) -> usize {
        if self.socket.may_send() {
            self.socket.send_capacity().saturating_sub(self.socket.send_queue())
        } else {
            0
        }
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        self.record.send(self.now, self.socket, bytes)
    }

    fn relay(&mut self, max: usize) -> usize {
        let mut moved = 0;
        while moved < max {
            let most = (max - moved).min(self.room()).min(self.scratch.len());
            let piece = self.scratch.get_mut(..most).unwrap_or_default();
            let len = self.socket.recv_slice(piece).unwrap_or(0);
            if len == 0 {
                break;
            }
            self.record.unread = self.socket.recv_queue();
            // All of it: there is room.
            self.record.send(self.now, self.socket, self.scratch.get(..len).unwrap_or_default());
            moved += len;
        }
        moved
    }

    fn progress(&mut self, now: Instant) -> Progress {
        let at = self.proof(now).at().unwrap_or(now);
        Progress {
            received: core::mem::take(&mut self.record.received),
            sent: core::mem::take(&mut self.record.sent),
            at,
        }
    }

    fn proof(&mut self, _now: Instant) -> Proof {
        Proof {
            received_at: Some(self.record.received_at),
            acknowledged_at: Some(self.record.acknowledged_at),
            owed_since: (self.socket.send_queue() > 0).then_some(self.record.owed_since),
        }
    }

    fn finish(&mut self) -> Finish {
        self.socket.close();
        // smoltcp gives up on a peer only where it was told to: the flush has the server's deadline.
        if self.socket.send_queue() > 0 { Finish::Pending } else { Finish::Sent }
    }

    fn abort(&mut self) {
        self.socket.abort();
    }
}
