//! TI LM3S6965EVB: Cortex-M3 at 50 MHz, 256 KiB of flash, 64 KiB of RAM, Ethernet on the chip. QEMU knows it as
//! `lm3s6965evb`.

mod clock;
mod ethernet;
mod log;
mod registers;

pub(crate) use ethernet::Network;

use self::registers::{port_f, system, watchdog};
use super::Board;

/// The board's name.
pub(crate) const NAME: &str = "LM3S6965EVB";
/// The part's RAM in bytes.
pub(crate) const RAM: usize = 64 * 1024;

/// Starts clocks and peripherals. To be called once, first of all.
pub(crate) fn start() -> Board {
    clock::start_pll();
    let mut core = cortex_m::Peripherals::take();
    if let Some(core) = &mut core {
        clock::start_time(&mut core.SYST);
    }
    log::start();
    let led = Led::start();
    let address = mac_address();
    Board {
        network: Network::start(address),
        led,
        watchdog: Watchdog::start(),
        // The part has no generator of random numbers: what the kit's own address adds to the noise that RAM held at
        // power-up is all there is.
        random: super::fold(&address),
    }
}

/// The address that the kit's maker stored, else one of those that are free for local use.
fn mac_address() -> [u8; 6] {
    let [a, b, c, _] = system::USER0.read().to_le_bytes();
    let [d, e, f, _] = system::USER1.read().to_le_bytes();
    let erased = [a, b, c] == [0xff; 3];
    if erased { [0x02, 0, 0, 0x69, 0x65, 0x01] } else { [a, b, c, d, e, f] }
}

/// The status LED.
pub(crate) struct Led(());

impl Led {
    fn start() -> Self {
        const PORT_F: u32 = 1 << 5;
        const LED: u32 = 1;
        system::RCGC2.set(PORT_F);
        cortex_m::asm::delay(16);
        port_f::DIRECTION.set(LED);
        port_f::DIGITAL.set(LED);
        Self(())
    }

    /// Switches the LED.
    pub(crate) fn set(&mut self, on: bool) {
        port_f::LED_ONLY.write(u32::from(on));
    }
}

/// The watchdog: resets the part when it has not been fed for as long as [`super::WATCHDOG_MS`].
pub(crate) struct Watchdog(());

impl Watchdog {
    fn start() -> Self {
        const WATCHDOG: u32 = 1 << 3;
        const UNLOCK: u32 = 0x1acc_e551;
        const INTERRUPT_THEN_RESET: u32 = 0b11;
        system::RCGC0.set(WATCHDOG);
        cortex_m::asm::delay(16);
        watchdog::LOCK.write(UNLOCK);
        // The first time it runs out it only interrupts (masked here); the second time it resets.
        watchdog::LOAD.write(super::WATCHDOG_MS / 2 * 1000 * clock::CYCLES_PER_US);
        watchdog::CONTROL.write(INTERRUPT_THEN_RESET);
        watchdog::LOCK.write(0);
        Self(())
    }

    /// Starts the time anew.
    pub(crate) fn feed(&mut self) {
        const UNLOCK: u32 = 0x1acc_e551;
        watchdog::LOCK.write(UNLOCK);
        watchdog::CLEAR.write(1);
        watchdog::LOCK.write(0);
    }
}
