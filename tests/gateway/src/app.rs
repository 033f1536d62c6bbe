//! The application of a small gateway: its users in a table, the client list in lent memory.

use std::net::SocketAddrV4;

use embassy_time::{Duration, Instant};
use pulsegate_core::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
use pulsegate_core::command::Printable;
use pulsegate_core::protocol::{Flag, Iocp};
use pulsegate_core::roster::{Clock, FrozenRow, Roster, Row};
use pulsegate_core::server::{CloseReason, Closed};
use pulsegate_core::store::{Entry, Handle, MemoryStore};
use pulsegate_core::table::SessionId;
use pulsegate_core::tail::{Cursor, Tail};

/// The digest of the password `admin`, as hex digits.
pub const DIGEST: &str = "21232f297a57a5a743894a0e4a801fc3";

/// How many files and directories the store holds.
pub const FILES: usize = 16;

/// A user: name, digest of the password, whether the client list is shown.
struct User {
    name: &'static str,
    digest: u128,
    operator: bool,
}

/// A user is the index of its row.
static USERS: &[User] = &[
    User { name: "admin", digest: 0x2123_2f29_7a57_a5a7_4389_4a0e_4a80_1fc3, operator: true },
    User { name: "meter", digest: 0x2123_2f29_7a57_a5a7_4389_4a0e_4a80_1fc3, operator: false },
];

/// Checks who may come in, keeps the client list, and notes how sessions end.
#[derive(Debug)]
pub struct Gatekeeper {
    pub(crate) roster: Roster<'static, SocketAddrV4, u16>,
    tick: Duration,
    pub(crate) files: MemoryStore<'static>,
    log: Tail<Vec<u8>>,
    /// Who reads the log.
    readers: Vec<SessionId>,
    /// There are lines that they have not been woken for.
    news: bool,
    /// Every session that ended: who, why, and when.
    pub closed: Vec<(SocketAddrV4, CloseReason, Instant)>,
}

impl Gatekeeper {
    pub(crate) fn new(
        rows: &'static mut [Option<FrozenRow<SocketAddrV4, u16>>],
        tick: Duration,
        file_bytes: usize,
    ) -> Self {
        let files = MemoryStore::new(
            vec![Entry::FREE; FILES].leak(),
            vec![0; FILES * file_bytes].leak(),
            Vec::leak(rows.iter().map(|_| Handle::EMPTY).collect()),
            vec![Entry::FREE; FILES].leak(),
        );
        Self {
            roster: Roster::new(rows, Clock::SinceBoot),
            tick,
            files,
            log: Tail::new(vec![0; 1024], 120),
            readers: Vec::new(),
            news: false,
            closed: Vec::new(),
        }
    }

    /// The readers of the log who have not seen all of it.
    pub(crate) fn news(&mut self) -> Vec<SessionId> {
        if std::mem::take(&mut self.news) { self.readers.clone() } else { Vec::new() }
    }

    fn say(&mut self, line: std::fmt::Arguments<'_>) {
        self.log.push(line);
        self.news = true;
    }

    fn user(&self, user: u16) -> Option<&'static User> {
        USERS.get(usize::from(user))
    }
}

// As the roster wants it: a name may be borrowed from the user.
fn name(user: &u16) -> &str {
    USERS.get(usize::from(*user)).map_or("", |user| user.name)
}

impl App for Gatekeeper {
    type Address = SocketAddrV4;
    type User = u16;
    type Store = MemoryStore<'static>;

    fn store(&mut self) -> &mut MemoryStore<'static> {
        &mut self.files
    }

    fn login(
        &mut self,
        _: &Ask<SocketAddrV4>,
        _: Flag,
        name: &str,
        digest: &Digest,
    ) -> Answer<Login<u16>> {
        let given = u128::from_be_bytes(digest.0);
        // All rows are compared, and as numbers: how long it takes tells nothing.
        let found = (0..).zip(USERS).fold(None, |found, (index, user)| {
            let right = (user.digest ^ given) == 0 && user.name == name;
            if right { Some(index) } else { found }
        });
        Answer::Now(found.map_or(Login::Wrong, Login::Accepted))
    }

    fn user_name<'a>(&'a self, user: &'a u16) -> &'a str {
        name(user)
    }

    fn may_list(&self, user: &u16) -> bool {
        self.user(*user).is_some_and(|user| user.operator)
    }

    fn freeze_list(
        &mut self,
        ask: &Ask<SocketAddrV4>,
        page: Page,
        rows: &mut dyn Iterator<Item = Row<'_, SocketAddrV4, u16>>,
    ) -> Answer<List> {
        let frozen = self.roster.freeze(ask.id, ask.job, page, rows, name);
        frozen.map_or(Answer::Later, Answer::Now)
    }

    fn read_list(&mut self, id: SessionId, offset: u32, buf: &mut [u8]) -> usize {
        self.roster.read(id, offset as usize, buf, name)
    }

    fn release_list(&mut self, id: SessionId) {
        self.roster.release(id);
    }

    fn open_log(&mut self, ask: &Ask<SocketAddrV4>) -> Option<Cursor> {
        self.readers.push(ask.id);
        Some(self.log.end())
    }

    fn read_log(&mut self, _: SessionId, reader: &mut Cursor, buf: &mut [u8]) -> Option<usize> {
        self.log.read(reader, buf)
    }

    fn event(&mut self, ask: &Ask<SocketAddrV4>, event: Event<'_, Iocp<Self>>) {
        match event {
            Event::Heartbeat => {}
            Event::LoginFailed { name, .. } => {
                self.say(format_args!("{}: no login as {}", ask.remote, Printable(name)));
            }
            other => self.say(format_args!("{}: {other:?}", ask.remote)),
        }
    }

    fn closed(&mut self, closed: &Closed<Iocp<Self>>) {
        if matches!(closed.reason, CloseReason::Idle | CloseReason::NoFlag) {
            let overdue = closed.overdue.expect("a timeout has a deadline behind it");
            assert!(overdue <= self.tick, "{:?} ended {overdue} late", closed.id);
        }
        self.readers.retain(|reader| *reader != closed.id);
        self.say(format_args!("{}: closed, {}", closed.remote, closed.reason));
        self.closed.push((closed.remote, closed.reason, closed.at));
    }
}
