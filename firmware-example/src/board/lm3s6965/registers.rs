//! The peripheral registers that this board module uses: the one file that turns numbers into addresses.

/// A 32-bit peripheral register.
#[derive(Clone, Copy)]
pub(super) struct Register(usize);

impl Register {
    /// Reads the register.
    pub(super) fn read(self) -> u32 {
        // SAFETY: only the constants of this file exist, each the address of an aligned register
        // of the part; reading one touches no Rust object.
        unsafe { core::ptr::with_exposed_provenance::<u32>(self.0).read_volatile() }
    }

    /// Writes the register.
    pub(super) fn write(self, value: u32) {
        // SAFETY: as for `read`; none of these registers starts a transfer to memory.
        unsafe { core::ptr::with_exposed_provenance_mut::<u32>(self.0).write_volatile(value) }
    }

    /// Sets bits of the register.
    pub(super) fn set(self, bits: u32) {
        self.write(self.read() | bits);
    }
}

macro_rules! registers {
    ($module:ident at $base:literal: $($name:ident = $offset:literal),+ $(,)?) => {
        pub(super) mod $module {
            use super::Register;
            $(pub(in super::super) const $name: Register = Register($base + $offset);)+
        }
    };
}

// System control: clocks, clock gates, and the words in which the kit's maker left the MAC address.
registers!(system at 0x400f_e000:
    RAW_INTERRUPTS = 0x50, RCC = 0x60, RCGC0 = 0x100, RCGC1 = 0x104, RCGC2 = 0x108, USER0 = 0x1e0, USER1 = 0x1e4);

registers!(watchdog at 0x4000_0000: LOAD = 0x000, CONTROL = 0x008, CLEAR = 0x00c, LOCK = 0xc00);

// Timer 0 as one timer of 32 bits.
registers!(timer at 0x4003_0000:
    CONFIG = 0x00, MODE = 0x04, CONTROL = 0x0c, INTERRUPT_MASK = 0x18, CLEAR = 0x24, LOAD = 0x28);

registers!(uart at 0x4000_c000:
    DATA = 0x00, FLAGS = 0x18, BAUD_WHOLE = 0x24, BAUD_FRACTION = 0x28, LINE = 0x2c, CONTROL = 0x30);

registers!(port_a at 0x4000_4000: ALTERNATE = 0x420, DIGITAL = 0x51c);

// LED_ONLY is the data register as seen through the address mask of pin 0.
registers!(port_f at 0x4002_5000: LED_ONLY = 0x004, DIRECTION = 0x400, ALTERNATE = 0x420, DIGITAL = 0x51c);

registers!(ethernet at 0x4004_8000:
    INTERRUPTS = 0x00, INTERRUPT_MASK = 0x04, RECEIVE = 0x08, TRANSMIT = 0x0c, DATA = 0x10,
    ADDRESS_LOW = 0x14, ADDRESS_HIGH = 0x18, THRESHOLD = 0x1c, PACKETS = 0x34, REQUEST = 0x38);
