//! What an application does for the protocol: who may log in, who sees whom, what happens when.

use crate::command::Code;
use crate::protocol::Flag;
use crate::roster::Row;
pub use crate::server::Ask;
use crate::server::{Address, Closed, Protocol};
use crate::store::Store;
use crate::table::SessionId;
use crate::tail::Cursor;

/// The MD5 digest of a password, as the wire carries it. It is as good as the password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Reads 32 hex digits in any case.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes: &[u8; 32] = text.as_bytes().try_into().ok()?;
        let mut digest = [0; 16];
        let (pairs, _) = bytes.as_chunks::<2>();
        for (byte, pair) in digest.iter_mut().zip(pairs) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            // Two digits of base 16 are below 256.
            *byte = (high? * 16 + low?) as u8;
        }
        Some(Self(digest))
    }
}

impl core::fmt::Debug for Digest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// An answer, or the promise of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<T> {
    /// Here it is.
    Now(T),
    /// It comes through [`Server::complete`](crate::server::Server::complete), within the
    /// application timeout of the server's configuration.
    Later,
}

/// The answer to a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login<U> {
    /// The password is right.
    Accepted(U),
    /// Unknown user or wrong password.
    Wrong,
    /// The password is right, but the login is not wanted now; the text says why.
    Refused(&'static str),
}

/// Which rows of the client list are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Rows to leave out at the beginning.
    pub offset: u32,
    /// Most rows to give.
    pub limit: u32,
}

/// The answer to a request for the client list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Frozen: this many bytes of text, to be read with [`App::read_list`].
    Frozen(u32),
    /// More text than a packet holds.
    TooLong,
    /// Not possible, with a text that says why.
    Failed(&'static str),
    /// What was in the way is gone: ask again.
    Retry,
}

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a, P: Protocol> {
    /// A connection has said which protocol it speaks.
    Opened {
        /// The protocol.
        flag: Flag,
    },
    /// A heartbeat was answered. The hottest of all: do little.
    Heartbeat,
    /// A login succeeded.
    LoggedIn {
        /// Who it is.
        user: &'a P::User,
    },
    /// A login failed.
    LoginFailed {
        /// The name that was given: text from the peer, escape it.
        name: &'a str,
        /// How many there have been on this connection.
        failures: u8,
    },
    /// A packet broke the protocol; the connection is being closed.
    BadPacket {
        /// The code that was sent.
        code: Code,
        /// Which rule.
        message: &'static str,
    },
    /// A flag that is unknown or switched off.
    BadFlag {
        /// The byte.
        flag: u8,
    },
    /// A command that does not exist; the connection is being closed.
    UnknownCommand {
        /// Its name: text from the peer, escape it.
        name: &'a str,
    },
}

/// The application behind the protocol.
///
/// Every method runs within the server's turn: it must not block. What takes long answers
/// [`Answer::Later`] and does its work elsewhere.
pub trait App: Sized {
    /// The addresses of the network stack.
    type Address: Address;
    /// Who a session is: a name, a number, a reference-counted record. Cloned when a session ends.
    type User: Clone;

    /// The files behind Upload, Download and RemoteStream;
    /// [`NoStore`](crate::store::NoStore) where there are none.
    type Store: Store<Self::Address, Self::User>;

    /// The files.
    fn store(&mut self) -> &mut Self::Store;

    /// Checks a user's password. `flag` says which protocol the connection speaks: a rule for how
    /// often a user may be there is meant for Control.
    fn login(
        &mut self,
        ask: &Ask<Self::Address>,
        flag: Flag,
        name: &str,
        digest: &Digest,
    ) -> Answer<Login<Self::User>>;

    /// The name that lists and records show.
    fn user_name<'a>(&'a self, user: &'a Self::User) -> &'a str;

    /// Whether this user may see the client list.
    fn may_list(&self, user: &Self::User) -> bool;

    /// Freezes the client list: `rows` are the sessions of this server's table as they stand. The
    /// frozen list stays until [`App::release_list`].
    fn freeze_list(
        &mut self,
        ask: &Ask<Self::Address>,
        page: Page,
        rows: &mut dyn Iterator<Item = Row<'_, Self::Address, Self::User>>,
    ) -> Answer<List>;

    /// Copies text of the list frozen for `id`, from the byte `offset` on, and returns how much;
    /// offsets only grow. Zero breaks the promise of [`List::Frozen`] and costs the session its
    /// connection.
    fn read_list(&mut self, id: SessionId, offset: u32, buf: &mut [u8]) -> usize;

    /// The list frozen for `id` is no longer needed, or no longer waited for.
    fn release_list(&mut self, id: SessionId);

    /// Whether this connection may read the log; if so, where it begins. Nobody may unless the
    /// application says so.
    fn open_log(&mut self, _ask: &Ask<Self::Address>) -> Option<Cursor> {
        None
    }

    /// Copies what is new in the log, as [`Tail::read`](crate::tail::Tail::read) does. When there
    /// is something new, drive the sessions that read the log, or wake them
    /// (`Gateway::wake` over smoltcp).
    fn read_log(&mut self, _id: SessionId, _reader: &mut Cursor, _buf: &mut [u8]) -> Option<usize> {
        None
    }

    /// Something happened on a session.
    fn event(&mut self, ask: &Ask<Self::Address>, event: Event<'_, crate::protocol::Iocp<Self>>);

    /// A session ended.
    fn closed(&mut self, closed: &Closed<crate::protocol::Iocp<Self>>);
}
