//! 100,000 and 1,000,000 sessions in one process: `cargo bench -p pulsegate-core --features alloc --bench million`.
//! About ten seconds.
//!
//! The sockets are in memory and time is virtual. Every session beats each 30 s while a share of them goes silent, and
//! whoever is closed is replaced. Each close is held against what the device knows: none early, none of a live one,
//! none more than a tick late. What the kernel needs for a million sockets is not in it.

mod common;

use std::net::SocketAddr;
use std::time::{Duration as StdDuration, Instant as StdInstant};

use common::{HEARTBEAT, Nobody, TICK, TIMEOUT};
use embassy_time::{Duration, Instant};
use pulsegate_core::protocol::{Iocp, IocpConfig};
use pulsegate_core::server::{Boxed, CloseReason, Config, Server, Session, Wants};
use pulsegate_core::socket::{End, Finish, Progress, Proof, Rx, Socket};
use pulsegate_core::store::NoStore;
use pulsegate_core::sweep::slots_for;
use pulsegate_core::table::{SessionId, Slot};

type Protocol = Iocp<Nobody>;

/// The time between two heartbeats.
const BEAT: Duration = Duration::from_secs(30);
/// Virtual time that is measured; the sessions connect in the BEAT before it.
const SPAN: Duration = Duration::from_secs(150);
/// One beat in so many is not sent, nor any after it.
const SILENT_ONE_IN: u64 = 100;
const FLAG: &[u8] = &[8];
/// What a session handles in one turn, at most.
const BUDGET: usize = 64 * 1024;

/// The device's end of a session, and its socket between two turns: the least that can be judged by.
struct Device {
    id: SessionId,
    /// When it last sent, and acknowledged the answer.
    heard: Instant,
    silent: bool,
}

/// A socket during a turn.
struct Line<'a> {
    input: &'static [u8],
    received: usize,
    sent: usize,
    device: &'a Device,
}

impl<'a> Line<'a> {
    fn new(input: &'static [u8], device: &'a Device) -> Self {
        Self { input, received: input.len(), sent: 0, device }
    }
}

impl Socket for Line<'_> {
    fn rx(&mut self, _want: usize) -> Rx<'_> {
        Rx { bytes: self.input, end: End::Open }
    }

    fn consume(&mut self, len: usize) {
        self.input = self.input.get(len..).unwrap_or_default();
    }

    fn room(&mut self) -> usize {
        4096
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        self.sent += bytes.len();
        bytes.len()
    }

    fn progress(&mut self, _now: Instant) -> Progress {
        Progress {
            received: std::mem::take(&mut self.received),
            sent: std::mem::take(&mut self.sent),
            at: self.device.heard,
        }
    }

    fn proof(&mut self, _now: Instant) -> Proof {
        let heard = Some(self.device.heard);
        Proof { received_at: heard, acknowledged_at: heard, owed_since: None }
    }

    fn finish(&mut self) -> Finish {
        Finish::Sent
    }

    fn abort(&mut self) {}
}

struct World {
    server: Server<Protocol, Boxed<Protocol>>,
    /// By the session's place in the table.
    devices: Vec<Device>,
    random: u64,
    closed: u64,
    worst: Duration,
    /// Real time spent in finding and ending what is due.
    sweeping: StdDuration,
}

impl World {
    fn new(sessions: usize) -> Self {
        let memory = Boxed::new(sessions, slots_for(TIMEOUT, TICK), 4096 + 64, 16);
        Self {
            server: Server::new(
                Config::default(),
                Iocp::new(IocpConfig::default(), Nobody(NoStore)),
                memory,
            ),
            devices: Vec::with_capacity(sessions),
            random: 0x9e37_79b9_7f4a_7c15,
            closed: 0,
            worst: Duration::MIN,
            sweeping: StdDuration::ZERO,
        }
    }

    fn connect(&mut self, now: Instant) {
        let address = SocketAddr::from(([10, 0, 0, 1], 9999));
        let id = self.server.accept(now, address, address).expect("a free slot").id;
        let device = Device { id, heard: now, silent: false };
        let mut socket = Line::new(FLAG, &device);
        assert_eq!(self.server.drive(now, id, &mut socket, BUDGET), Wants::Input);
        match self.devices.get_mut(id.index()) {
            Some(place) => *place = device,
            None => self.devices.push(device),
        }
    }

