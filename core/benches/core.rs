//! What the core costs: `cargo bench -p pulsegate-core`. Under a minute as it stands; criterion's
//! own options give more precision.

use std::hint::black_box;
use std::time::Duration as StdDuration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use embassy_time::{Duration, Instant};
use pulsegate_core::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
use pulsegate_core::command::Command;
use pulsegate_core::frame::{Decoder, Limits, Step};
use pulsegate_core::list::{Head, Link};
use pulsegate_core::protocol::{Flag, Iocp, IocpConfig};
use pulsegate_core::roster::Row;
use pulsegate_core::server::{Closed, Config, Parts, Server, Session, Wants};
use pulsegate_core::socket::{End, Finish, Progress, Proof, Rx, Socket};
use pulsegate_core::store::NoStore;
use pulsegate_core::sweep::{Sweep, Timed};
use pulsegate_core::table::{SessionId, Slot, Table};

const SESSIONS: u64 = 1_000_000;
const TICK: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(60);
const HEARTBEAT: &[u8] = b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active";
const WINDOW: usize = 64 * 1024;

struct Device {
    link: Link,
    heard: Instant,
}

impl Timed for Device {
    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    fn deadline(&self) -> Option<Instant> {
        self.heard.checked_add(TIMEOUT)
    }
}

type Fleet = (Table<Device, Vec<Slot<Device>>>, Sweep<Vec<Head>>, Vec<SessionId>);

/// A million devices, one in a hundred of which was heard of a minute before the others.
fn fleet() -> Fleet {
    let mut table = Table::new((0..SESSIONS).map(|_| Slot::EMPTY).collect());
    let mut sweep = Sweep::new(vec![Head::EMPTY; 1300], TICK);
    let start = Instant::from_secs(1000);
    let ids = (0..SESSIONS)
        .map(|n| {
            let heard = if n % 100 == 0 { start } else { start + TIMEOUT };
            let id = table.insert(Device { link: Link::UNLINKED, heard }).ok().unwrap();
            sweep.arm(start, &mut table, id);
            id
        })
        .collect();
    (table, sweep, ids)
}

