//! Heartbeats are answered many at a time; nobody must see anything of it.

mod common;

use common::{addr, at, packet, replies, request, server};
use pulsegate_core::frame::{ByteOrder, Limits};
use pulsegate_core::protocol::IocpConfig;
use pulsegate_core::server::{CloseReason, Wants};
use pulsegate_core::socket::memory::MemorySocket;

/// Xorshift: the same everywhere, and enough.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

fn beat() -> Vec<u8> {
    request("Active")
}

fn answer() -> Vec<u8> {
    packet("[Response]\r\nCommand=Active\r\nCode=0", b"")
}

/// Packets, the replies that they are owed, and how many heartbeats are among them.
fn script(random: &mut Random) -> (Vec<u8>, Vec<u8>, u64) {
    let (mut input, mut output, mut beats) = (Vec::new(), Vec::new(), 0);
    for _ in 0..12 {
        match random.below(8) {
            0 => {
                // Data that looks like heartbeats is data.
                let data = beat().repeat(random.below(5));
                let text = "[Request]\r\nCommand=CyclePacket\r\nCount=-1";
                input.extend(packet(text, &data));
                let text = "[Response]\r\nCommand=CyclePacket\r\nCode=0\r\nCount=0";
                output.extend(packet(text, &data));
                continue;
            }
            1 => {
                // A heartbeat with data, which is thrown away.
                input.extend(packet("[Request]\r\nCommand=Active", &beat()));
                output.extend(answer());
            }
            2 => {
                input.extend(packet("[request]\r\ncommand=active", b""));
                output.extend(packet("[Response]\r\nCommand=active\r\nCode=0", b""));
            }
            _ => {
                input.extend(beat());
                output.extend(answer());
            }
        }
        beats += 1;
    }
    (input, output, beats)
}

#[test]
fn pieces_turns_and_room_of_any_size_give_the_same_answers() {
    for seed in 1..500 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let (input, expected, beats) = script(&mut random);
        let mut server = server(1, IocpConfig::default());
        let now = at(1_000);
        let id = server.accept(now, addr(9999), addr(1)).unwrap().id;
        let mut socket = MemorySocket::<300>::new();
        let mut left = [&[5], &input[..]].concat();
        let mut received = Vec::new();
        for turn in 0.. {
            assert!(turn < 10_000, "seed {seed}: {} bytes of input stay unread", left.len());
            let most = 1 + random.below(120);
            let len = socket.send(&left[..most.min(left.len())], now);
            left.drain(..len);
            let budget = 1 + random.below(100);
            while server.drive(now, id, &mut socket, budget) == Wants::More {}
            let most = random.below(120).min(socket.output().len());
            received.extend_from_slice(&socket.output()[..most]);
            socket.take(most, now);
            if left.is_empty() && received.len() >= expected.len() {
                break;
            }
        }
        assert_eq!(replies(&received), replies(&expected), "seed {seed}");
        assert_eq!(server.protocol().work().heartbeats, beats, "seed {seed}");
        let events = &server.protocol().app().events;
        let heard = events.iter().filter(|event| event.starts_with("Heartbeat")).count();
        assert_eq!(heard as u64, beats, "seed {seed}");
        assert_eq!(server.protocol().work().commands as usize, replies(&expected).len());
    }
}

#[test]
fn a_turn_answers_no_more_than_its_budget() {
    let mut server = server(1, IocpConfig::default());
    let now = at(1_000);
    let id = server.accept(now, addr(9999), addr(1)).unwrap().id;
    let mut socket = MemorySocket::<512>::new();
    assert_eq!(socket.send(&[8], now), 1);
    assert_eq!(server.drive(now, id, &mut socket, 4096), Wants::Input);
    socket.send(&beat().repeat(8), now);
    assert_eq!(server.drive(now, id, &mut socket, 3 * beat().len()), Wants::More);
    assert_eq!(server.protocol().work().heartbeats, 3);
    assert_eq!(server.drive(now, id, &mut socket, 3 * beat().len() + 1), Wants::More);
    assert_eq!(server.protocol().work().heartbeats, 7);
}

#[test]
fn limits_and_byte_order_hold_for_heartbeats_too() {
    let now = at(1_000);
    for (limits, heartbeats) in [
        (Limits { command: 24, ..Limits::SMALL }, 0),
        (Limits { packet: 28, ..Limits::SMALL }, 0),
        (Limits { command: 25, packet: 29, ..Limits::SMALL }, 1),
        (Limits { order: ByteOrder::Big, ..Limits::SMALL }, 0),
    ] {
        let mut server = server(1, IocpConfig { limits, ..IocpConfig::default() });
        let id = server.accept(now, addr(9999), addr(1)).unwrap().id;
        let mut socket = MemorySocket::<512>::new();
        socket.send(&[&[8], &beat()[..]].concat(), now);
        let wants = server.drive(now, id, &mut socket, 4096);
        assert_eq!(server.protocol().work().heartbeats, heartbeats, "{limits:?}");
        let ended = wants != Wants::Input || socket.is_finished();
        assert_eq!(ended, heartbeats == 0, "{limits:?}: {wants:?}");
        if ended {
            socket.peer_finish();
            let wants = server.drive(now, id, &mut socket, 4096);
            assert_eq!(wants, Wants::Nothing(CloseReason::BadPacket));
        }
    }
    let limits = Limits { order: ByteOrder::Big, ..Limits::SMALL };
    let mut server = server(1, IocpConfig { limits, ..IocpConfig::default() });
    let id = server.accept(now, addr(9999), addr(1)).unwrap().id;
    let mut socket = MemorySocket::<512>::new();
    let swapped = |packet: Vec<u8>| {
        let mut packet = packet;
        packet[..4].reverse();
        packet[4..8].reverse();
        packet
    };
    socket.send(&[vec![8], swapped(beat()), swapped(beat())].concat(), now);
    assert_eq!(server.drive(now, id, &mut socket, 4096), Wants::Input);
    assert_eq!(socket.output(), swapped(answer()).repeat(2));
}
