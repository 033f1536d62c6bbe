//! A fleet over sockets in memory with a virtual clock, against a naive expectation of who must be
//! closed when and what each device must have received.
//!
//! Runs the same seeds every time; `PULSEGATE_SEED=n` replays one, `PULSEGATE_SEEDS=n` runs so many.

mod common;

use std::collections::BTreeMap;

use common::{TestServer, addr, login, packet, request, server, verdict};
use embassy_time::{Duration, Instant};
use pulsegate_core::protocol::{IocpConfig, Reply};
use pulsegate_core::server::{CloseReason, Stale, Wants};
use pulsegate_core::socket::memory::MemorySocket;
use pulsegate_core::table::SessionId;

const TICK: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(60);
const FLAG: Duration = Duration::from_secs(6);
const APP: Duration = Duration::from_secs(120);
const SLOTS: usize = 12;

/// Xorshift: the same everywhere, and enough.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// A device and what is known of its connection without asking the server.
struct Device {
    socket: MemorySocket<512>,
    flag: u8,
    /// Bytes on their way, and the replies that whole commands among them are owed.
    to_send: Vec<u8>,
    expected: Vec<u8>,
    received: Vec<u8>,
    reads: bool,
    dark: bool,
    connected_at: Instant,
    flag_sent: bool,
    received_at: Instant,
    acknowledged_at: Instant,
    owed_since: Option<Instant>,
    /// Since when the application is asked, and how much silence had gone by then.
    asked: Option<(Instant, Duration)>,
    patience_from: Instant,
}

impl Device {
    fn proof(&self) -> Instant {
        let heard = self.owed_since.map_or(self.received_at, |owed| self.received_at.min(owed));
        heard.max(self.acknowledged_at)
    }

    fn silent_since(&self) -> Instant {
        self.proof().max(self.patience_from)
    }

    fn deadline(&self) -> (Instant, CloseReason) {
        match self.asked {
            Some((since, _)) => (since + APP, CloseReason::AppTimeout),
            None if !self.flag_sent => (self.connected_at + FLAG, CloseReason::NoFlag),
            None => (self.silent_since() + IDLE, CloseReason::Idle),
        }
    }

    /// After the server's turn.
    fn look(&mut self, now: Instant, waits_for_app: bool) {
        if self.socket.output().is_empty() {
            self.owed_since = None;
        } else if self.owed_since.is_none() {
            self.owed_since = Some(now);
        }
        if waits_for_app && self.asked.is_none() {
            self.asked = Some((now, now - self.silent_since()));
        }
    }
}

fn text(command: &str, code: &str) -> Vec<u8> {
    packet(&format!("[Response]\r\nCommand={command}\r\nCode={code}"), b"")
}

