//! Settings from a file and from the command line, under the same names; the command line wins.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use pulsegate_core::frame::{ByteOrder, HEADER_LEN, Limits, MAX_PACKET};
use pulsegate_core::protocol::{Access, IocpConfig};
use serde::{Deserialize, Deserializer};

use crate::clock::to_core;
use crate::files::FilesConfig;
use crate::server::Settings;

/// Most descriptors that are kept for files that are being transferred.
pub const FILE_DESCRIPTORS: usize = 1024;

/// Where old clients expect the server.
pub const DEFAULT_PORT: u16 = 9999;

/// What `serve` takes, on the command line or in the file. What is not given has a default.
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Options {
    /// Address and port to listen on; port 0 picks one [default: 127.0.0.1:9999]
    #[arg(long, value_name = "ADDR:PORT", value_parser = address)]
    pub listen: Option<SocketAddr>,
    /// Most sessions at once [default: what the descriptor limit leaves]
    #[arg(long, value_name = "N")]
    pub max_sessions: Option<usize>,
    /// Threads that serve sessions [default: one per core]
    #[arg(long, value_name = "N")]
    pub shards: Option<usize>,
    /// Precision of all timeouts: none early, none later than this [default: 100ms]
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub tick: Option<Duration>,
    /// How long a connection may take to send its protocol flag [default: 6s]
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub flag_timeout: Option<Duration>,
    /// How long a Control connection may take to log in [default: as long as it likes]
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub login_timeout: Option<Duration>,
    /// Silence after which a connection is closed, on every protocol [default: 60s]
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub idle_timeout: Option<Duration>,
    /// The same for Control alone
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub control_idle_timeout: Option<Duration>,
    /// The same for Throughput alone
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub throughput_idle_timeout: Option<Duration>,
    /// The same for Upload alone
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub upload_idle_timeout: Option<Duration>,
    /// The same for Download alone
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub download_idle_timeout: Option<Duration>,
    /// The same for RemoteStream alone
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub remote_stream_idle_timeout: Option<Duration>,
    /// Silence after which a reader of the log is closed [default: never]
    #[arg(long, value_name = "DUR", value_parser = duration)]
    #[serde(deserialize_with = "duration_text")]
    pub log_output_idle_timeout: Option<Duration>,
    /// Switch Throughput off
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub no_throughput: Option<bool>,
    /// Largest command text, in bytes [default: 4096]
    #[arg(long, value_name = "BYTES")]
    pub max_command: Option<u32>,
    /// Packet lengths are big-endian, for fleets whose firmware got it wrong
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub big_endian: Option<bool>,
    /// Failed logins that end a connection [default: 3]
    #[arg(long, value_name = "N")]
    pub login_failures: Option<u8>,
    /// A full table refuses, and does not end connections that have proven nothing
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub no_evict: Option<bool>,
    /// Devices see the client list as operators do
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub devices_list: Option<bool>,
    /// Memory for what connections cannot send or finish yet, per shard [default: 64 MiB]
    #[arg(long, value_name = "BYTES")]
    pub backlog_bytes: Option<usize>,
    /// Users file; see `pulsegate user`. Without it, admin/admin exists on loopback
    #[arg(long, value_name = "FILE")]
    pub users: Option<PathBuf>,
    /// Directory for the files of devices: switches Upload and Download on
    #[arg(long, value_name = "DIR")]
    pub files: Option<PathBuf>,
    /// Who may use RemoteStream on these files: off, login or open (anybody) [default: off]
    #[arg(long, value_name = "WHO")]
    pub remote_stream: Option<RemoteStream>,
    /// The end of an upload is answered when the file is on the disk, not with the system
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_name = "BOOL")]
    pub sync: Option<bool>,
    /// Most bytes of one file [default: what the disk holds]
    #[arg(long, value_name = "BYTES")]
    pub max_file_bytes: Option<u64>,
    /// Most bytes of one device's files together [default: what the disk holds]
    #[arg(long, value_name = "BYTES")]
    pub max_user_bytes: Option<u64>,
    /// Most files and directories of one device [default: what the disk holds]
    #[arg(long, value_name = "N")]
    pub max_user_files: Option<u64>,
    /// Threads that read and write files [default: 4]
    #[arg(long, value_name = "N")]
    pub file_workers: Option<usize>,
    /// Memory for file data on its way, over all sessions [default: 64 MiB]
    #[arg(long, value_name = "BYTES")]
    pub file_memory: Option<usize>,
    /// Who may read the log over a connection: off, loopback (if the listener is on it) or all
    /// [default: loopback]
    #[arg(long, value_name = "WHO")]
    pub log_output: Option<LogOutput>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<LogLevel>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for programs.
    Json,
}

