//! Peers and cables that fail, at every moment of a connection's life: the pool is whole again
//! within a bound, and whoever comes back is served.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use embassy_time::Duration;
use pulsegate_core::server::CloseReason;
use pulsegate_gateway_tests::{Conn, Faults, Got, HEARTBEAT, Setup, World, syn};
use smoltcp::socket::tcp;
use smoltcp::wire::EthernetAddress;

const SECOND: Duration = Duration::from_secs(1);
/// Within this a peer that is gone has been noticed and its socket listens again: the silence that
/// smoltcp allows, the last question before it, the reset that cannot be sent, and the rest.
const BOUND: Duration = Duration::from_secs(40 + 15 + 3 + 1 + 1);

fn ended(world: &mut World, conn: Conn) -> bool {
    loop {
        match world.take(conn, 4096) {
            Got::Bytes(_) => {}
            Got::Nothing => return false,
            Got::Eof | Got::Reset => return true,
        }
    }
}

fn refused(world: &mut World, conn: Conn) -> bool {
    world.take(conn, 1) == Got::Reset
}

/// What happens on the connection whose cable is cut.
#[derive(Clone, Copy, Debug)]
enum Script {
    /// The client closes, and the gateway answers.
    ClientCloses,
    /// A packet that breaks the protocol: the gateway closes, the client answers.
    GatewayCloses,
    /// The same, and the client keeps its side open.
    ClientStaysOpen,
    /// The client closes while it is being echoed to.
    EchoUnderWay,
}

/// Plays a script and cuts the cable after so many events. False once the script is over by then.
fn cut_after(script: Script, events: u32, seen: &mut BTreeSet<String>) -> bool {
    let mut world = World::new(Setup::default(), 2, Faults::NONE, 0);
    // An echo that does not fit into the window keeps the gateway in CLOSE-WAIT.
    let window = if matches!(script, Script::EchoUnderWay) { 256 } else { 4096 };
    let conn = world.connect_with(0, window, 4096);
    let mut said = false;
    let mut closed = false;
    for _ in 0..events {
        let until = world.now + SECOND * 30;
        world.step(until);
        if world.socket(conn).may_send() && !said {
            said = true;
            match script {
                Script::ClientCloses => {
                    world.send(conn, b"\x08");
                    world.send(conn, HEARTBEAT);
                }
                Script::GatewayCloses | Script::ClientStaysOpen => {
                    world.send(conn, b"\x08\xff\xff\xff\xff\0\0\0\0");
                }
                Script::EchoUnderWay => {
                    world.send(conn, b"\x05\x30\x04\0\0\x28\0\0\0");
                    world.send(conn, b"[Request]\r\nCommand=CyclePacket\r\nCount=41");
                    world.send(conn, &[7; 1028]);
                }
            }
        } else if said && !closed && !matches!(script, Script::ClientStaysOpen) {
            let got = world.take(conn, 64);
            let close = match script {
                Script::GatewayCloses => got == Got::Eof,
                _ => matches!(got, Got::Bytes(_)),
            };
            if close {
                closed = true;
                world.socket(conn).close();
            }
        }
    }
    let over = said && world.site.is_whole();
    seen.extend(world.site.states().map(|state| format!("{state:?}")));
    let cut_at = world.now;
    world.hosts[0].port.cut(true);
    let whole = world.wait(SECOND * 120, |world| world.site.is_whole());
    let took = world.now - cut_at;
    assert!(whole && took <= BOUND, "{script:?} cut after {events} events: {took}");
    // The others have noticed nothing.
    assert!(world.beating(1, SECOND * 5).is_some());
    !over
}

#[test]
fn a_cable_cut_at_any_moment_is_noticed() {
    let mut seen = BTreeSet::new();
    for script in
        [Script::ClientCloses, Script::GatewayCloses, Script::ClientStaysOpen, Script::EchoUnderWay]
    {
        let cuts = (0..200).take_while(|&events| cut_after(script, events, &mut seen)).count();
        println!("{script:?}: cut at {cuts} moments");
        assert!((5..199).contains(&cuts));
    }
    for state in ["SynReceived", "Established", "CloseWait", "FinWait1", "FinWait2", "LastAck"] {
        assert!(seen.contains(state), "no cut in {state}: {seen:?}");
    }
}

