//! What outlives a reset: the last panic's message, the number of starts, and a pool of noise.
//!
//! The memory is not cleared at start-up. After power-up it holds noise, which a checksum tells from a message, and
//! which fills the pool.

use core::cell::UnsafeCell;
use core::fmt::{self, Write};
use core::mem::MaybeUninit;
use core::panic::PanicInfo;

use heapless::String;

use crate::board::fold;

const MESSAGE: usize = 160;

/// What is kept. It means something only when its checksum is right; any bytes are a valid value.
#[repr(C)]
#[derive(Clone, Copy)]
struct Record {
    checksum: u64,
    noise: u64,
    starts: u32,
    len: u32,
    message: [u8; MESSAGE],
}

struct Kept(UnsafeCell<MaybeUninit<Record>>);

// SAFETY: `load` and `store` copy whole, within a critical section, on a part with one core.
unsafe impl Sync for Kept {}

#[unsafe(link_section = ".uninit.kept")]
static KEPT: Kept = Kept(UnsafeCell::new(MaybeUninit::uninit()));

impl Record {
    fn load() -> Self {
        // SAFETY: aligned memory of this type, which has no padding and takes any bytes; the compiler cannot know
        // them, for the read is volatile.
        critical_section::with(|_| unsafe { KEPT.0.get().cast::<Self>().read_volatile() })
    }

    fn store(mut self) {
        self.checksum = self.sum();
        // SAFETY: aligned memory of this type, to which no reference exists.
        critical_section::with(|_| unsafe { KEPT.0.get().cast::<Self>().write_volatile(self) });
    }

    fn sum(&self) -> u64 {
        let numbers = [fold(&self.noise.to_le_bytes()), u64::from(self.starts), u64::from(self.len)];
        numbers.iter().fold(fold(&self.message), |sum, number| sum.rotate_left(7) ^ number)
    }
}

/// The last run, as this one finds it.
pub(crate) struct LastRun {
    /// Starts since power-up, this one included.
    pub(crate) starts: u32,
    /// The last run's panic, if that was its end.
    pub(crate) panic: Option<String<MESSAGE>>,
    /// A number that differs from start to start.
    pub(crate) noise: u64,
}

/// Takes what the last run left, and stirs the noise with `chance`. To be called once.
pub(crate) fn take(chance: u64) -> LastRun {
    let mut record = Record::load();
    let whole = record.checksum == record.sum();
    // Without a whole record this is power-up, and all of it is noise.
    let noise = record.noise ^ fold(&record.message) ^ chance.rotate_left(17);
    let text = record.message.get(..record.len as usize).filter(|_| whole).unwrap_or_default();
    let mut panic = String::new();
    // The message has as much room as it had then.
    let _ = panic.push_str(core::str::from_utf8(text).unwrap_or("(not readable)"));
    let starts = if whole { record.starts.wrapping_add(1) } else { 1 };
    record = Record { checksum: 0, noise: fold(&noise.to_le_bytes()), starts, len: 0, message: [0; MESSAGE] };
    record.store();
    LastRun { starts, panic: Some(panic).filter(|panic| !panic.is_empty()), noise }
}

/// A message that is cut where the room ends.
struct Cut(String<MESSAGE>);

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            if self.0.push(letter).is_err() {
                break;
            }
        }
        Ok(())
    }
}

/// Keeps the message and starts anew: a gateway that stands still serves nobody.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    let mut text = Cut(String::new());
    let _ = match info.location() {
        Some(place) => write!(text, "panic at {}:{}, {}", place.file(), place.line(), info.message()),
        None => write!(text, "panic, {}", info.message()),
    };
    let mut record = Record::load();
    record.len = text.0.len() as u32;
    record.message = [0; MESSAGE];
    for (place, byte) in record.message.iter_mut().zip(text.0.bytes()) {
        *place = byte;
    }
    record.store();
    #[cfg(feature = "qemu")]
    {
        // There is no next start to tell it. A panic of the log itself is told by the status alone.
        static TOLD: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);
        if !TOLD.swap(true, core::sync::atomic::Ordering::Relaxed) {
            defmt::error!("{}", text.0.as_str());
        }
        exit(101);
    }
    #[cfg(not(feature = "qemu"))]
    cortex_m::peripheral::SCB::sys_reset()
}

/// A fault of the processor is a panic too, and says where it was.
// SAFETY: the handler touches nothing that the interrupted code had half done, and never returns to it.
#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    panic!("hard fault at {:#010x}, called from {:#010x}", frame.pc(), frame.lr())
}

/// Ends the emulator with a status.
#[cfg(feature = "qemu")]
fn exit(status: u32) -> ! {
    const EXIT_EXTENDED: u32 = 0x20;
    const APPLICATION_EXIT: u32 = 0x2_0026;
    let block = [APPLICATION_EXIT, status];
    loop {
        // SAFETY: the call reads the block, which outlives it. Built for the emulator only, which answers it.
        unsafe { cortex_m::asm::semihosting_syscall(EXIT_EXTENDED, block.as_ptr().addr() as u32) };
    }
}
