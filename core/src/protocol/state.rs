//! What the protocol keeps for each session. There are many, so it is small.

use crate::app::Login;
use crate::frame::Decoder;
use crate::tail::Cursor;

use super::Flag;
use super::remote_stream::Spelling;

/// What a session waits for beside its socket.
#[derive(Debug)]
pub(super) enum Pending<U> {
    Nothing,
    /// The application's answer; the command stays unconsumed until it is there.
    Asked,
    Login(Login<U>),
    /// This much of a frozen list is ready to be sent.
    Frozen(u32),
    /// There is no list, for a reason that the peer is told.
    NoList(&'static str),
    /// The list is free to be asked for again.
    Retry,
    /// A frozen list is on its way out.
    Streaming {
        sent: u32,
        len: u32,
    },
    /// The store has answered, and keeps its answer until the command is looked at again.
    Answered,
    /// The data of a `Write` is on its way to the store; a reply is owed.
    Writing(Spelling),
    /// All of it is there, and the store is asked what became of it.
    Confirming(Spelling),
    /// The store has answered that.
    Confirmed(Spelling),
    /// A download is ready; how much it has is still to be said.
    Announcing {
        packet: u32,
    },
    /// What the store gives is on its way out: so much is left of this packet. A download's other
    /// packets follow; 0 stands for none.
    Sending {
        left: u32,
        packet: u32,
    },
    /// The log is followed.
    Following(Cursor),
}

/// What is done with the data part of the current packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Data {
    Discard,
    Echo,
    Store,
}

/// What a session has done, and has: a bit each, for there are many sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks(u8);

impl Marks {
    /// Nothing yet.
    pub(super) const NONE: Marks = Marks(0);

    const BEATEN: u8 = 1;
    const OPEN: u8 = 2;

    /// A heartbeat has been answered.
    pub(super) const fn has_beaten(self) -> bool {
        self.0 & Self::BEATEN != 0
    }

    /// A file is open.
    pub(super) const fn has_open(self) -> bool {
        self.0 & Self::OPEN != 0
    }

    pub(super) const fn set_beaten(&mut self) {
        self.0 |= Self::BEATEN;
    }

    pub(super) const fn set_open(&mut self, open: bool) {
        self.0 = if open { self.0 | Self::OPEN } else { self.0 & !Self::OPEN };
    }
}

/// What the protocol keeps for each session.
#[derive(Debug)]
pub struct State<U> {
    pub(super) decoder: Decoder,
    pub(super) data: Data,
    pub(super) flag: Option<Flag>,
    pub(super) failures: u8,
    pub(super) marks: Marks,
    pub(super) user: Option<U>,
    pub(super) pending: Pending<U>,
}

impl<U> State<U> {
    /// A connection that has said nothing.
    pub(super) const fn new() -> Self {
        Self {
            decoder: Decoder::new(),
            data: Data::Discard,
            flag: None,
            failures: 0,
            marks: Marks::NONE,
            user: None,
            pending: Pending::Nothing,
        }
    }

    /// The protocol that the peer has chosen.
    pub const fn flag(&self) -> Option<Flag> {
        self.flag
    }

    /// Who has logged in.
    pub const fn user(&self) -> Option<&U> {
        self.user.as_ref()
    }
}
