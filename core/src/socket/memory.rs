//! A socket in memory, whose other end is played by a test: bytes arrive when the test says so,
//! in the pieces it says, and leave as slowly as it likes.

use embassy_time::Instant;

use super::{End, Finish, Progress, Proof, Rx, Socket};

/// One connection with room for `N` bytes in each direction.
///
/// The test is the peer: it [`send`](MemorySocket::send)s, [`take`](MemorySocket::take)s what the
/// server wrote, half-closes, resets, or stops reading by not taking.
///
/// ```
/// use pulsegate_core::socket::{Socket, memory::MemorySocket};
///
/// let mut socket = MemorySocket::<64>::new();
/// assert_eq!(socket.send(b"ping", embassy_time::Instant::from_ticks(0)), 4);
/// assert_eq!(socket.rx(1).bytes, b"ping");
/// socket.write(b"pong");
/// assert_eq!(socket.output(), b"pong");
/// ```
#[derive(Debug)]
pub struct MemorySocket<const N: usize> {
    input: [u8; N],
    input_len: usize,
    output: [u8; N],
    output_len: usize,
    received: usize,
    sent: usize,
    received_at: Option<Instant>,
    acknowledged_at: Option<Instant>,
    owed_since: Option<Instant>,
    peer: End,
    finished: bool,
    aborted: bool,
}

impl<const N: usize> Default for MemorySocket<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> MemorySocket<N> {
    /// A fresh connection.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            input: [0; N],
            input_len: 0,
            output: [0; N],
            output_len: 0,
            received: 0,
            sent: 0,
            received_at: None,
            acknowledged_at: None,
            owed_since: None,
            peer: End::Open,
            finished: false,
            aborted: false,
        }
    }

    /// The peer sends; returns how many bytes fit.
    pub fn send(&mut self, bytes: &[u8], now: Instant) -> usize {
        let room = self.input.get_mut(self.input_len..).unwrap_or_default();
        let len = bytes.len().min(room.len());
        if let (Some(to), Some(from)) = (room.get_mut(..len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        self.input_len += len;
        self.received += len;
        if len > 0 {
            self.received_at = Some(now);
        }
        len
    }

    /// What the server has written and the peer has not read.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.output.get(..self.output_len).unwrap_or_default()
    }

    /// The peer reads up to `len` bytes, and its stack acknowledges them; returns how many.
    pub fn take(&mut self, len: usize, now: Instant) -> usize {
        let len = len.min(self.output_len);
        self.output.copy_within(len..self.output_len, 0);
        self.output_len -= len;
        if len > 0 {
            self.acknowledged_at = Some(now);
        }
        if self.output_len == 0 {
            self.owed_since = None;
        }
        len
    }

    /// The peer sends its FIN.
    pub fn peer_finish(&mut self) {
        self.peer = End::Finished;
    }

    /// The peer resets the connection.
    pub fn peer_reset(&mut self) {
        self.peer = End::Failed;
        self.input_len = 0;
    }

    /// Whether the server has sent its FIN.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the server has reset the connection.
    #[must_use]
    pub const fn is_aborted(&self) -> bool {
        self.aborted
    }
}

impl<const N: usize> Socket for MemorySocket<N> {
    fn rx(&mut self, _want: usize) -> Rx<'_> {
        Rx { bytes: self.input.get(..self.input_len).unwrap_or_default(), end: self.peer }
    }

    fn consume(&mut self, len: usize) {
        let len = len.min(self.input_len);
        self.input.copy_within(len..self.input_len, 0);
        self.input_len -= len;
    }

    fn room(&mut self) -> usize {
        if self.finished || self.aborted || self.peer == End::Failed {
            0
        } else {
            N - self.output_len
        }
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room());
        let to = self.output.get_mut(self.output_len..self.output_len + len);
        if let (Some(to), Some(from)) = (to, bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        self.output_len += len;
        self.sent += len;
        len
    }

    fn progress(&mut self, now: Instant) -> Progress {
        if self.output_len > 0 && self.owed_since.is_none() {
            self.owed_since = Some(now);
        }
        Progress {
            received: core::mem::take(&mut self.received),
            sent: core::mem::take(&mut self.sent),
            at: self.proof(now).at().unwrap_or(now),
        }
    }

    fn proof(&mut self, now: Instant) -> Proof {
        Proof {
            received_at: self.received_at,
            acknowledged_at: self.acknowledged_at,
            owed_since: (self.output_len > 0).then(|| self.owed_since.unwrap_or(now)),
        }
    }

    fn finish(&mut self) -> Finish {
        self.finished = true;
        Finish::Sent
    }

    fn abort(&mut self) {
        self.aborted = true;
        self.output_len = 0;
    }
}