struct World {
    random: Random,
    server: TestServer,
    devices: BTreeMap<usize, (SessionId, Device)>,
    questions: Vec<(Instant, SessionId, pulsegate_core::server::JobId)>,
    closed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let random = Random((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let server = server(SLOTS, IocpConfig::default());
        Self { random, server, devices: BTreeMap::new(), questions: Vec::new(), closed: 0 }
    }

    fn connect(&mut self, now: Instant) {
        let Ok(admission) = self.server.accept(now, addr(9999), addr(1)) else { return };
        if let Some(evicted) = admission.evicted {
            let (id, _) = self.devices.remove(&evicted.index()).expect("an evicted device");
            assert_eq!(id, evicted);
        }
        let flag = if self.random.chance(30) { 5 } else { 8 };
        let device = Device {
            socket: MemorySocket::new(),
            flag,
            to_send: if self.random.chance(90) { vec![flag] } else { Vec::new() },
            expected: Vec::new(),
            received: Vec::new(),
            reads: true,
            dark: false,
            connected_at: now,
            flag_sent: false,
            received_at: now,
            acknowledged_at: now,
            owed_since: None,
            asked: None,
            patience_from: now,
        };
        let stale = self.devices.insert(admission.id.index(), (admission.id, device));
        assert!(stale.is_none(), "a slot in use was given out");
    }

    /// A device makes up its mind.
    fn act(&mut self, index: usize, now: Instant) {
        let random = &mut self.random;
        let Some((_, device)) = self.devices.get_mut(&index) else { return };
        match random.below(20) {
            0 if random.chance(20) => device.dark = true,
            1 => device.reads = !device.reads,
            2 if random.chance(20) => device.socket.peer_reset(),
            _ if device.dark || (device.to_send.is_empty() && !device.flag_sent) => {}
            3..=6 if device.flag == 5 => {
                let data: Vec<u8> = (0..random.below(1500)).map(|n| n as u8).collect();
                let command = "[Request]\r\nCommand=CyclePacket\r\nCount=-1";
                device.to_send.extend(packet(command, &data));
                let reply = "[Response]\r\nCommand=CyclePacket\r\nCode=0\r\nCount=0";
                device.expected.extend(packet(reply, &data));
            }
            3 if device.flag == 8 => {
                let (user, code) = [("meter", "0"), ("slow", "0")][random.below(2) as usize];
                device.to_send.extend(login(user));
                device.expected.extend(text("Login", code));
            }
            4 if device.flag == 8 => {
                device.to_send.extend(packet("[Request]\r\nItem=x", &[1; 99]));
                let message = "5\r\nMessage=the request has no Command key";
                device.expected.extend(text("", message));
            }
            7..=9 => {
                device.to_send.extend(request("Active"));
                device.expected.extend(text("Active", "0"));
            }
            _ => {}
        }
        if !device.dark && !device.to_send.is_empty() {
            let len = (1 + random.below(200) as usize).min(device.to_send.len());
            let sent = device.socket.send(&device.to_send[..len], now);
            device.to_send.drain(..sent);
            if sent > 0 {
                device.received_at = now;
                device.flag_sent = true;
            }
        }
        if !device.dark && device.reads {
            let len = (random.below(400) as usize).min(device.socket.output().len());
            device.received.extend_from_slice(&device.socket.output()[..len]);
            if device.socket.take(len, now) > 0 {
                device.acknowledged_at = now;
            }
            device.look(now, false);
        }
    }

    /// Drives or judges a device until the server waits, and checks how it ends.
    fn turn(&mut self, index: usize, now: Instant, due: bool) {
        let Some((id, device)) = self.devices.get_mut(&index) else { return };
        let budget = 1 + self.random.below(700) as usize;
        let (mut reason, mut waits) = (None, false);
        for turn in 0.. {
            let wants = if due && turn == 0 {
                self.server.judge(now, *id, &mut device.socket, budget)
            } else {
                self.server.drive(now, *id, &mut device.socket, budget)
            };
            assert!(turn < 5000, "the session does not come to rest");
            match wants {
                Wants::More => continue,
                Wants::App => waits = true,
                Wants::Nothing(why) => reason = Some(why),
                Wants::Input | Wants::Output => {}
            }
            break;
        }
        if reason.is_none() {
            device.look(now, waits);
        }
        assert!(device.expected.starts_with(&device.received), "a reply that nobody asked for");
        for (id, job) in std::mem::take(&mut self.server.protocol_mut().app_mut().questions) {
            let after = Duration::from_millis(self.random.below(150_000));
            self.questions.push((now + after, id, job));
        }
        let Some(reason) = reason else { return };
        let (_, device) = self.devices.remove(&index).unwrap();
        self.closed += 1;
        if reason == CloseReason::PeerReset {
            return;
        }
        let (deadline, expected) = device.deadline();
        assert_eq!(reason, expected);
        assert!(deadline <= now, "closed {} too early", deadline - now);
        assert!(now < deadline + TICK, "closed {} too late", now - deadline);
    }

    /// Everything that is there has been taken and answered.
    fn check(&self, now: Instant) {
        for (id, device) in self.devices.values() {
            assert!(self.server.sessions().get(*id).is_some());
            let (deadline, reason) = device.deadline();
            assert!(now < deadline + TICK, "{reason} is overdue since {deadline}");
            let quiet = device.asked.is_none() && device.to_send.is_empty();
            if quiet && device.socket.output().is_empty() {
                assert!(device.received == device.expected, "a reply is missing");
            }
        }
    }

    fn answer(&mut self, now: Instant) {
        let mut n = 0;
        while n < self.questions.len() {
            let (when, id, job) = self.questions[n];
            if when > now {
                n += 1;
                continue;
            }
            self.questions.swap_remove(n);
            let told = self.server.complete(now, id, job, Reply::Login(verdict("slow")));
            let device =
                self.devices.get_mut(&id.index()).filter(|(now_there, _)| *now_there == id);
            match device.map(|(_, device)| device).filter(|device| device.asked.is_some()) {
                None => assert_eq!(told, Err(Stale)),
                Some(device) => {
                    assert_eq!(told, Ok(()));
                    let (_, spent) = device.asked.take().unwrap();
                    device.patience_from = now - spent;
                    self.turn(id.index(), now, false);
                }
            }
        }
    }

    fn run(&mut self, start: Instant) {
        let mut now = start;
        for _ in 0..1500 {
            // The next thing that happens out there; the server is called whenever it asks to be.
            let next = now + Duration::from_micros(1 + self.random.below(2_000_000));
            while let Some(at) = self.server.poll_at().filter(|&at| at <= next) {
                now = now.max(at);
                let mut looks = 1 + self.random.below(8) as u32;
                while let Some(id) = self.server.due(now, &mut looks) {
                    self.turn(id.index(), now, true);
                }
            }
            now = next;
            self.answer(now);
            if self.random.chance(20) {
                self.connect(now);
            }
            let index = self.random.below(SLOTS as u64) as usize;
            self.act(index, now);
            self.turn(index, now, false);
            self.check(now);
        }
    }
}

#[test]
fn a_fleet_is_served_and_swept_as_a_scan_of_everything_would() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("PULSEGATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("PULSEGATE_SEEDS").unwrap_or(60),
    };
    let mut closed = 0;
    for seed in seeds {
        // Around zero, around 2^32 milliseconds, at odd moments in between.
        let start = [1, (1 << 32) * 1000 - 500_000_000, 123_456_789 * seed][seed as usize % 3];
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.run(Instant::from_micros(start + seed * 7919));
            world.closed
        });
        match result {
            Ok(more) => closed += more,
            Err(panic) => {
                eprintln!("PULSEGATE_SEED={seed} replays this");
                std::panic::resume_unwind(panic);
            }
        }
    }
    assert!(closed > 0);
    println!("{closed} sessions were closed");
}