/// One that owes an acknowledgement, and whose hardware address is forgotten meanwhile.
#[test]
fn a_neighbour_that_is_gone_costs_its_socket_for_a_bounded_time() {
    let mut world = World::new(Setup::default(), 2, Faults::NONE, 0);
    let conn = world.beating(0, SECOND * 5).expect("a connection");
    let other = world.beating(1, SECOND * 5).expect("a connection");
    world.send(conn, HEARTBEAT);
    world.hosts[0].port.cut(true);
    let start = world.now;
    while !world.site.app().closed.iter().any(|(peer, ..)| *peer == conn.address) {
        assert!(world.now < start + BOUND);
        world.run(SECOND * 10);
        assert!(world.beat(other, SECOND));
    }
    world.run(SECOND * 5);
    let census = world.site.gateway.census();
    assert_eq!((census.serving, census.leaving, census.listening), (1, 0, 9));
}

/// A cut that lasts shorter than anybody's patience costs nothing but time.
#[test]
fn a_cable_put_back_in_time_costs_no_connection() {
    let mut world = World::new(Setup::default(), 1, Faults::NONE, 0);
    let conn = world.beating(0, SECOND * 5).expect("a connection");
    world.send(conn, HEARTBEAT);
    world.settle();
    world.hosts[0].port.cut(true);
    world.run(SECOND * 25);
    world.hosts[0].port.cut(false);
    let reply = world.collect(conn, 42, SECOND * 40);
    assert_eq!(reply.len(), 42);
    assert!(world.beat(conn, SECOND));
}

/// Reboots a client whose last reply was acknowledged, or was not; says how long it then waits.
fn reboot(acknowledged: bool) -> Duration {
    let mut world = World::new(Setup::default(), 1, Faults::NONE, 0);
    let mut slowest = Duration::from_ticks(0);
    for boot in 0..4 {
        let start = world.now;
        let conn = world.beating(0, SECOND * 70).expect("a connection");
        assert_eq!(conn.address.port(), 49152, "the same port as before");
        slowest = slowest.max(world.now - start);
        assert_eq!(world.site.gateway.census().serving, 1);
        if acknowledged {
            world.run(Duration::from_millis(37));
        }
        let lost = world.site.app().closed.iter();
        assert_eq!(lost.filter(|(_, why, _)| *why == CloseReason::PeerReset).count(), boot);
        let now = world.now;
        world.hosts[0].reboot(now);
    }
    slowest
}

/// smoltcp does not answer a SYN on a connection that stands. The keep-alive does, or, where the
/// client's stack ignores what it is sent, the silence ends the stale connection. A client's own
/// pause between two SYNs doubles each time, which comes on top.
#[test]
fn a_rebooted_client_that_uses_its_port_again_is_served() {
    let keep_alive = reboot(true);
    assert!(keep_alive < SECOND * 32, "{keep_alive}");
    let silence = reboot(false);
    assert!(silence < SECOND * 64, "{silence}");
}

/// Gone without a word, and somebody else's socket does not answer for it.
#[test]
fn a_client_that_never_comes_back_is_noticed_by_the_next_keep_alive() {
    let mut world = World::new(Setup::default(), 1, Faults::NONE, 0);
    world.beating(0, SECOND * 5).expect("a connection");
    let now = world.now;
    world.hosts[0].reboot(now);
    assert!(world.wait(SECOND * 16, |world| world.site.is_whole()));
}

#[test]
fn a_client_that_keeps_its_side_open_is_reset() {
    let mut world = World::new(Setup::default(), 1, Faults::NONE, 0);
    let conn = world.beating(0, SECOND * 5).expect("a connection");
    world.send(conn, b"\xff\xff\xff\xff\0\0\0\0");
    assert!(world.wait(SECOND, |world| ended(world, conn)));
    let start = world.now;
    assert!(world.wait(SECOND * 4, |world| !world.socket(conn).is_open()), "no reset came");
    assert!(world.now - start < SECOND * 2 + Duration::from_millis(110));
    assert!(world.site.is_whole());
}

