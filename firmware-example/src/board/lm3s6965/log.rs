//! defmt's frames over UART 0, which the kit's USB port and QEMU's serial port carry.

use core::sync::atomic::{AtomicBool, Ordering};

use critical_section::RestoreState;

use super::clock::CYCLES_PER_US;
use super::registers::{port_a, system, uart};

const BAUD: u32 = 921_600;

/// Starts the port.
pub(super) fn start() {
    const UART0: u32 = 1 << 0;
    const PORT_A: u32 = 1 << 0;
    const PINS: u32 = 0b11;
    const EIGHT_BITS_FIFO: u32 = 0b11 << 5 | 1 << 4;
    const ENABLE_TRANSMIT: u32 = 1 << 0 | 1 << 8;
    system::RCGC1.set(UART0);
    system::RCGC2.set(PORT_A);
    cortex_m::asm::delay(16);
    port_a::ALTERNATE.set(PINS);
    port_a::DIGITAL.set(PINS);
    // Sixteen samples a bit; the divisor in 64ths, rounded.
    let divisor = (CYCLES_PER_US * 1_000_000 * 8 / BAUD).div_ceil(2);
    uart::CONTROL.write(0);
    uart::BAUD_WHOLE.write(divisor / 64);
    uart::BAUD_FRACTION.write(divisor % 64);
    uart::LINE.write(EIGHT_BITS_FIFO);
    uart::CONTROL.write(ENABLE_TRANSMIT);
}

fn write(bytes: &[u8]) {
    const FULL: u32 = 1 << 5;
    for &byte in bytes {
        while uart::FLAGS.read() & FULL != 0 {}
        uart::DATA.write(u32::from(byte));
    }
}

static TAKEN: AtomicBool = AtomicBool::new(false);

struct Shared {
    encoder: core::cell::UnsafeCell<defmt::Encoder>,
    restore: core::cell::Cell<RestoreState>,
}

// SAFETY: touched only between `acquire` and `release`, inside a critical section on a part with one core.
unsafe impl Sync for Shared {}

static SHARED: Shared = Shared {
    encoder: core::cell::UnsafeCell::new(defmt::Encoder::new()),
    restore: core::cell::Cell::new(RestoreState::invalid()),
};

impl Shared {
    fn encode(&self, f: impl FnOnce(&mut defmt::Encoder)) {
        // SAFETY: defmt calls this between `acquire`, which lets only one in, and `release`; `write` does not log.
        f(unsafe { &mut *self.encoder.get() });
    }
}

#[defmt::global_logger]
struct Logger;

// SAFETY: `acquire` begins a critical section and refuses to be nested; `release` ends it.
unsafe impl defmt::Logger for Logger {
    fn acquire() {
        // SAFETY: released with the same state in `release`.
        let restore = unsafe { critical_section::acquire() };
        if TAKEN.load(Ordering::Relaxed) {
            // A formatter that logs, or a fault within a line: the frame is lost either way.
            panic!("a log line within a log line");
        }
        TAKEN.store(true, Ordering::Relaxed);
        SHARED.restore.set(restore);
        SHARED.encode(|encoder| encoder.start_frame(write));
    }

    unsafe fn flush() {
        const BUSY: u32 = 1 << 3;
        while uart::FLAGS.read() & BUSY != 0 {}
    }

    unsafe fn release() {
        SHARED.encode(|encoder| encoder.end_frame(write));
        TAKEN.store(false, Ordering::Relaxed);
        let restore = SHARED.restore.get();
        // SAFETY: the state that `acquire` got.
        unsafe { critical_section::release(restore) };
    }

    unsafe fn write(bytes: &[u8]) {
        SHARED.encode(|encoder| encoder.write(bytes, write));
    }
}