    /// The device at `index` beats, or says nothing from now on.
    fn beat(&mut self, now: Instant, index: usize) {
        let goes_silent = self.random().is_multiple_of(SILENT_ONE_IN);
        let Some(device) = self.devices.get_mut(index).filter(|device| !device.silent) else {
            return;
        };
        if goes_silent {
            device.silent = true;
            return;
        }
        device.heard = now;
        let mut socket = Line::new(HEARTBEAT, device);
        let wants = self.server.drive(now, device.id, &mut socket, BUDGET);
        assert_eq!(wants, Wants::Input, "a session has ended that nobody has ended");
    }

    /// Sweeps whenever the server asked for it until `now`, as an adapter that sleeps until then.
    fn sweep_until(&mut self, now: Instant) {
        while let Some(at) = self.server.poll_at().filter(|&at| at <= now) {
            let began = StdInstant::now();
            let mut looks = u32::MAX;
            let mut ended = 0;
            while let Some(id) = self.server.due(at, &mut looks) {
                ended += self.judge(at, id);
            }
            self.sweeping += began.elapsed();
            for _ in 0..ended {
                self.connect(at);
            }
        }
    }

    fn judge(&mut self, now: Instant, id: SessionId) -> usize {
        let device = &self.devices[id.index()];
        assert_eq!(device.id, id, "a session is due whose place another one has");
        let wants = self.server.judge(now, id, &mut Line::new(b"", device), BUDGET);
        let Wants::Nothing(reason) = wants else { return 0 };
        assert!(device.silent, "a live session was closed: {reason}");
        assert_eq!(reason, CloseReason::Idle);
        let deadline = device.heard + TIMEOUT;
        assert!(now >= deadline, "closed early: due at {deadline}, closed at {now}");
        self.worst = self.worst.max(now - deadline);
        assert!(self.worst <= TICK, "closed late: due at {deadline}, closed at {now}");
        self.closed += 1;
        1
    }

    /// Whoever should have been closed by now is not there, and all others are.
    fn check(&self, now: Instant) {
        assert_eq!(self.server.sessions().len(), self.devices.len());
        for device in &self.devices {
            assert!(self.server.sessions().get(device.id).is_some(), "a session is missing");
            assert!(now < device.heard + TIMEOUT + TICK, "a silent session was forgotten");
        }
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 11
    }
}

fn run(sessions: usize) {
    let resident_before = resident();
    let mut world = World::new(sessions);
    let start = Instant::from_secs(1000);
    // Who beats in the same tick stands all over the table.
    let ticks_per_beat = (BEAT.as_ticks() / TICK.as_ticks()) as usize;
    for index in 0..sessions {
        let phase = BEAT.as_ticks() * index as u64 / sessions as u64;
        let now = start + Duration::from_ticks(phase);
        world.sweep_until(now);
        world.connect(now);
    }
    let resident_after = resident();
    let (mut now, began) = (start + BEAT, StdInstant::now());
    world.sweeping = StdDuration::ZERO;
    let mut beats = 0;
    for tick in 0..SPAN.as_ticks() / TICK.as_ticks() {
        let at = start + BEAT + TICK * tick as u32;
        let of_tick = (tick as usize % ticks_per_beat..sessions).step_by(ticks_per_beat);
        let gap = TICK.as_ticks() / (of_tick.len() as u64 + 1);
        for (place, index) in of_tick.enumerate() {
            now = at + Duration::from_ticks(gap * place as u64);
            world.sweep_until(now);
            world.beat(now, index);
            beats += 1;
        }
    }
    world.sweep_until(now);
    let real = began.elapsed();
    world.check(now);
    let per_virtual_second =
        |real: StdDuration| real.as_secs_f64() * 1000.0 / SPAN.as_secs() as f64;
    println!("{sessions} sessions, {} s of virtual time, {beats} heartbeats", SPAN.as_secs());
    println!("  closed             {}, none early, none live", world.closed);
    println!("  worst lateness     {} ms of {} ms", world.worst.as_millis(), TICK.as_millis());
    println!("  real time          {:.2} ms per virtual second", per_virtual_second(real));
    println!("  of it sweeping     {:.3} ms", per_virtual_second(world.sweeping));
    println!("  slot of the table  {} bytes", size_of::<Slot<Session<Protocol>>>());
    if let (Some(before), Some(after)) = (resident_before, resident_after) {
        let each = after.saturating_sub(before) as f64 / sessions as f64;
        println!(
            "  resident           {each:.0} bytes per session, {} of them the device's",
            size_of::<Device>()
        );
    }
}

/// Resident bytes of this process, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

fn main() {
    for sessions in [100_000, 1_000_000] {
        run(sessions);
    }
}
