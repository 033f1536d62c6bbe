//! A process that stood still judges by when bytes arrived, not by when it looked.

#[allow(dead_code, reason = "each test binary uses a part of the shared module")]
mod command;

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use command::device::{Device, End};
use command::{PATIENCE, Server, field};
use rustix::process::Signal;

/// Longer than the idle timeout of 2 s.
const PAUSE: Duration = Duration::from_millis(2600);

/// A part of a packet is activity too, and unlike a whole one it is not answered: the answer's
/// acknowledgement would be proof of life after the pause.
const HALF: &[u8] = &[29, 0, 0, 0, 25, 0];

/// A device, and between which moments it was accepted.
struct Peer {
    device: Device,
    accepted: [Instant; 2],
}

impl Peer {
    fn beating(server: &Server) -> Self {
        let before = Instant::now();
        let device = Device::beating(server.address);
        Self { device, accepted: [before, Instant::now()] }
    }

    /// Waits for the end, which must be an idle one after a last sign of life in this time.
    fn was_heard_between(mut self, server: &Server, from: Instant, to: Instant) {
        assert_ne!(self.device.end_within(PATIENCE), End::Open);
        let line = &server.wait_for_close(self.device.local());
        assert_eq!(field(line, "reason"), "idle", "{line}");
        let ms = |name| Duration::from_millis(field(line, name).parse().unwrap());
        let (age, silence) = (ms("age_ms"), ms("silence_ms"));
        assert!(silence >= Duration::from_secs(2), "early: {line}");
        // Both are whole milliseconds.
        let rounding = Duration::from_millis(1);
        let heard = self.accepted.map(|accepted| accepted + age - silence);
        assert!(heard[1] + rounding >= from, "heard {:?} later: {line}", from - heard[1]);
        assert!(heard[0] <= to + rounding, "heard {:?} earlier: {line}", heard[0] - to);
    }
}

fn sleep_until(at: Instant) {
    sleep(at.saturating_duration_since(Instant::now()));
}

#[test]
fn whoever_was_heard_during_a_stop_is_judged_by_when() {
    let server = Server::start(&["--idle-timeout", "2s", "--tick", "50ms", "--shards", "1"]);
    let began = Instant::now();
    let mut alive = Device::beating(server.address);
    let [silent, mut early, mut late] = [(); 3].map(|()| Peer::beating(&server));
    server.signal(Signal::STOP);
    let stopped = Instant::now();
    let mut unanswered = 0;
    let [mut early_heard, mut late_heard] = [stopped; 2];
    for step in 0..26u32 {
        sleep_until(stopped + PAUSE / 26 * step);
        alive.send("Active", &[]).unwrap();
        unanswered += 1;
        match step {
            3 => {
                early_heard = Instant::now();
                early.device.stream.write_all(HALF).unwrap();
            }
            14 => {
                late_heard = Instant::now();
                late.device.stream.write_all(HALF).unwrap();
            }
            _ => {}
        }
    }
    sleep_until(stopped + PAUSE);
    let continued = Instant::now();
    server.signal(Signal::CONT);
    // Everything that was sent meanwhile is answered, and life goes on.
    for _ in 0..unanswered {
        assert_eq!(alive.receive().unwrap().code, 0);
    }
    // Nobody was heard only when the server looked. It may take them for heard a little later than
    // they were, as the kernel counts in ticks.
    silent.was_heard_between(&server, began, late_heard);
    early.was_heard_between(&server, early_heard, late_heard);
    alive.beat();
    late.was_heard_between(&server, late_heard, continued);
    alive.beat();
    drop(alive);
    server.stop();
}

/// The stop is over before anybody's time has run out, so bytes are read before anybody is judged.
#[test]
fn nobody_is_younger_for_a_stop_shorter_than_the_timeout() {
    let server = Server::start(&["--idle-timeout", "2s", "--tick", "50ms", "--shards", "1"]);
    let mut peer = Peer::beating(&server);
    server.signal(Signal::STOP);
    let before = Instant::now();
    peer.device.stream.write_all(HALF).unwrap();
    let heard = Instant::now();
    sleep(Duration::from_secs(1));
    server.signal(Signal::CONT);
    peer.was_heard_between(&server, before, heard + Duration::from_millis(500));
}
