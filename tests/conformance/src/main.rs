//! Runs the wire cases against a server that is already there.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use pulsegate_conformance::tcp::TcpTarget;
use pulsegate_conformance::{
    Files, Limits, Login, Options, RemoteStream, Target, cases, run_parallel,
};

/// Runs the wire cases against a running server. Timeouts must be those the server runs with; short ones make a short
/// run.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Address of the server
    #[arg(long, value_name = "ADDR:PORT", required_unless_present = "list")]
    server: Option<SocketAddr>,
    /// List the cases and run none
    #[arg(long)]
    list: bool,
    /// Run only cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// How many cases run at once [default: as many as the server has room for, at most 16]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Start from the limits of a microcontroller rather than those of a host
    #[arg(long)]
    microcontroller: bool,
    /// How long the server waits for the protocol flag
    #[arg(long, value_name = "DUR", value_parser = duration)]
    flag_timeout: Option<Duration>,
    /// How long the server lets a connection be silent
    #[arg(long, value_name = "DUR", value_parser = duration)]
    idle_timeout: Option<Duration>,
    /// How late the server may notice a timeout
    #[arg(long, value_name = "DUR", value_parser = duration)]
    tick: Option<Duration>,
    /// What network and scheduling may add to that
    #[arg(long, value_name = "DUR", value_parser = duration)]
    slack: Option<Duration>,
    /// How much the server's clock may differ over one timeout
    #[arg(long, value_name = "DUR", value_parser = duration)]
    grain: Option<Duration>,
    /// Longest command text the server accepts
    #[arg(long, value_name = "BYTES")]
    max_command: Option<usize>,
    /// Largest data part to stream
    #[arg(long, value_name = "BYTES")]
    max_data: Option<usize>,
    /// Largest data part to send whole before reading
    #[arg(long, value_name = "BYTES")]
    whole_data: Option<usize>,
    /// How many connections a case may hold at once
    #[arg(long, value_name = "N")]
    max_sessions: Option<usize>,
    /// User to log in as, an operator
    #[arg(long, default_value = "admin")]
    user: String,
    /// Password of that user
    #[arg(long, default_value = "admin")]
    password: String,
    /// The server knows no user
    #[arg(long, conflicts_with = "device_user")]
    no_login: bool,
    /// A second user, who sees only a directory of its own
    #[arg(long, value_name = "USER", requires = "device_password")]
    device_user: Option<String>,
    /// Password of that user
    #[arg(long, value_name = "PASSWORD", requires = "device_user")]
    device_password: Option<String>,
    /// The server serves no files
    #[arg(long, conflicts_with_all = ["max_file", "max_entries", "max_name", "no_directories", "full_at"])]
    no_files: bool,
    /// Largest file to make
    #[arg(long, value_name = "BYTES")]
    max_file: Option<usize>,
    /// How many files and directories a case may hold at once
    #[arg(long, value_name = "N")]
    max_entries: Option<usize>,
    /// Longest name of a file
    #[arg(long, value_name = "BYTES")]
    max_name: Option<usize>,
    /// The server has files, but no directories
    #[arg(long)]
    no_directories: bool,
    /// Size over which the server refuses to let a file grow (`--max-file-bytes`) [default: not tried on a host]
    #[arg(long, value_name = "BYTES")]
    full_at: Option<usize>,
    /// Who may use RemoteStream [default: login where there are files]
    #[arg(long, value_name = "WHO")]
    remote_stream: Option<Who>,
    /// LogOutput is switched off
    #[arg(long)]
    no_log: bool,
    /// Something between translates addresses (an emulator's port forwarding)
    #[arg(long)]
    translated: bool,
}

/// Who may use RemoteStream.
#[derive(Clone, Copy, ValueEnum)]
enum Who {
    /// Nobody: it is switched off
    Off,
    /// Who has logged in
    Login,
    /// Everybody
    Open,
}

impl From<Who> for RemoteStream {
    fn from(who: Who) -> Self {
        match who {
            Who::Off => Self::Off,
            Who::Login => Self::Login,
            Who::Open => Self::Open,
        }
    }
}

impl Arguments {
    fn device(&self) -> Option<Login> {
        Some(Login::new(self.device_user.as_ref()?, self.device_password.as_ref()?))
    }

    /// A microcontroller has files only where an option speaks of them.
    fn files(&self, base: Option<Files>) -> Option<Files> {
        let base = match base {
            _ if self.no_files => return None,
            Some(base) => base,
            None if self.max_file.is_some() || self.max_entries.is_some() => {
                Files::microcontroller()
            }
            None => return None,
        };
        let max_file = self.max_file.unwrap_or(base.max_file);
        Some(Files {
            // Up to where it is full, a file can be made.
            max_file: self.full_at.map_or(max_file, |full| full.min(max_file)),
            max_entries: self.max_entries.unwrap_or(base.max_entries),
            max_name: self.max_name.unwrap_or(base.max_name),
            directories: base.directories && !self.no_directories,
            full_at: self.full_at.or(base.full_at),
        })
    }

    fn limits(&self) -> Limits {
        let base = if self.microcontroller { Limits::microcontroller() } else { Limits::host() };
        let files = self.files(base.files);
        let usual = if files.is_some() { base.remote_stream } else { RemoteStream::Off };
        Limits {
            flag_timeout: self.flag_timeout.unwrap_or(base.flag_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(base.idle_timeout),
            tick: self.tick.unwrap_or(base.tick),
            slack: self.slack.unwrap_or(base.slack),
            grain: self.grain.unwrap_or(base.grain),
            max_command: self.max_command.unwrap_or(base.max_command),
            max_data: self.max_data.unwrap_or(base.max_data),
            whole_data: self.whole_data.unwrap_or(base.whole_data),
            max_sessions: self.max_sessions.unwrap_or(base.max_sessions),
            login: (!self.no_login).then(|| Login::new(&self.user, &self.password)),
            device: self.device(),
            files,
            remote_stream: self.remote_stream.map_or(usual, Into::into),
            log: base.log && !self.no_log,
            ..base
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.list {
        for case in cases() {
            println!("{} (section {})", case.name, case.section);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let Some(address) = arguments.server else { bail!("no server given") };
    let limits = arguments.limits();
    let translated = arguments.translated;
    let factory = || {
        let target = TcpTarget::new(address, limits.clone()).translated(translated);
        Ok(Box::new(target) as Box<dyn Target>)
    };
    // No case that runs beside others holds more than four connections.
    let jobs = arguments.jobs.unwrap_or((limits.max_sessions / 4).clamp(1, 16));
    let options = Options { filter: arguments.filter.clone(), jobs };
    let report = run_parallel(factory, &options);
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads `500ms`, `60s` or `5m`.
fn duration(text: &str) -> Result<Duration> {
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 =
        number.parse().with_context(|| format!("{text:?} does not start with a number"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => bail!("{text:?} has no unit: ms, s or m"),
    }
}