/// Who may use RemoteStream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RemoteStream {
    /// Nobody.
    Off,
    /// Who has logged in.
    Login,
    /// Anybody, on all files.
    Open,
}

/// Who may read the log over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogOutput {
    /// Nobody.
    Off,
    /// Whoever reaches the listener, if that is on loopback.
    Loopback,
    /// Whoever reaches the listener.
    All,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "write an IP address and a port, such as 127.0.0.1:9999, 0.0.0.0:9999 or [::]:9999"
            .to_owned()
    })
}

/// Reads a duration such as `500ms`, `60s`, `5m`.
///
/// # Errors
/// A text that says how durations are written.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write durations as 500ms, 60s or 5m"))
}

fn duration_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    duration(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Reads a settings file.
///
/// # Errors
/// A message with the file, the line and the key.
pub fn read_file(path: &Path) -> anyhow::Result<Options> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        anyhow::anyhow!("cannot read the settings file {}: {error}", path.display())
    })?;
    toml::from_str(&text).map_err(|error| {
        let line = error.span().map_or(1, |span| {
            1 + text.as_bytes()[..span.start.min(text.len())]
                .iter()
                .filter(|&&byte| byte == b'\n')
                .count()
        });
        let (file, message) = (path.display(), error.message());
        let source = text.lines().nth(line - 1).unwrap_or_default().trim();
        anyhow::anyhow!("{file}, line {line}, `{source}`: {message}")
    })
}

impl Options {
    /// These options, and those of `base` where these say nothing.
    #[must_use]
    pub fn or(self, base: Self) -> Self {
        Self {
            listen: self.listen.or(base.listen),
            max_sessions: self.max_sessions.or(base.max_sessions),
            shards: self.shards.or(base.shards),
            tick: self.tick.or(base.tick),
            flag_timeout: self.flag_timeout.or(base.flag_timeout),
            login_timeout: self.login_timeout.or(base.login_timeout),
            idle_timeout: self.idle_timeout.or(base.idle_timeout),
            control_idle_timeout: self.control_idle_timeout.or(base.control_idle_timeout),
            throughput_idle_timeout: self.throughput_idle_timeout.or(base.throughput_idle_timeout),
            upload_idle_timeout: self.upload_idle_timeout.or(base.upload_idle_timeout),
            download_idle_timeout: self.download_idle_timeout.or(base.download_idle_timeout),
            remote_stream_idle_timeout: self
                .remote_stream_idle_timeout
                .or(base.remote_stream_idle_timeout),
            log_output_idle_timeout: self.log_output_idle_timeout.or(base.log_output_idle_timeout),
            no_throughput: self.no_throughput.or(base.no_throughput),
            max_command: self.max_command.or(base.max_command),
            big_endian: self.big_endian.or(base.big_endian),
            login_failures: self.login_failures.or(base.login_failures),
            no_evict: self.no_evict.or(base.no_evict),
            devices_list: self.devices_list.or(base.devices_list),
            backlog_bytes: self.backlog_bytes.or(base.backlog_bytes),
            users: self.users.or(base.users),
            files: self.files.or(base.files),
            remote_stream: self.remote_stream.or(base.remote_stream),
            sync: self.sync.or(base.sync),
            max_file_bytes: self.max_file_bytes.or(base.max_file_bytes),
            max_user_bytes: self.max_user_bytes.or(base.max_user_bytes),
            max_user_files: self.max_user_files.or(base.max_user_files),
            file_workers: self.file_workers.or(base.file_workers),
            file_memory: self.file_memory.or(base.file_memory),
            log_output: self.log_output.or(base.log_output),
            log: self.log.or(base.log),
            log_format: self.log_format.or(base.log_format),
        }
    }

