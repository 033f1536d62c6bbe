//! A connection during its turn.

use std::io::{self, IoSlice, Write};
use std::net::Shutdown;

use embassy_time::{Duration, Instant};
use mio::net::TcpStream;
use pulsegate_core::socket::{End, Finish, Progress, Proof, Rx, Socket};
use rustix::net::{RecvFlags, SendFlags};

use super::{BUFFER, Conn, HEADROOM, IoBuffers};
use crate::net::options::abort;
use crate::net::proof::TcpState;

/// Room in the write buffer that is kept for one reply; with less, the buffer is flushed first.
const REPLY_ROOM: usize = 8 * 1024;

/// Data parts up to this size are copied to the write buffer, so that many small ones share a
/// system call; larger ones go to the kernel from where they stand.
const COPY_LIMIT: usize = 8 * 1024;

/// Input, and output before the latest reply, that each connection may keep whatever the budget.
const ALWAYS_KEPT: usize = 4 * 1024;

/// Output that one connection may have waiting here beside what the kernel holds: an echo of
/// 1 MiB for a client that sends all of it before it reads, and its reply's header.
const SPILL_LIMIT: usize = 1024 * 1024 + BUFFER;

/// Sending on a connection that is gone is an error and no signal; elsewhere the runtime sees to that.
#[cfg(any(target_os = "linux", target_os = "android"))]
const NO_SIGNAL: SendFlags = SendFlags::NOSIGNAL;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const NO_SIGNAL: SendFlags = SendFlags::empty();

/// A connection during its turn: the core's socket. [`TcpSocket::end_turn`] must follow the turn.
#[derive(Debug)]
pub struct TcpSocket<'a> {
    conn: &'a mut Conn,
    io: &'a mut IoBuffers,
    now: Instant,
    /// The shard has stood still: the time of arrival is asked of the kernel.
    late: bool,
    received: usize,
    sent: usize,
}

impl<'a> TcpSocket<'a> {
    /// Begins a turn.
    pub fn begin_turn(conn: &'a mut Conn, io: &'a mut IoBuffers, now: Instant, late: bool) -> Self {
        io.read_at = HEADROOM;
        io.read_end = HEADROOM;
        io.write_len = 0;
        if let Some(backlog) = &mut conn.backlog {
            let input = std::mem::take(&mut backlog.input);
            io.read_end += input.len();
            io.read[HEADROOM..io.read_end].copy_from_slice(&input);
            io.used -= input.len();
        }
        let mut socket = Self { conn, io, now, late, received: 0, sent: 0 };
        if socket.conn.is_blocked() {
            socket.flush();
        }
        socket
    }

    /// Ends a turn: sends what was written, keeps what is left.
    pub fn end_turn(mut self) {
        if !self.conn.finished {
            self.flush();
        }
        let left = self.io.read_end - self.io.read_at;
        if left > 0 && self.conn.end != End::Failed && !self.conn.aborted {
            let rest = self.io.read[self.io.read_at..self.io.read_end].to_vec();
            self.io.used += left;
            self.conn.backlog.get_or_insert_default().input = rest;
        }
        // The boxed backlog goes when nothing is left in it: an idle connection owns no buffer.
        self.conn.backlog.take_if(|backlog| backlog.input.is_empty() && backlog.output.is_empty());
    }

