//! What several tests share.
#![allow(dead_code)] // Each test uses its part.

use std::marker::PhantomData;

use embassy_time::{Duration, Instant};
use pulsegate_core::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
use pulsegate_core::frame::{ByteOrder, Header};
use pulsegate_core::list::Head;
use pulsegate_core::protocol::{Flag, Iocp, IocpConfig};
use pulsegate_core::roster::{Clock, Roster, Row};
use pulsegate_core::server::{
    Address, CloseReason, Closed, Config, JobId, Parts, Protocol, Server, Session,
};
use pulsegate_core::store::{Entry, Handle, MemoryStore, NoStore};
use pulsegate_core::table::{SessionId, Slot};
use pulsegate_core::tail::{Cursor, Tail};

/// An application that lets nobody in, for any type of address and user.
pub(crate) struct NullApp<A, U>(PhantomData<(A, U)>, NoStore);

impl<A, U> NullApp<A, U> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData, NoStore)
    }
}

impl<A: Address, U: Clone> App for NullApp<A, U> {
    type Address = A;
    type User = U;
    type Store = NoStore;

    fn store(&mut self) -> &mut NoStore {
        &mut self.1
    }

    fn login(&mut self, _: &Ask<A>, _: Flag, _: &str, _: &Digest) -> Answer<Login<U>> {
        Answer::Now(Login::Wrong)
    }
    fn user_name<'a>(&'a self, _: &'a U) -> &'a str {
        ""
    }
    fn may_list(&self, _: &U) -> bool {
        false
    }
    fn freeze_list(
        &mut self,
        _: &Ask<A>,
        _: Page,
        _: &mut dyn Iterator<Item = Row<'_, A, U>>,
    ) -> Answer<List> {
        Answer::Now(List::Failed("no list"))
    }
    fn read_list(&mut self, _: SessionId, _: u32, _: &mut [u8]) -> usize {
        0
    }
    fn release_list(&mut self, _: SessionId) {}
    fn event(&mut self, _: &Ask<A>, _: Event<'_, Iocp<Self>>) {}
    fn closed(&mut self, _: &Closed<Iocp<Self>>) {}
}

pub(crate) type Addr = core::net::SocketAddr;
pub(crate) type Memory<P> =
    Parts<Vec<Slot<Session<P>>>, Vec<Head>, Vec<u8>, Vec<Option<Closed<P>>>>;
pub(crate) type TestServer = Server<Iocp<TestApp>, Memory<Iocp<TestApp>>>;

pub(crate) fn memory<P: Protocol>(sessions: usize, wheel: usize, scratch: usize) -> Memory<P> {
    Parts {
        slots: (0..sessions).map(|_| Slot::EMPTY).collect(),
        wheel: vec![Head::EMPTY; wheel],
        scratch: vec![0; scratch],
        closes: (0..4).map(|_| None).collect(),
    }
}

/// A server of the IOCPDemo protocol with a tick of 100 ms.
pub(crate) fn server(sessions: usize, config: IocpConfig) -> TestServer {
    let app = TestApp::new(sessions);
    Server::new(Config::default(), Iocp::new(config, app), memory(sessions, 640, 384))
}

pub(crate) fn addr(port: u16) -> Addr {
    Addr::from(([192, 0, 2, 1], port))
}

pub(crate) fn at(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

pub(crate) fn packet(command: &str, data: &[u8]) -> Vec<u8> {
    let header = Header::new(command.len(), data.len()).unwrap();
    [&header.to_bytes(ByteOrder::Little)[..], command.as_bytes(), data].concat()
}

/// A request of lines.
pub(crate) fn request(lines: &str) -> Vec<u8> {
    packet(&format!("[Request]\r\nCommand={lines}"), b"")
}

pub(crate) fn login(user: &str) -> Vec<u8> {
    request(&format!("Login\r\nUserName={user}\r\nPassword=21232F297A57a5a743894a0e4a801fc3"))
}

/// Splits what a server has sent into command texts and data.
pub(crate) fn replies(mut bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk() {
        let header = Header::read(header, ByteOrder::Little);
        let (command, rest) = rest.split_at(header.command_len as usize);
        let (data, rest) = rest.split_at(header.data_len() as usize);
        found.push((String::from_utf8(command.to_vec()).unwrap(), data.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half a header");
    found
}

/// A store for so many files of so many bytes.
pub(crate) fn store(entries: usize, share: usize, sessions: usize) -> MemoryStore<'static> {
    MemoryStore::new(
        vec![Entry::FREE; entries].leak(),
        vec![0; entries * share].leak(),
        Vec::leak((0..sessions).map(|_| Handle::EMPTY).collect()),
        vec![Entry::FREE; entries].leak(),
    )
}

/// Lets in whoever is not called `stranger`; asks later for those whose name begins with `slow`.
#[derive(Debug)]
pub(crate) struct TestApp {
    pub(crate) questions: Vec<(SessionId, JobId)>,
    pub(crate) roster: Roster<'static, Addr, String>,
    pub(crate) events: Vec<String>,
    pub(crate) closed: Vec<(SessionId, CloseReason)>,
    pub(crate) last_overdue: Option<Duration>,
    pub(crate) store: MemoryStore<'static>,
    pub(crate) log: Tail<Vec<u8>>,
    pub(crate) shows_log: bool,
}

impl TestApp {
    pub(crate) fn new(sessions: usize) -> Self {
        let rows = Vec::leak((0..sessions).map(|_| None).collect());
        Self {
            questions: Vec::new(),
            roster: Roster::new(rows, Clock::SinceBoot),
            events: Vec::new(),
            closed: Vec::new(),
            last_overdue: None,
            store: store(8, 4096, sessions),
            log: Tail::new(vec![0; 512], 120),
            shows_log: true,
        }
    }
}

pub(crate) fn verdict(name: &str) -> Login<String> {
    match name {
        "stranger" => Login::Wrong,
        "banned" => Login::Refused("not now"),
        _ => Login::Accepted(name.to_owned()),
    }
}

impl App for TestApp {
    type Address = Addr;
    type User = String;
    type Store = MemoryStore<'static>;

    fn store(&mut self) -> &mut MemoryStore<'static> {
        &mut self.store
    }

    fn login(
        &mut self,
        ask: &Ask<Addr>,
        _: Flag,
        name: &str,
        digest: &Digest,
    ) -> Answer<Login<String>> {
        assert_eq!(digest.0[..2], [0x21, 0x23]);
        if name.starts_with("slow") {
            self.questions.push((ask.id, ask.job));
            return Answer::Later;
        }
        Answer::Now(verdict(name))
    }
    fn user_name<'a>(&'a self, user: &'a String) -> &'a str {
        user
    }
    fn may_list(&self, user: &String) -> bool {
        user != "meter"
    }
    fn freeze_list(
        &mut self,
        ask: &Ask<Addr>,
        page: Page,
        rows: &mut dyn Iterator<Item = Row<'_, Addr, String>>,
    ) -> Answer<List> {
        let frozen = self.roster.freeze(ask.id, ask.job, page, rows, String::as_str);
        frozen.map_or(Answer::Later, Answer::Now)
    }
    fn read_list(&mut self, id: SessionId, offset: u32, buf: &mut [u8]) -> usize {
        self.roster.read(id, offset as usize, buf, String::as_str)
    }
    fn release_list(&mut self, id: SessionId) {
        self.roster.release(id);
    }
    fn open_log(&mut self, _: &Ask<Addr>) -> Option<Cursor> {
        self.shows_log.then(|| self.log.end())
    }
    fn read_log(&mut self, _: SessionId, reader: &mut Cursor, buf: &mut [u8]) -> Option<usize> {
        self.log.read(reader, buf)
    }
    fn event(&mut self, _: &Ask<Addr>, event: Event<'_, Iocp<Self>>) {
        self.events.push(format!("{event:?}"));
    }
    fn closed(&mut self, closed: &Closed<Iocp<Self>>) {
        self.closed.push((closed.id, closed.reason));
        self.last_overdue = closed.overdue;
    }
}