    /// Checks the options against each other and fills in the defaults. `descriptors` is how many
    /// sessions the descriptor limit leaves room for.
    ///
    /// # Errors
    /// A message that names the option and what it may be.
    pub fn settings(&self, descriptors: usize) -> anyhow::Result<Settings> {
        let tick = self.tick.unwrap_or(Duration::from_millis(100));
        anyhow::ensure!(
            (Duration::from_millis(1)..=Duration::from_secs(10)).contains(&tick),
            "tick = {tick:?}: must be from 1ms to 10s"
        );
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let shards = self.shards.unwrap_or(cores);
        anyhow::ensure!((1..=1024).contains(&shards), "shards = {shards}: must be from 1 to 1024");
        let max_sessions = self.max_sessions.unwrap_or(descriptors);
        anyhow::ensure!(
            (1..=16_000_000).contains(&max_sessions),
            "max-sessions = {max_sessions}: must be from 1 to 16000000"
        );
        let listen =
            self.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT)));
        let defaults = Settings::new(listen, max_sessions);
        Ok(Settings {
            shards,
            backlog_bytes: self.backlog_bytes.unwrap_or(defaults.backlog_bytes),
            tick,
            evict: !self.no_evict.unwrap_or(false),
            devices_list: self.devices_list.unwrap_or(false),
            protocol: self.protocol(tick)?,
            files: self.files_config()?,
            ..defaults
        })
    }

    fn protocol(&self, tick: Duration) -> anyhow::Result<IocpConfig> {
        let command = self.max_command.unwrap_or(Limits::HOST.command);
        anyhow::ensure!(
            (64..=16 * 1024).contains(&command),
            "max-command = {command}: must be from 64 to 16384 bytes"
        );
        let big = self.big_endian.unwrap_or(false);
        let order = if big { ByteOrder::Big } else { ByteOrder::Little };
        let least = |name: &str, timeout: Duration| {
            anyhow::ensure!(
                timeout >= tick,
                "{name} = {timeout:?}: must not be below the tick of {tick:?}"
            );
            Ok(to_core(timeout))
        };
        let idle = self.idle_timeout.unwrap_or(Duration::from_secs(60));
        let silence = |name: &str, own: Option<Duration>| {
            least(&format!("{name}-idle-timeout or idle-timeout"), own.unwrap_or(idle))
        };
        let (has_files, throughput) = (self.files.is_some(), !self.no_throughput.unwrap_or(false));
        let remote_stream = match self.remote_stream {
            Some(RemoteStream::Login) => Access::Login,
            Some(RemoteStream::Open) => Access::Open,
            Some(RemoteStream::Off) | None => Access::Off,
        };
        anyhow::ensure!(
            has_files || remote_stream == Access::Off,
            "remote-stream needs files: say which directory with --files DIR"
        );
        Ok(IocpConfig {
            limits: Limits { packet: MAX_PACKET, command, order },
            flag_timeout: least(
                "flag-timeout",
                self.flag_timeout.unwrap_or(Duration::from_secs(6)),
            )?,
            login_timeout: self
                .login_timeout
                .map(|after| least("login-timeout", after))
                .transpose()?,
            control_idle: silence("control", self.control_idle_timeout)?,
            throughput_idle: Some(silence("throughput", self.throughput_idle_timeout)?)
                .filter(|_| throughput),
            upload_idle: Some(silence("upload", self.upload_idle_timeout)?).filter(|_| has_files),
            download_idle: Some(silence("download", self.download_idle_timeout)?)
                .filter(|_| has_files),
            remote_stream,
            remote_stream_idle: silence("remote-stream", self.remote_stream_idle_timeout)?,
            log_idle: self
                .log_output_idle_timeout
                .map(|after| least("log-output-idle-timeout", after))
                .transpose()?,
            login_failures: self.login_failures.unwrap_or(3).max(1),
            ..IocpConfig::default()
        })
    }

    fn files_config(&self) -> anyhow::Result<Option<FilesConfig>> {
        let workers = self.file_workers.unwrap_or(4);
        let workers = NonZeroUsize::new(workers)
            .filter(|workers| workers.get() <= 256)
            .with_context(|| format!("file-workers = {workers}: must be from 1 to 256"))?;
        let Some(root) = self.files.clone() else { return Ok(None) };
        Ok(Some(FilesConfig {
            root,
            sync: self.sync.unwrap_or(false),
            max_file_bytes: self.max_file_bytes,
            max_user_bytes: self.max_user_bytes,
            max_user_files: self.max_user_files,
            max_open: FILE_DESCRIPTORS,
            workers,
            memory: self.file_memory.unwrap_or(64 << 20),
        }))
    }

    /// Whether sessions of a listener at this address may read the log. On a machine behind a
    /// proxy everybody looks local, so the listener's own address decides.
    #[must_use]
    pub fn shows_log(&self, listen: SocketAddr) -> bool {
        match self.log_output {
            Some(LogOutput::Off) => false,
            Some(LogOutput::All) => true,
            Some(LogOutput::Loopback) | None => listen.ip().is_loopback(),
        }
    }
}

