//! A fleet that beats slowly and loses devices all the time, for minutes.
//!
//! As many sessions as the limit on descriptors allows stand open against one server. Some die every second: they say
//! nothing more, not even a FIN, and stand until the server closes them; then another device connects in their place.
//! Judged is every end of a connection: a dead one's lateness, counted as in [`crate::lateness`], and a live
//! one's as the server's mistake.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::dialect::{Dialect, Exchange, Speaks};
use crate::host::{self, Cores};
use crate::server::Server;
use crate::{lateness, loadgen};

/// Descriptors that the fleet and the server each keep for other things.
const RESERVE: u64 = 100;
/// Connections made before the others have their turn again.
const CONNECTS_PER_TURN: usize = 32;
/// A dead connection that stands so long after its deadline has been forgotten.
const PATIENCE: Duration = Duration::from_secs(5);
/// A figure beyond this is recorded as this, in microseconds.
const LONGEST: u64 = 600_000_000;
/// What the fleet looks for at least so often.
const LOOK: Duration = Duration::from_millis(50);

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How many sessions; as many as the limit on descriptors allows, if not given.
    pub sessions: Option<usize>,
    /// The time between two heartbeats of a device.
    pub beat: Duration,
    /// How many devices die in a second.
    pub dying: u32,
    /// The silence after which the server says it closes.
    pub idle_timeout: Duration,
    /// How long the fleet runs once all are connected.
    pub duration: Duration,
    /// Where the server and the fleet run.
    pub cores: Cores,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Sessions that stood open, dead ones among them.
    pub sessions: usize,
    /// How many of them were dead at the end.
    pub dead: usize,
    /// Devices that died.
    pub died: u64,
    /// Dead connections that were closed in time or late, by microseconds of lateness.
    pub lateness: Histogram<u64>,
    /// Dead connections closed before their time.
    pub early: u64,
    /// Dead connections that the server has forgotten.
    pub forgotten: u64,
    /// Live connections that the server closed.
    pub false_closes: u64,
    /// Heartbeats that were not answered before the next was due.
    pub unanswered: u64,
    /// Microseconds from a heartbeat to its answer.
    pub latency: Histogram<u64>,
    /// Microseconds by which this fleet did late what was due: the figures may be wrong by as much.
    pub own_delay: Histogram<u64>,
    /// The measured time.
    pub elapsed: Duration,
    /// CPU time of the server in it.
    pub server_time: Duration,
    /// The server's resident memory at the end, in bytes.
    pub resident: u64,
}

impl Outcome {
    fn new(sessions: usize) -> Result<Self> {
        let histogram =
            Histogram::new_with_bounds(1, LONGEST, 3).context("cannot make a histogram")?;
        Ok(Self {
            sessions,
            dead: 0,
            died: 0,
            lateness: histogram.clone(),
            early: 0,
            forgotten: 0,
            false_closes: 0,
            unanswered: 0,
            latency: histogram.clone(),
            own_delay: histogram,
            elapsed: Duration::ZERO,
            server_time: Duration::ZERO,
            resident: 0,
        })
    }

    /// Whether every dead connection was closed, none early, and no live one.
    #[must_use]
    pub const fn is_right(&self) -> bool {
        self.early == 0 && self.forgotten == 0 && self.false_closes == 0 && self.unanswered == 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name, histogram: &Histogram<u64>| {
            write!(f, "\n{name:<16}")?;
            for percentile in [50.0, 99.0, 99.9, 100.0] {
                let ms = histogram.value_at_percentile(percentile) as f64 / 1000.0;
                write!(f, "  p{percentile} {ms:.2}")?;
            }
            Ok(())
        };
        let seconds = self.elapsed.as_secs_f64();
        write!(f, "sessions          {}, at the end {} of them dead", self.sessions, self.dead)?;
        write!(f, "\ntime              {seconds:.0} s")?;
        write!(f, "\ndied, closed      {}, {}", self.died, self.lateness.len() + self.early)?;
        row(f, "sweep late ms", &self.lateness)?;
        write!(f, "\nclosed early      {}", self.early)?;
        write!(f, "\nnot closed        {}", self.forgotten)?;
        write!(f, "\nlive, closed      {}", self.false_closes)?;
        write!(f, "\nheartbeats        {:.0}/s", self.latency.len() as f64 / seconds)?;
        write!(f, "\nnot answered      {}", self.unanswered)?;
        row(f, "heartbeat ms", &self.latency)?;
        row(f, "own delay ms", &self.own_delay)?;
        let share = self.server_time.as_secs_f64() / seconds * 100.0;
        write!(f, "\nserver CPU        {share:.2} % of a core")?;
        let kib = self.resident as f64 / 1024.0;
        let each = self.resident as f64 / self.sessions as f64;
        write!(f, "\nserver RSS        {kib:.0} KiB, {each:.0} bytes for each session")
    }
}

