//! The gateway's memory: all of it static, counted when the image is built.

use core::mem::MaybeUninit;

use pulsegate_core::adapter::smoltcp::PoolSlot;
use pulsegate_core::list::Head;
use pulsegate_core::protocol::Iocp;
use pulsegate_core::server::{Closed, Lent, Session};
use pulsegate_core::table::Slot;
use smoltcp::iface::SocketStorage;
use static_cell::{ConstStaticCell, StaticCell};

use crate::application::{Application, ListRow};
use crate::settings::{RECEIVE_BYTES, SCRATCH, SESSIONS, SOCKETS, TRANSMIT_BYTES, plan};
use crate::{board, log};

/// The wire protocol with this application.
pub(crate) type Wire = Iocp<Application>;

/// Ended sessions that are remembered.
const CLOSES: usize = 8;
/// Slots of the sweep's wheel.
const WHEEL: usize = 64;
/// Sockets beside the pool's: DHCP has one.
const OTHERS: usize = cfg!(feature = "dhcp") as usize;

type Storage = [SocketStorage<'static>; SOCKETS + OTHERS];
type Slots = [Slot<Session<Wire>>; SESSIONS];
type Closes = [Option<Closed<Wire>>; CLOSES];
type Rows = [Option<ListRow>; SESSIONS];

// Filled at start-up: initial values that are not zero would lie in flash once more.
static STORAGE: StaticCell<Storage> = StaticCell::new();
static RECEIVE: ConstStaticCell<[[u8; RECEIVE_BYTES]; SOCKETS]> = ConstStaticCell::new([[0; RECEIVE_BYTES]; SOCKETS]);
static TRANSMIT: ConstStaticCell<[[u8; TRANSMIT_BYTES]; SOCKETS]> =
    ConstStaticCell::new([[0; TRANSMIT_BYTES]; SOCKETS]);
static POOL: StaticCell<[PoolSlot; SOCKETS]> = StaticCell::new();
static SCRATCHES: ConstStaticCell<[[u8; SCRATCH]; 2]> = ConstStaticCell::new([[0; SCRATCH]; 2]);
static SLOTS: StaticCell<Slots> = StaticCell::new();
static WHEEL_SLOTS: StaticCell<[Head; WHEEL]> = StaticCell::new();
static CLOSED: StaticCell<Closes> = StaticCell::new();
static ROWS: StaticCell<Rows> = StaticCell::new();
static LOG: ConstStaticCell<[u8; log::RING]> = ConstStaticCell::new([0; log::RING]);

// What the build has printed is what it is.
const _: () = assert!(size_of::<SocketStorage<'static>>() == plan::SOCKET);
const _: () = assert!(size_of::<PoolSlot>() == plan::POOL_SLOT);
const _: () = assert!(size_of::<Slot<Session<Wire>>>() == plan::SESSION);
const _: () = assert!(size_of::<Option<ListRow>>() == plan::LIST_ROW);

/// Sockets, sessions and what is kept once fit, with the stack.
const _: () = assert!(
    SOCKETS * plan::PER_SOCKET + SESSIONS * plan::PER_SESSION + plan::ONCE + plan::STACK <= board::RAM,
    "gateway.toml asks for more sockets or sessions than the part's RAM holds"
);
/// One socket beside the sessions' listens, so that newcomers are heard when the table is full.
const _: () = assert!(SOCKETS > SESSIONS);
const _: () = assert!(
    size_of::<[Option<Closed<Wire>>; CLOSES]>() + size_of::<[Head; WHEEL]>() + 2 * SCRATCH + log::RING <= plan::ONCE
);

/// The memory, to be taken once.
pub(crate) struct Memory {
    /// For smoltcp's sockets.
    pub(crate) storage: &'static mut [SocketStorage<'static>],
    /// Their receive buffers.
    pub(crate) receive: &'static mut [[u8; RECEIVE_BYTES]],
    /// Their transmit buffers.
    pub(crate) transmit: &'static mut [[u8; TRANSMIT_BYTES]],
    /// For the pool of sockets.
    pub(crate) pool: &'static mut [PoolSlot],
    /// For commands that wrap around a buffer's end.
    pub(crate) scratch: &'static mut [u8],
    /// For the client list.
    pub(crate) rows: &'static mut [Option<ListRow>],
    /// For the lines of the log.
    pub(crate) log: &'static mut [u8],
    /// For the server.
    pub(crate) server: Lent<'static, Wire>,
}

/// Fills a cell place by place: an array as a value would cross the stack, which is not that large.
#[allow(clippy::mut_from_ref, reason = "a cell gives its place away once, or panics")]
fn fill<T, const N: usize>(cell: &'static StaticCell<[T; N]>, value: impl Fn() -> T) -> &'static mut [T; N] {
    let memory = cell.uninit();
    let places: &mut [MaybeUninit<T>; N] = memory.as_mut();
    for place in places {
        place.write(value());
    }
    // SAFETY: each place has been written.
    unsafe { memory.assume_init_mut() }
}

/// Takes the memory.
pub(crate) fn take() -> Memory {
    let [scratch, reply] = SCRATCHES.take();
    Memory {
        storage: fill(&STORAGE, || SocketStorage::EMPTY),
        receive: RECEIVE.take(),
        transmit: TRANSMIT.take(),
        pool: fill(&POOL, || PoolSlot::EMPTY),
        scratch,
        rows: fill(&ROWS, || None),
        log: LOG.take(),
        server: Lent {
            slots: fill(&SLOTS, || Slot::EMPTY),
            wheel: fill(&WHEEL_SLOTS, || Head::EMPTY),
            scratch: reply,
            closes: fill(&CLOSED, || None),
        },
    }
}
