//! The system clock, and embassy's time on it.
//!
//! SysTick runs freely through its 24 bits and is the clock; its overflow comes every third of a second, so that even
//! a late interrupt loses no time. Timer 0 is the alarm: between two events nothing ticks.

use core::cell::{Cell, RefCell};

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{NVIC, SCB, SYST};
use cortex_m_rt::exception;
use critical_section::{CriticalSection, Mutex};
use embassy_time_driver::Driver;
use embassy_time_queue_utils::Queue;
use lm3s6965::{Interrupt, interrupt};

use super::registers::{system, timer};

/// Cycles in a microsecond, at 50 MHz.
pub(super) const CYCLES_PER_US: u32 = 50;

const SYSTICK_BITS: u32 = 24;
const SYSTICK_MAX: u32 = (1 << SYSTICK_BITS) - 1;

/// An alarm further away comes early once, and is set again.
const LONGEST_ALARM_US: u64 = 60_000_000;

struct Time {
    overflows: Mutex<Cell<u32>>,
    queue: Mutex<RefCell<Queue>>,
}

embassy_time_driver::time_driver_impl!(static TIME: Time = Time {
    overflows: Mutex::new(Cell::new(0)),
    queue: Mutex::new(RefCell::new(Queue::new())),
});

/// The PLL to 50 MHz from the kit's 8 MHz crystal.
pub(super) fn start_pll() {
    const BYPASS: u32 = 1 << 11;
    const USE_DIVIDER: u32 = 1 << 22;
    const DIVIDE_BY_4: u32 = 3 << 23;
    const CRYSTAL_8_MHZ: u32 = 0xe << 6;
    const LOCKED: u32 = 1 << 6;
    // Run from the crystal while the PLL starts; its power-down bit (13) is off in this word.
    system::RCC.write(BYPASS | CRYSTAL_8_MHZ);
    system::RCC.write(BYPASS | CRYSTAL_8_MHZ | DIVIDE_BY_4 | USE_DIVIDER);
    while system::RAW_INTERRUPTS.read() & LOCKED == 0 {}
    system::RCC.write(CRYSTAL_8_MHZ | DIVIDE_BY_4 | USE_DIVIDER);
}

/// Starts the clock and the alarm.
pub(super) fn start_time(systick: &mut SYST) {
    systick.set_clock_source(SystClkSource::Core);
    systick.set_reload(SYSTICK_MAX);
    systick.clear_current();
    systick.enable_interrupt();
    systick.enable_counter();

    const TIMER0: u32 = 1 << 16;
    const ONE_SHOT: u32 = 1;
    system::RCGC1.set(TIMER0);
    timer::CONTROL.write(0);
    timer::CONFIG.write(0);
    timer::MODE.write(ONE_SHOT);
    timer::INTERRUPT_MASK.write(1);
    // SAFETY: the handler is below, and no critical section relies on masked interrupts.
    unsafe { NVIC::unmask(Interrupt::TIMER_0A) };
}

impl Time {
    fn microseconds(&self, cs: CriticalSection<'_>) -> u64 {
        let before = SYST::get_current();
        // An overflow whose handler has not run yet: then the count is read again, after it.
        let pending = SCB::is_pendst_pending();
        let (count, late) = if pending { (SYST::get_current(), 1) } else { (before, 0) };
        let overflows = u64::from(self.overflows.borrow(cs).get()) + late;
        ((overflows << SYSTICK_BITS) + u64::from(SYSTICK_MAX - count)) / u64::from(CYCLES_PER_US)
    }

    /// Wakes who is due and sets the alarm for the next.
    fn advance(&self, cs: CriticalSection<'_>) {
        loop {
            let now = self.microseconds(cs);
            let next = self.queue.borrow(cs).borrow_mut().next_expiration(now);
            timer::CONTROL.write(0);
            if next == u64::MAX {
                return;
            }
            if next > now {
                let wait = (next - now).min(LONGEST_ALARM_US);
                // At most 3 * 10^9: below 2^32.
                timer::LOAD.write(wait as u32 * CYCLES_PER_US);
                timer::CONTROL.write(1);
                return;
            }
        }
    }
}

impl Driver for Time {
    fn now(&self) -> u64 {
        critical_section::with(|cs| self.microseconds(cs))
    }

    fn schedule_wake(&self, at: u64, waker: &core::task::Waker) {
        critical_section::with(|cs| {
            let changed = self.queue.borrow(cs).borrow_mut().schedule_wake(at, waker);
            if changed {
                self.advance(cs);
            }
        });
    }
}

#[exception]
fn SysTick() {
    critical_section::with(|cs| {
        let overflows = TIME.overflows.borrow(cs);
        overflows.set(overflows.get().wrapping_add(1));
    });
}

#[interrupt]
fn TIMER_0A() {
    timer::CLEAR.write(1);
    critical_section::with(|cs| TIME.advance(cs));
}
