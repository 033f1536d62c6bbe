//! One connection, and the buffers that all connections of a shard share.
//!
//! An idle connection owns no buffer: what it receives is read into the shard's buffer and mostly
//! consumed there. Only what is left over (half a packet, input that waits for the output to
//! drain, output that the kernel did not take) moves to memory of its own, from a budget.

mod socket;

use embassy_time::Instant;
use mio::net::TcpStream;
use pulsegate_core::socket::End;

pub use socket::TcpSocket;

/// The shard's read and write buffer, each. Two pipes full of the kernel's largest loopback
/// segment; more does not make large data faster.
const BUFFER: usize = 64 * 1024;

/// Room in front of what is read, so that a reply can be put before the data that goes back with it
/// and both leave as one piece: the kernel takes that quicker than two.
const HEADROOM: usize = 256;

/// What did not fit elsewhere.
#[derive(Debug, Default)]
struct Backlog {
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of `output` that the kernel has taken.
    output_sent: usize,
}

/// One accepted connection.
#[derive(Debug)]
pub struct Conn {
    stream: TcpStream,
    backlog: Option<Box<Backlog>>,
    end: End,
    /// The last read emptied the kernel's buffer; a new readiness event clears this.
    drained: bool,
    /// The kernel took no more output; a new readiness event clears this.
    full: bool,
    /// The peer's FIN has been announced: a short read is followed by one that shows it.
    fin_announced: bool,
    finished: bool,
    aborted: bool,
    /// Since when something was owed, when the connection was last judged.
    owed_since: Option<Instant>,
    /// How many bytes the peer had acknowledged then.
    acknowledged_at_look: u64,
    /// When it last acknowledged, as of then.
    acknowledged_at: Instant,
    /// When the kernel was asked for that.
    asked_at: Instant,
    wrote_at: Instant,
}

impl Conn {
    /// A connection that was just accepted. Small packets are to leave at once.
    pub fn new(stream: TcpStream, now: Instant) -> Self {
        // Without it a heartbeat's reply may wait 40 ms for an acknowledgement; a socket that
        // refuses the option is gone already, and the first read says so.
        let _ = stream.set_nodelay(true);
        Self {
            stream,
            backlog: None,
            end: End::Open,
            drained: false,
            full: false,
            fin_announced: false,
            finished: false,
            aborted: false,
            owed_since: None,
            acknowledged_at_look: 0,
            acknowledged_at: now,
            asked_at: now,
            wrote_at: now,
        }
    }

    /// A turn that began at `began` was held up, and ends only `now`: what it wrote may have been
    /// written as late as that. Without this a peer would owe its answer from before it had
    /// anything to answer.
    pub fn restamp(&mut self, began: Instant, now: Instant) {
        for written in self.owed_since.iter_mut().chain([&mut self.wrote_at]) {
            if *written >= began {
                *written = now;
            }
        }
        // An age was taken back from `began`, and is as of `now` at the latest.
        if self.asked_at >= began {
            self.acknowledged_at = (self.acknowledged_at + (now - began)).min(now);
        }
    }

    /// The stream, to reset it.
    #[must_use]
    pub const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// The kernel has news, the peer's FIN among them or not: the next turn reads.
    pub const fn wake(&mut self, fin: bool) {
        self.drained = false;
        self.full = false;
        self.fin_announced |= fin;
    }

    /// Whether the kernel took no more output, and will tell when it does again.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// Whether output waits here for the kernel.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| !backlog.output.is_empty())
    }
}

/// Buffers and budget that the connections of one shard share.
#[derive(Debug)]
pub struct IoBuffers {
    read: Box<[u8]>,
    read_at: usize,
    read_end: usize,
    write: Box<[u8]>,
    write_len: usize,
    /// Bytes that all backlogs together may have, and have. Whole replies are kept even over the
    /// limit, so the second may be the greater one.
    limit: usize,
    used: usize,
}

impl IoBuffers {
    /// Buffers with `limit` bytes for all backlogs together.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            read: vec![0; HEADROOM + BUFFER].into_boxed_slice(),
            read_at: HEADROOM,
            read_end: HEADROOM,
            write: vec![0; BUFFER].into_boxed_slice(),
            write_len: 0,
            limit,
            used: 0,
        }
    }

    /// Bytes that connections may still keep as backlog.
    const fn budget(&self) -> usize {
        self.limit.saturating_sub(self.used)
    }

    /// Whether not even one more connection may keep a buffer full.
    const fn is_short(&self) -> bool {
        self.budget() < BUFFER
    }

    /// A connection ends: its backlog goes back to the budget.
    pub fn reclaim(&mut self, conn: &mut Conn) {
        if let Some(backlog) = conn.backlog.take() {
            self.used -= backlog.input.len() + backlog.output.len();
        }
    }
}
