//! What a running fleet counts; every number can be read while it runs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::judge::{Proof, Verdict, judge};
use super::{FleetConfig, UploadStats};

/// The first so many failures are kept in full; a broken server would fill memory with them.
const FINDINGS: usize = 10;

/// One number that many tasks change.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Its value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn up(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn down(&self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A close that should not have been, or one that should have been and was not.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// `early`, `late`, `missed` or `false`.
    pub kind: &'static str,
    /// The device's number.
    pub device: usize,
    /// The device's end of the connection, to find it in the server's log.
    pub local: SocketAddr,
    /// Milliseconds from the last proof of life to the close, or to the end of the run.
    pub silence_ms: u64,
}

/// Live counters of a fleet. Gauges go down again, all others only up.
#[derive(Debug)]
pub struct FleetStats {
    /// Gauge: connections that stand and beat.
    pub connected: Counter,
    /// Gauge: of these, logged in.
    pub logged_in: Counter,
    /// Gauge: silent connections that the server has not closed yet.
    pub dark: Counter,
    /// Connections made.
    pub connections: Counter,
    /// Attempts that failed.
    pub connect_failures: Counter,
    /// Connections that the server closed before it answered anything.
    pub turned_away: Counter,
    /// Logins that the server refused.
    pub logins_refused: Counter,
    /// Heartbeats sent.
    pub beats_sent: Counter,
    /// Heartbeats answered with success.
    pub beats_answered: Counter,
    /// Packets that were not the reply that was due.
    pub bad_replies: Counter,
    /// Connections that went dark.
    pub went_dark: Counter,
    /// Dark connections closed within the tick and the allowance.
    pub on_time: Counter,
    /// Dark connections closed after that.
    pub late: Counter,
    /// Dark connections closed before the idle timeout.
    pub early: Counter,
    /// Dark connections still open at the end although due.
    pub missed: Counter,
    /// Dark connections still open at the end and not yet due.
    pub pending: Counter,
    /// Dark connections closed because their device had logged in again.
    pub replaced: Counter,
    /// Live, beating connections that the server closed.
    pub false_closes: Counter,
    /// Live connections closed rightly, because the fleet's machine was too slow to beat in time.
    pub starved: Counter,
    /// Of devices that upload.
    pub uploads: UploadStats,
    worst_lateness_us: AtomicI64,
    worst_lag_us: AtomicU64,
    round_trips: Mutex<Histogram<u64>>,
    lateness: Mutex<Histogram<u64>>,
    findings: Mutex<Vec<Finding>>,
    connect_error: Mutex<Option<String>>,
}

/// Percentiles of a distribution of times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Half are faster.
    pub p50: Duration,
    /// Nine of ten are faster.
    pub p90: Duration,
    /// 99 of 100 are faster.
    pub p99: Duration,
    /// 999 of 1000 are faster.
    pub p999: Duration,
    /// The slowest.
    pub max: Duration,
}

/// A panic elsewhere leaves numbers, not half-made structures.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Microseconds up to ten minutes, three digits exact.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(600_000_000, 3).expect("constant bounds are valid")
}

fn percentiles(histogram: &Mutex<Histogram<u64>>) -> Percentiles {
    let histogram = lock(histogram);
    if histogram.is_empty() {
        return Percentiles::default();
    }
    let at = |q| Duration::from_micros(histogram.value_at_quantile(q));
    Percentiles {
        count: histogram.len(),
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: Duration::from_micros(histogram.max()),
    }
}

impl FleetStats {
    pub(super) fn new() -> Self {
        Self {
            connected: Counter::default(),
            logged_in: Counter::default(),
            dark: Counter::default(),
            connections: Counter::default(),
            connect_failures: Counter::default(),
            turned_away: Counter::default(),
            logins_refused: Counter::default(),
            beats_sent: Counter::default(),
            beats_answered: Counter::default(),
            bad_replies: Counter::default(),
            went_dark: Counter::default(),
            on_time: Counter::default(),
            late: Counter::default(),
            early: Counter::default(),
            missed: Counter::default(),
            pending: Counter::default(),
            replaced: Counter::default(),
            false_closes: Counter::default(),
            starved: Counter::default(),
            uploads: UploadStats::default(),
            worst_lateness_us: AtomicI64::new(i64::MIN),
            worst_lag_us: AtomicU64::new(0),
            round_trips: Mutex::new(histogram()),
            lateness: Mutex::new(histogram()),
            findings: Mutex::new(Vec::new()),
            connect_error: Mutex::new(None),
        }
    }

