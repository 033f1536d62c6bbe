//! A client of the wire protocol on Tokio: connect, log in, heartbeat, client list, echo, files, log.
//!
//! [`Client`] is one connection. [`transfer`] moves whole files over as many connections as it takes.
//!
//! Everything has a timeout, replies are checked strictly and bounded in size, and an error names
//! the server. A client that failed half-way through a request is given up: a late reply must not
//! be taken for the answer to the next request.

mod download;
mod error;
mod files;
mod log;
mod patience;
pub mod transfer;
mod upload;
pub mod wire;

use std::fmt::Write;
use std::io;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use download::{Download, PACKETS};
pub use error::{ClientError, NO_DIRECTORY};
pub use files::FileEntry;
pub use log::LogReader;
pub use upload::{Upload, Waiting};
pub use wire::Flag;
use wire::{ANY_REPLY, Reply};

use crate::text::printable;
use crate::users::digest_of;

/// Rows asked for at a time when a client list is too long for one reply.
const PAGE: usize = 20_000;

/// More rows than any server has connections; a list that goes on past it never ends.
const MAX_ROWS: usize = 4_000_000;

/// The server's words in an error are cut to this many characters.
const MESSAGE_CHARS: usize = 200;

/// How long a client waits.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For the connection.
    pub connect: Duration,
    /// For a whole request with its reply.
    pub request: Duration,
    /// For any progress of the data of a file.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            request: Duration::from_secs(30),
            stall: Duration::from_secs(30),
        }
    }
}

/// One row of the server's client list, as the server wrote it: escape before printing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRow {
    /// The server's end, `ip:port`.
    pub local: String,
    /// The client's end, `ip:port`.
    pub remote: String,
    /// What the connection is used for; empty before its flag.
    pub protocol: String,
    /// Empty before the login.
    pub user: String,
    /// When it connected.
    pub connected: String,
    /// Its last proof of life.
    pub last_active: String,
}

impl ClientRow {
    fn parse(item: &str) -> Option<Self> {
        let mut fields = item.split('\t').map(str::to_owned);
        let row = Self {
            local: fields.next()?,
            remote: fields.next()?,
            protocol: fields.next()?,
            user: fields.next()?,
            connected: fields.next()?,
            last_active: fields.next()?,
        };
        fields.next().is_none().then_some(row)
    }
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    server: String,
    timeouts: Timeouts,
    /// Set while a request is under way; still set at the next one if that request failed or its
    /// future was dropped.
    busy: bool,
}

impl Client {
    /// Connects to `addr` (`host:port`) and says with `flag` what for.
    ///
    /// # Errors
    /// When the address does not resolve, or nobody takes the connection in time.
    pub async fn connect(addr: &str, flag: Flag) -> Result<Self, ClientError> {
        Self::connect_with(addr, flag, Timeouts::default()).await
    }

    /// As [`connect`](Self::connect), with timeouts of the caller's choice.
    ///
    /// # Errors
    /// When the address does not resolve, or nobody takes the connection in time.
    pub async fn connect_with(
        addr: &str,
        flag: Flag,
        timeouts: Timeouts,
    ) -> Result<Self, ClientError> {
        let connecting = timeout(timeouts.connect, open(addr, flag));
        let stream = connecting.await.unwrap_or_else(|_| {
            Err(ClientError::ConnectTimeout { server: addr.to_owned(), after: timeouts.connect })
        })?;
        Ok(Self { stream, server: addr.to_owned(), timeouts, busy: false })
    }

    /// The bare connection, for a caller that wants to misbehave with it.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Logs in; the password leaves this machine as its MD5 digest, as the protocol wants it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with code 7 for an unknown user or a wrong password.
    pub async fn login(&mut self, user: &str, password: &str) -> Result<(), ClientError> {
        let keys = [("UserName", user), ("Password", &password_digest(password))];
        let (packet, _) = self.request("Login", &keys, b"").await?;
        self.accepted("Login", &packet).map(drop)
    }

    /// One heartbeat; gives its round trip.
    ///
    /// # Errors
    /// When no or no good answer comes.
    pub async fn heartbeat(&mut self) -> Result<Duration, ClientError> {
        let (packet, round_trip) = self.request("Active", &[], b"").await?;
        self.accepted("Active", &packet).map(|_| round_trip)
    }

