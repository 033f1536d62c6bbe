//! The application behind the protocol: who may log in, the client list, the log. An uplink hangs itself into
//! [`Application::event`] and [`Application::closed`]; both run within a turn of the gateway and must not block.

use core::fmt;
use core::net::SocketAddrV4;

use defmt::debug;
use pulsegate_core::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
use pulsegate_core::protocol::{Flag, Iocp, Reply};
use pulsegate_core::roster::{Clock, FrozenRow, Roster, Row};
use pulsegate_core::server::{Closed, JobId};
use pulsegate_core::store::NoStore;
use pulsegate_core::table::SessionId;
use pulsegate_core::tail::Cursor;

use crate::log::{Escaped, Log, tell};

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "users.toml need not have both")]
pub(crate) enum Role {
    /// Sees the client list.
    Operator,
    /// Does not.
    Device,
}

/// Who may log in.
#[derive(Debug)]
pub(crate) struct User {
    name: &'static str,
    digest: Digest,
    role: Role,
}

include!(concat!(env!("OUT_DIR"), "/users.rs"));

/// A session in the log.
struct Peer(SessionId, SocketAddrV4);

impl defmt::Format for Peer {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "session {}.{} {}", self.0.index(), self.0.generation(), self.1);
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session {}.{} {}", self.0.index(), self.0.generation(), self.1)
    }
}

/// A row of the frozen client list.
pub(crate) type ListRow = FrozenRow<SocketAddrV4, &'static User>;

/// The application.
pub(crate) struct Application {
    roster: Roster<'static, SocketAddrV4, &'static User>,
    files: NoStore,
    pub(crate) log: Log,
}

impl Application {
    /// An application that freezes client lists in `rows`.
    pub(crate) fn new(rows: &'static mut [Option<ListRow>], log: Log) -> Self {
        Self { roster: Roster::new(rows, Clock::SinceBoot), files: NoStore, log }
    }

    /// A question that waited for the client list and can be answered now.
    pub(crate) fn answered(&mut self) -> Option<(SessionId, JobId, Reply<&'static User>)> {
        let (id, job) = self.roster.granted()?;
        Some((id, job, Reply::List(List::Retry)))
    }
}

/// Compares without telling by its time where the difference is.
fn same(one: &Digest, other: &Digest) -> bool {
    one.0.iter().zip(&other.0).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
}

fn name_of<'a>(user: &'a &'static User) -> &'a str {
    user.name
}

impl App for Application {
    type Address = SocketAddrV4;
    type User = &'static User;
    type Store = NoStore;

    fn store(&mut self) -> &mut NoStore {
        &mut self.files
    }

    fn login(&mut self, _: &Ask<SocketAddrV4>, _: Flag, name: &str, digest: &Digest) -> Answer<Login<&'static User>> {
        let mut found = None;
        for user in &USERS {
            if same(&user.digest, digest) && user.name == name {
                found = Some(user);
            }
        }
        Answer::Now(found.map_or(Login::Wrong, Login::Accepted))
    }

    fn user_name<'a>(&'a self, user: &'a &'static User) -> &'a str {
        user.name
    }

    fn may_list(&self, user: &&'static User) -> bool {
        user.role == Role::Operator
    }

    fn freeze_list(
        &mut self,
        ask: &Ask<SocketAddrV4>,
        page: Page,
        rows: &mut dyn Iterator<Item = Row<'_, SocketAddrV4, &'static User>>,
    ) -> Answer<List> {
        match self.roster.freeze(ask.id, ask.job, page, rows, name_of) {
            Some(list) => Answer::Now(list),
            None => Answer::Later,
        }
    }

    fn read_list(&mut self, id: SessionId, offset: u32, buf: &mut [u8]) -> usize {
        self.roster.read(id, offset as usize, buf, name_of)
    }

    fn release_list(&mut self, id: SessionId) {
        self.roster.release(id);
    }

    fn open_log(&mut self, ask: &Ask<SocketAddrV4>) -> Option<Cursor> {
        self.log.open(ask.now, ask.id)
    }

    fn read_log(&mut self, _: SessionId, reader: &mut Cursor, buf: &mut [u8]) -> Option<usize> {
        self.log.read(reader, buf)
    }

    fn event(&mut self, ask: &Ask<SocketAddrV4>, event: Event<'_, Iocp<Self>>) {
        let (log, now) = (&mut self.log, ask.now);
        let peer = Peer(ask.id, ask.remote);
        match event {
            Event::Opened { flag } => tell!(log, now, info, "{}: speaks {}", peer, flag.name()),
            Event::Heartbeat => debug!("{}: heartbeat", peer),
            Event::LoggedIn { user } => tell!(log, now, info, "{}: {} logged in", peer, user.name),
            Event::LoginFailed { name, failures } => {
                tell!(log, now, warn, "{}: wrong login no. {} as {}", peer, failures, Escaped(name));
            }
            Event::BadPacket { code, message } => {
                tell!(log, now, warn, "{}: code {}, {}", peer, code.0, message);
            }
            Event::BadFlag { flag } => tell!(log, now, warn, "{}: flag {} is not served", peer, flag),
            Event::UnknownCommand { name } => {
                tell!(log, now, warn, "{}: no command {}", peer, Escaped(name));
            }
            // What a later core tells besides.
            _ => {}
        }
    }

    fn closed(&mut self, closed: &Closed<Iocp<Self>>) {
        self.log.close(closed.id);
        tell!(
            self.log,
            closed.at,
            info,
            "{}: closed, {}; user {}, {} ms old, silent for {} ms, {} bytes in, {} out",
            Peer(closed.id, closed.remote),
            closed.reason.name(),
            closed.user.map_or("-", |user| user.name),
            closed.age.as_millis(),
            closed.silence.as_millis(),
            closed.received,
            closed.sent
        );
    }
}
