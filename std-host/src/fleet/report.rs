//! What a fleet found out, for people and for programs.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::stats::{Finding, FleetStats, Percentiles};
use super::{FleetConfig, UploadReport};

/// Percentiles in milliseconds, as the JSON report carries them.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Millis {
    /// How many values.
    pub count: u64,
    /// Half are faster.
    pub p50: f64,
    /// Nine of ten are faster.
    pub p90: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
    /// 999 of 1000 are faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl From<Percentiles> for Millis {
    fn from(p: Percentiles) -> Self {
        Self {
            count: p.count,
            p50: millis(p.p50),
            p90: millis(p.p90),
            p99: millis(p.p99),
            p999: millis(p.p999),
            max: millis(p.max),
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// The outcome of a run. Times are in milliseconds unless the name says otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct FleetReport {
    /// No false, early or missed close, no refused login, heartbeats were answered, and uploads, if
    /// there were any, came through.
    pub passed: bool,
    /// The server under test.
    pub server: SocketAddr,
    /// Repeats the devices' choices.
    pub seed: u64,
    /// How many devices.
    pub devices: usize,
    /// How long the run took, in seconds.
    pub elapsed_s: f64,
    /// The timeout that closes were judged against.
    pub idle_timeout_ms: f64,
    /// The server's tick.
    pub tick_ms: f64,
    /// What network and scheduling were allowed on top of the tick.
    pub allowance_ms: f64,
    /// Connections made.
    pub connections: u64,
    /// Attempts that failed.
    pub connect_failures: u64,
    /// Why the latest of them failed.
    pub connect_error: Option<String>,
    /// Connections closed by the server before it answered anything.
    pub turned_away: u64,
    /// Logins that the server refused.
    pub logins_refused: u64,
    /// Heartbeats sent.
    pub beats_sent: u64,
    /// Heartbeats answered.
    pub beats_answered: u64,
    /// Packets that were not the reply that was due.
    pub bad_replies: u64,
    /// Connections that went dark.
    pub went_dark: u64,
    /// Of these: closed within the tick and the allowance.
    pub on_time: u64,
    /// Closed after that.
    pub late: u64,
    /// Closed before the idle timeout.
    pub early: u64,
    /// Still open at the end although due.
    pub missed: u64,
    /// Still open at the end, not yet due.
    pub pending: u64,
    /// Closed because their device had logged in again.
    pub replaced: u64,
    /// Live, beating connections closed by the server.
    pub false_closes: u64,
    /// Live connections closed rightly, because the fleet beat too late.
    pub starved: u64,
    /// How long after the idle timeout dark connections were closed.
    pub lateness_ms: Millis,
    /// The largest lateness with its sign; none when no dark connection was closed.
    pub worst_lateness_ms: Option<f64>,
    /// From a request's last byte to its reply.
    pub round_trip_ms: Millis,
    /// The longest the fleet's own tasks waited for their turn.
    pub own_lag_ms: f64,
    /// The first failures in full.
    pub findings: Vec<Finding>,
    /// Of devices that upload, if there are any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uploads: Option<UploadReport>,
}

impl FleetReport {
    pub(super) fn new(config: &FleetConfig, stats: &FleetStats, elapsed: Duration) -> Self {
        let uploads =
            config.uploads.as_ref().map(|uploads| UploadReport::new(uploads, &stats.uploads));
        let failures = [&stats.false_closes, &stats.early, &stats.missed, &stats.logins_refused];
        Self {
            passed: failures.iter().all(|c| c.get() == 0)
                && stats.beats_answered.get() > 0
                && uploads.as_ref().is_none_or(|uploads| uploads.passed),
            server: config.server,
            seed: config.seed,
            devices: config.devices,
            elapsed_s: elapsed.as_secs_f64(),
            idle_timeout_ms: millis(config.idle_timeout),
            tick_ms: millis(config.tick),
            allowance_ms: millis(config.allowance),
            connections: stats.connections.get(),
            connect_failures: stats.connect_failures.get(),
            connect_error: stats.connect_error(),
            turned_away: stats.turned_away.get(),
            logins_refused: stats.logins_refused.get(),
            beats_sent: stats.beats_sent.get(),
            beats_answered: stats.beats_answered.get(),
            bad_replies: stats.bad_replies.get(),
            went_dark: stats.went_dark.get(),
            on_time: stats.on_time.get(),
            late: stats.late.get(),
            early: stats.early.get(),
            missed: stats.missed.get(),
            pending: stats.pending.get(),
            replaced: stats.replaced.get(),
            false_closes: stats.false_closes.get(),
            starved: stats.starved.get(),
            lateness_ms: stats.lateness().into(),
            worst_lateness_ms: stats.worst_lateness_us().map(|us| us as f64 / 1000.0),
            round_trip_ms: stats.round_trips().into(),
            own_lag_ms: millis(stats.worst_lag()),
            findings: stats.findings(),
            uploads,
        }
    }

    /// What the exit code stands for, in words.
    fn verdict(&self) -> &'static str {
        if self.beats_answered == 0 {
            "FAILED: no heartbeat was answered"
        } else if self.logins_refused > 0 {
            "FAILED: the server refused logins"
        } else if let Some(failure) = self.uploads.as_ref().and_then(UploadReport::failure) {
            failure
        } else if !self.passed {
            "FAILED: false, early or missed closes"
        } else if self.late > 0 {
            "passed, with late closes"
        } else {
            "passed"
        }
    }
}