// A command and its header must be readable in one piece from the shared buffer of 64 KiB.
const _: () = assert!(16 * 1024 + HEADER_LEN < 64 * 1024);

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(text: &str) -> anyhow::Result<Options> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        read_file(file.path())
    }

    #[test]
    fn a_bad_file_is_told_by_line_and_key() {
        for (text, parts) in [
            ("tick = \"1s\"\nidel-timeout = \"1s\"\n", &["line 2", "idel-timeout"][..]),
            ("\nidle-timeout = \"soon\"\n", &["line 2", "idle-timeout", "60s"]),
            ("shards = \"two\"\n", &["line 1", "shards"]),
            ("listen = \"localhost\"\n", &["line 1", "listen"]),
            ("shards = = 2\n", &["line 1"]),
        ] {
            let error = read(text).unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{text:?}: {error}");
            }
        }
    }

    #[test]
    fn the_example_holds_every_key_and_the_defaults() {
        let text = include_str!("../pulsegate.example.toml");
        let example = read(text).unwrap();
        let (shown, defaults) = (example.settings(100).unwrap(), Options::default().settings(100));
        assert_eq!(format!("{shown:?}"), format!("{:?}", defaults.unwrap()));
        assert_eq!(example.log, Some(LogLevel::Info));
        assert_eq!(example.log_format, Some(LogFormat::Text));
        // The keys that are commented out for want of a fixed default parse as well.
        let all: Vec<_> = text.lines().map(|line| uncommented(line).unwrap_or(line)).collect();
        read(&all.join("\n")).unwrap();
        for argument in Options::augment_args(clap::Command::new("serve")).get_arguments() {
            let key = argument.get_long().unwrap();
            let setting = format!("{key} = ");
            assert!(all.iter().any(|line| line.starts_with(&setting)), "{key} is missing");
        }
    }

    /// The setting in a line `# key = value`.
    fn uncommented(line: &str) -> Option<&str> {
        let setting = line.strip_prefix("# ")?;
        let (key, _) = setting.split_once(" = ")?;
        key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-').then_some(setting)
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = read("idle-timeout = \"5m\"\nshards = 3\nno-evict = true\n").unwrap();
        let line = Options { shards: Some(1), ..Options::default() };
        let settings = line.or(file).settings(100).unwrap();
        assert_eq!((settings.shards, settings.max_sessions, settings.evict), (1, 100, false));
        assert_eq!(settings.protocol.control_idle, embassy_time::Duration::from_secs(300));
    }

    #[test]
    fn impossible_settings_are_named() {
        for (options, part) in [
            (Options { shards: Some(0), ..Options::default() }, "shards"),
            (Options { max_sessions: Some(0), ..Options::default() }, "max-sessions"),
            (Options { tick: Some(Duration::ZERO), ..Options::default() }, "tick"),
            (Options { max_command: Some(1), ..Options::default() }, "max-command"),
            (
                Options { idle_timeout: Some(Duration::from_millis(1)), ..Options::default() },
                "idle-timeout",
            ),
        ] {
            let error = options.settings(10).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