    /// The server's client list.
    ///
    /// A list too long for one reply is fetched in pages. Each page is a snapshot of its own, so
    /// connections that come or go in between may be missing or listed twice.
    ///
    /// # Errors
    /// When the server refuses the list, or a row is malformed.
    pub async fn clients(&mut self) -> Result<Vec<ClientRow>, ClientError> {
        match self.client_rows(&[]).await {
            Err(error) if wants_pages(&error) => self.clients_in_pages().await,
            rows => rows,
        }
    }

    async fn clients_in_pages(&mut self) -> Result<Vec<ClientRow>, ClientError> {
        let mut rows = Vec::new();
        loop {
            let (offset, limit) = (rows.len().to_string(), PAGE.to_string());
            let page = self.client_rows(&[("Offset", &offset), ("Limit", &limit)]).await?;
            let count = page.len();
            rows.extend(page);
            if count > PAGE || rows.len() > MAX_ROWS {
                let what =
                    format!("{count} rows where {PAGE} were asked for, {} in all", rows.len());
                return Err(self.unexpected("GetClients", what));
            }
            if count < PAGE {
                return Ok(rows);
            }
        }
    }

    async fn client_rows(&mut self, keys: &[(&str, &str)]) -> Result<Vec<ClientRow>, ClientError> {
        let (packet, _) = self.request("GetClients", keys, b"").await?;
        let reply = self.accepted("GetClients", &packet)?;
        let parse = |item| {
            ClientRow::parse(item).ok_or_else(|| {
                let what = format!("a malformed row: {}", printable(item, MESSAGE_CHARS));
                self.unexpected("GetClients", what)
            })
        };
        reply.items().map(parse).collect()
    }

    /// Sends `data` with `count`, checks that `count + 1` and the same data come back, and gives the
    /// round trip. Needs [`Flag::Throughput`].
    ///
    /// # Errors
    /// When anything else comes back.
    pub async fn cycle(&mut self, count: i32, data: &[u8]) -> Result<Duration, ClientError> {
        let keys = [("Count", &*count.to_string())];
        let (packet, round_trip) = self.request("CyclePacket", &keys, data).await?;
        let reply = self.accepted("CyclePacket", &packet)?;
        let counted = reply.values("Count").next().and_then(|text| text.parse::<i32>().ok());
        if counted != Some(count.wrapping_add(1)) {
            return Err(self.unexpected("CyclePacket", "another Count".to_owned()));
        }
        if reply.data != data {
            return Err(self.unexpected("CyclePacket", "other data than was sent".to_owned()));
        }
        Ok(round_trip)
    }

    /// Sends one request and reads one packet.
    async fn request(
        &mut self,
        command: &'static str,
        keys: &[(&str, &str)],
        data: &[u8],
    ) -> Result<(Vec<u8>, Duration), ClientError> {
        if self.busy {
            return Err(ClientError::GivenUp { server: self.server.clone() });
        }
        let packet = wire::encode_request(command, keys, data).map_err(|source| {
            let server = self.server.clone();
            ClientError::Request { server, command, source }
        })?;
        self.busy = true;
        let started = Instant::now();
        let exchange = exchange(&mut self.stream, &packet);
        let outcome = timeout(self.timeouts.request, exchange).await;
        let round_trip = started.elapsed();
        let (reply, all_sent) = match outcome {
            Ok(answered) => answered.map_err(|broken| self.broken(broken))?,
            Err(_) => return Err(self.timed_out(command)),
        };
        self.busy = !all_sent;
        Ok((reply, round_trip))
    }

    fn broken(&self, broken: Broken) -> ClientError {
        let server = self.server.clone();
        match broken {
            Broken::Closed => ClientError::Closed { server },
            Broken::Io(source) => ClientError::Io { server, source },
            Broken::Reply(source) => ClientError::Protocol { server, source },
        }
    }

    fn timed_out(&self, command: &'static str) -> ClientError {
        let (server, after) = (self.server.clone(), self.timeouts.request);
        ClientError::Timeout { server, command, after }
    }

