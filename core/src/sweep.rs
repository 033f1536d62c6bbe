//! Finds the entries whose deadline has passed, at a cost of what expires, not of what exists.
//!
//! A wheel of slots, one per tick, holds each entry in the slot of the tick in which it has to be
//! looked at. Activity does not touch the wheel: it changes the entry, from which
//! [`Timed::deadline`] is computed, and the wheel finds out when it looks. So recording activity
//! is one store, an entry costs one look per timeout at most, and when nothing is due one
//! comparison tells.
//!
//! An entry is never due early, and late by less than one tick if the caller comes back at
//! [`Sweep::poll_at`]; one whose deadline has already passed when it is armed is due at the next
//! tick. Calling early is harmless, calling late loses nothing.
//!
//! ```
//! use embassy_time::{Duration, Instant};
//! use pulsegate_core::list::{Head, Link};
//! use pulsegate_core::sweep::{Sweep, Timed};
//! use pulsegate_core::table::{Slot, Table};
//!
//! struct Tracker { link: Link, heard: Instant }
//! impl Timed for Tracker {
//!     fn link_mut(&mut self) -> &mut Link { &mut self.link }
//!     fn deadline(&self) -> Option<Instant> { Some(self.heard + Duration::from_secs(60)) }
//! }
//!
//! let (mut slots, mut wheel) = ([const { Slot::EMPTY }; 8], [Head::EMPTY; 64]);
//! let mut table = Table::new(&mut slots[..]);
//! let mut sweep = Sweep::new(&mut wheel[..], Duration::from_secs(1));
//!
//! let start = Instant::from_secs(100);
//! let id = table.insert(Tracker { link: Link::UNLINKED, heard: start }).ok().unwrap();
//! sweep.arm(start, &mut table, id);
//! table.get_mut(id).unwrap().heard = Instant::from_secs(130); // all that a heartbeat costs
//! let mut looks = u32::MAX;
//! assert_eq!(sweep.due(Instant::from_secs(189), &mut table, &mut looks), None);
//! assert_eq!(sweep.due(Instant::from_secs(190), &mut table, &mut looks), Some(id));
//! ```

use core::ops::DerefMut;

use embassy_time::{Duration, Instant};

use crate::list::{self, Head, Link, Links, MAX_ENTRIES};
use crate::table::{SessionId, Slot, Table};

/// An entry that can be swept: it lends a place for the wheel's link and knows its deadline.
pub trait Timed {
    /// The link that the sweep uses; no one else may change it while the entry is armed.
    fn link_mut(&mut self) -> &mut Link;

    /// When the entry is due as things stand; `None` for never. May move later at any time without
    /// a word to the sweep; when it moves earlier, or from never, call [`Sweep::arm`].
    fn deadline(&self) -> Option<Instant>;
}

struct TableLinks<'a, T, S>(&'a mut Table<T, S>, Link);

impl<T: Timed, S: DerefMut<Target = [Slot<T>]>> Links for TableLinks<'_, T, S> {
    fn link_mut(&mut self, index: u32) -> &mut Link {
        // Entries leave the wheel before the table, so the fallback is never reached; it stands
        // here because a panic must not.
        self.0.at_mut(index).map_or(&mut self.1, Timed::link_mut)
    }
}

/// How many slots of a wheel cover the timeout `longest` at the precision `tick`, so that an entry is
/// looked at once per timeout at most; 65,536 at most, for a timeout of days at a fine tick is
/// better looked at more often than given megabytes.
#[must_use]
pub const fn slots_for(longest: Duration, tick: Duration) -> usize {
    const MOST: u64 = 1 << 16;
    let ticks = longest.as_ticks() / if tick.as_ticks() == 0 { 1 } else { tick.as_ticks() };
    // Rounding up, the slot being swept, the sweep's own, and one to spare.
    let slots = ticks.saturating_add(4);
    if slots < MOST { slots as usize } else { MOST as usize }
}

/// A wheel of ticks in lent memory `W`. The last slot of the memory is the sweep's own.
#[derive(Debug)]
pub struct Sweep<W> {
    wheel: W,
    tick: u64,
    /// Every tick below this one has been swept.
    cursor: u64,
    /// No slot before this tick has an entry; found lazily, so it may lie too early.
    next: u64,
    armed: u32,
}