    /// One read into the shared buffer, for a view of `want` bytes. Returns whether there is more
    /// to show now.
    fn fill(&mut self, want: usize) -> bool {
        let left = self.io.read_end - self.io.read_at;
        if self.io.read_at > HEADROOM {
            self.io.read.copy_within(self.io.read_at..self.io.read_end, HEADROOM);
            self.io.read_end = HEADROOM + left;
            self.io.read_at = HEADROOM;
        }
        // What is read and then cannot be consumed is kept. Over the budget, a little is read all the
        // same: the rest of a packet may be held back until the kernel's buffer has been emptied.
        let most = self.io.budget().max(want).clamp(ALWAYS_KEPT, BUFFER);
        let space = &mut self.io.read[HEADROOM + left..HEADROOM + most.max(left)];
        if space.is_empty() {
            return false;
        }
        let most = space.len();
        match receive(&self.conn.stream, space) {
            Ok(0) => self.conn.end = End::Finished,
            Ok(n) => {
                // A short read has emptied the kernel's buffer: no need to be told so by another.
                self.conn.drained = n < most && !self.conn.fin_announced;
                self.io.read_end += n;
                self.received += n;
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.conn.drained = true,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return true,
            Err(_) => self.fail(),
        }
        false
    }

    fn fail(&mut self) {
        self.conn.end = End::Failed;
        self.io.read_at = self.io.read_end;
        self.io.write_len = 0;
        self.io.reclaim(self.conn);
    }

    /// Offers the kernel what waits, and keeps what it does not take.
    fn flush(&mut self) {
        if self.conn.end == End::Failed {
            return;
        }
        if self.conn.is_blocked() && !self.flush_backlog() {
            self.spill_write_buffer();
            return;
        }
        if self.io.write_len == 0 {
            return;
        }
        let mut sent = 0;
        while sent < self.io.write_len {
            match send(&self.conn.stream, &self.io.write[sent..self.io.write_len]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return self.fail(),
            }
        }
        if sent > 0 {
            self.conn.wrote_at = self.now;
        }
        if sent < self.io.write_len {
            self.io.write.copy_within(sent..self.io.write_len, 0);
            self.io.write_len -= sent;
            self.spill_write_buffer();
        }
        self.io.write_len = 0;
    }

    /// Sends the backlog; whether all of it went.
    fn flush_backlog(&mut self) -> bool {
        let Some(backlog) = &mut self.conn.backlog else {
            return true;
        };
        while backlog.output_sent < backlog.output.len() {
            match send(&self.conn.stream, &backlog.output[backlog.output_sent..]) {
                Ok(n) => {
                    backlog.output_sent += n;
                    self.conn.wrote_at = self.now;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(_) => {
                    self.fail();
                    return false;
                }
            }
        }
        self.io.used -= backlog.output.len();
        backlog.output = Vec::new();
        backlog.output_sent = 0;
        true
    }

    /// Moves what is left in the write buffer to the connection's backlog. It is kept even when the
    /// budget is spent, for a reply must not be torn; it is little then.
    fn spill_write_buffer(&mut self) {
        if self.io.write_len > 0 {
            let backlog = self.conn.backlog.get_or_insert_default();
            backlog.output.extend_from_slice(&self.io.write[..self.io.write_len]);
            self.io.used += self.io.write_len;
            self.io.write_len = 0;
        }
    }

    /// Keeps the first `len` readable bytes as output, as far as limit and budget let it.
    fn spill_readable(&mut self, len: usize) -> usize {
        let waiting = self.conn.backlog.as_ref().map_or(0, |backlog| backlog.output.len());
        let len = len.min(SPILL_LIMIT.saturating_sub(waiting)).min(self.io.budget());
        if len > 0 {
            let bytes = &self.io.read[self.io.read_at..self.io.read_at + len];
            self.conn.backlog.get_or_insert_default().output.extend_from_slice(bytes);
            self.io.used += len;
            self.io.read_at += len;
        }
        len
    }

    /// Hands the write buffer and these bytes to the kernel in one call, and says how many of these
    /// it took. What it left of the buffer is still in it.
    fn send_behind_buffer(&mut self, data: &[u8]) -> usize {
        let sent = send_both(&mut self.conn.stream, &self.io.write[..self.io.write_len], data);
        self.account_for(sent)
    }

    /// The kernel took so many bytes, of the write buffer first; the rest is what it took behind it.
    fn account_for(&mut self, sent: io::Result<usize>) -> usize {
        let accepted = match sent {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.conn.full = true;
                0
            }
            Err(_) => {
                self.fail();
                return 0;
            }
        };
        if accepted > 0 {
            self.conn.wrote_at = self.now;
        }
        let of_buffer = accepted.min(self.io.write_len);
        self.io.write.copy_within(of_buffer..self.io.write_len, 0);
        self.io.write_len -= of_buffer;
        accepted - of_buffer
    }

    /// Whether the first `len` readable bytes are to wait in the write buffer for what follows them.
    fn is_to_be_copied(&self, len: usize) -> bool {
        // Nothing follows, and there is less to be put before them than there is of them.
        let is_last = self.io.read_at + len == self.io.read_end
            && self.io.write_len <= len.min(self.io.read_at);
        !is_last
            && len <= COPY_LIMIT
            && len <= self.io.write.len() - self.io.write_len
            && !self.io.is_short()
    }

    /// Hands the write buffer and the first `len` readable bytes to the kernel in one call.
    fn send_readable(&mut self, len: usize) -> usize {
        let (at, end) = (self.io.read_at, self.io.read_at + len);
        let sent = match at.checked_sub(self.io.write_len) {
            Some(front) => {
                self.io.read[front..at].copy_from_slice(&self.io.write[..self.io.write_len]);
                send(&self.conn.stream, &self.io.read[front..end])
            }
            None => {
                let (first, second) = (&self.io.write[..self.io.write_len], &self.io.read[at..end]);
                send_both(&mut self.conn.stream, first, second)
            }
        };
        let direct = self.account_for(sent);
        if self.conn.end == End::Failed {
            return 0;
        }
        self.io.read_at += direct;
        if direct == len {
            return len;
        }
        self.spill_write_buffer();
        direct + self.spill_readable(len - direct)
    }

    /// When what was received counts as a proof of life.
    fn arrival(&self) -> Instant {
        if !self.late {
            return self.now;
        }
        TcpState::of(&self.conn.stream)
            .map_or(self.now, |state| before(self.now, state.since_received))
    }
}

/// One call for two pieces.
fn send_both(stream: &mut TcpStream, first: &[u8], second: &[u8]) -> io::Result<usize> {
    stream.write_vectored(&[IoSlice::new(first), IoSlice::new(second)])
}

// The system calls themselves: the C library's wrappers make each a point where a thread can be cancelled, which nobody
// does here and every call pays for.

fn receive(stream: &TcpStream, space: &mut [u8]) -> io::Result<usize> {
    Ok(rustix::net::recv(stream, space, RecvFlags::empty())?.1)
}

fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::net::send(stream, bytes, NO_SIGNAL)?)
}