    /// From a request's last byte to its reply.
    pub fn round_trips(&self) -> Percentiles {
        percentiles(&self.round_trips)
    }

    /// How long after the idle timeout dark connections were closed; early closes count as zero.
    pub fn lateness(&self) -> Percentiles {
        percentiles(&self.lateness)
    }

    /// The largest lateness in microseconds, once a dark connection has been closed; negative when
    /// all were closed early.
    pub fn worst_lateness_us(&self) -> Option<i64> {
        Some(self.worst_lateness_us.load(Relaxed)).filter(|worst| *worst != i64::MIN)
    }

    /// The longest that the fleet's own tasks had to wait for their turn. Where it comes near the
    /// allowance, late closes may be the fleet's fault.
    pub fn worst_lag(&self) -> Duration {
        Duration::from_micros(self.worst_lag_us.load(Relaxed))
    }

    /// Why the latest failed connection attempt failed.
    pub fn connect_error(&self) -> Option<String> {
        lock(&self.connect_error).clone()
    }

    /// The first failures in full.
    pub fn findings(&self) -> Vec<Finding> {
        lock(&self.findings).clone()
    }

    pub(super) fn round_trip(&self, took: Duration) {
        lock(&self.round_trips).saturating_record(took.as_micros().try_into().unwrap_or(u64::MAX));
    }

    pub(super) fn lag(&self, lag: Duration) {
        let micros = lag.as_micros().try_into().unwrap_or(u64::MAX);
        self.worst_lag_us.fetch_max(micros, Relaxed);
    }

    pub(super) fn connect_failed(&self, error: &std::io::Error) {
        self.connect_failures.up();
        *lock(&self.connect_error) = Some(error.to_string());
    }

    pub(super) fn find(&self, finding: Finding) {
        let mut findings = lock(&self.findings);
        if findings.len() < FINDINGS {
            findings.push(finding);
        }
    }

    /// A live connection was closed by the server, after the device had been silent for this long.
    pub(super) fn closed_live(
        &self,
        device: usize,
        local: SocketAddr,
        silence: Duration,
        idle: Duration,
    ) {
        if silence >= idle {
            self.starved.up();
            return;
        }
        self.false_closes.up();
        self.find(finding("false", device, local, silence));
    }

    /// A dark connection was closed by the server.
    pub(super) fn closed_dark(
        &self,
        device: usize,
        local: SocketAddr,
        proof: Proof,
        closed: Instant,
        config: &FleetConfig,
    ) {
        let judged = judge(proof, closed, config);
        self.worst_lateness_us.fetch_max(judged.lateness_us, Relaxed);
        let late_us = u64::try_from(judged.lateness_us).unwrap_or(0);
        lock(&self.lateness).saturating_record(late_us);
        let kind = match judged.verdict {
            Verdict::OnTime => return self.on_time.up(),
            Verdict::Early => {
                self.early.up();
                "early"
            }
            Verdict::Late => {
                self.late.up();
                "late"
            }
        };
        let silence = closed.saturating_duration_since(proof.seen);
        self.find(finding(kind, device, local, silence));
    }

    /// A dark connection is still open at the end.
    pub(super) fn still_open(
        &self,
        device: usize,
        local: SocketAddr,
        proof: Proof,
        config: &FleetConfig,
    ) {
        let silence = proof.seen.elapsed();
        if silence <= config.close_by() {
            self.pending.up();
            return;
        }
        self.missed.up();
        self.find(finding("missed", device, local, silence));
    }
}

fn finding(kind: &'static str, device: usize, local: SocketAddr, silence: Duration) -> Finding {
    Finding { kind, device, local, silence_ms: silence.as_millis().try_into().unwrap_or(u64::MAX) }
}
