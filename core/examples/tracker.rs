//! Another protocol on the table and the sweep alone.
//!
//! Trackers of this make register with their number (its length in one byte, then the digits), are
//! answered with one byte, and then beat with the byte `0xfe`, many a segment if the network has
//! held them back. None of that is this crate's protocol: what is taken from it is who is there
//! ([`Table`]: handles that go stale) and who has gone silent ([`Sweep`]: no timer per device).
//!
//! A listener on loopback, three trackers on threads of their own: one that beats and leaves in good
//! order, one that goes silent, one that never registers. It ends by itself:
//! `cargo run -p pulsegate-core --example tracker`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant as StdInstant;

use embassy_time::{Duration, Instant};
use pulsegate_core::list::{Head, Link};
use pulsegate_core::sweep::{Sweep, Timed};
use pulsegate_core::table::{SessionId, Slot, Table};

const BEAT: u8 = 0xfe;
const ACCEPTED: u8 = 0x01;
const TICK: Duration = Duration::from_millis(20);
const REGISTER_WITHIN: Duration = Duration::from_millis(300);
const BEAT_WITHIN: Duration = Duration::from_millis(600);
const MOST_TRACKERS: usize = 16;

/// One tracker: its place in the sweep, when it was last heard, who it is.
struct Tracker {
    link: Link,
    heard: Instant,
    stream: TcpStream,
    from: SocketAddr,
    number: Option<String>,
    unread: Vec<u8>,
    beats: u32,
}

impl Timed for Tracker {
    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    fn deadline(&self) -> Option<Instant> {
        let patience = if self.number.is_some() { BEAT_WITHIN } else { REGISTER_WITHIN };
        self.heard.checked_add(patience)
    }
}

impl Tracker {
    /// Takes what has arrived; `false` when the connection has ended.
    fn serve(&mut self, now: Instant) -> io::Result<bool> {
        let mut buf = [0; 256];
        match self.stream.read(&mut buf) {
            Ok(0) => return Ok(false),
            Ok(len) => self.unread.extend_from_slice(&buf[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        // All that a sign of life costs, however many devices there are.
        self.heard = now;
        if self.number.is_none() {
            let Some((&len, rest)) = self.unread.split_first() else { return Ok(true) };
            let Some(digits) = rest.get(..usize::from(len)) else { return Ok(true) };
            self.number = Some(String::from_utf8_lossy(digits).into_owned());
            self.unread.drain(..=usize::from(len));
            self.stream.write_all(&[ACCEPTED])?;
        }
        self.beats += self.unread.drain(..).filter(|&byte| byte == BEAT).count() as u32;
        Ok(true)
    }

    fn name(&self) -> &str {
        self.number.as_deref().unwrap_or("(unregistered)")
    }
}

type Fleet = Table<Tracker, Vec<Slot<Tracker>>>;

/// Takes in whoever has connected.
fn accept(listener: &TcpListener, now: Instant, fleet: &mut Fleet, sweep: &mut Sweep<Vec<Head>>) {
    while let Ok((stream, from)) = listener.accept() {
        if stream.set_nonblocking(true).is_err() {
            continue;
        }
        let (link, unread) = (Link::UNLINKED, Vec::new());
        let tracker = Tracker { link, heard: now, stream, from, number: None, unread, beats: 0 };
        match fleet.insert(tracker) {
            Ok(id) => {
                sweep.arm(now, fleet, id);
                println!("{id}: connected from {from}");
            }
            Err(full) => println!("no room for {}", full.0.from),
        }
    }
}

/// Serves one tracker; the reason if it has ended.
fn serve(
    now: Instant,
    id: SessionId,
    fleet: &mut Fleet,
    sweep: &mut Sweep<Vec<Head>>,
) -> Option<String> {
    let tracker = fleet.get_mut(id)?;
    let was_registered = tracker.number.is_some();
    match tracker.serve(now) {
        Ok(true) => {}
        Ok(false) => return Some("has left".into()),
        Err(error) => return Some(format!("is lost: {error}")),
    }
    if !was_registered && let Some(number) = &tracker.number {
        println!("{id}: is tracker {number}");
        // Patience has changed in kind, and might have become shorter.
        sweep.arm(now, fleet, id);
    }
    None
}

fn end(id: SessionId, why: &str, fleet: &mut Fleet, sweep: &mut Sweep<Vec<Head>>) {
    if let Some(tracker) = sweep.remove(fleet, id) {
        println!("{id}: {} {why} after {} beats", tracker.name(), tracker.beats);
    }
}

/// Plays a tracker: registers, beats so many times, then holds the line for a while.
fn play(to: SocketAddr, number: &str, beats: u32, hold_ms: u64) -> io::Result<()> {
    let pause = |ms| thread::sleep(std::time::Duration::from_millis(ms));
    let mut stream = TcpStream::connect(to)?;
    if !number.is_empty() {
        stream.write_all(&[number.len() as u8])?;
        stream.write_all(number.as_bytes())?;
        let mut reply = [0];
        stream.read_exact(&mut reply)?;
    }
    for _ in 0..beats {
        stream.write_all(&[BEAT])?;
        pause(100);
    }
    pause(hold_ms);
    Ok(())
}

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let to = listener.local_addr()?;
    println!("listening on {to}");
    for (number, beats, hold_ms) in [("861", 8, 0), ("862", 2, 2_000), ("", 0, 2_000)] {
        thread::spawn(move || play(to, number, beats, hold_ms));
    }

    let mut fleet = Table::new((0..MOST_TRACKERS).map(|_| Slot::EMPTY).collect());
    let mut sweep = Sweep::new(vec![Head::EMPTY; 40], TICK);
    let began = StdInstant::now();
    let mut ended = 0;
    while ended < 3 {
        let now = Instant::from_micros(began.elapsed().as_micros() as u64);
        accept(&listener, now, &mut fleet, &mut sweep);
        // A real server is told by its operating system which are readable.
        let ids: Vec<SessionId> = fleet.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(why) = serve(now, id, &mut fleet, &mut sweep) {
                end(id, &why, &mut fleet, &mut sweep);
                ended += 1;
            }
        }
        let mut looks = 64;
        while let Some(id) = sweep.due(now, &mut fleet, &mut looks) {
            end(id, "has gone silent", &mut fleet, &mut sweep);
            ended += 1;
        }
        thread::sleep(std::time::Duration::from_millis(5));
    }
    println!("{} trackers left", fleet.len());
    Ok(())
}
