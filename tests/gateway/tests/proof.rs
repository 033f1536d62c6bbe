//! What counts as a sign of life, as the gateway learns it from queue lengths.

use embassy_time::Duration;
use pulsegate_core::server::CloseReason;
use pulsegate_gateway_tests::{Conn, Faults, Got, Setup, World, syn};
use smoltcp::wire::EthernetAddress;

const SECOND: Duration = Duration::from_secs(1);

/// A client with a small window that has asked for an echo of so many bytes.
fn owed(world: &mut World, window: usize, len: u32) -> Conn {
    let conn = world.connect_with(0, window, 4096);
    assert!(world.wait(SECOND, |world| world.socket(conn).may_send()));
    world.send(conn, b"\x05");
    world.send(conn, &(44 + len).to_le_bytes());
    world.send(conn, b"\x28\0\0\0[Request]\r\nCommand=CyclePacket\r\nCount=41");
    world.send(conn, &vec![7; len as usize]);
    world.run(SECOND);
    conn
}

/// Bytes that arrive while nothing of what is owed is taken prolong nothing.
#[test]
fn a_client_that_sends_and_never_reads_is_given_up() {
    let mut world = World::new(Setup::default(), 1, Faults::NONE, 0);
    let conn = owed(&mut world, 64, 600);
    let start = world.now;
    while world.site.serves(conn.address) {
        world.send(conn, b"7");
        world.run(SECOND * 5);
        assert!(world.now < start + SECOND * 70, "it lives on what it sends");
    }
    assert!(world.now > start + SECOND * 50, "given up too early");
    assert_eq!(world.site.app().closed[0].1, CloseReason::Idle);
}

/// One that says nothing and takes a few bytes now and then is alive.
#[test]
fn a_client_that_reads_slowly_is_kept() {
    let mut world = World::new(Setup::default(), 1, Faults::NONE, 0);
    let conn = owed(&mut world, 64, 400);
    let start = world.now;
    let mut taken = 0;
    while taken < 454 {
        world.run(SECOND * 20);
        match world.take(conn, 32) {
            Got::Bytes(bytes) => taken += bytes.len(),
            got => panic!("{got:?} after {taken} bytes"),
        }
    }
    assert!(world.now - start > SECOND * 180, "it was to take its time");
    assert!(world.site.serves(conn.address));
}

/// smoltcp puts a socket whose handshake is reset back to listening where it stands: in front of a
/// connection, and a late copy of that connection's SYN may be the next frame but one.
#[test]
fn a_handshake_that_is_reset_leaves_no_listener_in_front() {
    let mut world = World::new(Setup::default(), 2, Faults::NONE, 0);
    // Everybody knows everybody's hardware address from here on.
    for host in 0..2 {
        let known = world.beating(host, SECOND).expect("a connection");
        world.drop(known);
        world.run(SECOND);
    }
    world.lan.record();
    // A stack that knows nothing of its SYN answers the gateway with a reset.
    let forged = (world.hosts[0].address, 5000);
    let forged = syn(EthernetAddress([2, 0, 0, 0, 1, 10]), forged.into(), 7);
    world.hosts[0].port.inject(world.now, &forged);
    let live = world.connect(1);
    world.run(Duration::from_micros(250));
    assert_eq!(world.site.gateway.census().handshakes, 2);
    // The reset, the end of the other handshake, and the copy of its SYN are taken in at once.
    world.site.stopped = true;
    world.run(Duration::from_micros(100));
    let copy = world.lan.recorded().swap_remove(1);
    assert_eq!(copy[6..12], [2, 0, 0, 0, 1, 11], "the SYN of the live connection");
    world.hosts[1].port.inject(world.now, &copy);
    world.run(Duration::from_micros(200));
    world.site.stopped = false;
    world.run(Duration::from_millis(1));
    world.send(live, b"\x08");
    assert!(world.beat(live, SECOND), "a live connection was reset");
    assert_eq!(world.site.gateway.census().listening, 9);
}
