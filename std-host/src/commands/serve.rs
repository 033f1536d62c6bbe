//! `pulsegate serve`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::{LevelFilter, dynamic_filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{fmt, util::SubscriberInitExt};

use crate::config::{FILE_DESCRIPTORS, LogFormat, LogLevel, Options, read_file};
use crate::descriptors::raise;
use crate::files::FilesConfig;
use crate::server::{LogHub, Running, Settings, start};
use crate::users::UserDb;

/// Descriptors that are not for sessions: listeners, queues, files, the standard three.
const RESERVED_DESCRIPTORS: usize = 64;

/// How long sessions have to take their last reply when the server stops.
const GRACE: Duration = Duration::from_secs(3);

/// Log lines that may wait to be written.
const LOG_LINES: usize = 16 * 1024;

/// How often the users file is looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(1);

/// Options of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Settings file (TOML) with the names of the options below; options win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// What kept it from starting, with the way out.
pub async fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let file = args.config.as_deref().map(read_file).transpose()?.unwrap_or_default();
    let options = args.options.or(file);
    let hub = LogHub::new();
    let _log = init_log(
        options.log.unwrap_or(LogLevel::Info),
        options.log_format.unwrap_or(LogFormat::Text),
        &hub,
    );
    let descriptors = descriptors();
    let room = descriptors.saturating_sub(RESERVED_DESCRIPTORS);
    let for_files = if options.files.is_some() { FILE_DESCRIPTORS.min(room / 4) } else { 0 };
    let room = room - for_files;
    let settings = options.settings(room)?;
    let log = options.shows_log(settings.listen).then_some(hub);
    // The other descriptors are the sessions'.
    let files = settings.files.map(|files| FilesConfig { max_open: for_files.max(1), ..files });
    let settings = Settings { log, files, ..settings };
    if settings.max_sessions > room {
        warn!(
            max_sessions = settings.max_sessions,
            descriptors,
            "the descriptor limit leaves room for {room} sessions only; raise it with `ulimit -n` or LimitNOFILE="
        );
    }
    keep_apart(&options, args.config.as_deref())?;
    let (users, notice) = open_users(&options, &settings)?;
    // Before the port is open: whoever sees it may send a signal at once.
    let mut signals = Signals::new()?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
    // A limit on the size of files (`ulimit -f`) is to fail the write that exceeds it, not to kill the server.
    let too_large = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    let _caught = signal(too_large).context("cannot catch SIGXFSZ")?;
    let running = start(settings, users, None)?;
    let mut stdout = std::io::stdout();
    // Whoever started us may not be listening; that is no reason not to serve.
    let _ = writeln!(stdout, "listening on {}", running.address()).and_then(|()| stdout.flush());
    info!(address = %running.address(), "serving");
    if let Some(notice) = notice {
        warn!("{notice}");
    }
    let broken = watch(&running, &mut signals, &mut hangup).await;
    info!("stopping");
    let stopped = tokio::task::spawn_blocking(move || running.stop(GRACE));
    tokio::select! {
        stopped = stopped => {
            let stats = stopped.context("the shards did not stop")??;
            info!(
                accepted = stats.accepted,
                refused = stats.refused,
                accept_errors = stats.accept_errors,
                heartbeats = stats.heartbeats,
                "stopped"
            );
        }
        () = signals.next() => warn!("stopped at once by a second signal"),
    }
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Waits for a signal, and looks after the users file meanwhile. Whether a shard has broken down.
async fn watch(running: &Running, signals: &mut Signals, hangup: &mut Signal) -> bool {
    let mut every = tokio::time::interval(RELOAD_EVERY);
    loop {
        tokio::select! {
            () = signals.next() => return false,
            _ = hangup.recv() => reload(running),
            _ = every.tick() => {
                reload(running);
                if running.is_broken() {
                    error!("a shard has ended; stopping");
                    return true;
                }
            }
        }
    }
}

/// Reads the users file again if it has changed.
fn reload(running: &Running) {
    match running.reload_users() {
        Ok(true) => info!("users read again"),
        Ok(false) => {}
        Err(error) => {
            warn!(%error, "the users file cannot be read again; the users stay as they were");
        }
    }
}

/// Whoever may write files must not be able to write who may do so.
fn keep_apart(options: &Options, config: Option<&Path>) -> anyhow::Result<()> {
    // What does not exist is told elsewhere.
    let Some(files) = options.files.as_deref().and_then(|dir| dir.canonicalize().ok()) else {
        return Ok(());
    };
    for path in options.users.as_deref().into_iter().chain(config) {
        let inside = path.canonicalize().is_ok_and(|path| path.starts_with(&files));
        anyhow::ensure!(
            !inside,
            "{} lies in the directory {} for files, where others may change it: keep it elsewhere",
            path.display(),
            files.display()
        );
    }
    Ok(())
}

/// The users of a server with these settings, and what its owner should know of them.
fn open_users(
    options: &Options,
    settings: &Settings,
) -> anyhow::Result<(UserDb, Option<&'static str>)> {
    if let Some(path) = &options.users {
        return Ok((UserDb::open(path)?, None));
    }
    // Whoever reaches a loopback listener is on this machine. Behind a proxy, too, everybody looks
    // local: the listener's own address decides, not the peer's.
    if settings.listen.ip().is_loopback() {
        let notice = "no users file: user admin with password admin may log in, as this listener is on loopback";
        return Ok((UserDb::demo()?, Some(notice)));
    }
    let notice = "no users file: nobody can log in; make one with `pulsegate user add NAME --users FILE` and pass --users FILE";
    Ok((UserDb::in_memory([])?, Some(notice)))
}

/// Logs to stderr; stdout is for what the command is asked for.
///
/// Lines are written by a thread of their own, and dropped when it cannot keep up: whoever reads
/// stderr must not be able to stop the shards. What is waiting is written when the guard goes.
///
/// Sessions that read the log get the same lines, as text; they are formatted only while somebody reads.
fn init_log(level: LogLevel, format: LogFormat, hub: &Arc<LogHub>) -> WorkerGuard {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    };
    let (writer, guard) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .buffered_lines_limit(LOG_LINES)
        .finish(std::io::stderr());
    let read = Arc::clone(hub);
    let level = LevelFilter::from_level(level);
    let readers =
        fmt::layer().with_target(false).with_ansi(false).with_writer(Arc::clone(hub)).with_filter(
            dynamic_filter_fn(move |line, _| *line.level() <= level && read.is_read())
                .with_max_level_hint(level),
        );
    let log = tracing_subscriber::registry().with(level).with(readers);
    match format {
        LogFormat::Text => {
            let colors = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let stderr = fmt::layer().with_target(false).with_ansi(colors).with_writer(writer);
            log.with(stderr).init();
        }
        LogFormat::Json => log.with(fmt::layer().json().with_writer(writer)).init(),
    }
    guard
}

/// Descriptors that this process may have, after raising the limit.
pub(super) fn descriptors() -> usize {
    // Without a limit the kernel's own ceiling stands.
    raise().map_or(1 << 20, |most| usize::try_from(most).unwrap_or(usize::MAX))
}

/// SIGINT and SIGTERM, which stop.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
        })
    }

    /// Waits for one that stops.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
