//! How long the data of a file may stand still, and reading that keeps to it.

use std::io;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::wire::{self, Limits};
use super::{Broken, Client, ClientError};
use crate::net::TcpState;

/// A transfer that waits is looked at this often, at least.
const LOOK: Duration = Duration::from_secs(1);

/// Counts how long nothing has moved. What the peer acknowledges is progress: a kernel may hold
/// megabytes that a slow link needs minutes for, and takes no more until a good part of them is gone.
#[derive(Debug)]
pub(super) struct Patience {
    stall: Duration,
    since: Instant,
    acknowledged: u64,
}

impl Patience {
    pub(super) fn new(stall: Duration, stream: &TcpStream) -> Self {
        Self { stall, since: Instant::now(), acknowledged: acknowledged(stream).unwrap_or(0) }
    }

    /// How long to wait before the next look.
    pub(super) fn interval(&self) -> Duration {
        LOOK.min(self.stall / 4)
    }

    /// Something has moved.
    pub(super) fn moved(&mut self) {
        self.since = Instant::now();
    }

    /// Whether it is worth while to wait on.
    pub(super) fn look(&mut self, stream: &TcpStream) -> bool {
        match acknowledged(stream) {
            Some(now) if now > self.acknowledged => {
                self.acknowledged = now;
                self.moved();
            }
            _ => {}
        }
        self.since.elapsed() < self.stall
    }
}

/// How many bytes the peer's machine has acknowledged, where the system tells.
pub(super) fn acknowledged(stream: &TcpStream) -> Option<u64> {
    TcpState::of(stream).map(|state| state.acknowledged)
}

/// Why waiting for data ended.
pub(super) enum Halt {
    Broken(Broken),
    Stalled,
}

impl From<Broken> for Halt {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.into())
    }
}

impl Client {
    pub(super) fn halted(&self, halt: Halt, direction: &'static str) -> ClientError {
        match halt {
            Halt::Broken(broken) => self.broken(broken),
            Halt::Stalled => {
                let (server, after) = (self.server.clone(), self.timeouts.stall);
                ClientError::Stalled { server, direction, after }
            }
        }
    }

    /// Reads one packet into `packet`, of which the first `got` bytes are there, for as long as
    /// something moves; calls `waiting` now and then.
    pub(super) async fn read_patiently(
        &self,
        packet: &mut Vec<u8>,
        got: usize,
        limits: Limits,
        waiting: &mut (dyn FnMut() + Send),
    ) -> Result<(), Halt> {
        let mut patience = Patience::new(self.timeouts.stall, &self.stream);
        packet.resize(wire::HEADER_LEN, 0);
        fill(&self.stream, packet, got, &mut patience, waiting).await?;
        let len = wire::packet_len(packet, limits).map_err(Broken::Reply)?.unwrap_or(0);
        packet.resize(len, 0);
        fill(&self.stream, packet, wire::HEADER_LEN, &mut patience, waiting).await
    }
}

/// Reads until `bytes`, of which `got` are there, is full.
async fn fill(
    stream: &TcpStream,
    bytes: &mut [u8],
    mut got: usize,
    patience: &mut Patience,
    waiting: &mut (dyn FnMut() + Send),
) -> Result<(), Halt> {
    while got < bytes.len() {
        match stream.try_read(&mut bytes[got..]) {
            Ok(0) => return Err(Broken::Closed.into()),
            Ok(more) => {
                got += more;
                patience.moved();
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        match timeout(patience.interval(), stream.readable()).await {
            Ok(readable) => readable?,
            Err(_) => {
                waiting();
                if !patience.look(stream) {
                    return Err(Halt::Stalled);
                }
            }
        }
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_the_peer_acknowledges_is_progress() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        near.writable().await.unwrap();
        let mut filled = 0;
        loop {
            match near.try_write(&[0; 65536]) {
                Ok(more) => filled += more,
                // The peer's kernel takes more for a moment after ours is full.
                Err(_) if timeout(Duration::from_millis(50), near.writable()).await.is_err() => {
                    break;
                }
                Err(_) => {}
            }
        }
        let stall = Duration::from_millis(20);
        let mut patience = Patience::new(stall, &near);
        tokio::time::sleep(stall).await;
        assert!(!patience.look(&near));
        let mut rest = vec![0; filled / 2];
        far.read_exact(&mut rest).await.unwrap();
        let before = patience.acknowledged;
        let acknowledges = async {
            while acknowledged(&near) == Some(before) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(10), acknowledges).await.unwrap();
        tokio::time::sleep(stall).await;
        assert!(patience.look(&near));
        assert!(patience.acknowledged > before);
    }
}