/// More connections at once than there is room for.
fn burst(evict: bool) -> (usize, usize) {
    let mut setup = Setup::default();
    setup.server.evict = evict;
    let mut world = World::new(setup, 30, Faults::NONE, 0);
    let conns: Vec<_> = (0..30).map(|host| world.connect(host)).collect();
    world.run(Duration::from_millis(100));
    for &conn in &conns {
        world.send(conn, b"\x08");
    }
    let (mut served, mut refusals) = (0, 0);
    for &conn in &conns {
        if world.beat(conn, SECOND) {
            served += 1;
        } else if refused(&mut world, conn) {
            refusals += 1;
        }
        world.drop(conn);
    }
    assert!(world.wait(SECOND * 5, |world| world.site.is_whole()));
    (served, refusals)
}

#[test]
fn a_burst_larger_than_the_pool_is_refused_cleanly_and_the_rest_served() {
    assert_eq!(burst(false), (8, 22));
    assert_eq!(burst(true), (8, 22));
}

/// SYNs that nobody stands behind, `rate` a second, for half a minute. Returns how many clients
/// were served meanwhile.
fn flood(rate: u64, hurried: Duration, on_lan: bool) -> u32 {
    let mut setup = Setup::default();
    setup.gateway.pool.hurried_handshake = hurried;
    let mut world = World::new(setup, 2, Faults::NONE, 0);
    let router = world.add_host(254);
    let held = world.beating(0, SECOND * 5).expect("a connection");
    let port = world.hosts[router].port.clone();
    let hardware = EthernetAddress([2, 0, 0, 0, 1, 254]);
    let pause = Duration::from_micros(1_000_000 / rate);
    let (mut trial, mut served) = (None, 0);
    for number in 0..30 * rate {
        let [_, _, .., high, low] = number.to_be_bytes();
        let from = match on_lan {
            true => Ipv4Addr::new(192, 168, 7, 100 + low % 100),
            false => Ipv4Addr::new(10, 1, high, low),
        };
        let sequence = number as i32 * 7919;
        port.inject(world.now, &syn(hardware, (from, 1024 + number as u16).into(), sequence));
        world.run(pause);
        if number % rate == 0 {
            assert!(world.beat(held, Duration::from_millis(50)), "the one that stood is disturbed");
        }
        // Beside it a client that tries again as often as it is refused.
        let conn = *trial.get_or_insert_with(|| world.connect(1));
        if world.socket(conn).may_send() {
            world.send(conn, b"\x08");
            assert!(world.beat(conn, SECOND));
            served += 1;
        }
        if !world.socket(conn).is_open() || world.socket(conn).may_send() {
            world.drop(conn);
            trial = None;
        }
    }
    if let Some(conn) = trial {
        world.drop(conn);
    }
    world.drop(held);
    let whole = world.wait(SECOND * 12, |world| world.site.is_whole());
    assert!(whole, "{:?}", world.site.gateway.census());
    served
}

#[test]
fn a_syn_flood_costs_nobody_who_is_connected_anything() {
    for on_lan in [false, true] {
        flood(20, SECOND, on_lan);
        flood(200, SECOND, on_lan);
    }
}

/// The pool has room for so many handshakes as come while one is waited for, and for another
/// second where a neighbour does not exist.
#[test]
fn a_syn_flood_leaves_room_where_handshakes_may_be_hurried() {
    let hurried = Duration::from_millis(50);
    for (rate, hurried, on_lan, least) in
        [(5, SECOND, false, 60), (100, hurried, false, 1000), (5, hurried, true, 20)]
    {
        let served = flood(rate, hurried, on_lan);
        assert!(served > least, "{served} served at {rate} a second");
    }
}

/// A device that sends a frame each 5 ms and says nothing: no reset is lost, and nobody spins.
#[test]
fn a_slow_device_is_waited_for() {
    for interrupt in [true, false] {
        let mut world = World::new(Setup::default(), 12, Faults::NONE, 0);
        world.site.port.slow(1, Duration::from_millis(5), interrupt);
        let conns: Vec<_> = (0..12).map(|host| world.connect(host)).collect();
        world.run(SECOND);
        for &conn in &conns {
            world.send(conn, b"\x08");
            world.send(conn, HEARTBEAT);
        }
        world.run(SECOND * 3);
        let served = conns.iter().filter(|&&conn| world.beat(conn, SECOND)).count();
        assert_eq!(served, 8);
        let polls = world.site.polls;
        world.run(SECOND * 30);
        assert!(world.site.polls - polls < 2_000, "{} polls", world.site.polls - polls);
        // All fall silent; each is told so.
        world.run(SECOND * 61);
        for &conn in &conns {
            assert!(!world.socket(conn).is_open(), "a reset was lost");
        }
        assert!(world.site.is_whole());
    }
}

