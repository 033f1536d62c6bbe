//! The boards. A board module has what differs between parts, under the same names:
//!
//! - `NAME` and `RAM`, its size in bytes;
//! - `start()`, called once, which gives a [`Board`];
//! - `Network`, a smoltcp `Device` with `address()` and `async ready()`, which waits for a frame;
//! - `Led` with `set(on)`; `Watchdog` with `feed()`.

#[cfg(feature = "lm3s6965")]
mod lm3s6965;
#[cfg(feature = "lm3s6965")]
pub(crate) use lm3s6965::{Led, NAME, Network, RAM, Watchdog, start};

#[cfg(feature = "nucleo-f429zi")]
mod nucleo_f429zi;
#[cfg(feature = "nucleo-f429zi")]
pub(crate) use nucleo_f429zi::{Led, NAME, Network, RAM, Watchdog, start};

#[cfg(not(any(feature = "lm3s6965", feature = "nucleo-f429zi")))]
compile_error!("choose a board: --features lm3s6965 or --no-default-features --features nucleo-f429zi");
#[cfg(all(feature = "lm3s6965", feature = "nucleo-f429zi"))]
compile_error!("one board at a time: the second needs --no-default-features");

/// How long the watchdog waits to be fed before it resets the part.
pub(crate) const WATCHDOG_MS: u32 = 8_000;

/// A started board.
pub(crate) struct Board {
    /// The network device.
    pub(crate) network: Network,
    /// The LED that shows that the gateway lives.
    pub(crate) led: Led,
    /// The watchdog, running.
    pub(crate) watchdog: Watchdog,
    /// What the board has of chance: a number from its generator, or else what tells boards apart.
    pub(crate) random: u64,
}

/// Mixes bytes into a number (FNV-1a).
pub(crate) fn fold(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
