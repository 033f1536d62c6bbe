//! The server with a protocol of another make: what an adapter gets for nothing.
//!
//! A data logger sends its serial number and a line feed, then lines; each line is answered with
//! `ok`. A dot alone is a sign of life and gets no answer. `who` asks how many loggers there are.

mod common;

use common::{addr, at, memory};
use embassy_time::{Duration, Instant};
use pulsegate_core::server::{
    Ask, CloseReason, Closed, Config, Context, Protocol, Server, Session, Step, Timers, Wants,
};
use pulsegate_core::socket::memory::MemorySocket;
use pulsegate_core::socket::{End, Socket};
use pulsegate_core::table::SessionId;

#[derive(Default)]
struct Loggers {
    ended: Vec<(Option<u32>, CloseReason)>,
}

#[derive(Default)]
struct Logger {
    serial: Option<u32>,
    /// The answer to `who`.
    count: Option<usize>,
}

/// Longest line, its end included.
const LINE: usize = 32;

impl Protocol for Loggers {
    type Address = core::net::SocketAddr;
    type State = Logger;
    type User = u32;
    type Answer = usize;

    fn open(&mut self, _: Instant) -> Logger {
        Logger::default()
    }

    fn timers(&self, state: &Logger, connected_at: Instant, _now: Instant) -> Timers {
        match state.serial {
            None => Timers::at(connected_at + Duration::from_secs(3), CloseReason::NoLogin),
            Some(_) => Timers { fixed: None, silence: Some(Duration::from_secs(30)) },
        }
    }

    fn drive<S: Socket>(
        &mut self,
        cx: &mut Context<'_, Self::Address>,
        state: &mut Logger,
        socket: &mut S,
    ) -> Step {
        loop {
            if let Some(count) = state.count.take() {
                socket.write(format!("{count}\n").as_bytes());
            }
            if socket.room() < LINE {
                return Step::Output;
            }
            let rx = socket.rx(LINE);
            let Some(end) = rx.bytes.iter().take(LINE).position(|&byte| byte == b'\n') else {
                return match rx.end {
                    _ if rx.bytes.len() >= LINE => Step::Close(CloseReason::BadPacket),
                    End::Open => Step::Input,
                    End::Finished => Step::Close(CloseReason::PeerClosed),
                    End::Failed => Step::Abort(CloseReason::PeerReset),
                };
            };
            let line = String::from_utf8_lossy(&rx.bytes[..end]).into_owned();
            socket.consume(end + 1);
            match (line.as_str(), state.serial) {
                (serial, None) => {
                    state.serial = serial.parse().ok();
                    cx.changed = true;
                    if state.serial.is_none() {
                        return Step::Abort(CloseReason::LoginFailures);
                    }
                }
                (".", _) => {}
                ("who", _) => return Step::Survey,
                _ => _ = socket.write(b"ok\n"),
            }
        }
    }

    fn answer(&mut self, state: &mut Logger, count: usize) {
        state.count = Some(count);
    }

    fn survey<'a>(
        &mut self,
        _: &Ask<Self::Address>,
        sessions: &mut dyn Iterator<Item = (SessionId, &'a Session<Self>)>,
    ) -> Option<usize>
    where
        Self: 'a,
    {
        Some(sessions.filter(|(_, session)| session.state().serial.is_some()).count())
    }

    fn is_newcomer(&self, state: &Logger) -> bool {
        state.serial.is_none()
    }

    fn user<'a>(&self, state: &'a Logger) -> Option<&'a u32> {
        state.serial.as_ref()
    }

    fn closed(&mut self, closed: &Closed<Self>, _: &mut Logger) {
        self.ended.push((closed.user, closed.reason));
    }
}

#[test]
fn loggers_are_served_judged_and_evicted() {
    let mut server = Server::new(Config::default(), Loggers::default(), memory(2, 400, 16));
    let accept = |server: &mut Server<Loggers, _>, now| {
        let admission = server.accept(now, addr(1), addr(2)).unwrap();
        (admission.id, admission.evicted, MemorySocket::<64>::new())
    };
    let (first, _, mut socket) = accept(&mut server, at(0));
    socket.send(b"17\n21.5 C\n.\nwho\n.", at(100));
    assert_eq!(server.drive(at(100), first, &mut socket, 64), Wants::More);
    assert_eq!(server.drive(at(100), first, &mut socket, 64), Wants::Input);
    assert_eq!(socket.output(), b"ok\n1\n");
    socket.take(64, at(200));

    let (mute, _, _) = accept(&mut server, at(300));
    let (third, evicted, mut bad) = accept(&mut server, at(400));
    assert_eq!(evicted, Some(mute));
    bad.send(b"not a number\n", at(500));
    let ended = server.drive(at(500), third, &mut bad, 64);
    assert_eq!((ended, bad.is_aborted()), (Wants::Nothing(CloseReason::LoginFailures), true));

    // A sign of life that nobody has read yet saves it once; then it is swept to the tick.
    socket.send(b"\n", at(30_150));
    let mut now = at(0);
    while server.sessions().get(first).is_some() {
        now = server.poll_at().unwrap();
        let mut looks = 10;
        while let Some(id) = server.due(now, &mut looks) {
            let _ = server.judge(now, id, &mut socket, 64);
        }
    }
    assert_eq!(now, at(60_200));
    use CloseReason::{Evicted, Idle, LoginFailures};
    let ended = &server.protocol().ended;
    assert_eq!(*ended, [(None, Evicted), (None, LoginFailures), (Some(17), Idle)]);
}
