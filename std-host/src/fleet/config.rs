//! What a fleet is, and which fleets make no sense.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use rand::TryRng;
use rand::rngs::SysRng;

use super::{FleetError, UploadConfig, upload};

/// Heartbeats come this much earlier or later than the interval says.
pub(super) const JITTER: f64 = 0.2;

/// The longest pause inside one heartbeat that is sent in two pieces.
pub(super) const MAX_PAUSE: Duration = Duration::from_millis(50);

/// Connections per source address, when a loopback fleet is spread over several: below the 28,232
/// ephemeral ports that Linux has by default, with room for the old connections of dark devices.
pub(super) const PER_SOURCE: usize = 20_000;

/// Over this many devices a loopback fleet uses several source addresses.
const ONE_SOURCE_MAX: usize = 25_000;

/// Extra time after which a dark connection that is still open is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which user the devices log in as.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// User name; `%n` in it becomes the device's number.
    pub user: String,
    /// The password, the same for all.
    pub password: String,
}

/// A fleet of simulated devices.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// The server under test.
    pub server: SocketAddr,
    /// How many devices.
    pub devices: usize,
    /// Time between two heartbeats of a device, give or take a fifth.
    pub heartbeat: Duration,
    /// The server's idle timeout: what its closes are judged against.
    pub idle_timeout: Duration,
    /// The server's sweep tick: how late a close may be.
    pub tick: Duration,
    /// On top of the tick: what network and scheduling may add before a close counts as late.
    pub allowance: Duration,
    /// Fraction of the live devices that lose their signal, per minute.
    pub dark_per_minute: f64,
    /// How long a device stays dark, give or take a half, before it connects anew.
    pub reconnect: Duration,
    /// How long the fleet runs; without it, until it is told to stop.
    pub duration: Option<Duration>,
    /// Log in first, or only send heartbeats.
    pub login: Option<Credentials>,
    /// The server closes a device's old connection when the device logs in again: such closes are
    /// then neither early nor late.
    pub takeover: bool,
    /// New connections per second, first ones and reconnects together.
    pub connect_rate: u32,
    /// The longest simulated radio delay before a send.
    pub latency: Duration,
    /// The same seed gives every device the same choices.
    pub seed: u64,
    /// Devices that also upload files.
    pub uploads: Option<UploadConfig>,
}

impl FleetConfig {
    /// A fleet with the defaults of the `simulate` command and a seed of its own.
    pub fn new(server: SocketAddr, devices: usize) -> Self {
        Self {
            server,
            devices,
            heartbeat: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(60),
            tick: Duration::from_millis(100),
            allowance: Duration::from_millis(200),
            dark_per_minute: 0.05,
            reconnect: Duration::from_secs(30),
            duration: None,
            login: None,
            takeover: false,
            connect_rate: 2_000,
            latency: Duration::from_millis(200),
            seed: SysRng.try_next_u64().unwrap_or_default(),
            uploads: None,
        }
    }

    /// The longest that a live device is silent when nothing goes wrong.
    fn longest_silence(&self) -> Duration {
        self.heartbeat.mul_f64(1.0 + JITTER) + self.latency + MAX_PAUSE
    }

    /// From the last proof of life to the moment after which a close counts as late.
    pub(super) fn close_by(&self) -> Duration {
        self.idle_timeout + self.tick + self.allowance
    }

    /// From going dark until its connection must have been judged.
    pub(super) fn judged_by(&self) -> Duration {
        self.close_by() + PATIENCE
    }

    /// How long the first connections take.
    fn ramp(&self) -> Duration {
        Duration::from_secs_f64(self.devices as f64 / f64::from(self.connect_rate.max(1)))
    }

    /// How long after the start devices may still go dark, so that all get judged before the end.
    pub(super) fn dark_until(&self) -> Option<Duration> {
        self.duration.map(|run| run.saturating_sub(self.judged_by()))
    }

    /// Descriptors for the devices and the old connections that dark ones leave behind.
    pub(super) fn descriptors(&self) -> u64 {
        let dark_minutes = self.judged_by().as_secs_f64() / 60.0;
        // Half again, because chance has its peaks.
        let old = self.devices as f64 * self.dark_per_minute * dark_minutes * 1.5;
        let uploaders = self.uploads.as_ref().map_or(0, |uploads| uploads.uploaders as u64);
        self.devices as u64 + old.ceil() as u64 + uploaders * upload::DESCRIPTORS
    }