impl<W: DerefMut<Target = [Head]>> Sweep<W> {
    /// Fewest slots that make a wheel: one to sweep, one to file into, one of the sweep's own.
    pub const MIN_SLOTS: usize = 3;

    /// A sweep with the precision `tick` (at least one unit of time), over at least
    /// [`Sweep::MIN_SLOTS`] slots. For one look per timeout at most, the slots should cover the
    /// longest timeout: more than timeout / tick + 1; with fewer it is looked at more often, and
    /// nothing else changes. With too few slots to work at all, nothing is ever due.
    pub fn new(mut wheel: W, tick: Duration) -> Self {
        wheel.fill(Head::EMPTY);
        Self { wheel, tick: tick.as_ticks().max(1), cursor: 0, next: u64::MAX, armed: 0 }
    }

    /// The precision.
    #[must_use]
    pub fn tick(&self) -> Duration {
        Duration::from_ticks(self.tick)
    }

    /// How many entries are armed.
    #[must_use]
    pub const fn armed(&self) -> usize {
        self.armed as usize
    }

    /// The index of the list of entries that have been taken off the wheel and wait to be looked at.
    fn pending(&self) -> usize {
        self.wheel.len().min(MAX_ENTRIES).saturating_sub(1)
    }

    fn span(&self) -> u64 {
        self.pending() as u64
    }

    /// The tick that a moment lies in. The last ticks before the end of time count as one, so that
    /// a round of the wheel after `now` can always be counted.
    fn tick_of(&self, now: Instant) -> u64 {
        (now.as_ticks() / self.tick).min(u64::MAX - MAX_ENTRIES as u64)
    }

    fn list_of(&self, tick: u64) -> u32 {
        // At least one slot: `file` has checked it. The remainder is below the slice's length.
        (tick % self.span().max(1)) as u32
    }

    /// Files an entry under its deadline, or files it anew when its deadline has moved earlier.
    /// An entry without a deadline leaves the wheel.
    pub fn arm<T: Timed, S: DerefMut<Target = [Slot<T>]>>(
        &mut self,
        now: Instant,
        table: &mut Table<T, S>,
        id: SessionId,
    ) {
        self.disarm(table, id);
        let Some(deadline) = table.get(id).and_then(Timed::deadline) else {
            return;
        };
        if self.armed == 0 {
            self.next = u64::MAX;
        }
        self.catch_up(self.tick_of(now));
        self.file(table, id.index() as u32, deadline, self.cursor);
    }

    /// Ticks that have gone by with nothing filed in them count as swept, so that the wheel's span
    /// always begins at the present.
    fn catch_up(&mut self, now_tick: u64) {
        self.cursor = self.cursor.max(now_tick.min(self.next));
    }

    /// Takes an entry off the wheel. Must be done before it leaves the table; [`Sweep::remove`] does
    /// both.
    pub fn disarm<T: Timed, S: DerefMut<Target = [Slot<T>]>>(
        &mut self,
        table: &mut Table<T, S>,
        id: SessionId,
    ) {
        let Some(entry) = table.get_mut(id) else {
            return;
        };
        if entry.link_mut().is_linked() {
            list::unlink(
                &mut self.wheel,
                &mut TableLinks(table, Link::UNLINKED),
                id.index() as u32,
            );
            self.armed = self.armed.saturating_sub(1);
        }
    }

    /// Takes an entry off the wheel and out of the table.
    pub fn remove<T: Timed, S: DerefMut<Target = [Slot<T>]>>(
        &mut self,
        table: &mut Table<T, S>,
        id: SessionId,
    ) -> Option<T> {
        self.disarm(table, id);
        table.remove(id)
    }

    /// Files an unlinked entry in the slot of its deadline's tick, rounded up so that it is never
    /// early, and within the wheel's span counted from `base`.
    fn file<T: Timed, S: DerefMut<Target = [Slot<T>]>>(
        &mut self,
        table: &mut Table<T, S>,
        index: u32,
        deadline: Instant,
        base: u64,
    ) {
        if self.wheel.len() < Self::MIN_SLOTS {
            return;
        }
        let tick = deadline
            .as_ticks()
            .div_ceil(self.tick)
            .clamp(base, base.saturating_add(self.span() - 1));
        let list = self.list_of(tick);
        if let Some(head) = self.wheel.get_mut(list as usize) {
            list::push_back(head, list, &mut TableLinks(table, Link::UNLINKED), index);
            self.armed += 1;
            self.next = self.next.min(tick);
        }
    }

