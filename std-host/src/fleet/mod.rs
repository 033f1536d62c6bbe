//! A fleet of simulated devices over real sockets, against any server of the protocol.
//!
//! Each device connects, beats, and now and then goes *dark*: it loses its signal without a FIN, so
//! its socket stays open and silent, and the device comes back from a new port while the old
//! connection may still stand. The fleet measures when the server closes each dark connection
//! against the last proof of life, and whether it ever closes a live one. Some devices may upload
//! files over bad links, and compare what the server made of them.

mod config;
mod connection;
mod descriptors;
mod device;
mod judge;
mod report;
mod stats;
mod upload;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

pub use config::{Credentials, FleetConfig};
pub use report::{FleetReport, Millis};
pub use stats::{Counter, Finding, FleetStats, Percentiles};
pub use upload::{UploadConfig, UploadReport, UploadStats};

use crate::client::wire;

/// The longest wait of a device before another attempt after failures.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// How often the observer is called.
const OBSERVE: Duration = Duration::from_millis(250);

/// How long the lag probe sleeps between two looks at the clock.
const PROBE: Duration = Duration::from_millis(20);

/// Waits before another attempt: longer after each failure in a row, and no two devices in step.
async fn back_off(failures: &mut u32, rng: &mut SmallRng) {
    let base = Duration::from_millis(500 << (*failures).min(5));
    *failures = failures.saturating_add(1);
    sleep(base.min(MAX_BACKOFF).mul_f64(rng.random_range(0.5..1.0))).await;
}

/// Why a fleet cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// The configuration contradicts itself.
    #[error("{0}")]
    Config(String),
    /// Not enough file descriptors.
    #[error(
        "the fleet needs about {needed} descriptors for its sockets, but only {left} are left: \
         take fewer devices, or raise the limit (`ulimit -n`)"
    )]
    Descriptors {
        /// One per device, and those of connections that dark devices leave behind.
        needed: u64,
        /// Below the limit and not in use.
        left: u64,
    },
}

/// What all devices share.
struct Shared {
    config: FleetConfig,
    stats: Arc<FleetStats>,
    pacer: Pacer,
    /// Two heartbeat packets in a row, so that any cut and any glue is a slice of them.
    beats: Arc<[u8]>,
    dark_until: Option<Instant>,
}

/// Spaces connection attempts.
struct Pacer {
    gap: Duration,
    next: Mutex<Instant>,
}

impl Pacer {
    /// Waits for the caller's turn.
    async fn turn(&self) {
        let at = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let at = (*next).max(Instant::now());
            *next = at + self.gap;
            at
        };
        sleep_until(at.into()).await;
    }
}

/// A checked fleet, ready to run.
pub struct Fleet {
    config: FleetConfig,
    stats: Arc<FleetStats>,
}

impl Fleet {
    /// Checks `config`, and raises this process's descriptor limit as far as it goes.
    ///
    /// # Errors
    /// When the configuration cannot be judged, or descriptors are short.
    pub fn new(config: FleetConfig) -> Result<Self, FleetError> {
        config.check()?;
        descriptors::reserve(config.descriptors())?;
        let stats = Arc::new(FleetStats::new());
        Ok(Self { config, stats })
    }

    /// The fleet's counters, to be read while it runs.
    pub fn stats(&self) -> Arc<FleetStats> {
        Arc::clone(&self.stats)
    }

    /// Runs until the configured duration is over or `shutdown` is done, and calls `observer` four
    /// times a second. Must be called inside a Tokio runtime.
    ///
    /// A run with a duration stops sending devices dark in time for all dark connections to be
    /// judged before its end.
    pub async fn run(
        self,
        shutdown: impl Future<Output = ()>,
        mut observer: impl FnMut(&FleetStats),
    ) -> FleetReport {
        let started = Instant::now();
        let end = self.config.duration.and_then(|run| started.checked_add(run));
        let shared = Arc::new(Shared {
            pacer: Pacer {
                gap: Duration::from_secs(1) / self.config.connect_rate,
                next: Mutex::new(started),
            },
            beats: two_beats(),
            dark_until: self.config.dark_until().and_then(|d| started.checked_add(d)),
            config: self.config,
            stats: self.stats,
        });
        let (dark_tx, mut dark_rx) = mpsc::unbounded_channel();
        let mut devices = JoinSet::new();
        for index in 0..shared.config.devices {
            devices.spawn(device::Device::new(index, Arc::clone(&shared), dark_tx.clone()).live());
        }
        drop(dark_tx);
        if let Some(uploads) = &shared.config.uploads {
            for index in 0..uploads.uploaders {
                let uploader = upload::Uploader::new(index, Arc::clone(&shared), uploads.clone());
                devices.spawn(uploader.live());
            }
        }
        devices.spawn(probe(Arc::clone(&shared.stats)));

        let mut watchers = JoinSet::new();
        let mut observe = interval(OBSERVE);
        observe.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                () = until(end) => break,
                Some(dark) = dark_rx.recv() => {
                    watchers.spawn(device::Dark::watch(dark));
                }
                Some(_) = watchers.join_next() => {}
                _ = observe.tick() => observer(&shared.stats),
            }
        }
        // Each dark connection that is dropped unjudged counts itself as missed or pending: devices
        // first, so that no new ones come.
        devices.shutdown().await;
        dark_rx.close();
        while dark_rx.recv().await.is_some() {}
        watchers.shutdown().await;
        observer(&shared.stats);
        FleetReport::new(&shared.config, &shared.stats, started.elapsed())
    }
}

/// Sleeps until `end`, or for ever without one.
async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end.into()).await,
        None => std::future::pending().await,
    }
}

fn two_beats() -> Arc<[u8]> {
    let beat = wire::encode_request("Active", &[], b"").expect("a constant request is valid");
    beat.repeat(2).into()
}

/// Measures how late this process's own tasks get their turn.
async fn probe(stats: Arc<FleetStats>) {
    loop {
        let before = Instant::now();
        sleep(PROBE).await;
        stats.lag(before.elapsed().saturating_sub(PROBE));
    }
}
