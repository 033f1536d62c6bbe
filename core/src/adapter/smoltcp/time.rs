//! The two clocks, which must have the same zero.

use embassy_time::{Duration, Instant};

/// A moment of smoltcp's clock, rounded up to what the other can tell: whoever sleeps until then
/// does not wake too early.
#[must_use]
pub fn instant(at: smoltcp::time::Instant) -> Instant {
    let micros = u64::try_from(at.total_micros()).unwrap_or(0);
    // Durations are rounded up where instants are rounded down.
    Instant::from_ticks(Duration::try_from_micros(micros).map_or(u64::MAX, |span| span.as_ticks()))
}

/// A moment in smoltcp's clock.
#[must_use]
pub fn stack_instant(at: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(at.as_micros()).unwrap_or(i64::MAX))
}

/// A span of smoltcp's clock.
#[must_use]
pub fn duration(span: smoltcp::time::Duration) -> Duration {
    Duration::from_micros(span.total_micros())
}

/// A span in smoltcp's clock.
#[must_use]
pub fn stack_duration(span: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_micros(span.as_micros())
}
