//! A process that stood still judges by when bytes arrived, not by when it looked.

#[allow(dead_code, reason = "each test binary uses a part of the shared module")]
mod command;

use std::io::Write;
use std::net::SocketAddr;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use command::device::{Device, End};
use command::{PATIENCE, Server, field};
use rustix::process::Signal;

const IDLE: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_millis(50);

/// Longer than the idle timeout.
const PAUSE: Duration = Duration::from_millis(2600);

/// What a busy machine may add. Less than what a timeout counted from the wake-up would.
const SLACK: Duration = Duration::from_millis(900);

/// A part of a packet is activity too, and unlike a whole one it is not answered: the answer's
/// acknowledgement would be proof of life after the pause.
const HALF: &[u8] = &[29, 0, 0, 0, 25, 0];

/// Waits for the end, and says when it came.
fn ended_at(mut device: Device) -> Instant {
    assert_ne!(device.end_within(PATIENCE), End::Open);
    Instant::now()
}

fn sleep_until(at: Instant) {
    sleep(at.saturating_duration_since(Instant::now()));
}

#[test]
fn whoever_was_heard_during_a_stop_is_judged_by_when() {
    let server = Server::start(&["--idle-timeout", "2s", "--tick", "50ms", "--shards", "1"]);
    let [mut alive, silent, mut early, mut late] =
        [(); 4].map(|()| Device::beating(server.address));
    let peers: [SocketAddr; 3] = [silent.local(), early.local(), late.local()];
    server.signal(Signal::STOP);
    let stopped = Instant::now();
    let mut unanswered = 0;
    let mut late_heard = stopped;
    for step in 0..26u32 {
        sleep_until(stopped + PAUSE / 26 * step);
        alive.send("Active", &[]).unwrap();
        unanswered += 1;
        match step {
            3 => early.stream.write_all(HALF).unwrap(),
            14 => {
                late_heard = Instant::now();
                late.stream.write_all(HALF).unwrap();
            }
            _ => {}
        }
    }
    sleep_until(stopped + PAUSE);
    server.signal(Signal::CONT);
    let continued = Instant::now();
    let ends = [silent, early, late].map(|device| spawn(move || ended_at(device)));
    // Everything that was sent meanwhile is answered, and life goes on.
    for _ in 0..unanswered {
        assert_eq!(alive.receive().unwrap().code, 0);
    }
    while continued.elapsed() < IDLE {
        alive.beat();
        sleep(Duration::from_millis(100));
    }
    let [silent, early, late] = ends.map(|end| end.join().unwrap());
    // Their time had run out while the server stood still.
    for end in [silent, early] {
        assert!(end <= continued + TICK + SLACK, "{:?} after going on", end - continued);
    }
    assert!(late >= late_heard + IDLE, "early by {:?}", late_heard + IDLE - late);
    assert!(
        late <= late_heard + IDLE + TICK + SLACK,
        "{:?} after its last byte",
        late - late_heard
    );
    assert!(late_heard + IDLE + TICK + SLACK < continued + IDLE, "else this proves nothing");
    for peer in peers {
        let closes = server.closes();
        assert_eq!(field(&closes[&peer][0], "reason"), "idle");
    }
    alive.beat();
    drop(alive);
    server.stop();
}
