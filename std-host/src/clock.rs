//! The host's clock: monotonic, 64 bits, counted from the start of the server.

use std::time::{Duration, Instant, SystemTime};

use embassy_time::Instant as CoreInstant;
use pulsegate_core::roster::Clock as ListClock;

/// One zero for all shards, and the wall clock's reading at that moment.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    zero: Instant,
    unix_ms_at_zero: u64,
}

impl Clock {
    /// A clock whose zero is an hour ago, so that ages can be taken back before the start.
    #[must_use]
    pub fn new() -> Self {
        let now = Instant::now();
        let back = Duration::from_secs(3600);
        let zero = now.checked_sub(back).unwrap_or(now);
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at_zero = unix.saturating_sub(now - zero);
        Self { zero, unix_ms_at_zero: u64::try_from(at_zero.as_millis()).unwrap_or(0) }
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> CoreInstant {
        let micros = self.zero.elapsed().as_micros();
        CoreInstant::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// How lists write moments of this clock.
    #[must_use]
    pub const fn for_lists(&self) -> ListClock {
        ListClock::Wall { unix_ms_at_zero: self.unix_ms_at_zero }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// A duration of the core as the standard library has it.
#[must_use]
pub const fn to_std(duration: embassy_time::Duration) -> Duration {
    Duration::from_micros(duration.as_micros())
}

/// A duration of the standard library as the core has it; longer ones than the core can hold
/// become its longest.
#[must_use]
pub fn to_core(duration: Duration) -> embassy_time::Duration {
    embassy_time::Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}
