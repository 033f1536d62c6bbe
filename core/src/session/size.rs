//! What a session may cost on a microcontroller: a gateway's memory is planned with this figure.

use core::mem::size_of;
use core::net::SocketAddrV4;

use super::Session;
use crate::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
use crate::protocol::{Flag, Iocp};
use crate::roster::Row;
use crate::server::Closed;
use crate::store::NoStore;
use crate::table::{SessionId, Slot};

/// A session with addresses of 6 bytes and a user of 2, in its slot.
const SLOT: usize = size_of::<Slot<Session<Iocp<Gateway>>>>();
const _: () = assert!(SLOT == 120);

/// All that a session costs over smoltcp, beside smoltcp's own socket and its buffers.
#[cfg(feature = "smoltcp")]
const _: () = assert!(SLOT + size_of::<crate::adapter::smoltcp::PoolSlot>() <= 160);

/// An application that cannot exist, but has types.
enum Gateway {}

impl App for Gateway {
    type Address = SocketAddrV4;
    type User = u16;
    type Store = NoStore;

    fn store(&mut self) -> &mut NoStore {
        match *self {}
    }

    fn login(&mut self, _: &Ask<SocketAddrV4>, _: Flag, _: &str, _: &Digest) -> Answer<Login<u16>> {
        match *self {}
    }
    fn user_name<'a>(&'a self, _: &'a u16) -> &'a str {
        match *self {}
    }
    fn may_list(&self, _: &u16) -> bool {
        match *self {}
    }
    fn freeze_list(
        &mut self,
        _: &Ask<SocketAddrV4>,
        _: Page,
        _: &mut dyn Iterator<Item = Row<'_, SocketAddrV4, u16>>,
    ) -> Answer<List> {
        match *self {}
    }
    fn read_list(&mut self, _: SessionId, _: u32, _: &mut [u8]) -> usize {
        match *self {}
    }
    fn release_list(&mut self, _: SessionId) {
        match *self {}
    }
    fn event(&mut self, _: &Ask<SocketAddrV4>, _: Event<'_, Iocp<Self>>) {
        match *self {}
    }
    fn closed(&mut self, _: &Closed<Iocp<Self>>) {
        match *self {}
    }
}
