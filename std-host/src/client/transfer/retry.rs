//! Which failures are tried again, how often and how soon.

use std::io;
use std::time::Duration;

use rand::rngs::{SmallRng, SysRng};
use rand::{RngExt, SeedableRng, TryRng};
use tokio::time::sleep;

use super::{Event, Observer, TransferError};
use crate::client::ClientError;
use crate::client::error::{FILE_IN_USE, FILE_SIZE};

/// The longest pause between two attempts.
pub const BACK_OFF_MAX: Duration = Duration::from_secs(60);

/// What the server refuses now and may grant in a moment is asked for this often.
const REFUSALS: u32 = 4;

/// How often to connect again, and how soon.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Failures in a row that may bring nothing new before the file is given up; `None` never does.
    pub failures: Option<u32>,
    /// The first pause; each further one is twice as long, up to [`BACK_OFF_MAX`].
    pub pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { failures: Some(20), pause: Duration::from_secs(1) }
    }
}

/// Pauses that grow, and differ by chance: a whole fleet that lost its server must not come back in
/// step.
#[derive(Debug)]
pub struct BackOff {
    first: Duration,
    rng: SmallRng,
}

impl BackOff {
    /// The first pause is about `first`.
    #[must_use]
    pub fn new(first: Duration) -> Self {
        let seed = SysRng.try_next_u64().unwrap_or_default();
        Self { first, rng: SmallRng::seed_from_u64(seed) }
    }

    /// The pause after so many failures in a row.
    pub fn pause(&mut self, failures: u32) -> Duration {
        let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let whole = self.first.saturating_mul(doubled).min(BACK_OFF_MAX);
        whole.mul_f64(self.rng.random_range(0.5..1.0))
    }
}

/// The attempts of one file.
pub(super) struct Attempts {
    most: Option<u32>,
    back_off: BackOff,
    /// In a row, without anything new.
    failures: u32,
    /// In a row, and all of them refusals that may pass.
    refusals: u32,
    /// The most bytes that were ever on the other side.
    best: Option<u64>,
}

impl Attempts {
    pub(super) fn new(retry: Retry) -> Self {
        let back_off = BackOff::new(retry.pause);
        Self { most: retry.failures, back_off, failures: 0, refusals: 0, best: None }
    }

    /// The other side holds so many bytes: more than ever is something new.
    pub(super) fn reached(&mut self, done: u64) {
        if self.best.is_some_and(|best| done > best) {
            self.failures = 0;
            self.refusals = 0;
        }
        self.best = self.best.max(Some(done));
    }

    /// Waits for the time of the next attempt, or says that there is none.
    pub(super) async fn again(
        &mut self,
        error: ClientError,
        observe: &mut Observer<'_>,
    ) -> Result<(), TransferError> {
        match kind(&error) {
            Kind::Final => return Err(error.into()),
            Kind::Line => self.refusals = 0,
            Kind::Refusal => {
                self.refusals += 1;
                if self.refusals >= REFUSALS {
                    return Err(error.into());
                }
            }
        }
        self.failures += 1;
        let failures = self.failures;
        if self.most.is_some_and(|most| failures > most) {
            return Err(TransferError::GaveUp { failures, source: error });
        }
        let pause = self.back_off.pause(failures);
        observe(Event::Waiting { error: &error, pause, failures });
        sleep(pause).await;
        Ok(())
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// The line or the server was interrupted.
    Line,
    /// The server refuses now.
    Refusal,
    /// Nothing will change by itself.
    Final,
}

fn kind(error: &ClientError) -> Kind {
    match error {
        // An address that is no address; a name server may be out of reach for a while.
        ClientError::Resolve { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
            Kind::Final
        }
        ClientError::Resolve { .. }
        | ClientError::Connect { .. }
        | ClientError::ConnectTimeout { .. }
        | ClientError::Io { .. }
        | ClientError::Closed { .. }
        | ClientError::Timeout { .. }
        | ClientError::Stalled { .. } => Kind::Line,
        // Somebody else has the file; data got lost on the way to the disk.
        ClientError::Refused { code: FILE_IN_USE | FILE_SIZE, .. } => Kind::Refusal,
        _ => Kind::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> ClientError {
        ClientError::Closed { server: "s:1".into() }
    }

    fn refused(code: u32) -> ClientError {
        ClientError::Refused {
            server: "s:1".into(),
            command: "Upload",
            code,
            message: String::new(),
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut back_off = BackOff::new(Duration::from_secs(1));
        for (failures, whole) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (40, 60), (9999, 60)] {
            let whole = Duration::from_secs(whole);
            for _ in 0..50 {
                let pause = back_off.pause(failures);
                assert!(pause >= whole / 2 && pause < whole, "{failures}: {pause:?}");
            }
        }
    }

    #[tokio::test]
    async fn only_what_brings_nothing_new_counts() {
        let retry = Retry { failures: Some(3), pause: Duration::from_micros(1) };
        let mut attempts = Attempts::new(retry);
        for done in 1..100 {
            attempts.reached(done);
            attempts.again(closed(), &mut |_| {}).await.unwrap();
        }
        for _ in 0..2 {
            attempts.reached(99);
            attempts.again(closed(), &mut |_| {}).await.unwrap();
        }
        let last = attempts.again(closed(), &mut |_| {}).await.unwrap_err();
        assert!(matches!(last, TransferError::GaveUp { failures: 4, .. }), "{last}");
    }

    #[tokio::test]
    async fn refusals_end_it_at_once_or_after_a_few() {
        let retry = Retry { failures: None, pause: Duration::from_micros(1) };
        for (code, granted) in [(4, 0), (6, 0), (7, 0), (9, 0), (11, 3), (FILE_SIZE, 3)] {
            let mut attempts = Attempts::new(retry);
            let mut tries = 0;
            while attempts.again(refused(code), &mut |_| {}).await.is_ok() {
                tries += 1;
            }
            assert_eq!(tries, granted, "{code}");
        }
    }

    #[test]
    fn a_wrong_address_is_told_from_a_name_server_that_is_away() {
        let resolve = |kind: io::ErrorKind| ClientError::Resolve {
            server: "s".into(),
            source: io::Error::from(kind),
        };
        assert_eq!(kind(&resolve(io::ErrorKind::InvalidInput)), Kind::Final);
        assert_eq!(kind(&resolve(io::ErrorKind::Other)), Kind::Line);
    }
}
