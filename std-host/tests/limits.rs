//! Descriptors and sessions run out: the listener lives, and whoever works stays.

#[allow(dead_code, reason = "each test binary uses a part of the shared module")]
mod command;

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use command::device::{Device, End};
use command::{PATIENCE, Server, field};

#[test]
fn the_listener_survives_the_end_of_descriptors() {
    for shards in ["1", "2"] {
        let server =
            Server::start_limited("-n 80", &["--max-sessions", "1000", "--shards", shards]);
        let mut served = Vec::new();
        let mut waiting = loop {
            let mut device = Device::connect(server.address);
            device.stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            match device.try_open() {
                Ok(()) => served.push(device),
                // The kernel has it, the server cannot take it.
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                    break device;
                }
            }
            assert!(served.len() < 80, "more sessions than descriptors");
        };
        assert!(served.len() > 30, "{}", served.len());
        server.wait_for_log("cannot accept", 1);
        served.iter_mut().for_each(Device::beat);
        served.truncate(served.len() - 5);
        // Its heartbeat has waited with it.
        waiting.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(waiting.receive().unwrap().code, 0);
        let mut late: Vec<_> = (0..3).map(|_| Device::beating(server.address)).collect();
        served.append(&mut late);
        served.push(waiting);
        served.iter_mut().for_each(Device::beat);
        drop(served);
        let log = server.stop();
        // The listener rests between its tries; the log does not fill up.
        let told = log.iter().filter(|line| line.contains("cannot accept")).count();
        assert!(told < 60, "{told} lines");
    }
}

/// Tries again until somebody's place is free.
fn takes_a_free_place(server: &Server) -> Device {
    let start = Instant::now();
    loop {
        let mut device = Device::connect(server.address);
        if device.try_open().is_ok() {
            return device;
        }
        assert!(start.elapsed() < PATIENCE, "no place becomes free");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A connection that the server does not want must end, and not hang.
fn is_refused(server: &Server) {
    let mut device = Device::connect(server.address);
    let error = device.try_open().expect_err("there is no place");
    assert_ne!(error.kind(), ErrorKind::WouldBlock, "it hangs");
    assert_ne!(device.end_within(PATIENCE), End::Open);
}

#[test]
fn the_limit_is_one_over_all_shards() {
    let args = ["--max-sessions", "20", "--no-evict", "--log", "debug"];
    for shards in ["1", "2", "4"] {
        let server = Server::start(&[&args[..], &["--shards", shards]].concat());
        let mut devices: Vec<_> = (0..20).map(|_| Device::beating(server.address)).collect();
        for _ in 0..30 {
            is_refused(&server);
        }
        devices.iter_mut().for_each(Device::beat);
        devices.truncate(15);
        devices.extend((0..5).map(|_| takes_a_free_place(&server)));
        is_refused(&server);
        devices.iter_mut().for_each(Device::beat);
        drop(devices);
        let log = server.stop();
        let told = log.iter().filter(|line| line.contains("connection refused")).count();
        assert!(told >= 31, "{told}");
        let stopped = log.last().unwrap();
        assert_eq!(field(stopped, "refused"), told.to_string(), "counted: {stopped}");
        assert!(!log.iter().any(|line| line.contains("evicted")), "{log:#?}");
    }
}

#[test]
fn without_eviction_newcomers_stay() {
    let server = Server::start(&["--max-sessions", "5", "--no-evict", "--shards", "1"]);
    let mut newcomers: Vec<_> = (0..5).map(|_| Device::connect(server.address)).collect();
    is_refused(&server);
    for device in &mut newcomers {
        device.try_open().unwrap();
    }
    drop(newcomers);
    server.stop();
}

#[test]
fn the_oldest_newcomer_makes_room() {
    let args = ["--max-sessions", "10", "--flag-timeout", "60s", "--shards", "1"];
    let server = Server::start(&args);
    let mut devices: Vec<_> = (0..4).map(|_| Device::beating(server.address)).collect();
    let mut newcomers: Vec<_> = (0..6).map(|_| Device::connect(server.address)).collect();
    let mut peers = Vec::new();
    while !newcomers.is_empty() {
        devices.push(Device::beating(server.address));
        let mut oldest = newcomers.remove(0);
        assert_ne!(oldest.end_within(PATIENCE), End::Open);
        peers.push(oldest.local());
        for other in &mut newcomers {
            assert_eq!(other.end_within(Duration::from_millis(1)), End::Open);
        }
    }
    // Now nobody is left who has proven nothing.
    is_refused(&server);
    devices.iter_mut().for_each(Device::beat);
    for peer in peers {
        assert_eq!(field(&server.closes()[&peer][0], "reason"), "evicted");
    }
    drop(devices);
    server.stop();
}

#[test]
fn a_newcomer_of_any_shard_makes_room() {
    let args = ["--max-sessions", "24", "--flag-timeout", "60s", "--shards", "2"];
    let server = Server::start(&args);
    let mut devices: Vec<_> = (0..8).map(|_| Device::beating(server.address)).collect();
    let newcomers: Vec<_> = (0..16).map(|_| Device::connect(server.address)).collect();
    let mut refused = 0;
    for _ in 0..newcomers.len() {
        let mut device = Device::connect(server.address);
        match device.try_open() {
            Ok(()) => devices.push(device),
            Err(_) => refused += 1,
        }
    }
    devices.iter_mut().for_each(Device::beat);
    assert_eq!(refused, 0, "places are held by connections that have proven nothing");
    drop((devices, newcomers));
    server.stop();
}