    /// The next entry whose deadline has passed, or `None`.
    ///
    /// The entry stays armed for the next tick: whoever is told of it removes it, or changes its
    /// deadline, or is told again. `looks` bounds the work of a turn and is counted down; at zero
    /// no entry is looked at, and while there may be more, [`Sweep::poll_at`] lies in the past.
    pub fn due<T: Timed, S: DerefMut<Target = [Slot<T>]>>(
        &mut self,
        now: Instant,
        table: &mut Table<T, S>,
        looks: &mut u32,
    ) -> Option<SessionId> {
        let now_tick = self.tick_of(now);
        if self.armed == 0 {
            return None;
        }
        if now_tick < self.next {
            self.catch_up(now_tick);
            return None;
        }
        // After a pause longer than the wheel every slot is overdue: once around reaches them all.
        self.cursor = self.cursor.max(now_tick.saturating_sub(self.span().saturating_sub(1)));
        self.catch_up(now_tick);
        loop {
            while let Some(index) = self.first_pending() {
                // What is left of the slot that was taken last keeps the sweep due.
                let resume = self.cursor.saturating_sub(1).min(now_tick);
                if *looks == 0 {
                    self.next = resume;
                    return None;
                }
                *looks -= 1;
                self.take_pending(table, index);
                let Some(deadline) = table.at(index).and_then(Timed::deadline) else {
                    continue;
                };
                // Filed relative to the present, so a slot that is still to be swept in this round
                // cannot be fed for ever.
                self.file(table, index, deadline, now_tick.saturating_add(1));
                if deadline <= now {
                    self.next = resume;
                    return table.id_at(index as usize);
                }
            }
            if self.cursor > now_tick {
                break;
            }
            self.take_slot(table);
            self.cursor = self.cursor.saturating_add(1);
        }
        self.next = self.find_next();
        None
    }

    fn first_pending(&self) -> Option<u32> {
        self.wheel.get(self.pending())?.first()
    }

    fn take_pending<T: Timed, S: DerefMut<Target = [Slot<T>]>>(
        &mut self,
        table: &mut Table<T, S>,
        index: u32,
    ) {
        list::unlink(&mut self.wheel, &mut TableLinks(table, Link::UNLINKED), index);
        self.armed = self.armed.saturating_sub(1);
        let pending = self.pending();
        // An entry that left the table while it was armed cannot be unlinked. That is the owner's
        // mistake; it must not keep this turn for ever.
        if let Some(head) = self.wheel.get_mut(pending).filter(|head| head.first() == Some(index)) {
            *head = Head::EMPTY;
        }
    }

    /// Moves the entries of the cursor's slot aside: what is filed from here on is not of this round.
    fn take_slot<T: Timed, S: DerefMut<Target = [Slot<T>]>>(&mut self, table: &mut Table<T, S>) {
        let (list, pending) = (self.list_of(self.cursor) as usize, self.pending());
        if let Ok([from, to]) = self.wheel.get_disjoint_mut([list, pending]) {
            list::move_all(from, to, pending as u32, &mut TableLinks(table, Link::UNLINKED));
        }
    }

    /// The first tick from the cursor on whose slot has an entry. Costs a step for each empty slot
    /// before it: once around the wheel at most, and only in turns in which something was due.
    fn find_next(&self) -> u64 {
        if self.armed == 0 {
            return u64::MAX;
        }
        (self.cursor..self.cursor.saturating_add(self.span()))
            .find(|&tick| {
                !self.wheel.get(self.list_of(tick) as usize).is_none_or(|head| head.is_empty())
            })
            .unwrap_or(u64::MAX)
    }

    /// When to call [`Sweep::due`] next; `None` when nothing is armed. Goes stale with every call
    /// that arms an entry.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        (self.armed > 0 && self.next != u64::MAX)
            .then(|| Instant::from_ticks(self.next.saturating_mul(self.tick)))
    }
}

#[cfg(feature = "alloc")]
impl Sweep<alloc::boxed::Box<[Head]>> {
    /// A sweep with memory of its own, of a length that covers `longest` at the precision `tick`.
    #[must_use]
    pub fn boxed(longest: Duration, tick: Duration) -> Self {
        Self::new(alloc::vec![Head::EMPTY; slots_for(longest, tick)].into_boxed_slice(), tick)
    }
}
