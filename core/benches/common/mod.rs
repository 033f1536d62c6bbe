//! What several benches share.
#![allow(dead_code)] // Each bench uses its part.

use std::hint::black_box;
use std::mem::take;
use std::net::SocketAddr;
use std::sync::Arc;

use embassy_time::{Duration, Instant};
use pulsegate_core::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
use pulsegate_core::list::{Head, Link};
use pulsegate_core::protocol::{Flag, Iocp, IocpConfig};
use pulsegate_core::roster::Row;
use pulsegate_core::server::{Closed, Config, Parts, Server, Session, Wants};
use pulsegate_core::socket::{End, Finish, Progress, Proof, Rx, Socket};
use pulsegate_core::store::NoStore;
use pulsegate_core::sweep::{Sweep, Timed, slots_for};
use pulsegate_core::table::{SessionId, Slot, Table};

pub(crate) const TICK: Duration = Duration::from_millis(100);
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);
pub(crate) const HEARTBEAT: &[u8] = b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active";
pub(crate) const WINDOW: usize = 64 * 1024;

/// An entry of a table that is swept.
pub(crate) struct Device {
    link: Link,
    pub(crate) heard: Instant,
}

impl Timed for Device {
    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    fn deadline(&self) -> Option<Instant> {
        self.heard.checked_add(TIMEOUT)
    }
}

pub(crate) type Fleet = (Table<Device, Vec<Slot<Device>>>, Sweep<Vec<Head>>, Vec<SessionId>);

/// Devices, one in a hundred of which was heard of a minute before the others, at 1,000 s.
pub(crate) fn fleet(devices: u64) -> Fleet {
    let mut table = Table::new((0..devices).map(|_| Slot::EMPTY).collect());
    let mut sweep = Sweep::new(vec![Head::EMPTY; 1300], TICK);
    let start = Instant::from_secs(1000);
    let ids = (0..devices)
        .map(|n| {
            let heard = if n % 100 == 0 { start } else { start + TIMEOUT };
            let id = table.insert(Device { link: Link::UNLINKED, heard }).ok().unwrap();
            sweep.arm(start, &mut table, id);
            id
        })
        .collect();
    (table, sweep, ids)
}

/// Input that is there as a whole, output that is thrown away as it is written.
pub(crate) struct Sink<'a> {
    input: &'a [u8],
    received: usize,
    sent: usize,
    now: Instant,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(input: &'a [u8], now: Instant) -> Self {
        Self { input, received: input.len(), sent: 0, now }
    }
}

impl Socket for Sink<'_> {
    fn rx(&mut self, _want: usize) -> Rx<'_> {
        Rx { bytes: self.input, end: End::Open }
    }

    fn consume(&mut self, len: usize) {
        self.input = self.input.get(len..).unwrap_or_default();
    }

    fn room(&mut self) -> usize {
        WINDOW
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        black_box(bytes);
        self.sent += bytes.len();
        bytes.len()
    }

    fn progress(&mut self, now: Instant) -> Progress {
        Progress { received: take(&mut self.received), sent: take(&mut self.sent), at: now }
    }

    fn proof(&mut self, _now: Instant) -> Proof {
        Proof { received_at: Some(self.now), acknowledged_at: Some(self.now), owed_since: None }
    }

    fn finish(&mut self) -> Finish {
        Finish::Sent
    }

    fn abort(&mut self) {}
}

/// An application that lets nobody in, with the addresses and users of a host.
pub(crate) struct Nobody(pub(crate) NoStore);

impl App for Nobody {
    type Address = SocketAddr;
    type User = Arc<String>;
    type Store = NoStore;

    fn store(&mut self) -> &mut NoStore {
        &mut self.0
    }

    fn login(
        &mut self,
        _: &Ask<SocketAddr>,
        _: Flag,
        _: &str,
        _: &Digest,
    ) -> Answer<Login<Arc<String>>> {
        Answer::Now(Login::Wrong)
    }
    fn user_name<'a>(&'a self, _: &'a Arc<String>) -> &'a str {
        ""
    }
    fn may_list(&self, _: &Arc<String>) -> bool {
        false
    }
    fn freeze_list(
        &mut self,
        _: &Ask<SocketAddr>,
        _: Page,
        _: &mut dyn Iterator<Item = Row<'_, SocketAddr, Arc<String>>>,
    ) -> Answer<List> {
        Answer::Now(List::Failed(""))
    }
    fn read_list(&mut self, _: SessionId, _: u32, _: &mut [u8]) -> usize {
        0
    }
    fn release_list(&mut self, _: SessionId) {}
    fn event(&mut self, _: &Ask<SocketAddr>, _: Event<'_, Iocp<Self>>) {}
    fn closed(&mut self, _: &Closed<Iocp<Self>>) {}
}

pub(crate) type Memory =
    Parts<Vec<Slot<Session<Iocp<Nobody>>>>, Vec<Head>, Vec<u8>, Vec<Option<Closed<Iocp<Nobody>>>>>;
pub(crate) type BenchServer = Server<Iocp<Nobody>, Memory>;

/// A server for so many sessions.
pub(crate) fn server(sessions: usize) -> BenchServer {
    let memory = Parts {
        slots: (0..sessions).map(|_| Slot::EMPTY).collect(),
        wheel: vec![Head::EMPTY; slots_for(TIMEOUT, TICK)],
        scratch: vec![0; 4096 + 64],
        closes: vec![None],
    };
    Server::new(Config::default(), Iocp::new(IocpConfig::default(), Nobody(NoStore)), memory)
}

/// Takes a session in.
pub(crate) fn accept(server: &mut BenchServer, now: Instant) -> SessionId {
    let (local, remote) = (([127, 0, 0, 1], 9999).into(), ([127, 0, 0, 1], 40_000).into());
    server.accept(now, local, remote).unwrap().id
}

/// Takes a session in and lets it send its flag.
pub(crate) fn open(server: &mut BenchServer, flag: u8, now: Instant) -> SessionId {
    let id = accept(server, now);
    assert_eq!(server.drive(now, id, &mut Sink::new(&[flag], now), WINDOW), Wants::Input);
    id
}