fn sweep(c: &mut Criterion) {
    let (mut table, mut sweep, ids) = fleet();

    // Spread over the whole table, as devices beat.
    let mut n = 0;
    let mut now = Instant::from_secs(1001);
    c.bench_function("activity mark", |b| {
        b.iter(|| {
            n = (n + 618_033) % ids.len();
            now += Duration::from_ticks(1);
            if let Some(device) = table.get_mut(black_box(ids[n])) {
                device.heard = now;
            }
        });
    });

    let now = Instant::from_secs(1001);
    c.bench_function("sweep of 1,000,000 idle sessions, nothing due", |b| {
        b.iter(|| {
            let mut looks = u32::MAX;
            sweep.due(black_box(now), &mut table, &mut looks)
        });
    });
    drop((table, sweep, ids));

    let mut group = c.benchmark_group("sweep of 1,000,000 sessions, 1 % due");
    group.throughput(Throughput::Elements(SESSIONS / 100));
    group.sample_size(10);
    group.bench_function("end each", |b| {
        b.iter_batched(
            fleet,
            |(mut table, mut sweep, ids)| {
                let mut looks = u32::MAX;
                let mut ended = 0;
                while let Some(id) = sweep.due(Instant::from_secs(1060), &mut table, &mut looks) {
                    ended += u64::from(sweep.remove(&mut table, id).is_some());
                }
                assert_eq!(ended, SESSIONS / 100);
                (table, sweep, ids)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn decode(c: &mut Criterion) {
    let glued = HEARTBEAT.repeat(WINDOW / HEARTBEAT.len());
    let mut group = c.benchmark_group("decoder");
    group.throughput(Throughput::Elements((WINDOW / HEARTBEAT.len()) as u64));
    group.bench_function("64 KiB of glued heartbeats", |b| {
        b.iter(|| {
            let (mut decoder, mut input, mut beats) = (Decoder::new(), &glued[..], 0);
            while let Ok(Step::Packet(packet)) = decoder.look(black_box(input), &Limits::HOST) {
                beats += u32::from(Command::parse(packet.command).is_ok_and(|command| {
                    command.name().is_some_and(|name| name.eq_ignore_ascii_case("Active"))
                }));
                decoder.begin(packet.data_len);
                input = &input[packet.head_len()..];
            }
            beats
        });
    });
    group.finish();
}

/// Input that is there as a whole, output that is thrown away as it is written.
struct Sink<'a> {
    input: &'a [u8],
    sent: usize,
    now: Instant,
}

impl Socket for Sink<'_> {
    fn rx(&mut self, _want: usize) -> Rx<'_> {
        Rx { bytes: self.input, end: End::Open }
    }

    fn consume(&mut self, len: usize) {
        self.input = self.input.get(len..).unwrap_or_default();
    }

    fn room(&mut self) -> usize {
        WINDOW
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        black_box(bytes);
        self.sent += bytes.len();
        bytes.len()
    }

    fn progress(&mut self, now: Instant) -> Progress {
        Progress { received: 1, sent: core::mem::take(&mut self.sent), at: now }
    }

    fn proof(&mut self, _now: Instant) -> Proof {
        Proof { received_at: Some(self.now), acknowledged_at: Some(self.now), owed_since: None }
    }

    fn finish(&mut self) -> Finish {
        Finish::Sent
    }

    fn abort(&mut self) {}
}

struct Nobody(NoStore);

impl App for Nobody {
    type Address = u16;
    type User = u16;
    type Store = NoStore;

    fn store(&mut self) -> &mut NoStore {
        &mut self.0
    }

    fn login(&mut self, _: &Ask<u16>, _: Flag, _: &str, _: &Digest) -> Answer<Login<u16>> {
        Answer::Now(Login::Wrong)
    }
    fn user_name<'a>(&'a self, _: &'a u16) -> &'a str {
        ""
    }
    fn may_list(&self, _: &u16) -> bool {
        false
    }
    fn freeze_list(
        &mut self,
        _: &Ask<u16>,
        _: Page,
        _: &mut dyn Iterator<Item = Row<'_, u16, u16>>,
    ) -> Answer<List> {
        Answer::Now(List::Failed(""))
    }
    fn read_list(&mut self, _: SessionId, _: u32, _: &mut [u8]) -> usize {
        0
    }
    fn release_list(&mut self, _: SessionId) {}
    fn event(&mut self, _: &Ask<u16>, _: Event<'_, Iocp<Self>>) {}
    fn closed(&mut self, _: &Closed<Iocp<Self>>) {}
}

type Memory =
    Parts<Vec<Slot<Session<Iocp<Nobody>>>>, Vec<Head>, Vec<u8>, Vec<Option<Closed<Iocp<Nobody>>>>>;

/// A server with one session that has sent its flag.
fn server(flag: u8) -> (Server<Iocp<Nobody>, Memory>, SessionId) {
    let memory = Parts {
        slots: vec![Slot::EMPTY],
        wheel: vec![Head::EMPTY; 700],
        scratch: vec![0; 4096 + 64],
        closes: vec![None],
    };
    let mut server =
        Server::new(Config::default(), Iocp::new(IocpConfig::default(), Nobody(NoStore)), memory);
    let now = Instant::from_secs(1);
    let id = server.accept(now, 1, 2).unwrap().id;
    let wants = server.drive(now, id, &mut Sink { input: &[flag], sent: 0, now }, WINDOW);
    assert_eq!(wants, Wants::Input);
    (server, id)
}

fn serve(c: &mut Criterion) {
    let now = Instant::from_secs(2);
    let mut group = c.benchmark_group("server");

    let glued = HEARTBEAT.repeat(WINDOW / HEARTBEAT.len());
    let (mut control, id) = server(8);
    group.throughput(Throughput::Elements((WINDOW / HEARTBEAT.len()) as u64));
    group.bench_function("64 KiB of glued heartbeats, answered", |b| {
        b.iter(|| {
            let mut socket = Sink { input: black_box(&glued), sent: 0, now };
            assert_eq!(control.drive(now, id, &mut socket, WINDOW), Wants::Input);
        });
    });

    let (mut control, id) = server(8);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one heartbeat, answered", |b| {
        b.iter(|| {
            let mut socket = Sink { input: black_box(HEARTBEAT), sent: 0, now };
            assert_eq!(control.drive(now, id, &mut socket, WINDOW), Wants::Input);
        });
    });

    let command = b"[Request]\r\nCommand=CyclePacket\r\nCount=1";
    let mut packet = Vec::new();
    packet.extend((4 + command.len() as u32 + 32 * 1024).to_le_bytes());
    packet.extend((command.len() as u32).to_le_bytes());
    packet.extend(command);
    packet.resize(packet.len() + 32 * 1024, 0xa5);
    let (mut throughput, id) = server(5);
    group.throughput(Throughput::Bytes(32 * 1024));
    group.bench_function("32 KiB of data, echoed", |b| {
        b.iter(|| {
            let mut socket = Sink { input: black_box(&packet), sent: 0, now };
            assert_eq!(throughput.drive(now, id, &mut socket, WINDOW), Wants::Input);
        });
    });
    group.finish();
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(StdDuration::from_millis(300))
        .measurement_time(StdDuration::from_secs(2))
        .without_plots()
}

criterion_group! { name = benches; config = quick(); targets = sweep, decode, serve }
criterion_main!(benches);
