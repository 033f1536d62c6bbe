//! What several tests share.
#![allow(dead_code)] // Each test uses its part.

use std::marker::PhantomData;

use pulsegate_core::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
use pulsegate_core::protocol::Iocp;
use pulsegate_core::roster::Row;
use pulsegate_core::server::{Address, Closed};
use pulsegate_core::table::SessionId;

/// An application that lets nobody in, for any type of address and user.
pub(crate) struct NullApp<A, U>(PhantomData<(A, U)>);

impl<A, U> NullApp<A, U> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<A: Address, U: Clone> App for NullApp<A, U> {
    type Address = A;
    type User = U;

    fn login(&mut self, _: &Ask<A>, _: &str, _: &Digest) -> Answer<Login<U>> {
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
