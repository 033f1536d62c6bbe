//! What the core costs: `cargo bench -p pulsegate-core --bench core`. Under a minute as it stands;
//! criterion's own options give more precision.

mod common;

use std::hint::black_box;
use std::time::Duration as StdDuration;

use common::{HEARTBEAT, Sink, WINDOW, fleet, open, server};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use embassy_time::{Duration, Instant};
use pulsegate_core::command::Command;
use pulsegate_core::frame::{Decoder, Limits, Step};
use pulsegate_core::server::Wants;

const SESSIONS: u64 = 1_000_000;

fn sweep(c: &mut Criterion) {
    let (mut table, mut sweep, ids) = fleet(SESSIONS);

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
            || fleet(SESSIONS),
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

fn serve(c: &mut Criterion) {
    let now = Instant::from_secs(2);
    let mut group = c.benchmark_group("server");

    let glued = HEARTBEAT.repeat(WINDOW / HEARTBEAT.len());
    let mut control = server(1);
    let id = open(&mut control, 8, now);
    group.throughput(Throughput::Elements((WINDOW / HEARTBEAT.len()) as u64));
    group.bench_function("64 KiB of glued heartbeats, answered", |b| {
        b.iter(|| {
            let mut socket = Sink::new(black_box(&glued), now);
            assert_eq!(control.drive(now, id, &mut socket, WINDOW), Wants::Input);
        });
    });

    let mut control = server(1);
    let id = open(&mut control, 8, now);
    group.throughput(Throughput::Elements(1));
    group.bench_function("one heartbeat, answered", |b| {
        b.iter(|| {
            let mut socket = Sink::new(black_box(HEARTBEAT), now);
            assert_eq!(control.drive(now, id, &mut socket, WINDOW), Wants::Input);
        });
    });

    let command = b"[Request]\r\nCommand=CyclePacket\r\nCount=1";
    let mut packet = Vec::new();
    packet.extend((4 + command.len() as u32 + 32 * 1024).to_le_bytes());
    packet.extend((command.len() as u32).to_le_bytes());
    packet.extend(command);
    packet.resize(packet.len() + 32 * 1024, 0xa5);
    let mut throughput = server(1);
    let id = open(&mut throughput, 5, now);
    group.throughput(Throughput::Bytes(32 * 1024));
    group.bench_function("32 KiB of data, echoed", |b| {
        b.iter(|| {
            let mut socket = Sink::new(black_box(&packet), now);
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
