//! What is kept of sessions that have ended: counters, and a ring of the last ones.

use core::ops::DerefMut;

use embassy_time::{Duration, Instant};

use super::{CloseReason, Protocol};
use crate::table::SessionId;

/// An ended session.
#[derive(Debug)]
pub struct Closed<P: Protocol> {
    /// The handle it had; stale by now.
    pub id: SessionId,
    /// Why it ended.
    pub reason: CloseReason,
    /// When it ended.
    pub at: Instant,
    /// The server's end.
    pub local: P::Address,
    /// The peer's end.
    pub remote: P::Address,
    /// Who it was, if it had said so.
    pub user: Option<P::User>,
    /// How long it stood.
    pub age: Duration,
    /// How long before its end the peer last proved that it lived.
    pub silence: Duration,
    /// How long after its deadline it ended; `None` if its deadline had not come.
    pub overdue: Option<Duration>,
    /// Bytes received from the peer.
    pub received: u64,
    /// Bytes taken for sending to the peer.
    pub sent: u64,
}

/// What a server has counted since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Connections taken in.
    pub accepted: u64,
    /// Connections refused.
    pub refused: u64,
    closed: [u64; CloseReason::ALL.len()],
}

impl Counters {
    /// Sessions that ended for this reason.
    #[must_use]
    pub fn closed(&self, reason: CloseReason) -> u64 {
        self.closed.get(reason as usize).copied().unwrap_or(0)
    }

    /// Sessions that ended.
    #[must_use]
    pub fn closed_total(&self) -> u64 {
        self.closed.iter().sum()
    }

    pub(super) fn count_close(&mut self, reason: CloseReason) {
        if let Some(count) = self.closed.get_mut(reason as usize) {
            *count += 1;
        }
    }
}

/// The last ended sessions, in a ring of lent memory.
#[derive(Debug)]
pub struct Closes<P: Protocol, R> {
    ring: R,
    next: usize,
    protocol: core::marker::PhantomData<fn() -> P>,
}

impl<P: Protocol, R: DerefMut<Target = [Option<Closed<P>>]>> Closes<P, R> {
    pub(super) fn new(mut ring: R) -> Self {
        ring.iter_mut().for_each(|place| *place = None);
        Self { ring, next: 0, protocol: core::marker::PhantomData }
    }

    pub(super) fn push(&mut self, closed: Closed<P>) {
        if let Some(place) = self.ring.get_mut(self.next) {
            *place = Some(closed);
            self.next = (self.next + 1) % self.ring.len();
        }
    }

    /// The ended sessions, the newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Closed<P>> {
        let (newer, older) = self.ring.split_at(self.next.min(self.ring.len()));
        newer.iter().rev().chain(older.iter().rev()).flatten()
    }
}
