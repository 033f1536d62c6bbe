//! What one session costs in memory on a 64-bit host, pinned. The figure of a microcontroller is
//! asserted where the crate is compiled for one.
#![cfg(target_pointer_width = "64")]

mod common;

use core::net::{SocketAddr, SocketAddrV4};
use std::mem::size_of;
use std::sync::Arc;

use common::NullApp;
use pulsegate_core::list::Head;
use pulsegate_core::protocol::Iocp;
use pulsegate_core::server::Session;
use pulsegate_core::table::Slot;

type Host = Session<Iocp<NullApp<SocketAddr, Arc<u64>>>>;
type Small = Session<Iocp<NullApp<SocketAddrV4, u16>>>;

#[test]
fn a_session_on_a_host() {
    assert_eq!((size_of::<Host>(), size_of::<Slot<Host>>()), (184, 192));
}

#[test]
fn a_session_with_small_addresses_and_users() {
    assert_eq!((size_of::<Small>(), size_of::<Slot<Small>>()), (128, 136));
}

#[test]
fn a_slot_of_the_wheel() {
    assert_eq!(size_of::<Head>(), 8);
}
