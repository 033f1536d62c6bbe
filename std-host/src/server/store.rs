//! The files of one shard's sessions, if the server has any.

use std::net::SocketAddr;
use std::sync::Arc;

use pulsegate_core::app::{Answer, Ask};
use pulsegate_core::store::{NoStore, Outcome, Request, Store};
use pulsegate_core::table::SessionId;

use crate::files::ShardFiles;
use crate::users::User;

/// Files, or none: then the protocols are off, and nobody asks.
#[derive(Debug)]
pub(super) enum HostStore {
    Files(ShardFiles),
    None(NoStore),
}

/// Passes a call on to whichever there is.
macro_rules! either {
    ($self:ident, $store:ident => $call:expr) => {
        match $self {
            Self::Files($store) => $call,
            Self::None($store) => $call,
        }
    };
}

type UserRef = Arc<User>;

impl HostStore {
    pub(super) fn new(files: Option<ShardFiles>) -> Self {
        files.map_or(Self::None(NoStore), Self::Files)
    }

    /// All sessions have had their turn.
    pub(super) fn end_turn(&mut self) {
        if let Self::Files(files) = self {
            files.end_turn();
        }
    }
}

impl Store<SocketAddr, UserRef> for HostStore {
    fn request(
        &mut self,
        ask: &Ask<SocketAddr>,
        user: Option<&UserRef>,
        request: Request<'_>,
    ) -> Answer<Outcome> {
        either!(self, store => store.request(ask, user, request))
    }

    fn answer(&mut self, id: SessionId) -> Outcome {
        either!(self, store => Store::<SocketAddr, UserRef>::answer(store, id))
    }

    fn write(&mut self, ask: &Ask<SocketAddr>, bytes: &[u8]) -> Answer<usize> {
        either!(self, store => Store::<SocketAddr, UserRef>::write(store, ask, bytes))
    }

    fn read(&mut self, ask: &Ask<SocketAddr>) -> Answer<Option<&[u8]>> {
        either!(self, store => Store::<SocketAddr, UserRef>::read(store, ask))
    }

    fn consume(&mut self, id: SessionId, len: usize) {
        either!(self, store => Store::<SocketAddr, UserRef>::consume(store, id, len));
    }

    fn remaining(&self, id: SessionId) -> u64 {
        either!(self, store => Store::<SocketAddr, UserRef>::remaining(store, id))
    }

    fn release(&mut self, id: SessionId) {
        either!(self, store => Store::<SocketAddr, UserRef>::release(store, id));
    }
}