/// One connection.
struct Device {
    stream: TcpStream,
    /// Its place among the living.
    live_at: Option<usize>,
    /// Bytes of the answer that are still to come.
    missing: usize,
    sent_at: Instant,
    acknowledged_at: Instant,
    /// Tells it from others that had its place.
    number: u64,
}

struct Fleet<'a> {
    plan: &'a Plan,
    server: &'a Server,
    exchange: Exchange,
    poll: Poll,
    devices: Vec<Option<Device>>,
    free: Vec<usize>,
    /// Whose heart beats.
    live: Vec<usize>,
    /// When each device beats next, and whether it is still the same one.
    beats: BinaryHeap<Reverse<(Instant, usize, u64)>>,
    connected: u64,
    random: u64,
    outcome: Outcome,
}

/// Starts a server, connects the fleet, and runs it.
pub fn run(command: &str, plan: &Plan) -> Result<Outcome> {
    ensure!(
        plan.beat < plan.idle_timeout,
        "a heartbeat each {:?} does not keep a session with an idle timeout of {:?}",
        plan.beat,
        plan.idle_timeout
    );
    let most = host::raise_descriptor_limit()?.saturating_sub(RESERVE);
    let sessions = plan.sessions.unwrap_or(usize::try_from(most).unwrap_or(usize::MAX));
    ensure!(
        sessions > 0 && sessions as u64 <= most,
        "the descriptor limit allows 1 to {most} sessions"
    );
    let server = Server::start(command, &[plan.cores.server], &[plan.cores.load])?;
    let mut fleet = Fleet::new(plan, &server, sessions)?;
    fleet.connect_all()?;
    let (began, before) = (Instant::now(), host::cpu_time(server.pid())?);
    fleet.run(began)?;
    let mut outcome = fleet.finish();
    outcome.elapsed = began.elapsed();
    outcome.server_time = host::cpu_time(server.pid())?.saturating_sub(before);
    outcome.resident = host::resident(server.pid())?;
    Ok(outcome)
}

impl<'a> Fleet<'a> {
    fn new(plan: &'a Plan, server: &'a Server, sessions: usize) -> Result<Self> {
        Ok(Self {
            plan,
            server,
            exchange: Exchange::new(Dialect::Heartbeat, Speaks::Protocol),
            poll: Poll::new().context("cannot make an epoll instance")?,
            devices: (0..sessions).map(|_| None).collect(),
            free: (0..sessions).rev().collect(),
            live: Vec::with_capacity(sessions),
            beats: BinaryHeap::with_capacity(sessions),
            connected: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            outcome: Outcome::new(sessions)?,
        })
    }

    /// Spreads the fleet's heartbeats over the time between two of them. What this costs is not measured.
    fn connect_all(&mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        while !self.free.is_empty() {
            for _ in 0..CONNECTS_PER_TURN {
                // Not before the first one has been answered.
                let share = 0.25 + 0.75 * self.below(1 << 20) as f64 / f64::from(1 << 20);
                self.connect(self.plan.beat.mul_f64(share))?;
            }
            self.beat(Instant::now());
            self.turn(&mut events, Duration::ZERO)?;
        }
        self.outcome.latency.reset();
        self.outcome.own_delay.reset();
        Ok(())
    }

