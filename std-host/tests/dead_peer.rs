//! Peers whose line is cut, over a link of our own between two network namespaces.

#[allow(dead_code, reason = "each test binary uses a part of the shared module")]
mod command;

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use command::device::Device;
use command::{Server, field};
use pulsegate_conformance::pace::Pace;
use rustix::process::Signal;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const IDLE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(50);

/// What a busy machine may add, beside what it holds everything up.
const SLACK: Duration = Duration::from_millis(900);

/// Runs `ip` with these words; without the permission the test cannot say anything.
fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.expect("this test needs the command `ip`: install iproute2");
    assert!(
        output.status.success(),
        "`ip {words}`: {}: run this test as root, where network namespaces are allowed \
         (CAP_SYS_ADMIN and CAP_NET_ADMIN; in a container: --privileged)",
        String::from_utf8_lossy(&output.stderr).trim()
    );
}

/// Two namespaces and the link between them; they end with the test.
struct Link {
    server: String,
    peer: String,
}

impl Link {
    fn new(name: &str) -> Self {
        let id = std::process::id();
        let link = Self { server: format!("pg-{name}-s-{id}"), peer: format!("pg-{name}-p-{id}") };
        let Self { server, peer } = &link;
        ip(&format!("netns add {server}"));
        ip(&format!("netns add {peer}"));
        ip(&format!("-n {server} link add wire type veth peer name wire netns {peer}"));
        for (namespace, address) in [(server, "10.99.0.1/24"), (peer, "10.99.0.2/24")] {
            ip(&format!("-n {namespace} address add {address} dev wire"));
            ip(&format!("-n {namespace} link set wire up"));
        }
        link
    }

    /// Connects from the far end. A socket stays in the namespace in which it was made.
    fn connect(&self, server: &Server) -> Device {
        let path = format!("/run/netns/{}", self.peer);
        let namespace = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let address = server.address;
        let dial = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may enter a namespace");
            Device::beating(address)
        };
        std::thread::spawn(dial).join().expect("the link carries connections")
    }

    fn cut(&self) {
        ip(&format!("-n {} link set wire down", self.peer));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.peer] {
            // One that was not made cannot be removed.
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

/// Waits for the session's end, which must come by its silence and in time.
fn ends_in_time(server: &Server, device: &Device, last_heard: Instant, pace: &Pace) {
    let line = server.wait_for_close(device.local());
    let silence = last_heard.elapsed();
    let slack = SLACK + pace.held_up_since(last_heard);
    assert_eq!(field(&line, "reason"), "idle", "{line}");
    assert!(silence >= IDLE, "early, after {silence:?}: {line}");
    assert!(silence <= IDLE + TICK + slack, "late, after {silence:?}: {line}");
}

const ARGS: [&str; 6] = ["--listen", "10.99.0.1:0", "--idle-timeout", "2s", "--tick", "50ms"];

#[test]
#[ignore = "needs root and network namespaces"]
fn a_peer_cut_off_before_it_has_its_reply_ends_in_time() {
    let link = Link::new("reply");
    let server = Server::start_in(&link.server, &ARGS);
    let pace = Pace::watch();
    let mut device = link.connect(&server);
    sleep(Duration::from_millis(500));
    // The heartbeat must arrive and its answer must not, so the server stands still meanwhile: long
    // enough to see whether time is counted from the heartbeat or from the answer.
    server.signal(Signal::STOP);
    let heard = Instant::now();
    device.send("Active", &[]).unwrap();
    sleep(Duration::from_millis(1500));
    link.cut();
    server.signal(Signal::CONT);
    ends_in_time(&server, &device, heard, &pace);
    let line = server.closes().remove(&device.local()).expect("it has ended").remove(0);
    // Both heartbeats were read and both were answered, as far as the server can tell.
    assert_eq!(field(&line, "received"), "67", "{line}");
    assert_eq!(field(&line, "sent"), "84", "{line}");
    server.stop();
}

#[test]
#[ignore = "needs root and network namespaces"]
fn a_peer_cut_off_in_silence_ends_in_time() {
    let link = Link::new("quiet");
    let server = Server::start_in(&link.server, &ARGS);
    let pace = Pace::watch();
    let mut device = link.connect(&server);
    sleep(Duration::from_millis(300));
    let heard = Instant::now();
    device.beat();
    // Its acknowledgement of the answer may wait this long, and is the last thing heard.
    sleep(Duration::from_millis(100));
    link.cut();
    ends_in_time(&server, &device, heard, &pace);
    server.stop();
}
