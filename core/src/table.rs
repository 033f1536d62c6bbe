//! A table of fixed capacity whose handles go stale when their entry leaves.
//!
//! The memory is lent: a `static` array on a microcontroller, a boxed slice on a host. Inserting,
//! removing and looking up take constant time, nothing grows, and a full table hands the item back.
//!
//! ```
//! use pulsegate_core::table::{Slot, Table};
//!
//! let mut slots = [Slot::EMPTY; 2];
//! let mut table = Table::new(&mut slots[..]);
//! let meter = table.insert("meter 17").unwrap();
//! assert_eq!(table.get(meter), Some(&"meter 17"));
//! assert_eq!(table.remove(meter), Some("meter 17"));
//! let camera = table.insert("camera 4").unwrap();
//! // The slot is the same, the handle is not: a late event for the meter hits nobody.
//! assert_eq!(meter.index(), camera.index());
//! assert_eq!(table.get(meter), None);
//! ```

use core::fmt;
use core::marker::PhantomData;
use core::ops::DerefMut;

use crate::list::MAX_ENTRIES;

const NONE: u32 = u32::MAX;

/// Names one entry of a table: its slot, and which of the slot's successive entries is meant.
///
/// A slot has 2^32 generations; a handle could be mistaken for a later entry only if it were kept
/// while its very slot is filled that many times.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SessionId {
    index: u32,
    generation: u32,
}

impl SessionId {
    /// The slot's number: adapters keep their sockets in an array under it.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }

    /// How many entries the slot has had before this one, modulo 2^32.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.generation
    }

    /// Both parts in one number, for places that carry a `u64` or `usize` token.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    /// The inverse of [`SessionId::to_bits`]; a number that came from elsewhere is merely stale.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self { index: bits as u32, generation: (bits >> 32) as u32 }
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Room for one entry. Lend an array of [`Slot::EMPTY`] to [`Table::new`].
#[derive(Debug)]
pub struct Slot<T> {
    generation: u32,
    next_free: u32,
    value: Option<T>,
}

impl<T> Slot<T> {
    /// A slot that has never held anything.
    pub const EMPTY: Slot<T> = Slot { generation: 0, next_free: NONE, value: None };
}

/// What a full table says: the item comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// Entries under generation-tagged handles, in lent memory `S`.
#[derive(Debug)]
pub struct Table<T, S> {
    slots: S,
    free: u32,
    /// Slots at and above this have never been used since the table was made.
    touched: u32,
    len: u32,
    entries: PhantomData<T>,
}

impl<T, S: DerefMut<Target = [Slot<T>]>> Table<T, S> {
    /// An empty table over `slots`, whatever they held before. More than [`MAX_ENTRIES`] slots are
    /// left unused.
    pub fn new(mut slots: S) -> Self {
        for slot in slots.iter_mut().filter(|slot| slot.value.is_some()) {
            slot.value = None;
            slot.generation = slot.generation.wrapping_add(1);
        }
        Self { slots, free: NONE, touched: 0, len: 0, entries: PhantomData }
    }

    /// How many entries fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slots.len().min(MAX_ENTRIES)
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the next insert will be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }

    /// Adds an entry, in constant time.
    ///
    /// # Errors
    /// [`Full`] with the item when no slot is free.
    pub fn insert(&mut self, value: T) -> Result<SessionId, Full<T>> {
        let index = if self.free == NONE {
            if self.touched as usize >= self.capacity() {
                return Err(Full(value));
            }
            self.touched
        } else {
            self.free
        };
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(Full(value));
        };
        if index == self.touched {
            self.touched += 1;
        } else {
            self.free = slot.next_free;
        }
        slot.value = Some(value);
        self.len += 1;
        Ok(SessionId { index, generation: slot.generation })
    }

    /// Takes an entry out, in constant time. Its handle is stale from now on.
    pub fn remove(&mut self, id: SessionId) -> Option<T> {
        let slot =
            self.slots.get_mut(id.index()).filter(|slot| slot.generation == id.generation)?;
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        slot.next_free = self.free;
        self.free = id.index;
        self.len -= 1;
        Some(value)
    }

    /// The entry, unless the handle is stale.
    #[must_use]
    pub fn get(&self, id: SessionId) -> Option<&T> {
        let slot = self.slots.get(id.index())?;
        if slot.generation == id.generation { slot.value.as_ref() } else { None }
    }

    /// The entry to change, unless the handle is stale.
    #[must_use]
    pub fn get_mut(&mut self, id: SessionId) -> Option<&mut T> {
        let slot = self.slots.get_mut(id.index())?;
        if slot.generation == id.generation { slot.value.as_mut() } else { None }
    }

    /// The handle of whatever stands in a slot now.
    #[must_use]
    pub fn id_at(&self, index: usize) -> Option<SessionId> {
        let slot = self.slots.get(index)?;
        slot.value.as_ref()?;
        Some(SessionId { index: u32::try_from(index).ok()?, generation: slot.generation })
    }

    /// All entries, in the order of their slots. Costs what the fullest moment of the table's life
    /// held, not its capacity.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &T)> {
        self.slots.iter().take(self.touched as usize).zip(0u32..).filter_map(|(slot, index)| {
            Some((SessionId { index, generation: slot.generation }, slot.value.as_ref()?))
        })
    }

    pub(crate) fn at(&self, index: u32) -> Option<&T> {
        self.slots.get(index as usize)?.value.as_ref()
    }

    pub(crate) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.slots.get_mut(index as usize)?.value.as_mut()
    }
}

#[cfg(feature = "alloc")]
impl<T> Table<T, alloc::boxed::Box<[Slot<T>]>> {
    /// An empty table with memory of its own for `capacity` entries.
    #[must_use]
    pub fn boxed(capacity: usize) -> Self {
        Self::new((0..capacity).map(|_| Slot::EMPTY).collect())
    }
}
