//! Bad links: what is lost, doubled, late or out of order on the way is not lost in the end.

use embassy_time::Duration;
use pulsegate_conformance::{Limits, Options, Target, run};
use pulsegate_core::adapter::smoltcp::GatewayConfig;
use pulsegate_gateway_tests::{Faults, HEARTBEAT, HEARTBEAT_REPLY, LanTarget, Setup, World};

const BAD: Faults = Faults {
    loss: 5,
    duplicates: 5,
    delay: Duration::from_millis(2),
    jitter: Duration::from_millis(3),
};

/// A packet of Throughput and its reply, flag not included.
fn echo(data: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let packet = |text: &[u8]| {
        let head = [(4 + text.len() + data.len()) as u32, text.len() as u32];
        [&head.map(u32::to_le_bytes).concat()[..], text, data].concat()
    };
    (
        packet(b"[Request]\r\nCommand=CyclePacket\r\nCount=1"),
        packet(b"[Response]\r\nCommand=CyclePacket\r\nCode=0\r\nCount=2"),
    )
}

/// Six echoes of 20 KB at once, through 512 bytes of buffer.
fn echoes(seed: u64) -> (u64, u64) {
    println!("seed {seed}");
    let mut world = World::new(Setup::default(), 6, BAD, seed);
    let data: Vec<u8> = (0..20_000u32).map(|n| (n ^ (n >> 8)) as u8).collect();
    let (request, reply) = echo(&data);
    let conns: Vec<_> = (0..6).map(|host| world.connect_with(host, 32_768, 32_768)).collect();
    for &conn in &conns {
        assert!(world.wait(Duration::from_secs(60), |world| world.socket(conn).may_send()));
        assert_eq!(world.send(conn, b"\x05"), 1);
        assert_eq!(world.send(conn, &request), request.len());
    }
    for &conn in &conns {
        let got = world.collect(conn, reply.len(), Duration::from_secs(600));
        assert!(got == reply, "{} of {} bytes, seed {seed}", got.len(), reply.len());
        world.drop(conn);
    }
    world.lan.set_faults(Faults::NONE);
    assert!(world.wait(Duration::from_secs(120), |world| world.site.is_whole()), "seed {seed}");
    world.lan.traffic()
}

#[test]
fn nothing_is_lost_at_5_percent_loss() {
    let traffic = (0..8).map(echoes).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!("{} of {} frames lost", traffic.1, traffic.0);
    assert!(traffic.1 * 100 > traffic.0 * 3, "the LAN was to lose frames");
}

/// A thousand heartbeats one after the other; each is answered, and no connection is dropped.
#[test]
fn no_heartbeat_is_lost_at_5_percent_loss() {
    for seed in 0..4 {
        println!("seed {seed}");
        let mut world = World::new(Setup::default(), 1, BAD, seed);
        let conn = world.beating(0, Duration::from_secs(60)).expect("a connection");
        for beat in 0..250 {
            assert!(world.beat(conn, Duration::from_secs(30)), "beat {beat}, seed {seed}");
            world.run(Duration::from_secs(20));
        }
        assert_eq!(world.site.app().closed, [], "seed {seed}");
    }
}

/// Where the order of the pool was wrong, a late copy of a SYN costs a live connection.
#[test]
fn late_copies_of_a_handshake_harm_nobody() {
    let mut world = World::new(Setup::default(), 2, Faults::NONE, 0);
    let first = world.beating(0, Duration::from_secs(5)).expect("a connection");
    world.lan.record();
    let second = world.beating(1, Duration::from_secs(5)).expect("a connection");
    let frames = world.lan.recorded();
    world.drop(first);
    world.run(Duration::from_secs(5));
    assert_eq!(world.site.gateway.census().serving, 1);
    for frame in &frames {
        // From the second client only: what the gateway said is not said twice.
        if frame[6..12] == [2, 0, 0, 0, 1, 11] {
            let port = world.hosts[1].port.clone();
            port.inject(world.now, frame);
            world.run(Duration::from_millis(20));
        }
    }
    assert!(world.beat(second, Duration::from_secs(1)), "a live connection was reset");
    assert_eq!(world.site.gateway.census().handshakes, 0);
}

/// The wire cases that say nothing about time, on a link that only delays and doubles.
#[test]
fn the_wire_contract_holds_on_a_link_that_doubles_and_reorders() {
    let faults = Faults { duplicates: 20, jitter: Duration::from_millis(3), ..Faults::NONE };
    let limits = Limits::microcontroller();
    for filter in ["framing/", "throughput/", "lifecycle/", "control/"] {
        let factory = || {
            let target = LanTarget::new(limits.clone(), Setup::default()).with_faults(faults);
            Ok(Box::new(target) as Box<dyn Target>)
        };
        let report = run(factory, &Options { filter: Some(filter.to_owned()), jobs: 1 });
        assert!(report.is_success(), "{filter}: {} failed", report.failed());
    }
}

/// Heartbeats that pile up while the gateway does not run keep their connections alive: what has
/// arrived is read before anybody is judged.
#[test]
fn a_pause_of_the_gateway_drops_nobody_who_has_spoken() {
    // The device here holds everything, repetitions too.
    let gateway = GatewayConfig { backlog: 1000, ..GatewayConfig::default() };
    let setup = Setup { sessions: 40, sockets: 42, gateway, ..Setup::default() };
    let mut world = World::new(setup, 40, Faults::NONE, 0);
    let beating = |host| world.beating(host, Duration::from_secs(5)).expect("a connection");
    let conns: Vec<_> = (0..40).map(beating).collect();
    world.site.stopped = true;
    world.run(Duration::from_secs(50));
    for &conn in &conns {
        assert_eq!(world.send(conn, HEARTBEAT), HEARTBEAT.len());
    }
    world.run(Duration::from_secs(40));
    world.site.stopped = false;
    for &conn in &conns {
        let reply = world.collect(conn, HEARTBEAT_REPLY.len(), Duration::from_secs(5));
        assert_eq!(reply, HEARTBEAT_REPLY);
    }
    assert_eq!(world.site.app().closed, []);
}
