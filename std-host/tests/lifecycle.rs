//! Start, stop and restart of the command.

#[allow(dead_code, reason = "each test binary uses a part of the shared module")]
mod command;

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::time::Instant;

use command::device::{Device, End};
use command::{PATIENCE, Server, field, run};
use rustix::process::Signal;

/// Some with heartbeats, one on Throughput, some that have sent nothing; all of them admitted.
fn some_devices(server: &Server) -> Vec<Device> {
    let mut devices: Vec<_> = (0..8).map(|_| Device::beating(server.address)).collect();
    let mut echo = Device::connect(server.address);
    std::io::Write::write_all(&mut echo.stream, &[5]).expect("the flag is sent");
    assert_eq!(echo.ask("CyclePacket", &[("Count", "1")]).code, 0);
    devices.push(echo);
    devices.extend((0..6).map(|_| Device::connect(server.address)));
    let mut operator = Device::logged_in(server.address, "admin", "admin");
    // Who has sent nothing cannot tell otherwise whether it has been accepted.
    let start = Instant::now();
    while operator.ask("GetClients", &[]).items.len() <= devices.len() {
        assert!(start.elapsed() < PATIENCE, "not everybody is listed");
    }
    devices.push(operator);
    devices
}

#[test]
fn a_signal_ends_every_session_in_good_order_and_exits_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start(&["--shards", "2"]);
        let mut devices = some_devices(&server);
        server.signal(signal);
        for device in &mut devices {
            assert_eq!(device.end_within(PATIENCE), End::Eof, "{signal:?}");
        }
        let peers: HashSet<SocketAddr> = devices.iter().map(Device::local).collect();
        drop(devices);
        assert_eq!(server.wait().code(), Some(0), "{signal:?}: {:#?}", server.log());
        let closes = server.closes();
        assert_eq!(closes.keys().copied().collect::<HashSet<_>>(), peers);
        for lines in closes.values() {
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert_eq!(field(&lines[0], "reason"), "shutdown", "{lines:?}");
        }
    }
}

/// Connections that this port's server has closed and the kernel keeps for a while.
fn in_time_wait(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux lists its connections");
    let local = format!(":{port:04X}");
    table
        .lines()
        .filter(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|address| address.ends_with(&local))
                && words.nth(1) == Some("06")
        })
        .count()
}

#[test]
fn the_port_can_be_used_again_at_once() {
    for shards in ["1", "2"] {
        let mut server = Server::start(&["--shards", shards]);
        let address = server.address.to_string();
        let mut devices = some_devices(&server);
        server.signal(Signal::TERM);
        for device in &mut devices {
            assert_eq!(device.end_within(PATIENCE), End::Eof);
        }
        drop(devices);
        assert_eq!(server.wait().code(), Some(0));
        assert!(in_time_wait(server.address.port()) > 0, "else this test tests nothing");

        let mut server = Server::start(&["--shards", shards, "--listen", &address]);
        let devices = some_devices(&server);
        // Without a farewell, and the devices still there.
        server.signal(Signal::KILL);
        assert_eq!(server.wait().code(), None);
        let server = Server::start(&["--shards", shards, "--listen", &address]);
        Device::beating(server.address).beat();
        drop(devices);
        server.stop();
    }
}

#[test]
fn a_second_server_is_refused_and_takes_nobody_away() {
    for shards in ["1", "2"] {
        let server = Server::start(&["--shards", shards]);
        let mut before = Device::beating(server.address);
        let address = server.address.to_string();
        let port = server.address.port().to_string();
        for others in ["1", "2"] {
            let second = run(&["serve", "--listen", &address, "--shards", others], "");
            assert_eq!(second.status.code(), Some(1), "{second:?}");
            assert!(second.stdout.is_empty(), "{second:?}");
            let message = String::from_utf8_lossy(&second.stderr);
            for part in ["ss -ltnp", &port, &address] {
                assert!(message.contains(part), "{part} in {message}");
            }
            before.beat();
            for _ in 0..32 {
                Device::beating(server.address);
            }
        }
        server.stop();
    }
}

#[test]
fn the_first_line_says_where_it_listens() {
    // The line itself is read, whole, by `Server::start`.
    let server = Server::start(&["--listen", "127.0.0.1:0"]);
    assert!(server.address.ip().is_loopback() && server.address.port() != 0, "{}", server.address);
    Device::beating(server.address);
    server.stop();
    if TcpListener::bind("[::1]:0").is_ok() {
        let server = Server::start(&["--listen", "[::1]:0"]);
        assert!(server.address.is_ipv6(), "{}", server.address);
        Device::beating(server.address);
        server.stop();
    }
}
