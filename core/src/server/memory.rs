//! The memory that is lent to a server.

use core::ops::DerefMut;

use super::{Closed, Protocol, Session};
use crate::list::Head;
use crate::table::Slot;

/// Where a server keeps what it keeps. [`Lent`] for static arrays, `Boxed` (feature `alloc`)
/// for sizes that are known at run time.
pub trait Memory<P: Protocol> {
    /// One slot per session.
    type Slots: DerefMut<Target = [Slot<Session<P>>]>;
    /// The sweep's wheel.
    type Wheel: DerefMut<Target = [Head]>;
    /// Room for one reply.
    type Scratch: DerefMut<Target = [u8]>;
    /// The last ended sessions.
    type Ring: DerefMut<Target = [Option<Closed<P>>]>;

    /// Hands the parts out.
    fn into_parts(self) -> Parts<Self::Slots, Self::Wheel, Self::Scratch, Self::Ring>;
}

/// The parts of a server's memory.
#[derive(Debug)]
pub struct Parts<Slots, Wheel, Scratch, Ring> {
    /// One slot per session: the server's capacity.
    pub slots: Slots,
    /// One slot per tick of the longest timeout and three more; fewer work too (see
    /// [`Sweep::new`](crate::sweep::Sweep::new)), but no fewer than three.
    pub wheel: Wheel,
    /// Bytes for one reply, at most as many as a socket can take at once, and at least the
    /// longest command text and 64 bytes.
    pub scratch: Scratch,
    /// As many ended sessions are remembered as this has room for.
    pub closes: Ring,
}

/// Borrowed memory, such as `static` arrays.
pub type Lent<'a, P> =
    Parts<&'a mut [Slot<Session<P>>], &'a mut [Head], &'a mut [u8], &'a mut [Option<Closed<P>>]>;

impl<P, Slots, Wheel, Scratch, Ring> Memory<P> for Parts<Slots, Wheel, Scratch, Ring>
where
    P: Protocol,
    Slots: DerefMut<Target = [Slot<Session<P>>]>,
    Wheel: DerefMut<Target = [Head]>,
    Scratch: DerefMut<Target = [u8]>,
    Ring: DerefMut<Target = [Option<Closed<P>>]>,
{
    type Slots = Slots;
    type Wheel = Wheel;
    type Scratch = Scratch;
    type Ring = Ring;

    fn into_parts(self) -> Self {
        self
    }
}

/// Memory of its own.
#[cfg(feature = "alloc")]
pub type Boxed<P> = Parts<
    alloc::boxed::Box<[Slot<Session<P>>]>,
    alloc::boxed::Box<[Head]>,
    alloc::boxed::Box<[u8]>,
    alloc::boxed::Box<[Option<Closed<P>>]>,
>;

#[cfg(feature = "alloc")]
impl<P: Protocol> Boxed<P> {
    /// Memory for `sessions` sessions, a wheel of `wheel` slots, replies of up to `scratch` bytes,
    /// and the last `closes` ended sessions.
    #[must_use]
    pub fn new(sessions: usize, wheel: usize, scratch: usize, closes: usize) -> Self {
        Self {
            slots: (0..sessions).map(|_| Slot::EMPTY).collect(),
            wheel: alloc::vec![Head::EMPTY; wheel].into_boxed_slice(),
            scratch: alloc::vec![0; scratch].into_boxed_slice(),
            closes: (0..closes).map(|_| None).collect(),
        }
    }
}