/// What was so long ago when the kernel was asked. It was asked a little after `now`, or long after
/// where the turn has been held up: whoever looks silent for too long at `now` is so when asked.
fn before(now: Instant, age: std::time::Duration) -> Instant {
    let age = Duration::from_micros(u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    now.checked_sub(age).unwrap_or(Instant::MIN)
}

impl Socket for TcpSocket<'_> {
    fn rx(&mut self, want: usize) -> Rx<'_> {
        while self.io.read_end - self.io.read_at < want
            && !self.conn.drained
            && self.conn.end == End::Open
            && self.fill(want)
        {}
        Rx { bytes: &self.io.read[self.io.read_at..self.io.read_end], end: self.conn.end }
    }

    fn consume(&mut self, len: usize) {
        let len = len.min(self.io.read_end - self.io.read_at);
        self.io.read_at += len;
    }

    fn room(&mut self) -> usize {
        if self.conn.end == End::Failed || self.conn.finished || self.conn.is_blocked() {
            return 0;
        }
        // Replies that the kernel does not take are kept whole. Over the budget that must not be a
        // buffer full for each of many connections.
        let is_full = self.io.write.len() - self.io.write_len < REPLY_ROOM;
        if is_full || (self.io.write_len > ALWAYS_KEPT && self.io.is_short()) {
            self.flush();
            if self.conn.is_blocked() || self.conn.end == End::Failed {
                return 0;
            }
        }
        self.io.write.len() - self.io.write_len
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room());
        self.io.write[self.io.write_len..self.io.write_len + len].copy_from_slice(&bytes[..len]);
        self.io.write_len += len;
        self.sent += len;
        len
    }

    fn pour(&mut self, bytes: &[u8]) -> usize {
        if self.conn.end == End::Failed || self.conn.finished || self.conn.is_blocked() {
            return 0;
        }
        let len = bytes.len();
        if len <= COPY_LIMIT && len <= self.io.write.len() - self.io.write_len {
            return self.write(bytes);
        }
        let sent = self.send_behind_buffer(bytes);
        // What the kernel did not take of the reply's head goes first when there is room.
        self.spill_write_buffer();
        self.sent += sent;
        sent
    }

    fn relay(&mut self, max: usize) -> usize {
        let len = self.rx(1).bytes.len().min(max);
        if len == 0 || self.conn.finished || self.conn.end == End::Failed {
            return 0;
        }
        let moved = if self.conn.is_blocked() {
            self.spill_readable(len)
        } else if self.is_to_be_copied(len) {
            let bytes = &self.io.read[self.io.read_at..self.io.read_at + len];
            self.io.write[self.io.write_len..self.io.write_len + len].copy_from_slice(bytes);
            self.io.write_len += len;
            self.io.read_at += len;
            len
        } else {
            self.send_readable(len)
        };
        self.sent += moved;
        moved
    }

    fn progress(&mut self, now: Instant) -> Progress {
        let received = std::mem::take(&mut self.received);
        let at = if received > 0 { self.arrival() } else { now };
        Progress { received, sent: std::mem::take(&mut self.sent), at }
    }

    fn proof(&mut self, now: Instant) -> Proof {
        // What this turn has written counts as owed only once it is with the kernel.
        self.flush();
        let Some(state) = TcpState::of(&self.conn.stream) else {
            return Proof { received_at: None, acknowledged_at: None, owed_since: None };
        };
        let owed = state.owed || self.conn.is_blocked();
        let progressed = state.acknowledged != self.conn.acknowledged_at_look;
        let owed_since = match self.conn.owed_since {
            // Owed at the last look, owed now, and nothing acknowledged between.
            Some(since) if owed && !progressed => Some(since),
            // The kernel does not say when the oldest byte was written; the last write is never
            // too early, and right for a peer that fell silent before its last reply.
            _ => owed.then_some(self.conn.wrote_at),
        };
        if progressed || !owed {
            self.conn.acknowledged_at = before(now, state.since_acknowledged);
            self.conn.asked_at = now;
        }
        self.conn.owed_since = owed_since;
        self.conn.acknowledged_at_look = state.acknowledged;
        Proof {
            received_at: Some(before(now, state.since_received)),
            acknowledged_at: Some(self.conn.acknowledged_at),
            owed_since,
        }
    }

    fn finish(&mut self) -> Finish {
        if !self.conn.finished {
            self.flush();
            if self.conn.is_blocked() {
                return Finish::Pending;
            }
            self.conn.finished = true;
            // It fails only where the connection is gone, which the next read tells.
            let _ = self.conn.stream.shutdown(Shutdown::Write);
        }
        Finish::Sent
    }

    fn abort(&mut self) {
        self.conn.aborted = true;
        self.io.write_len = 0;
        self.io.reclaim(self.conn);
        abort(&self.conn.stream);
    }
}

#[cfg(test)]
mod tests;
