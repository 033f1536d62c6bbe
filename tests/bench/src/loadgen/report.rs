//! What a load came to.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
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

    /// What the warm-up has brought does not count.
    pub(super) fn begin_counting(&mut self) {
        self.latency.reset();
        self.bytes = 0;
    }

    /// Counts what each connection got.
    pub(super) fn finish(&mut self, served: impl Iterator<Item = u64> + Clone) {
        self.least = served.clone().min().unwrap_or(0);
        self.most = served.max().unwrap_or(0);
        self.requests = self.latency.len();
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

/// What one load generator tells the process that started it, as a line of text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figures {
    /// Replies per second.
    pub rate: f64,
    /// Replies of the connection that got the fewest.
    pub least: u64,
    /// Replies of the connection that got the most.
    pub most: u64,
    /// The latency that one request in a hundred exceeds, in microseconds.
    pub p99: f64,
    /// Connections lost.
    pub errors: u64,
}

impl From<&Report> for Figures {
    fn from(report: &Report) -> Self {
        Self {
            rate: report.rate(),
            least: report.least,
            most: report.most,
            p99: report.micros_at(99.0),
            errors: report.errors,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate, least, most, p99, errors } = self;
        write!(f, "{rate} {least} {most} {p99} {errors}")
    }
}

impl FromStr for Figures {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let &[rate, least, most, p99, errors] = &words[..] else {
            bail!("unexpected figures `{line}`");
        };
        Ok(Self {
            rate: rate.parse()?,
            least: least.parse()?,
            most: most.parse()?,
            p99: p99.parse()?,
            errors: errors.parse()?,
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_survive_the_way_between_processes() {
        let figures = Figures { rate: 1234.5, least: 1, most: 2, p99: 0.25, errors: 3 };
        assert_eq!(figures.to_string().parse::<Figures>().unwrap(), figures);
        assert!("1 2 3".parse::<Figures>().is_err());
    }
}