    /// The reply to `command`, if it says success.
    fn accepted<'a>(
        &self,
        command: &'static str,
        packet: &'a [u8],
    ) -> Result<Reply<'a>, ClientError> {
        let reply = Reply::parse(packet, ANY_REPLY)
            .map_err(|source| ClientError::Protocol { server: self.server.clone(), source })?;
        // A server that could not read the command at all has no name to repeat.
        let unread = reply.command.is_empty() && matches!(reply.code, 2 | 3 | 5);
        if !unread && !reply.command.eq_ignore_ascii_case(command) {
            let name = printable(reply.command, MESSAGE_CHARS);
            return Err(self.unexpected(command, format!("a reply to {name:?}")));
        }
        if reply.code != 0 {
            return Err(self.refused(command, &reply));
        }
        Ok(reply)
    }

    fn refused(&self, command: &'static str, reply: &Reply<'_>) -> ClientError {
        let message = printable(reply.message.unwrap_or_default(), MESSAGE_CHARS);
        ClientError::Refused { server: self.server.clone(), command, code: reply.code, message }
    }

    fn unexpected(&self, command: &'static str, what: String) -> ClientError {
        ClientError::Unexpected { server: self.server.clone(), command, what }
    }
}

/// The password as the wire carries it: 32 hex digits.
pub fn password_digest(password: &str) -> String {
    let mut digits = String::with_capacity(32);
    for byte in digest_of(password) {
        // Writing to a String cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    digits
}

/// Whether the server says that the list has to be asked for in pages.
fn wants_pages(error: &ClientError) -> bool {
    matches!(error, ClientError::Refused { code: 4, message, .. }
        if message.contains("Offset=") && message.contains("Limit="))
}

async fn open(addr: &str, flag: Flag) -> Result<TcpStream, ClientError> {
    let server = || addr.to_owned();
    let resolved = tokio::net::lookup_host(addr).await;
    let resolved = resolved.map_err(|source| ClientError::Resolve { server: server(), source })?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in resolved {
        match greet(address, flag).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(ClientError::Connect { server: server(), source: last })
}

async fn greet(address: std::net::SocketAddr, flag: Flag) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    // Requests are small and wait for their reply: nothing is gained by holding them back.
    stream.set_nodelay(true)?;
    stream.write_all(&[flag as u8]).await?;
    Ok(stream)
}

/// Why an exchange ended without a reply.
enum Broken {
    Closed,
    Io(io::Error),
    Reply(wire::ReplyError),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Writes the request and reads the reply at the same time: a server that echoes as it reads would
/// otherwise wait for us to read while we wait for it. Tells also whether all was sent: a server may
/// refuse a request that it has not read to its end.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<(Vec<u8>, bool), Broken> {
    let (mut from, mut to) = stream.split();
    let mut reading = std::pin::pin!(read_packet(&mut from));
    let mut writing = std::pin::pin!(to.write_all(request));
    tokio::select! {
        biased;
        written = &mut writing => match (written, reading.await) {
            // Without a reply, why the write failed says more.
            (Err(error), Err(Broken::Closed)) => Err(error.into()),
            (written, reply) => reply.map(|packet| (packet, written.is_ok())),
        },
        reply = &mut reading => reply.map(|packet| (packet, false)),
    }
}

async fn read_packet(from: &mut (impl AsyncReadExt + Unpin)) -> Result<Vec<u8>, Broken> {
    let mut packet = vec![0; wire::HEADER_LEN];
    from.read_exact(&mut packet).await?;
    let len = wire::packet_len(&packet, ANY_REPLY).map_err(Broken::Reply)?.unwrap_or(0);
    // Memory follows what really arrives, not what a header promises.
    let rest = len.saturating_sub(packet.len()) as u64;
    let got = from.take(rest).read_to_end(&mut packet).await?;
    if (got as u64) < rest {
        return Err(Broken::Closed);
    }
    Ok(packet)
}

#[cfg(test)]
mod tests {
    use super::{ClientRow, password_digest};

    #[test]
    fn the_digest_is_the_documented_one() {
        assert_eq!(password_digest("admin"), "21232f297a57a5a743894a0e4a801fc3");
    }

    #[test]
    fn rows_have_six_fields() {
        let row = ClientRow::parse("1.1.1.1:9999\t2.2.2.2:5\tControl\t\t+1.000\t+2.000");
        assert_eq!(row.unwrap().user, "");
        assert_eq!(ClientRow::parse("a\tb\tc\td\te"), None);
        assert_eq!(ClientRow::parse("a\tb\tc\td\te\tf\tg"), None);
    }
}