    /// The address device `index` connects from, when that must not be left to the kernel.
    pub(super) fn source(&self, index: usize) -> Option<IpAddr> {
        let IpAddr::V4(server) = self.server.ip() else {
            return None;
        };
        if !server.is_loopback() || self.devices <= ONE_SOURCE_MAX {
            return None;
        }
        // 127.1.0.0 and up: away from 127.0.0.1, where servers listen.
        let base = u32::from(Ipv4Addr::new(127, 1, 0, 1));
        let group = u32::try_from(index / PER_SOURCE).unwrap_or(u32::MAX) & 0xffff;
        Some(Ipv4Addr::from(base + group).into())
    }

    /// Refuses what cannot be run or judged.
    pub(super) fn check(&self) -> Result<(), FleetError> {
        let wrong = |text: String| Err(FleetError::Config(text));
        if self.devices == 0 || self.connect_rate == 0 {
            return wrong("at least one device and one connection per second are needed".into());
        }
        if self.heartbeat.is_zero() {
            return wrong("the heartbeat interval must be longer than zero".into());
        }
        if !(self.dark_per_minute.is_finite() && self.dark_per_minute >= 0.0) {
            return wrong("the dark rate must be a fraction per minute, such as 0.05 or 5%".into());
        }
        let silence = self.longest_silence();
        if silence >= self.idle_timeout {
            return wrong(format!(
                "with a heartbeat every {} (up to {} with jitter and radio delay) live devices \
                 would outlast the idle timeout of {}: beat faster, or raise the timeout",
                humantime::format_duration(self.heartbeat),
                humantime::format_duration(silence),
                humantime::format_duration(self.idle_timeout),
            ));
        }
        if self.takeover && !self.login.as_ref().is_some_and(|l| l.user.contains("%n")) {
            return wrong("takeover needs a user name of its own per device: put %n in it".into());
        }
        if let Some(uploads) = &self.uploads {
            let UploadConfig { uploaders, bytes, link_rate, .. } = uploads;
            if *uploaders > self.devices {
                return wrong(format!(
                    "{uploaders} uploaders are more than {} devices: raise --devices",
                    self.devices
                ));
            }
            if *bytes == 0 || *link_rate == Some(0) {
                return wrong("files and links need at least one byte".into());
            }
        }
        let shortest = self.ramp() + self.judged_by();
        if self.dark_per_minute > 0.0 && self.duration.is_some_and(|run| run <= shortest) {
            return wrong(format!(
                "a run must be longer than {} here, or no device that goes dark can be judged \
                 before it ends: run longer, or set the dark rate to 0",
                humantime::format_duration(Duration::from_secs(shortest.as_secs() + 1)),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(devices: usize) -> FleetConfig {
        FleetConfig::new("127.0.0.1:9999".parse().unwrap(), devices)
    }

    #[test]
    fn a_large_loopback_fleet_has_several_source_addresses() {
        assert_eq!(config(25_000).source(24_999), None);
        let large = config(100_000);
        let sources: std::collections::BTreeSet<_> =
            (0..100_000).map(|i| large.source(i)).collect();
        assert_eq!(sources.len(), 100_000 / PER_SOURCE);
        assert!(sources.iter().all(|s| s.is_some_and(|ip| ip.is_loopback())));
        let mut remote = config(100_000);
        remote.server = "192.0.2.1:9999".parse().unwrap();
        assert_eq!(remote.source(99_999), None);
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        assert!(config(10).check().is_ok());
        let refused = |change: fn(&mut FleetConfig)| {
            let mut config = config(10);
            change(&mut config);
            config.check().is_err()
        };
        assert!(refused(|c| c.devices = 0));
        assert!(refused(|c| c.heartbeat = Duration::from_secs(50)));
        assert!(refused(|c| c.dark_per_minute = f64::NAN));
        assert!(refused(|c| c.duration = Some(Duration::from_secs(60))));
        assert!(refused(|c| c.takeover = true));
        assert!(!refused(|c| {
            c.dark_per_minute = 0.0;
            c.duration = Some(Duration::from_secs(1));
        }));
    }

    #[test]
    fn descriptors_cover_old_connections_too() {
        let mut fleet = config(1000);
        fleet.dark_per_minute = 0.0;
        assert_eq!(fleet.descriptors(), 1000);
        fleet.dark_per_minute = 1.0;
        assert!(fleet.descriptors() > 2000);
    }
}
