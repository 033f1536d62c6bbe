//! Devices that also upload files, over links that are slow and break.
//!
//! A cut mostly loses the signal: the old connection stays open and silent, and the device comes
//! back from a new port and continues where the server stands. What the old connection's socket had
//! taken may still arrive, as it may on a mobile network. At the end of a file the device fetches it,
//! without cuts, and compares.

mod pattern;
mod report;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use super::{Credentials, Shared, back_off};
use crate::client::{Client, ClientError, Flag, Timeouts};
use pattern::Pattern;
pub use report::{UploadReport, UploadStats};

/// The largest packet of data.
const PACKET: u64 = 32 * 1024;

/// On a slow link, so many packets a second: the server hears from a device that sends.
const PACKETS_A_SECOND: u64 = 10;

/// Data of one packet on the way back.
const FETCH: u32 = 64 * 1024;

/// How many silent connections one device leaves open at most: a server that closes none must not
/// use up the fleet's descriptors.
const LEFT_OPEN: usize = 4;

/// Descriptors of one uploader: silent connections, its own, and one that is being made.
pub(super) const DESCRIPTORS: u64 = LEFT_OPEN as u64 + 2;

/// The shares of cuts that are no mere loss of the signal.
const CLOSED: f64 = 0.15;
const RESET: f64 = 0.15;

/// Devices that upload.
#[derive(Debug, Clone)]
pub struct UploadConfig {
    /// How many of the devices; the first ones.
    pub uploaders: usize,
    /// How many files each of them uploads, one after the other.
    pub files: u64,
    /// Bytes of each file.
    pub bytes: u64,
    /// Bytes a second that a link carries; without it, all it can.
    pub link_rate: Option<u64>,
    /// The mean time between two cuts of a link; without it, none.
    pub link_cut: Option<Duration>,
    /// Whom they log in as.
    pub login: Credentials,
}

impl UploadConfig {
    /// Bytes in one packet.
    fn packet(&self) -> u64 {
        self.link_rate.map_or(PACKET, |rate| (rate / PACKETS_A_SECOND).clamp(1, PACKET))
    }
}

/// How a connection ended before its file did.
enum End {
    /// By the fleet's own choice.
    Cut,
    Failed(ClientError),
}

/// One file on its way.
struct Sending {
    name: String,
    pattern: Pattern,
    /// Most bytes that the server has ever reported as stored.
    stored: Option<u64>,
    /// Bytes that a socket has taken for certain, from the file's beginning.
    handed: u64,
    /// The same with a packet that may have been taken in part: the server cannot hold more.
    offered: u64,
    /// Cuts since the server last took the file up.
    cuts: u64,
}

/// One device's uploads, beside its heartbeats.
pub(super) struct Uploader {
    index: usize,
    rng: SmallRng,
    shared: Arc<Shared>,
    config: UploadConfig,
    user: String,
    failures: u32,
    /// Silent connections that the server has not closed yet.
    left: JoinSet<()>,
}

impl Uploader {
    pub(super) fn new(index: usize, shared: Arc<Shared>, config: UploadConfig) -> Self {
        // Not the stream of the same device's heartbeats.
        let spread = (index as u64 + 1).wrapping_mul(0xd1b5_4a32_d192_ed03);
        let user = config.login.user.replace("%n", &index.to_string());
        let rng = SmallRng::seed_from_u64(shared.config.seed ^ spread);
        Self { index, rng, shared, config, user, failures: 0, left: JoinSet::new() }
    }

    fn stats(&self) -> &UploadStats {
        &self.shared.stats.uploads
    }

    /// Uploads its files, compares each, and waits for the end.
    pub(super) async fn live(mut self) {
        let seed = self.shared.config.seed;
        for number in 0..self.config.files {
            let mut sending = Sending {
                name: format!("pulsegate-{seed:016x}-{}-{number}", self.index),
                pattern: Pattern::new(seed, self.index, number),
                stored: None,
                handed: 0,
                offered: 0,
                cuts: 0,
            };
            self.upload(&mut sending).await;
            self.stats().completed.up();
            self.compare(&sending).await;
        }
        while self.left.join_next().await.is_some() {}
    }

    /// Sends one file over as many connections as it takes.
    async fn upload(&mut self, sending: &mut Sending) {
        loop {
            let Some(mut client) = self.connect(Flag::Upload).await else {
                continue;
            };
            let cut_at = self.cut_at();
            let end = tokio::select! {
                sent = self.send(&mut client, sending) => match sent {
                    Ok(()) => {
                        self.failures = 0;
                        return;
                    }
                    Err(error) => End::Failed(error),
                },
                () = super::until(cut_at) => End::Cut,
            };
            match end {
                End::Cut => {
                    sending.cuts += 1;
                    self.cut(client);
                    self.failures = 0;
                    sleep(self.outage()).await;
                }
                End::Failed(error) => {
                    drop(client);
                    self.failed(&error);
                    self.back_off().await;
                }
            }
        }
    }

    /// A connection that has logged in; failures are counted and paused after.
    async fn connect(&mut self, flag: Flag) -> Option<Client> {
        self.shared.pacer.turn().await;
        let server = self.shared.config.server.to_string();
        let connected = match Client::connect_with(&server, flag, Timeouts::default()).await {
            Ok(mut client) => match client.login(&self.user, &self.config.login.password).await {
                Ok(()) => return Some(client),
                Err(error) => error,
            },
            Err(error) => error,
        };
        self.failed(&connected);
        self.back_off().await;
        None
    }

