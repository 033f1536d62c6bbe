//! When a server should have closed a silent connection, and when it did.

use std::time::{Duration, Instant};

use super::FleetConfig;

/// Clocks of the two ends count proof of life in steps of up to this much (a kernel tick at 100 Hz).
const GRANULARITY: Duration = Duration::from_millis(10);

/// The last proof of life, as far as this end can know it.
///
/// The server's clock starts when the last bytes reached it or when its last reply was acknowledged,
/// which happened somewhere between `sent` and `seen`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proof {
    /// Just before the last bytes were sent.
    pub(super) sent: Instant,
    /// The last bytes sent or the last reply read, whichever came later.
    pub(super) seen: Instant,
}

/// How the close of a dark connection is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Early,
    OnTime,
    Late,
}

/// A close against its deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    /// Close minus last proof minus idle timeout, in microseconds; negative is before the deadline.
    pub(super) lateness_us: i64,
}

/// Judges a connection that was closed at `closed`.
///
/// Early is only what is certainly early: the deadline counted from `sent`, the earliest moment
/// that the last proof can have been, had not come either (less one step of the clocks).
pub(super) fn judge(proof: Proof, closed: Instant, config: &FleetConfig) -> Judged {
    let idle = config.idle_timeout;
    let lateness_us = micros(closed, proof.seen + idle);
    let at_the_earliest = proof.sent + idle - GRANULARITY.min(idle);
    let verdict = if closed < at_the_earliest {
        Verdict::Early
    } else if closed > proof.seen + config.close_by() {
        Verdict::Late
    } else {
        Verdict::OnTime
    };
    Judged { verdict, lateness_us }
}

/// `a - b` in microseconds, with its sign.
fn micros(a: Instant, b: Instant) -> i64 {
    let of = |d: Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
    match a.checked_duration_since(b) {
        Some(after) => of(after),
        None => -of(b - a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_at_their_edges() {
        let mut config = FleetConfig::new("127.0.0.1:1".parse().unwrap(), 1);
        config.idle_timeout = Duration::from_secs(10);
        config.tick = Duration::from_millis(100);
        config.allowance = Duration::from_millis(50);
        let sent = Instant::now();
        let ms = Duration::from_millis;
        let proof = Proof { sent, seen: sent + ms(40) };
        let at = |after: u64| judge(proof, sent + ms(after), &config);
        assert_eq!(at(9_980).verdict, Verdict::Early);
        assert_eq!(at(9_980).lateness_us, -60_000);
        assert_eq!(at(9_990).verdict, Verdict::OnTime);
        assert_eq!(at(10_040).lateness_us, 0);
        assert_eq!(at(10_190).verdict, Verdict::OnTime);
        assert_eq!(at(10_191).verdict, Verdict::Late);
        assert_eq!(at(10_191).lateness_us, 151_000);
    }
}
