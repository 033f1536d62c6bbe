//! The server's log, line by line.

use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;

use super::{Broken, Client, ClientError, Flag, Timeouts};

/// A longer line comes in pieces.
const MAX_LINE: usize = 16 * 1024;

/// A connection that ended before its first line and before this much time never was a log.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Silence after which the system asks the server's machine whether it is still there: a quiet log
/// has no other sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Follows a server's log from now on.
#[derive(Debug)]
pub struct LogReader {
    client: Client,
    connected: Instant,
    /// Bytes of a line whose end has not come.
    part: Vec<u8>,
    /// Bytes at the front of `part` that have been looked at.
    scanned: usize,
    any: bool,
}

impl LogReader {
    /// Connects; a log needs no login.
    ///
    /// # Errors
    /// When the address does not resolve, or nobody takes the connection in time.
    pub async fn connect(addr: &str, timeouts: Timeouts) -> Result<Self, ClientError> {
        let client = Client::connect_with(addr, Flag::LogOutput, timeouts).await?;
        let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4);
        SockRef::from(&client.stream)
            .set_tcp_keepalive(&keep_alive)
            .map_err(|error| client.broken(Broken::Io(error)))?;
        Ok(Self { client, connected: Instant::now(), part: Vec::new(), scanned: 0, any: false })
    }

    /// The next line without its end, as the server wrote it: escape before printing. Bytes that are
    /// no UTF-8 are replaced. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// [`ClientError::NoLog`] when the server closed at once, [`ClientError::Closed`] when later.
    pub async fn line(&mut self) -> Result<String, ClientError> {
        loop {
            if let Some(line) = self.take() {
                return Ok(line);
            }
            if let Err(error) = self.receive().await {
                if self.part.is_empty() {
                    return Err(error);
                }
                self.scanned = 0;
                return Ok(text(&std::mem::take(&mut self.part)));
            }
        }
    }

    fn take(&mut self) -> Option<String> {
        let fresh = self.part[self.scanned..].iter();
        let end = fresh.clone().position(|byte| *byte == b'\n').map(|at| self.scanned + at);
        let (len, skip) = match end {
            Some(end) if end <= MAX_LINE => (end, end + 1),
            _ if self.part.len() >= MAX_LINE => (MAX_LINE, MAX_LINE),
            _ => {
                self.scanned = self.part.len();
                return None;
            }
        };
        let line = text(&self.part[..len]);
        self.part.drain(..skip);
        self.scanned = 0;
        Some(line)
    }

    async fn receive(&mut self) -> Result<(), ClientError> {
        match self.client.stream.read_buf(&mut self.part).await {
            Ok(0) => Err(self.closed(Broken::Closed)),
            Ok(_) => {
                self.any = true;
                Ok(())
            }
            Err(error) => Err(self.closed(error.into())),
        }
    }

    fn closed(&self, broken: Broken) -> ClientError {
        if !self.any && self.connected.elapsed() < AT_ONCE && matches!(broken, Broken::Closed) {
            return ClientError::NoLog { server: self.client.server.clone() };
        }
        self.client.broken(broken)
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}