/// One line of the report: a label, and a value in its own column.
pub(super) fn row(
    f: &mut fmt::Formatter<'_>,
    label: &str,
    value: fmt::Arguments<'_>,
) -> fmt::Result {
    writeln!(f, "{label:<26} {value}")
}

impl FleetReport {
    fn fmt_traffic(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "server", format_args!("{}", self.server))?;
        let (devices, elapsed, seed) = (self.devices, self.elapsed_s, self.seed);
        row(f, "devices", format_args!("{devices} for {elapsed:.1} s, seed {seed}"))?;
        row(f, "connections made", format_args!("{}", self.connections))?;
        if let Some(error) = &self.connect_error {
            let failed = self.connect_failures;
            row(f, "  attempts failed", format_args!("{failed}, the latest: {error}"))?;
        }
        row(f, "  turned away", format_args!("{}", self.turned_away))?;
        row(f, "  logins refused", format_args!("{}", self.logins_refused))?;
        let (answered, sent) = (self.beats_answered, self.beats_sent);
        row(f, "heartbeats answered", format_args!("{answered} of {sent}"))?;
        row(f, "  wrong replies", format_args!("{}", self.bad_replies))
    }

    fn fmt_closes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        row(f, "live, closed falsely", format_args!("{} (0 expected)", self.false_closes))?;
        row(f, "  closed, fleet too slow", format_args!("{}", self.starved))?;
        row(f, "went dark", format_args!("{}", self.went_dark))?;
        let (tick, extra) = (self.tick_ms, self.allowance_ms);
        let on_time = format_args!(
            "{} (up to {} ms after the idle timeout: tick {tick} + {extra} for network and scheduling)",
            self.on_time,
            tick + extra
        );
        row(f, "  closed on time", on_time)?;
        row(f, "  closed late", format_args!("{}", self.late))?;
        row(f, "  closed early", format_args!("{} (0 expected)", self.early))?;
        row(f, "  never closed, though due", format_args!("{} (0 expected)", self.missed))?;
        row(f, "  closed by a new login", format_args!("{}", self.replaced))?;
        row(f, "  not yet due at the end", format_args!("{}", self.pending))?;
        for found in &self.findings {
            let Finding { kind, device, local, silence_ms } = found;
            let text = format_args!("{kind}: device {device} from {local}, silent {silence_ms} ms");
            row(f, "  finding", text)?;
        }
        Ok(())
    }
}

impl fmt::Display for FleetReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_traffic(f)?;
        self.fmt_closes(f)?;
        if let Some(uploads) = &self.uploads {
            uploads.fmt(f)?;
        }
        if let Some(worst) = self.worst_lateness_ms {
            let Millis { p50, p99, .. } = self.lateness_ms;
            let text = format_args!("p50 {p50:.1}  p99 {p99:.1}  worst {worst:.1}");
            row(f, "lateness, ms", text)?;
        }
        let Millis { p50, p90, p99, p999, max, .. } = self.round_trip_ms;
        let text =
            format_args!("p50 {p50:.3}  p90 {p90:.3}  p99 {p99:.3}  p99.9 {p999:.3}  max {max:.3}");
        row(f, "round trip, ms", text)?;
        row(f, "fleet's own worst lag, ms", format_args!("{:.1}", self.own_lag_ms))?;
        row(f, "result", format_args!("{}", self.verdict()))
    }
}
