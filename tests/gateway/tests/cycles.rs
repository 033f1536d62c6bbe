//! Ten thousand connections that end in every way clients can think of.

use std::collections::VecDeque;

use embassy_time::Duration;
use pulsegate_gateway_tests::{Conn, Faults, HEARTBEAT, Rng, Setup, World};

const CYCLES: u32 = 10_000;
const SECOND: Duration = Duration::from_secs(1);

/// What a client sends before it leaves; most of it is no good.
fn abuse(world: &mut World, rng: &mut Rng, conn: Conn) {
    match rng.below(10) {
        // Nothing.
        0 => {}
        1 => {
            world.send(conn, &[rng.next() as u8]);
        }
        2 => {
            world.send(conn, b"\x08\xff\xff\xff\xff\0\0\0\0");
        }
        3 => {
            world.send(conn, b"\x08");
            let part = rng.below(HEARTBEAT.len() as u64) as usize;
            world.send(conn, &HEARTBEAT[..part]);
        }
        4 => {
            world.send(conn, b"\x08\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Formt");
        }
        5 => {
            let noise: Vec<u8> = (0..rng.below(600)).map(|_| rng.next() as u8).collect();
            world.send(conn, &noise);
        }
        6 => {
            // More than it will ever read back.
            world.send(conn, b"\x05\x30\x0c\0\0\x28\0\0\0");
            world.send(conn, b"[Request]\r\nCommand=CyclePacket\r\nCount=41");
            world.send(conn, &[7; 3000]);
        }
        _ => {
            world.send(conn, b"\x08");
            for _ in 0..=rng.below(4) {
                world.send(conn, HEARTBEAT);
            }
        }
    }
}

fn leave(world: &mut World, rng: &mut Rng, conn: Conn) {
    match rng.below(8) {
        0 => {
            world.vanish(conn);
            // Its place is free again when the gateway has noticed.
            world.run(SECOND * rng.below(20) as u32);
        }
        1 => {
            world.socket(conn).abort();
            world.drop(conn);
        }
        2 => {
            world.socket(conn).close();
            world.run(Duration::from_millis(rng.below(50)));
            world.drop(conn);
        }
        _ => world.drop(conn),
    }
}

fn cycles(faults: Faults, seed: u64) {
    println!("seed {seed}, {faults:?}");
    let mut world = World::new(Setup::default(), 6, faults, seed);
    let mut rng = Rng::new(seed);
    let mut held = VecDeque::new();
    for cycle in 0..CYCLES {
        let host = rng.below(6) as usize;
        let conn = world.connect(host);
        // Some leave in the middle of the handshake.
        world.run(Duration::from_micros(rng.below(3_000)));
        abuse(&mut world, &mut rng, conn);
        world.run(Duration::from_micros(rng.below(20_000)));
        held.push_back(conn);
        if rng.below(400) == 0 {
            let now = world.now;
            world.hosts[host].reboot(now);
            held.retain(|conn| conn.address.ip() != &world.hosts[host].address);
        }
        while held.len() as u64 > rng.below(8) {
            if let Some(conn) = held.pop_front() {
                leave(&mut world, &mut rng, conn);
            }
        }
        if cycle % 1000 == 0 {
            world.run(SECOND * 20);
        }
    }
    for conn in held {
        world.drop(conn);
    }
    world.lan.set_faults(Faults::NONE);
    let whole = world.wait(SECOND * 65, |world| world.site.is_whole());
    assert!(whole, "seed {seed}: {:?}", world.site.gateway.census());
    let counters = world.site.gateway.server().counters();
    println!("{} accepted, {} refused", counters.accepted, counters.refused);
    assert_eq!(counters.accepted, counters.closed_total());
    assert!(counters.accepted > u64::from(CYCLES) / 2, "the gateway was hardly reached");
    // And it serves as many as on the first day.
    for host in 0..6 {
        assert!(world.beating(host, SECOND).is_some(), "seed {seed}");
    }
}

#[test]
fn the_pool_is_whole_after_ten_thousand_connections() {
    cycles(Faults::NONE, 1);
}

#[test]
fn the_pool_is_whole_after_ten_thousand_connections_on_a_bad_link() {
    let faults =
        Faults { loss: 3, duplicates: 5, jitter: Duration::from_millis(2), ..Faults::NONE };
    cycles(faults, 2);
}
