//! `pulsegate simulate`: a fleet of simulated devices against a server.

use std::io::{IsTerminal, stderr};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::password;
use super::ping::positive;
use crate::fleet::{Credentials, Fleet, FleetConfig, FleetStats, UploadConfig};

/// Without a terminal, one line of progress this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Runs thousands of simulated devices against a server, and judges whom it closes and when.
///
/// A device that goes dark keeps its socket open and silent. Its close is on time up to tick +
/// allowance after the idle timeout, counted from its last proof of life (bytes sent, or a reply
/// received). It is early only if it came before the idle timeout counted from just before the last
/// send, less 10 ms for the steps of the clocks.
///
/// Exits with 1 after a false, early or missed close, when logins are refused or no heartbeat is
/// answered, and when uploads are refused, broken, spoilt or not finished at all.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("who").args(["user", "upload_user"]).multiple(true))]
pub struct Args {
    /// The server, as host:port.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9999")]
    server: String,
    /// How many devices.
    #[arg(long, value_name = "N")]
    devices: usize,
    /// Time between two heartbeats of a device, give or take a fifth.
    #[arg(long, value_name = "DUR", default_value = "20s", value_parser = positive)]
    heartbeat: Duration,
    /// The server's idle timeout, which its closes are judged against.
    #[arg(long, value_name = "DUR", default_value = "60s", value_parser = positive)]
    idle_timeout: Duration,
    /// The server's sweep tick: how late it may close.
    #[arg(long, value_name = "DUR", default_value = "100ms", value_parser = humantime::parse_duration)]
    tick: Duration,
    /// On top of the tick, what network and scheduling may add.
    #[arg(long, value_name = "DUR", default_value = "200ms", value_parser = humantime::parse_duration)]
    allowance: Duration,
    /// Part of the live devices that go dark per minute: 0.05 or 5%.
    #[arg(long, value_name = "RATE", default_value = "5%", value_parser = rate)]
    dark: f64,
    /// How long a device stays dark, give or take a half, before it connects from a new port.
    #[arg(long, value_name = "DUR", default_value = "30s", value_parser = positive)]
    reconnect: Duration,
    /// How long to run; without it, until Ctrl-C.
    #[arg(long = "for", value_name = "DUR", value_parser = positive)]
    duration: Option<Duration>,
    /// New connections per second at most.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    connect_rate: u32,
    /// The longest simulated radio delay before a send.
    #[arg(long, value_name = "DUR", default_value = "200ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Log in as this user; `%n` in it becomes the device's number.
    #[arg(long)]
    user: Option<String>,
    /// Read the password from the first line of standard input instead of asking for it.
    #[arg(long, requires = "who")]
    password_stdin: bool,
    /// The server closes a device's old connection when the device logs in again: do not count such
    /// closes as early. Needs `%n` in the user name.
    #[arg(long, requires = "user")]
    takeover: bool,
    /// Repeat the choices of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    uploads: UploadArgs,
}

/// Devices that also upload.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Uploads over bad links")]
struct UploadArgs {
    /// So many of the devices also upload files, each to names of its own in the root; at a file's
    /// end they fetch it and compare. Needs a user.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "who")]
    uploaders: usize,
    /// Files of each uploader.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "uploaders")]
    upload_files: u64,
    /// Bytes of each file: 100000, 64KiB, 10MiB.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size, requires = "uploaders")]
    upload_bytes: u64,
    /// Bytes a second that a link carries towards the server: 2500, 64KiB.
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "uploaders")]
    link_rate: Option<u64>,
    /// The mean time between two cuts of a link. Most lose the signal: the old connection stays open
    /// and silent, and the device connects from a new port and continues. Some close or reset it.
    #[arg(long, value_name = "DUR", value_parser = positive, requires = "uploaders")]
    link_cut: Option<Duration>,
    /// Log in as this user to upload, with the same password; `%n` in it becomes the device's
    /// number. Without it, as the user of --user.
    #[arg(long, value_name = "USER")]
    upload_user: Option<String>,
}

impl UploadArgs {
    /// The uploads, if there are any.
    fn config(self, user: Option<&str>, password: &str) -> Option<UploadConfig> {
        let user = self.upload_user.or_else(|| user.map(str::to_owned))?;
        (self.uploaders > 0).then(|| UploadConfig {
            uploaders: self.uploaders,
            files: self.upload_files,
            bytes: self.upload_bytes,
            link_rate: self.link_rate,
            link_cut: self.link_cut,
            login: Credentials { user, password: password.to_owned() },
        })
    }
}

