//! `pulsegate demo`: a server and a simulated fleet in one process.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use pulsegate_core::server::CloseReason;
use tokio::sync::oneshot;

use super::demo_view::{self, DemoFrame, DemoSummary, DemoTotals, SilentRow, SweptRow};
use super::ping::positive;
use super::serve::descriptors;
use crate::config::Options;
use crate::fleet::{Credentials, Fleet, FleetConfig, FleetReport, FleetStats};
use crate::server::{ClientRow, Ended, Observer, Running, Settings, Stats, start};
use crate::users::{LoginPolicy, Role, User, UserDb};

/// Swept sessions that are remembered for the view.
const SWEPT_SHOWN: usize = 64;

/// How often the view's picture of the sessions is renewed.
const SURVEY_EVERY: Duration = Duration::from_millis(200);

/// How long the server may take to end its sessions.
const GRACE: Duration = Duration::from_secs(3);

/// Everybody's password in the demo; its server is on loopback and gone with it.
const PASSWORD: &str = "demo";

/// Runs a server and a fleet of simulated GPRS devices in one process, and shows who is alive, who
/// went silent, and who was swept how late.
///
/// The devices beat with radio latency, lose their signal without a FIN, come back from a new port
/// while their old connection still stands, and send duplicates and split packets. Exits with 1 if
/// a silent device was closed early, late or not at all, or a live one was closed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many devices.
    #[arg(long, value_name = "N", default_value_t = 200)]
    devices: usize,
    /// Time between two heartbeats of a device, give or take a fifth.
    #[arg(long, value_name = "DUR", default_value = "1s", value_parser = positive)]
    heartbeat: Duration,
    /// Silence after which the server closes a connection.
    #[arg(long, value_name = "DUR", default_value = "5s", value_parser = positive)]
    idle_timeout: Duration,
    /// Precision of the server's timeouts.
    #[arg(long, value_name = "DUR", default_value = "100ms", value_parser = positive)]
    tick: Duration,
    /// Devices that lose their signal per minute, as a part of all: 0.6 is 60 %.
    #[arg(long, value_name = "RATE", default_value_t = 0.6)]
    dark: f64,
    /// How long to run; without it, until q or Ctrl-C.
    #[arg(long = "for", value_name = "DUR", value_parser = positive)]
    duration: Option<Duration>,
    /// Where the demo's server listens; port 0 picks one.
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Repeat the devices' choices of an earlier run.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// What the server has told about ended sessions.
#[derive(Debug, Default)]
struct Swept {
    latest: Mutex<VecDeque<SweptRow>>,
    on_time: AtomicU64,
    late: AtomicU64,
    worst_us: AtomicU64,
}

impl Swept {
    fn note(&self, ended: &Ended, since_start: Duration, tick: Duration) {
        let Some(overdue) = ended.overdue.filter(|_| ended.reason == CloseReason::Idle) else {
            return;
        };
        let late_us = u64::try_from(overdue.as_micros()).unwrap_or(u64::MAX);
        let counter = if overdue <= tick { &self.on_time } else { &self.late };
        counter.fetch_add(1, Ordering::Relaxed);
        self.worst_us.fetch_max(late_us, Ordering::Relaxed);
        let mut latest = lock(&self.latest);
        latest.truncate(SWEPT_SHOWN - 1);
        latest.push_front(SweptRow {
            at: since_start,
            remote: ended.remote.to_string(),
            user: ended.user.clone().unwrap_or_default(),
            reason: ended.reason.name().to_owned(),
            silence: ended.silence,
            lateness_us: i64::try_from(late_us).unwrap_or(i64::MAX),
        });
    }

    fn count(&self) -> u64 {
        self.on_time.load(Ordering::Relaxed) + self.late.load(Ordering::Relaxed)
    }

