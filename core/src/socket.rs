//! The abstract socket: what a network stack must do for the core.

pub mod memory;

use embassy_time::Instant;

/// What can be said about bytes to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// More may come.
    Open,
    /// The peer has sent its FIN: nothing follows these bytes.
    Finished,
    /// The connection is gone (reset, timed out by the stack, …).
    Failed,
}

/// Readable bytes, where the socket holds them.
#[derive(Debug, Clone, Copy)]
pub struct Rx<'a> {
    /// The bytes; what is not consumed is shown again.
    pub bytes: &'a [u8],
    /// What follows them.
    pub end: End,
}

/// What has moved since it was last asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that arrived from the peer, consumed or not.
    pub received: usize,
    /// Bytes taken for sending.
    pub sent: usize,
    /// When the peer last proved that it lives: [`Proof::at`] where that costs nothing, else when
    /// the last of the received bytes arrived.
    pub at: Instant,
}

/// When the peer last proved that it lives. Asked only when a deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// When bytes last arrived; `None` if none have, or the stack cannot tell.
    pub received_at: Option<Instant>,
    /// When acknowledgements last made progress; `None` if they never have.
    pub acknowledged_at: Option<Instant>,
    /// When the oldest byte was written that the peer has not acknowledged, as well as the stack
    /// can tell; `None` if nothing is owed.
    pub owed_since: Option<Instant>,
}

impl Proof {
    /// The moment that counts.
    ///
    /// From when something is owed on, only acknowledgements do: a peer that sends and never reads
    /// is stuck, whatever it sends. That something was written is itself no proof of anything.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        let heard = match (self.received_at, self.owed_since) {
            (Some(received), Some(owed)) => Some(received.min(owed)),
            (received, _) => received,
        };
        heard.max(self.acknowledged_at)
    }
}

/// How far an orderly end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// Output is still waiting; ask again when the socket is writable.
    Pending,
    /// All output and the FIN are with the network stack.
    Sent,
}

/// One TCP connection, as the core sees it. No call blocks.
///
/// Reading is in place, as with `BufRead`: bytes stay the socket's until they are consumed.
pub trait Socket {
    /// The readable bytes: at least `want` of them in one piece if so many have arrived, and
    /// never fewer than can be shown without waiting. `want` is at most
    /// [`Limits::longest_head`](crate::frame::Limits::longest_head); 0 asks only how the
    /// connection stands.
    fn rx(&mut self, want: usize) -> Rx<'_>;

    /// Drops the first `len` of the readable bytes.
    fn consume(&mut self, len: usize);

    /// How many bytes [`Socket::write`] takes now.
    fn room(&mut self) -> usize;

    /// Takes bytes for sending; returns how many: all of them if there is room.
    fn write(&mut self, bytes: &[u8]) -> usize;

    /// Takes bytes of a long body for sending; returns how many, none if there is no room now. A
    /// socket that can send them from where they stand overrides this.
    fn pour(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room());
        self.write(bytes.get(..len).unwrap_or_default())
    }

    /// Moves up to `max` readable bytes to the output, and returns how many. A socket that can do
    /// so without a copy, or with pooled memory where its own buffers are full, overrides this.
    fn relay(&mut self, max: usize) -> usize {
        // Bounded: it lives on a microcontroller's stack.
        let mut piece = [0; 128];
        let mut moved = 0;
        while moved < max {
            let room = self.room();
            let bytes = self.rx(1).bytes;
            let len = bytes.len().min(room).min(max - moved).min(piece.len());
            let (Some(to), Some(from)) = (piece.get_mut(..len), bytes.get(..len)) else {
                break;
            };
            to.copy_from_slice(from);
            let len = self.write(to);
            if len == 0 {
                break;
            }
            self.consume(len);
            moved += len;
        }
        moved
    }

    /// What has moved since the last call.
    fn progress(&mut self, now: Instant) -> Progress;

    /// When the peer last proved that it lives.
    fn proof(&mut self, now: Instant) -> Proof;

    /// Sends what waits, then a FIN. May be called again and again.
    fn finish(&mut self) -> Finish;

    /// Sends an RST and discards everything.
    fn abort(&mut self);
}