    fn run(&mut self, began: Instant) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let end = began + self.plan.duration;
        let between_deaths = Duration::from_secs(1) / self.plan.dying.max(1);
        let mut death = if self.plan.dying > 0 { began } else { end };
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            while death <= now {
                self.delayed(death, now);
                self.kill();
                death += between_deaths;
            }
            self.beat(now);
            for _ in 0..CONNECTS_PER_TURN {
                self.connect(self.plan.beat)?;
            }
            let next = self.beats.peek().map_or(end, |Reverse((due, ..))| *due).min(death).min(end);
            self.turn(&mut events, next.saturating_duration_since(Instant::now()).min(LOOK))?;
        }
    }

    /// Waits for sockets and serves them.
    fn turn(&mut self, events: &mut Events, timeout: Duration) -> Result<()> {
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other.context("cannot wait for sockets")?,
        }
        let now = Instant::now();
        for event in events.iter() {
            let slot = event.token().0;
            let Some(device) = &mut self.devices[slot] else { continue };
            match device.read(&self.exchange.reply) {
                Ok(true) => {
                    let latency = micros(now.saturating_duration_since(device.sent_at));
                    self.outcome.latency.saturating_record(latency.max(1));
                }
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Err(error.into());
                }
                Err(_) => self.ended(slot, now),
            }
        }
        Ok(())
    }

    /// Connects a device, if one is missing; its second heartbeat follows the first after `wait`.
    fn connect(&mut self, wait: Duration) -> Result<()> {
        let Some(slot) = self.free.pop() else { return Ok(()) };
        let mut stream = loadgen::connect(self.server.address, slot)?;
        stream.write_all(&self.exchange.opening()).context("cannot send a heartbeat")?;
        let now = Instant::now();
        stream.set_nonblocking(true).context("cannot make a socket non-blocking")?;
        let mut stream = TcpStream::from_std(stream);
        self.poll
            .registry()
            .register(&mut stream, Token(slot), Interest::READABLE)
            .context("cannot watch a socket")?;
        self.connected += 1;
        let number = self.connected;
        self.devices[slot] = Some(Device {
            stream,
            live_at: Some(self.live.len()),
            missing: self.exchange.reply.len(),
            sent_at: now,
            acknowledged_at: now,
            number,
        });
        self.live.push(slot);
        self.beats.push(Reverse((now + wait, slot, number)));
        Ok(())
    }

    /// Sends the heartbeats that are due.
    fn beat(&mut self, now: Instant) {
        while let Some(&Reverse((due, slot, number))) = self.beats.peek()
            && due <= now
        {
            self.beats.pop();
            let of_number = |device: &&mut Device| device.number == number;
            let Some(device) = self.devices[slot].as_mut().filter(of_number) else { continue };
            if device.live_at.is_none() {
                continue;
            }
            if device.missing > 0 {
                self.outcome.unanswered += 1;
            }
            device.missing += self.exchange.reply.len();
            device.sent_at = Instant::now();
            // A connection that has failed is found out by its event; the bytes fit into any other's buffer.
            let _ = device.stream.write(&self.exchange.request);
            self.beats.push(Reverse((due + self.plan.beat, slot, number)));
            self.delayed(due, now);
        }
    }

    /// One device says nothing more, in a moment when nobody owes anything.
    fn kill(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let place = self.below(self.live.len());
        let rests =
            |slot: &usize| self.devices[*slot].as_ref().is_some_and(|device| device.missing == 0);
        let from_there = self.live[place..].iter().chain(&self.live[..place]);
        if let Some(&slot) = from_there.take(64).find(|slot| rests(slot)) {
            self.bury(slot);
            self.outcome.died += 1;
        }
    }

    /// Takes a device from the living.
    fn bury(&mut self, slot: usize) {
        let Some(place) = self.devices[slot].as_mut().and_then(|device| device.live_at.take())
        else {
            return;
        };
        self.live.swap_remove(place);
        if let Some(&moved) = self.live.get(place)
            && let Some(device) = &mut self.devices[moved]
        {
            device.live_at = Some(place);
        }
    }

    /// A connection has come to its end.
    fn ended(&mut self, slot: usize, now: Instant) {
        let is_dead = self.devices[slot].as_ref().is_some_and(|device| device.live_at.is_none());
        self.bury(slot);
        let Some(device) = self.devices[slot].take() else { return };
        self.free.push(slot);
        let timeout = self.plan.idle_timeout;
        if !is_dead {
            self.outcome.false_closes += 1;
        } else if now < device.sent_at + timeout {
            self.outcome.early += 1;
        } else {
            let late = now.saturating_duration_since(device.acknowledged_at + timeout);
            self.outcome.lateness.saturating_record(micros(late).max(1));
        }
    }

    fn finish(mut self) -> Outcome {
        let now = Instant::now();
        for device in self.devices.iter().flatten().filter(|device| device.live_at.is_none()) {
            self.outcome.dead += 1;
            let forgotten = device.acknowledged_at + self.plan.idle_timeout + PATIENCE < now;
            self.outcome.forgotten += u64::from(forgotten);
        }
        self.outcome
    }

    fn below(&mut self, n: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) as usize % n
    }

    fn delayed(&mut self, due: Instant, now: Instant) {
        self.outcome.own_delay.saturating_record(micros(now - due).max(1));
    }
}

impl Device {
    /// Takes what has arrived; whether the answer is complete now.
    fn read(&mut self, reply: &[u8]) -> io::Result<bool> {
        let mut buffer = [0; 256];
        loop {
            let n = match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            let at = (reply.len() - self.missing % reply.len()) % reply.len();
            if n > self.missing
                || !reply.iter().cycle().skip(at).zip(&buffer[..n]).all(|(a, b)| a == b)
            {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the reply differs"));
            }
            self.missing -= n;
            if self.missing == 0 {
                // The answer is the last sign of life if the device dies now: no doubt is to remain when it was.
                let _ = lateness::acknowledge(&self.stream);
                self.acknowledged_at = Instant::now();
                return Ok(true);
            }
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
