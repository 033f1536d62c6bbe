//! One simulated device, and what becomes of the connections it leaves behind.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{sleep, sleep_until, timeout};

use super::config::JITTER;
use super::connection::{Connection, Got};
use super::{FleetConfig, Shared, back_off};
use crate::client::{password_digest, wire};

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The share of dark devices that lose their signal in the middle of a packet.
const TORN: f64 = 0.25;

/// How a live spell ended.
enum End {
    Dark,
    Closed,
}

/// A connection whose device has lost its signal: judged by when the server closes it, or, when the
/// fleet stops first, by whether it was due.
pub(super) struct Dark {
    connection: Connection,
    device: usize,
    /// How often the device had logged in when this connection was its latest.
    login: u64,
    logins: Arc<AtomicU64>,
    judged: bool,
    shared: Arc<Shared>,
}

impl Drop for Dark {
    fn drop(&mut self) {
        let stats = &self.shared.stats;
        stats.dark.down();
        if !self.judged {
            let Connection { local, proof, .. } = self.connection;
            stats.still_open(self.device, local, proof, &self.shared.config);
        }
    }
}

impl Dark {
    /// Waits for the server's close and judges it.
    pub(super) async fn watch(mut self) {
        loop {
            let got = match self.connection.readable().await {
                Ok(()) => self.connection.read(),
                Err(_) => Got::Closed,
            };
            if got == Got::Closed {
                break;
            }
        }
        let closed = Instant::now();
        self.judged = true;
        let Shared { config, stats, .. } = &*self.shared;
        if config.takeover && self.logins.load(Relaxed) > self.login {
            return stats.replaced.up();
        }
        let Connection { local, proof, .. } = self.connection;
        stats.closed_dark(self.device, local, proof, closed, config);
    }
}

/// One device, from its first connection until its task is dropped.
pub(super) struct Device {
    index: usize,
    rng: SmallRng,
    login: Option<(String, String)>,
    logins: Arc<AtomicU64>,
    failures: u32,
    shared: Arc<Shared>,
    dark: UnboundedSender<Dark>,
}

impl Device {
    pub(super) fn new(index: usize, shared: Arc<Shared>, dark: UnboundedSender<Dark>) -> Self {
        // Seeds of neighbours must not be neighbours of each other's streams.
        let spread = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let login = shared.config.login.as_ref().map(|login| {
            let user = login.user.replace("%n", &index.to_string());
            (user, password_digest(&login.password))
        });
        Self {
            index,
            rng: SmallRng::seed_from_u64(shared.config.seed ^ spread),
            login,
            logins: Arc::default(),
            failures: 0,
            shared,
            dark,
        }
    }

    /// Lives: connects, beats, loses its signal, comes back from a new port.
    pub(super) async fn live(mut self) {
        loop {
            self.shared.pacer.turn().await;
            let mut connection = match self.connect().await {
                Ok(connection) => connection,
                Err(error) => {
                    self.shared.stats.connect_failed(&error);
                    self.back_off().await;
                    continue;
                }
            };
            let end = self.beat(&mut connection).await.unwrap_or(End::Closed);
            match end {
                End::Dark => {
                    self.failures = 0;
                    self.leave_behind(connection);
                    let spell = self.shared.config.reconnect;
                    sleep(spell.mul_f64(self.rng.random_range(0.5..1.5))).await;
                }
                End::Closed => {
                    self.closed(&connection);
                    drop(connection);
                    self.back_off().await;
                }
            }
        }
    }

    async fn connect(&self) -> io::Result<Connection> {
        let Shared { config, stats, beats, .. } = &*self.shared;
        let attempt = timeout(CONNECT_TIMEOUT, dial(config, self.index));
        let stream = attempt.await??;
        Connection::new(stream, Arc::clone(beats), Arc::clone(stats))
    }

    /// The server closed a live connection.
    fn closed(&mut self, connection: &Connection) {
        let Shared { config, stats, .. } = &*self.shared;
        if connection.answered {
            self.failures = 0;
            let idle = config.idle_timeout;
            stats.closed_live(self.index, connection.local, connection.silence(), idle);
        } else {
            stats.turned_away.up();
        }
    }

    async fn back_off(&mut self) {
        back_off(&mut self.failures, &mut self.rng).await;
    }

