//! One device's connection: what it sends in which pieces, and the replies it is owed.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::MAX_PAUSE;
use super::judge::Proof;
use super::stats::FleetStats;
use crate::client::wire::{ANY_REPLY, Limits, Reply, packet_len};

/// Replies to a device are short; a server that sends more is wrong.
const LIMITS: Limits = Limits { packet: 4096, command: 4096, ..ANY_REPLY };

/// A server that takes nothing for this long has closed the connection in all but name.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Read at once; a heartbeat's reply has 42 bytes.
const READ: usize = 512;

/// Which reply is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Login,
    Beat,
}

/// A reply that the server owes.
#[derive(Debug, Clone, Copy)]
struct Due {
    reply: Owed,
    since: Instant,
    /// The longest pause before the request: the reply shows that the server bore it.
    pause: Duration,
}

/// Part of two heartbeats in a row, to be sent at a time of its own.
#[derive(Debug, Clone, Copy)]
struct Piece {
    at: Instant,
    from: usize,
    to: usize,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// Nothing yet.
    Nothing,
    /// Bytes.
    Bytes,
    /// The server closed, orderly or not.
    Closed,
}

/// A connection that counts itself in the gauges of `stats` for as long as it is live.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    pub(super) local: SocketAddr,
    pub(super) proof: Proof,
    /// The longest pause before a write since a reply was last made due.
    pause: Duration,
    /// Whether the server ever answered.
    pub(super) answered: bool,
    logged_in: bool,
    live: bool,
    owed: VecDeque<Due>,
    /// A reply of which only a part has come; no memory as long as replies come whole.
    part: Vec<u8>,
    pieces: VecDeque<Piece>,
    /// Two heartbeat packets, shared by the whole fleet.
    beats: Arc<[u8]>,
    stats: Arc<FleetStats>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        beats: Arc<[u8]>,
        stats: Arc<FleetStats>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        let now = Instant::now();
        stats.connections.up();
        stats.connected.up();
        Ok(Self {
            stream,
            local,
            proof: Proof { sent: now, seen: now },
            pause: Duration::ZERO,
            answered: false,
            logged_in: false,
            live: true,
            owed: VecDeque::new(),
            part: Vec::new(),
            pieces: VecDeque::new(),
            beats,
            stats,
        })
    }

    /// Takes the connection out of the live gauges.
    pub(super) fn leave(&mut self) {
        if self.live {
            self.live = false;
            self.stats.connected.down();
            if self.logged_in {
                self.stats.logged_in.down();
            }
        }
    }

    fn beat_len(&self) -> usize {
        self.beats.len() / 2
    }

    /// The first bytes: the flag, the login if there is one, and now and then the first heartbeat,
    /// all in one segment.
    pub(super) async fn greet(
        &mut self,
        login: Option<Vec<u8>>,
        with_beat: bool,
    ) -> io::Result<()> {
        let mut first = vec![crate::client::Flag::Control as u8];
        let has_login = login.is_some();
        first.extend(login.unwrap_or_default());
        if with_beat {
            first.extend(&self.beats[..self.beat_len()]);
        }
        self.write(&first).await?;
        let now = Instant::now();
        if has_login {
            self.owe(Owed::Login, now);
        }
        if with_beat {
            self.stats.beats_sent.up();
            self.owe(Owed::Beat, now);
        }
        Ok(())
    }

    /// Plans the next heartbeat: whole as a rule; sometimes cut at a random byte, sent twice, or
    /// two glued into one segment, with or without a cut.
    pub(super) fn plan_beat(&mut self, latency: Duration, rng: &mut SmallRng) {
        let beat = self.beat_len();
        let (cut, end) = match rng.random_range(0..20) {
            0 => (rng.random_range(1..beat), beat),
            1 => (beat, 2 * beat),
            2 => (0, 2 * beat),
            3 => (rng.random_range(1..2 * beat), 2 * beat),
            _ => (0, beat),
        };
        let at = Instant::now() + latency.mul_f64(rng.random());
        if cut > 0 {
            self.pieces.push_back(Piece { at, from: 0, to: cut });
        }
        let pause = if cut > 0 { MAX_PAUSE.mul_f64(rng.random()) } else { Duration::ZERO };
        self.pieces.push_back(Piece { at: at + pause, from: cut, to: end });
    }

    /// When the next planned piece wants to be sent.
    pub(super) fn next_piece(&self) -> Option<Instant> {
        self.pieces.front().map(|piece| piece.at)
    }

    /// Sends the pieces whose time has come.
    pub(super) async fn send_due(&mut self) -> io::Result<()> {
        while let Some(piece) = self.pieces.front().copied() {
            if piece.at > Instant::now() {
                break;
            }
            self.pieces.pop_front();
            let beats = Arc::clone(&self.beats);
            self.write(&beats[piece.from..piece.to]).await?;
            let now = Instant::now();
            // The end of each whole packet in this piece makes one reply due.
            let beat = self.beat_len();
            for _ in piece.from / beat..piece.to / beat {
                self.stats.beats_sent.up();
                self.owe(Owed::Beat, now);
            }
        }
        Ok(())
    }

    /// The start of a heartbeat that never gets its end.
    pub(super) async fn send_torn(&mut self, rng: &mut SmallRng) -> io::Result<()> {
        let beats = Arc::clone(&self.beats);
        let end = rng.random_range(1..self.beat_len());
        self.write(&beats[..end]).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = Instant::now();
        timeout(WRITE_TIMEOUT, self.stream.write_all(bytes)).await??;
        let now = Instant::now();
        self.pause = self.pause.max(now - self.proof.sent);
        self.proof = Proof { sent, seen: now };
        Ok(())
    }

    /// How long the device may have been silent when the server closed. What has not been answered
    /// may have come after the close.
    pub(super) fn silence(&self) -> Duration {
        let pauses = self.owed.iter().map(|due| due.pause);
        pauses.fold(self.proof.sent.elapsed().max(self.pause), Duration::max)
    }

    fn owe(&mut self, reply: Owed, since: Instant) {
        let pause = std::mem::take(&mut self.pause);
        self.owed.push_back(Due { reply, since, pause });
    }

    /// Waits until there is something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    /// Reads what is there; replies are matched with what is owed.
    pub(super) fn read(&mut self) -> Got {
        let mut buffer = [0; READ];
        let got = match self.stream.try_read(&mut buffer) {
            Ok(0) => return Got::Closed,
            Ok(n) => &buffer[..n],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Got::Nothing,
            Err(_) => return Got::Closed,
        };
        let now = Instant::now();
        // Acknowledge now: an acknowledgement held back would move the server's clock, not ours.
        #[cfg(target_os = "linux")]
        let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
        self.proof.seen = now;
        if self.part.is_empty() {
            let used = self.take_replies(got, now);
            self.part.extend_from_slice(&got[used..]);
        } else {
            let mut part = std::mem::take(&mut self.part);
            part.extend_from_slice(got);
            let used = self.take_replies(&part, now);
            if used < part.len() {
                part.drain(..used);
                self.part = part;
            }
        }
        Got::Bytes
    }

    /// Takes whole replies off the front of `bytes`; gives how many bytes they had.
    fn take_replies(&mut self, bytes: &[u8], now: Instant) -> usize {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let len = match packet_len(rest, LIMITS) {
                Ok(Some(len)) if len <= rest.len() => len,
                Ok(_) => return used,
                Err(_) => {
                    // No way to find the next packet: what came is dropped, and counted once.
                    self.stats.bad_replies.up();
                    return bytes.len();
                }
            };
            self.take_reply(&rest[..len], now);
            used += len;
        }
    }

    fn take_reply(&mut self, packet: &[u8], now: Instant) {
        let owed = self.owed.pop_front();
        let reply = Reply::parse(packet, LIMITS);
        let (Some(Due { reply: owed, since, .. }), Ok(reply)) = (owed, reply) else {
            return self.stats.bad_replies.up();
        };
        let command = match owed {
            Owed::Login => "Login",
            Owed::Beat => "Active",
        };
        if !reply.command.eq_ignore_ascii_case(command) {
            return self.stats.bad_replies.up();
        }
        self.answered = true;
        self.stats.round_trip(now.saturating_duration_since(since));
        match (owed, reply.code) {
            (Owed::Login, 0) => {
                self.logged_in = true;
                if self.live {
                    self.stats.logged_in.up();
                }
            }
            (Owed::Login, _) => self.stats.logins_refused.up(),
            (Owed::Beat, 0) => self.stats.beats_answered.up(),
            (Owed::Beat, _) => self.stats.bad_replies.up(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// A device that is held up for too long is closed rightly, even if it sends before it learns.
    #[tokio::test]
    async fn what_is_sent_after_a_pause_does_not_undo_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let beat = b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active";
        let reply = b"\x26\0\0\0\x22\0\0\0[Response]\r\nCommand=Active\r\nCode=0";
        let beats: Arc<[u8]> = beat.repeat(2).into();
        let mut device = Connection::new(stream, beats, Arc::new(FleetStats::new())).unwrap();
        let pause = Duration::from_millis(200);
        for _ in 0..2 {
            tokio::time::sleep(pause).await;
            device.pieces.push_back(Piece { at: Instant::now(), from: 0, to: beat.len() });
            device.send_due().await.unwrap();
            assert!(device.silence() >= pause);
            server.read_exact(&mut [0; 33]).await.unwrap();
        }
        // The first reply says that the first pause was borne, not that the second one was.
        for unanswered in [1, 0] {
            server.write_all(reply).await.unwrap();
            device.readable().await.unwrap();
            assert_eq!(device.read(), Got::Bytes);
            assert_eq!(device.owed.iter().filter(|due| due.pause >= pause).count(), unanswered);
            assert!(device.pause.is_zero());
        }
    }
}