    fn worst(&self) -> Option<i64> {
        let worst = i64::try_from(self.worst_us.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        (self.count() > 0).then_some(worst)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the demo and prints its summary.
///
/// # Errors
/// What kept the server or the fleet from starting.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        args.listen.ip().is_loopback(),
        "--listen {}: the demo's passwords are public, so it listens on loopback only",
        args.listen
    );
    // Each device has a descriptor on both sides, and its dark connections as well.
    let settings = settings(&args, descriptors() / 2)?;
    let started = Instant::now();
    let swept = Arc::new(Swept::default());
    let observer: Observer = {
        let (swept, tick) = (Arc::clone(&swept), args.tick);
        Arc::new(move |ended| swept.note(ended, started.elapsed(), tick))
    };
    let running = Arc::new(start(settings, users(args.devices)?, Some(observer))?);
    let fleet = Fleet::new(fleet_config(&args, running.address()))?;
    let stats = fleet.stats();
    let rows = Arc::new(Mutex::new(Vec::new()));
    let survey = Survey::start(Arc::clone(&running), Arc::clone(&rows));

    let (quit, quitted) = oneshot::channel::<()>();
    let task = tokio::spawn(fleet.run(
        async {
            // An error means that the view is gone, which ends the run as well.
            let _ = quitted.await;
        },
        |_| {},
    ));
    let (over, is_over) = oneshot::channel::<()>();
    let report = tokio::spawn(async move {
        let report = task.await;
        // Nobody waits for it where the view was ended by hand.
        let _ = over.send(());
        report
    });
    let view =
        View { args: &args, started, running: &running, stats: &stats, swept: &swept, rows: &rows };
    let shown = demo_view::show(|| view.frame(), async {
        let _ = is_over.await;
    })
    .await;
    let _ = quit.send(());
    let report = report.await?.context("the fleet broke down")?;
    drop(survey);
    shown.context("the terminal cannot be used")?;
    let running = Arc::into_inner(running).context("the survey still runs")?;
    let closes = running.stats();
    tokio::task::spawn_blocking(move || running.stop(GRACE)).await??;
    Ok(conclude(&args, &report, &swept, &closes))
}

fn settings(args: &Args, room: usize) -> anyhow::Result<Settings> {
    let options = Options {
        listen: Some(args.listen),
        idle_timeout: Some(args.idle_timeout),
        tick: Some(args.tick),
        ..Options::default()
    };
    options.settings(room)
}

fn fleet_config(args: &Args, server: SocketAddr) -> FleetConfig {
    let defaults = FleetConfig::new(server, args.devices);
    FleetConfig {
        heartbeat: args.heartbeat,
        idle_timeout: args.idle_timeout,
        tick: args.tick,
        dark_per_minute: args.dark,
        // Shorter than the timeout for about half of them: they come back while the old
        // connection still stands.
        reconnect: args.idle_timeout,
        duration: args.duration,
        login: Some(Credentials { user: "meter-%n".to_owned(), password: PASSWORD.to_owned() }),
        seed: args.seed.unwrap_or(defaults.seed),
        ..defaults
    }
}

/// A device's user for each of the fleet, and an operator.
fn users(devices: usize) -> anyhow::Result<UserDb> {
    let user = |name: String, role| {
        (User { name, role, login_policy: LoginPolicy::Allow }, PASSWORD.to_owned())
    };
    let devices = (0..devices).map(|n| user(format!("meter-{n}"), Role::Device));
    Ok(UserDb::in_memory(devices.chain([user("operator".to_owned(), Role::Operator)]))?)
}

/// Renews the picture of the sessions until it is dropped.
struct Survey {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Survey {
    fn start(running: Arc<Running>, rows: Arc<Mutex<Vec<ClientRow>>>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(mut fresh) = running.snapshot().wait(SURVEY_EVERY) {
                    fresh.sort_by_key(|row| std::cmp::Reverse(row.silence));
                    *lock(&rows) = fresh;
                }
                thread::sleep(SURVEY_EVERY);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Survey {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; the picture is only for show.
            let _ = thread.join();
        }
    }
}

/// What the view draws from.
struct View<'a> {
    args: &'a Args,
    started: Instant,
    running: &'a Running,
    stats: &'a FleetStats,
    swept: &'a Swept,
    rows: &'a Mutex<Vec<ClientRow>>,
}

impl View<'_> {
    fn frame(&self) -> DemoFrame {
        let server = self.running.stats();
        let rows = lock(self.rows);
        let silent = rows.iter().take(64).map(|row| SilentRow {
            remote: row.remote.to_string(),
            user: row.user.clone().unwrap_or_default(),
            protocol: row.protocol.to_owned(),
            silence: row.silence,
        });
        DemoFrame {
            elapsed: self.started.elapsed(),
            listen: self.running.address().to_string(),
            idle_timeout: self.args.idle_timeout,
            totals: DemoTotals {
                connected: server.sessions,
                logged_in: rows.iter().filter(|row| row.user.is_some()).count() as u64,
                dark: self.stats.dark.get(),
                heartbeats: server.heartbeats,
                swept: self.swept.count(),
                replaced: self.stats.replaced.get(),
                false_closes: self.stats.false_closes.get(),
                worst_lateness_us: self.swept.worst(),
            },
            silent: silent.collect(),
            swept: lock(&self.swept.latest).iter().cloned().collect(),
        }
    }
}

/// Prints the summary; the server's own records tell the lateness, the fleet's view tells whether
/// somebody was closed who should not have been.
fn conclude(args: &Args, report: &FleetReport, swept: &Swept, server: &Stats) -> ExitCode {
    let time = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
    let summary = DemoSummary {
        devices: args.devices as u64,
        connections: report.connections,
        heartbeats: report.beats_answered,
        on_time: swept.on_time.load(Ordering::Relaxed),
        late: swept.late.load(Ordering::Relaxed),
        early: report.early,
        missed: report.missed,
        false_closes: report.false_closes,
        worst_lateness_us: swept.worst(),
        round_trip_p50: time(report.round_trip_ms.p50),
        round_trip_p99: time(report.round_trip_ms.p99),
    };
    print!("{summary}");
    let closes: Vec<String> =
        server.closes().map(|(reason, count)| format!("{count} {reason}")).collect();
    println!("closed, by reason      {}", closes.join(", "));
    println!("seed                   {} (repeat with --seed)", report.seed);
    for finding in &report.findings {
        println!("  {finding:?}");
    }
    let good = report.passed && summary.late == 0;
    println!(
        "{}",
        if good {
            "every silent device was closed on time, and no live one was"
        } else {
            "NOT as it should be: see the figures above"
        }
    );
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
