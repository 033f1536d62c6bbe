//! Runs embassy's executor and sleeps in between.

use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::Spawner;
use embassy_executor::raw::Executor;
use static_cell::StaticCell;

static EXECUTOR: StaticCell<Executor> = StaticCell::new();
static WOKEN: AtomicBool = AtomicBool::new(false);

/// Called by the executor when a task is woken.
#[unsafe(export_name = "__pender")]
fn woken(_: *mut ()) {
    WOKEN.store(true, Ordering::Release);
}

/// Spawns the first tasks and runs them for ever.
///
/// Embassy's own loop sleeps with WFE, which an emulated processor passes without sleeping; WFI gives the host its
/// processor back, and on hardware saves as much.
pub(crate) fn run(spawn: impl FnOnce(Spawner)) -> ! {
    let executor = EXECUTOR.init(Executor::new(core::ptr::null_mut()));
    spawn(executor.spawner());
    loop {
        WOKEN.store(false, Ordering::Release);
        // SAFETY: initialised above, and polled nowhere else; `woken` does not poll.
        unsafe { executor.poll() };
        cortex_m::interrupt::disable();
        // Masked interrupts still end WFI: one that comes after this look is not slept through.
        if !WOKEN.load(Ordering::Acquire) {
            cortex_m::asm::wfi();
        }
        // SAFETY: they were enabled before, and nothing is left half done.
        unsafe { cortex_m::interrupt::enable() };
    }
}