    /// One connection's part of a file, to its end if nothing happens.
    async fn send(&self, client: &mut Client, sending: &mut Sending) -> Result<(), ClientError> {
        let mut upload = client.upload("", &sending.name).await?;
        let stored = upload.stored();
        self.resumed(sending, stored);
        let (size, packet) = (self.config.bytes, self.config.packet());
        let mut data = Vec::new();
        let mut next = Instant::now();
        let mut offset = stored;
        while offset < size {
            let len = packet.min(size - offset);
            data.resize(usize::try_from(len).unwrap_or(0), 0);
            sending.pattern.fill(offset, &mut data);
            sending.offered = sending.offered.max(offset + len);
            upload.send(&data, &mut |_| {}).await?;
            offset += len;
            sending.handed = offset;
            self.stats().sent.add(len);
            if let Some(rate) = self.config.link_rate {
                // A link that had to wait does not make up for it.
                next = next.max(Instant::now()) + Duration::from_secs_f64(len as f64 / rate as f64);
                sleep_until(next.into()).await;
            }
        }
        upload.finish(Some(size), &mut |_| {}).await
    }

    /// Compares what the server says that it holds with what it said and got before.
    fn resumed(&self, sending: &mut Sending, stored: u64) {
        let stats = self.stats();
        stats.survived.add(std::mem::take(&mut sending.cuts));
        let (device, size) = (self.index, self.config.bytes);
        let name = &sending.name;
        match sending.stored {
            // A file of an earlier run with the same seed is the same file.
            None => sending.offered = stored.min(size),
            Some(before) => {
                if stored < before {
                    stats.stored_sent_again.add(before - stored);
                    stats.find(format!(
                        "device {device}: {name} had {before} bytes, and {stored} later"
                    ));
                }
                stats.sent_again.add(sending.handed.saturating_sub(stored.max(before)));
            }
        }
        if stored > 0 {
            stats.resumed.up();
        }
        if stored > sending.offered {
            stats.mismatches.up();
            let offered = sending.offered;
            stats.find(format!("device {device}: {name} has {stored} bytes, {offered} were sent"));
        }
        sending.stored = sending.stored.max(Some(stored));
        sending.handed = stored;
    }

    /// Fetches a file until it has come whole, and compares it.
    async fn compare(&mut self, sending: &Sending) {
        let mut offset = 0;
        loop {
            let Some(mut client) = self.connect(Flag::Download).await else {
                continue;
            };
            match self.fetch(&mut client, sending, &mut offset).await {
                Ok(true) => return self.stats().verified.up(),
                Ok(false) => return self.stats().mismatches.up(),
                Err(error) => {
                    self.failed(&error);
                    self.back_off().await;
                }
            }
        }
    }

    /// Whether a file is what was sent, from `offset` on.
    async fn fetch(
        &self,
        client: &mut Client,
        sending: &Sending,
        offset: &mut u64,
    ) -> Result<bool, ClientError> {
        let (device, name, size) = (self.index, &sending.name, self.config.bytes);
        let mut download = client.download("", name, *offset, FETCH).await?;
        let whole = *offset + download.remaining();
        if whole != size {
            self.stats().find(format!("device {device}: {name} came back with {whole} bytes"));
            return Ok(false);
        }
        while let Some(data) = download.next().await? {
            if let Some(at) = sending.pattern.differs(*offset, data) {
                self.stats().find(format!("device {device}: {name} differs at byte {at}"));
                return Ok(false);
            }
            *offset += data.len() as u64;
        }
        Ok(true)
    }

    /// When this connection is cut: every moment is as likely as any other.
    fn cut_at(&mut self) -> Option<Instant> {
        // Drawn in any case: the choices that follow must not depend on the mean.
        let share = -(1.0 - self.rng.random::<f64>()).ln();
        let wait = Duration::try_from_secs_f64(self.config.link_cut?.as_secs_f64() * share).ok()?;
        Instant::now().checked_add(wait)
    }

    /// How long a link is away after a cut.
    fn outage(&mut self) -> Duration {
        let mean = self.config.link_cut.unwrap_or_default() / 4;
        let mean = mean.clamp(Duration::from_millis(10), Duration::from_secs(5));
        mean.mul_f64(self.rng.random_range(0.5..1.5))
    }

    /// Ends a connection as a bad link does.
    fn cut(&mut self, client: Client) {
        let kind = self.rng.random::<f64>();
        let mut stream = client.into_stream();
        if kind < CLOSED {
            return self.stats().cut_closed.up();
        }
        if kind < CLOSED + RESET {
            // Closed with this, a socket resets its connection.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return self.stats().cut_reset.up();
        }
        self.stats().cut_silent.up();
        while self.left.try_join_next().is_some() {}
        if self.left.len() >= LEFT_OPEN {
            self.left.abort_all();
        }
        self.left.spawn(async move {
            let mut ignored = [0; 512];
            while stream.read(&mut ignored).await.is_ok_and(|got| got > 0) {}
        });
    }

    fn failed(&self, error: &ClientError) {
        let stats = self.stats();
        match error {
            ClientError::Connect { source, .. } => {
                return self.shared.stats.connect_failed(source);
            }
            ClientError::Refused { .. } => stats.refused.up(),
            _ => stats.broken.up(),
        }
        stats.find(format!("device {}: {error}", self.index));
    }

    async fn back_off(&mut self) {
        back_off(&mut self.failures, &mut self.rng).await;
    }
}