    /// Beats until the device goes dark or the server closes.
    async fn beat(&mut self, connection: &mut Connection) -> io::Result<End> {
        let shared = Arc::clone(&self.shared);
        let config = &shared.config;
        let glued = self.rng.random_bool(0.5);
        let login = self.login_packet()?;
        if login.is_some() {
            self.logins.fetch_add(1, Relaxed);
        }
        connection.greet(login, glued).await?;
        if !glued {
            connection.plan_beat(config.latency, &mut self.rng);
        }
        // A device's first beats are spread over the interval, or a fast ramp would beat in step.
        let mut next_beat = Instant::now() + config.heartbeat.mul_f64(self.rng.random());
        let dark_at = self.dark_at();
        loop {
            let mut wake = connection.next_piece().unwrap_or(next_beat);
            if let Some(dark_at) = dark_at {
                wake = wake.min(dark_at);
            }
            tokio::select! {
                readable = connection.readable() => {
                    readable?;
                    if connection.read() == Got::Closed {
                        return Ok(End::Closed);
                    }
                }
                () = sleep_until(wake.into()) => {
                    let now = Instant::now();
                    if dark_at.is_some_and(|at| at <= now) {
                        // With pieces of a beat still to be sent it may be torn already; another
                        // piece behind it would not be half a packet but a wrong one.
                        if self.rng.random_bool(TORN) && connection.next_piece().is_none() {
                            connection.send_torn(&mut self.rng).await?;
                        }
                        return Ok(End::Dark);
                    }
                    if connection.next_piece().is_none() && next_beat <= now {
                        connection.plan_beat(config.latency, &mut self.rng);
                        let jitter = self.rng.random_range(1.0 - JITTER..1.0 + JITTER);
                        next_beat = now + config.heartbeat.mul_f64(jitter);
                    }
                    connection.send_due().await?;
                }
            }
        }
    }

    fn login_packet(&self) -> io::Result<Option<Vec<u8>>> {
        let Some((user, digest)) = &self.login else {
            return Ok(None);
        };
        let keys = [("UserName", user.as_str()), ("Password", digest)];
        let packet = wire::encode_request("Login", &keys, b"");
        packet.map(Some).map_err(io::Error::other)
    }

    /// When this connection loses its signal: exponentially distributed, so that every moment is as
    /// likely as any other; never when that is after the fleet has stopped sending devices dark.
    fn dark_at(&mut self) -> Option<Instant> {
        // Drawn in any case: the choices that follow must not depend on the rate.
        let minutes = -(1.0 - self.rng.random::<f64>()).ln();
        let rate = self.shared.config.dark_per_minute;
        let wait = Duration::try_from_secs_f64(minutes / rate * 60.0).ok()?;
        let at = Instant::now().checked_add(wait)?;
        self.shared.dark_until.is_none_or(|until| at < until).then_some(at)
    }

    fn leave_behind(&self, mut connection: Connection) {
        connection.leave();
        let stats = &self.shared.stats;
        stats.went_dark.up();
        stats.dark.up();
        let dark = Dark {
            connection,
            device: self.index,
            login: self.logins.load(Relaxed),
            logins: Arc::clone(&self.logins),
            judged: false,
            shared: Arc::clone(&self.shared),
        };
        // The fleet listens for as long as its devices live; if it stopped, the connection comes
        // back in the error and is judged as it is dropped.
        drop(self.dark.send(dark));
    }
}

async fn dial(config: &FleetConfig, index: usize) -> io::Result<TcpStream> {
    let socket = match config.server {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(source) = config.source(index) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(config.server).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn devices_of_a_large_loopback_fleet_come_from_several_addresses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = FleetConfig::new(listener.local_addr().unwrap(), 1);
        let own = |stream: TcpStream| stream.local_addr().unwrap().ip();
        let few = own(dial(&config, 0).await.unwrap());
        assert!(few.is_loopback());
        // On other systems than Linux only 127.0.0.1 exists unless more are configured.
        if cfg!(target_os = "linux") {
            config.devices = 50_000;
            let first = own(dial(&config, 0).await.unwrap());
            let last = own(dial(&config, 49_999).await.unwrap());
            assert!(first.is_loopback() && last.is_loopback() && first != last);
        }
    }
}
