//! One connection of smoltcp's as the core's socket.
//!
//! The stack's rings are the only buffers: commands are read where the receive ring holds them and
//! replies are written into the transmit ring. One scratch buffer, shared by all sockets, shows
//! commands that wrap around the ring's end in one piece and carries an echo from ring to ring.

use embassy_time::Instant;
use smoltcp::socket::tcp;

use crate::socket::{End, Finish, Progress, Proof, Rx, Socket};

/// Whether the buffers of a socket suffice for commands that are `head` bytes long with their
/// header ([`Limits::longest_head`](crate::frame::Limits::longest_head)) and for replies of up to
/// `reply` bytes; without that, sessions would wait for what cannot come. Buffers of 64 KiB and
/// more are too large to be watched.
#[must_use]
pub fn fits(socket: &tcp::Socket<'_>, head: usize, scratch: usize, reply: usize) -> bool {
    const MOST: usize = u16::MAX as usize;
    (head..=MOST).contains(&socket.recv_capacity())
        && (reply..=MOST).contains(&socket.send_capacity())
        && scratch >= head
}

/// What is kept for each connection beside its socket.
///
/// smoltcp does not say when bytes arrived or were acknowledged. [`Record::observe`] finds out by
/// comparing queue lengths: call it for every connection after each poll of the interface, so that
/// silence counts from when the proof of life arrived.
#[derive(Debug, Clone)]
pub struct Record {
    /// The last proof of life. What arrived while something was owed counts no further than to
    /// when that was written.
    alive_at: Instant,
    /// Counts while something is unacknowledged.
    owed_since: Instant,
    /// Queue lengths when they were last seen. Both rings are shorter than 64 KiB.
    unread: u16,
    unacknowledged: u16,
    /// Bytes that have arrived and are not yet reported.
    received: u16,
    /// When the session is driven next.
    pub(super) turn: Turn,
    /// How the connection stood when it was last driven.
    pub(super) end: End,
}

/// When a session is driven next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// In the next round.
    Now,
    /// When bytes have arrived or the peer has ended.
    Input,
    /// When there is more room for output too.
    Output,
}

/// What an observation has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Bytes have arrived.
    pub received: bool,
    /// The peer has acknowledged some.
    pub acknowledged: bool,
}

/// The length of a ring's queue.
fn short(len: usize) -> u16 {
    u16::try_from(len).unwrap_or(u16::MAX)
}

impl Record {
    /// For a connection that was established at `now`: the handshake is a proof of life.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            alive_at: now,
            owed_since: now,
            unread: 0,
            unacknowledged: 0,
            received: 0,
            turn: Turn::Now,
            end: End::Open,
        }
    }

    /// Notes what has arrived and what has been acknowledged since the last time.
    pub fn observe(&mut self, now: Instant, socket: &tcp::Socket<'_>) -> Moved {
        let (unread, unacknowledged) = (short(socket.recv_queue()), short(socket.send_queue()));
        let moved = Moved {
            received: unread > self.unread,
            acknowledged: unacknowledged < self.unacknowledged,
        };
        if moved.received {
            self.received = self.received.saturating_add(unread - self.unread);
            let heard = if unacknowledged > 0 { self.owed_since } else { now };
            self.alive_at = self.alive_at.max(heard);
        }
        if moved.acknowledged {
            self.alive_at = now;
        }
        self.unread = unread;
        self.unacknowledged = unacknowledged;
        moved
    }

    fn send(&mut self, now: Instant, socket: &mut tcp::Socket<'_>, bytes: &[u8]) -> usize {
        let len = socket.send_slice(bytes).unwrap_or(0);
        if len > 0 && self.unacknowledged == 0 {
            self.owed_since = now;
        }
        self.unacknowledged = short(socket.send_queue());
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
    sent: usize,
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
        Self { now, socket, record, scratch, sent: 0 }
    }
}

/// How the receiving direction of a connection stands.
pub(super) fn end(state: tcp::State) -> End {
    match state {
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

impl Socket for TcpSocket<'_, '_> {
    fn rx(&mut self, want: usize) -> Rx<'_> {
        let end = end(self.socket.state());
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
        self.record.unread = short(self.socket.recv_queue());
    }

    fn room(&mut self) -> usize {
        if self.socket.may_send() {
            self.socket.send_capacity().saturating_sub(self.socket.send_queue())
        } else {
            0
        }
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let len = self.record.send(self.now, self.socket, bytes);
        self.sent += len;
        len
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
            self.record.unread = short(self.socket.recv_queue());
            // All of it: there is room.
            self.record.send(self.now, self.socket, self.scratch.get(..len).unwrap_or_default());
            self.sent += len;
            moved += len;
        }
        moved
    }

    fn progress(&mut self, _now: Instant) -> Progress {
        Progress {
            received: core::mem::take(&mut self.record.received).into(),
            sent: core::mem::take(&mut self.sent),
            at: self.record.alive_at,
        }
    }

    fn proof(&mut self, _now: Instant) -> Proof {
        Proof {
            received_at: None,
            // The record has weighed both kinds of proof already.
            acknowledged_at: Some(self.record.alive_at),
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
