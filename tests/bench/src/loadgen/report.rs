//! What a load came to.

use std::fmt;
use std::io;
use std::time::Duration;

use anyhow::{Context, Result};
use hdrhistogram::Histogram;

/// A latency beyond this is recorded as this.
const LONGEST: u64 = 60_000_000_000;

/// The outcome of one load.
#[derive(Clone, Debug)]
pub struct Report {
    /// Replies that arrived, whole and right, in the measured time.
    pub requests: u64,
    /// Bytes sent and received in the measured time.
    pub bytes: u64,
    /// Nanoseconds from when a request was due to when its last byte had been read.
    pub latency: Histogram<u64>,
    /// Replies of the connection that got the fewest.
    pub least: u64,
    /// Replies of the connection that got the most.
    pub most: u64,
    /// Connections lost, over the whole run.
    pub errors: u64,
    /// What lost the first of them.
    pub first_error: Option<String>,
    /// The measured time.
    pub elapsed: Duration,
    /// CPU time of the generator in the measured time: near to `elapsed`, it is the generator that was measured.
    pub busy: Duration,
}

impl Report {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            requests: 0,
            bytes: 0,
            latency: Histogram::new_with_bounds(1, LONGEST, 3)
                .context("cannot make a histogram")?,
            least: 0,
            most: 0,
            errors: 0,
            first_error: None,
            elapsed: Duration::ZERO,
            busy: Duration::ZERO,
        })
    }

    pub(super) fn record(&mut self, nanoseconds: u64, count: u64) {
        self.latency.saturating_record_n(nanoseconds.max(1), count);
    }

    pub(super) fn lose(&mut self, error: &io::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    /// Requests per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// Latency at a percentile, in microseconds.
    #[must_use]
    pub fn micros_at(&self, percentile: f64) -> f64 {
        self.latency.value_at_percentile(percentile) as f64 / 1000.0
    }

    /// The share of the measured time that the generator was at work.
    #[must_use]
    pub fn busy_share(&self) -> f64 {
        self.busy.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "requests   {} in {:.2} s: {:.0}/s",
            self.requests,
            self.elapsed.as_secs_f64(),
            self.rate()
        )?;
        let mib = self.bytes as f64 / self.elapsed.as_secs_f64() / (1024.0 * 1024.0);
        writeln!(f, "bytes      {mib:.1} MiB/s, both directions")?;
        write!(f, "latency us")?;
        for percentile in [50.0, 90.0, 99.0, 99.9, 100.0] {
            write!(f, "  p{percentile} {:.1}", self.micros_at(percentile))?;
        }
        writeln!(f, "\nfairness   least served {}, most served {}", self.least, self.most)?;
        writeln!(f, "generator  {:.0} % busy", self.busy_share() * 100.0)?;
        write!(f, "errors     {}", self.errors)?;
        self.first_error.as_ref().map_or(Ok(()), |error| write!(f, ", first: {error}"))
    }
}