/// A device that sends nothing at all any more costs a poll a millisecond at most.
#[test]
fn a_device_that_is_stuck_is_not_spun_on() {
    let mut world = World::new(Setup::default(), 2, Faults::NONE, 0);
    let conn = world.beating(0, SECOND * 5).expect("a connection");
    world.site.port.slow(0, SECOND, false);
    world.send(conn, HEARTBEAT);
    let polls = world.site.polls;
    world.run(SECOND * 70);
    assert!(world.site.polls - polls <= 70_100, "{} polls", world.site.polls - polls);
    assert!(world.site.gateway.server().sessions().is_empty());
}

/// With nothing to do it sleeps: one look at the deadline, and the keep-alive questions.
#[test]
fn an_idle_gateway_sleeps() {
    let mut world = World::new(Setup::default(), 1, Faults::NONE, 0);
    world.run(SECOND * 1000);
    assert!(world.site.polls < 5, "{} polls", world.site.polls);
    world.beating(0, SECOND * 5).expect("a connection");
    let polls = world.site.polls;
    world.run(SECOND * 59);
    assert!(world.site.polls - polls < 20, "{} polls", world.site.polls - polls);
    assert_eq!(world.site.gateway.census().serving, 1);
}

/// As many neighbours as a small site has, each with its own rhythm; every answer comes at once.
#[test]
fn twenty_devices_on_one_lan_are_answered_at_once() {
    let setup = Setup { sessions: 20, sockets: 24, ..Setup::default() };
    let mut world = World::new(setup, 20, Faults::NONE, 0);
    let beating = |host| world.beating(host, SECOND * 5).expect("a connection");
    let conns: Vec<_> = (0..20).map(beating).collect();
    for minute in 0..30 {
        for (number, &conn) in conns.iter().enumerate() {
            world.run(Duration::from_millis(2_700 + 10 * number as u64));
            // Where a neighbour has been forgotten, asking for it takes one round trip more.
            assert!(world.beat(conn, Duration::from_millis(5)), "device {number}, minute {minute}");
        }
    }
    assert_eq!(world.site.app().closed, []);
}

/// A reply that is lost is sent again after one retransmission timeout, which is a second.
#[test]
fn a_heartbeat_is_answered_within_one_retransmission() {
    let mut world = World::new(Setup::default(), 1, Faults::NONE, 0);
    let conn = world.beating(0, SECOND * 5).expect("a connection");
    for _ in 0..20 {
        world.run(SECOND * 20);
        let start = world.now;
        world.send(conn, HEARTBEAT);
        world.settle();
        // The request is under way, the reply will be lost.
        world.lan.set_faults(Faults { loss: 100, ..Faults::NONE });
        world.run(Duration::from_millis(1));
        world.lan.set_faults(Faults::NONE);
        assert_eq!(world.collect(conn, 42, SECOND * 5).len(), 42);
        let took = world.now - start;
        assert!(took > SECOND && took < SECOND + Duration::from_millis(20), "{took}");
        // A fresh sample brings the timeout back.
        assert!(world.beat(conn, Duration::from_millis(5)));
    }
}

#[test]
fn the_pool_stops_listening_when_it_is_told_to() {
    let mut world = World::new(Setup::default(), 2, Faults::NONE, 0);
    let conn = world.beating(0, SECOND * 5).expect("a connection");
    world.stop_accepting();
    let late = world.connect(1);
    world.run(SECOND);
    assert!(refused(&mut world, late));
    assert!(world.beat(conn, SECOND));
    world.drop(conn);
    world.run(SECOND * 5);
    assert_eq!(world.site.gateway.census().idle, 10);
    assert!(world.site.states().all(|state| state == tcp::State::Closed));
}