/// A number of bytes, with or without a binary unit.
fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let (number, unit) = units
        .iter()
        .find_map(|&(name, unit)| Some((text.strip_suffix(name)?, unit)))
        .unwrap_or((text, 1));
    let bytes = number.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| "must look like 100000, 64KiB, 10MiB".to_owned())
}

/// A fraction, or a percentage.
fn rate(text: &str) -> Result<f64, String> {
    let (number, scale) = match text.strip_suffix('%') {
        Some(percent) => (percent, 100.0),
        None => (text, 1.0),
    };
    match number.trim().parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate / scale),
        _ => Err("must be a fraction such as 0.05, or a percentage such as 5%".to_owned()),
    }
}

/// Runs the fleet and prints its report.
///
/// # Errors
/// When the fleet cannot start: the address, the configuration, the descriptor limit.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let json = args.json;
    let config = config(args).await?;
    let fleet = Fleet::new(config.clone())?;
    let mut progress = Progress::new(&config);
    // Outlives errors of the handler: without Ctrl-C the run still has its end.
    let stop = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let report = fleet.run(stop, |stats| progress.show(stats)).await;
    progress.finish();
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn config(args: Args) -> anyhow::Result<FleetConfig> {
    let mut config = FleetConfig::new(resolve(&args.server).await?, args.devices);
    if let Some(user) = args.user.as_ref().or(args.uploads.upload_user.as_ref()) {
        let password = password::read(user, args.password_stdin).await?;
        config.uploads = args.uploads.config(args.user.as_deref(), &password);
        config.login = args.user.map(|user| Credentials { user, password });
    }
    config.heartbeat = args.heartbeat;
    config.idle_timeout = args.idle_timeout;
    config.tick = args.tick;
    config.allowance = args.allowance;
    config.dark_per_minute = args.dark;
    config.reconnect = args.reconnect;
    config.duration = args.duration;
    config.connect_rate = args.connect_rate;
    config.latency = args.latency;
    config.takeover = args.takeover;
    config.seed = args.seed.unwrap_or(config.seed);
    Ok(config)
}

async fn resolve(server: &str) -> anyhow::Result<SocketAddr> {
    let mut addresses = tokio::net::lookup_host(server).await.with_context(|| {
        format!("cannot resolve {server}; give the server as host:port, for example 127.0.0.1:9999")
    })?;
    addresses.next().with_context(|| format!("{server} has no address"))
}

/// Progress on standard error: one line that is redrawn on a terminal, a new line now and then
/// elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    started: Instant,
    next_line: Instant,
}

impl Progress {
    fn new(config: &FleetConfig) -> Self {
        let now = Instant::now();
        eprintln!("{} devices against {}, seed {}", config.devices, config.server, config.seed);
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed_precise} {msg}");
            ProgressBar::new_spinner().with_style(style.expect("a constant template is valid"))
        });
        Self { bar, started: now, next_line: now + LINE_EVERY }
    }

    fn show(&mut self, stats: &FleetStats) {
        if let Some(bar) = &self.bar {
            bar.set_message(line(stats));
            bar.tick();
            return;
        }
        let now = Instant::now();
        if now >= self.next_line {
            self.next_line = now + LINE_EVERY;
            eprintln!("{:>5} s  {}", self.started.elapsed().as_secs(), line(stats));
        }
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(stats: &FleetStats) -> String {
    let closed = stats.on_time.get() + stats.late.get();
    let mut line = format!(
        "{} live, {} dark, {} heartbeats answered, {} swept",
        stats.connected.get(),
        stats.dark.get(),
        stats.beats_answered.get(),
        closed,
    );
    let troubles = [
        ("late", &stats.late),
        ("early", &stats.early),
        ("closed falsely", &stats.false_closes),
        ("attempts failed", &stats.connect_failures),
        ("turned away", &stats.turned_away),
        ("logins refused", &stats.logins_refused),
    ];
    for (what, counter) in troubles {
        if counter.get() > 0 {
            line.push_str(&format!(", {} {what}", counter.get()));
        }
    }
    if let Some(uploads) = stats.uploads.line() {
        line.push_str(&format!(", {uploads}"));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::{rate, size};

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(
            (size("100000"), size("64KiB"), size("3 GiB")),
            (Ok(100_000), Ok(65_536), Ok(3 << 30))
        );
        for wrong in ["", "0", "-1", "1.5MiB", "10MB", "17179869184GiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_fractions_or_percentages() {
        assert_eq!(rate("0.05"), Ok(0.05));
        assert_eq!(rate("5%"), Ok(0.05));
        assert_eq!(rate("0"), Ok(0.0));
        for wrong in ["", "%", "-1", "NaN", "inf", "5 per cent"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
