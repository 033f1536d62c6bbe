//! One file on its way to the server, over one connection.

use std::io;
use std::time::Instant;

use tokio::io::Interest;
use tokio::time::timeout;

use super::patience::{Halt, Patience, acknowledged};
use super::wire::{self, ANY_REPLY, Limits, Reply};
use super::{Broken, Client, ClientError, MESSAGE_CHARS};
use crate::text::printable;

/// Is told now and then, while nothing can be sent, how many of the file's bytes have been
/// [`delivered`](Upload::delivered).
pub type Waiting<'a> = dyn FnMut(u64) + Send + 'a;

/// Replies in the middle and at the end of an upload are short.
const LIMITS: Limits = Limits { packet: 64 * 1024, command: 64 * 1024, ..ANY_REPLY };

/// An open file on the server that data is appended to.
///
/// Data has no answer: what the server holds is known for certain only from [`stored`](Self::stored)
/// of the next upload, or after [`finish`](Self::finish). Dropped before that, or after an error, it
/// leaves the client given up; the server keeps what it has read.
#[derive(Debug)]
pub struct Upload<'c> {
    client: &'c mut Client,
    stored: u64,
    /// Data given to the socket.
    handed: u64,
    /// The same with the packets around it.
    wire: u64,
    /// What the peer had acknowledged when the upload began.
    acknowledged: Option<u64>,
    /// The memory of one packet, used again and again.
    packet: Vec<u8>,
}

impl Client {
    /// Opens `name` in `dir` (empty for the root) to be continued from the bytes that the server
    /// holds of it. Needs [`Flag::Upload`](super::Flag::Upload) and a login.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the server will not have the file.
    pub async fn upload(&mut self, dir: &str, name: &str) -> Result<Upload<'_>, ClientError> {
        let keys = [("DirName", dir), ("FileName", name)];
        let (packet, _) = self.request("Upload", &keys, b"").await?;
        let reply = self.accepted("Upload", &packet)?;
        let stored = self.number(&reply, "Upload", "FileSize")?;
        let acknowledged = acknowledged(&self.stream);
        // Until the end is answered, nothing but data may be sent.
        self.busy = true;
        Ok(Upload { client: self, stored, handed: 0, wire: 0, acknowledged, packet: Vec::new() })
    }

    /// The one value of `key` in a reply, as a decimal number.
    pub(super) fn number(
        &self,
        reply: &Reply<'_>,
        command: &'static str,
        key: &'static str,
    ) -> Result<u64, ClientError> {
        let mut values = reply.values(key);
        match (values.next(), values.next()) {
            (Some(text), None) if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| self.unexpected(command, format!("no number in {key}=")))
    }
}

impl Upload<'_> {
    /// What the server held when this upload began: send the file from there.
    #[must_use]
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// The file's bytes that the socket has taken, with [`stored`](Self::stored): the server cannot
    /// hold more.
    #[must_use]
    pub fn handed(&self) -> u64 {
        self.stored + self.handed
    }

    /// About how many of the file's bytes the server's machine has acknowledged, where the system
    /// tells; else those that the socket has taken.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        let acknowledged = self.acknowledged.zip(acknowledged(&self.client.stream));
        let outstanding = match acknowledged {
            Some((before, now)) => self.wire.saturating_sub(now.saturating_sub(before)),
            None => 0,
        };
        self.stored + self.handed.saturating_sub(outstanding)
    }

    /// Sends `data` as one packet.
    ///
    /// # Errors
    /// When the server closes, answers, or takes nothing for as long as [`super::Timeouts::stall`].
    pub async fn send(
        &mut self,
        data: &[u8],
        waiting: &mut Waiting<'_>,
    ) -> Result<(), ClientError> {
        self.encode("Data", &[], data)?;
        let head = self.packet.len() - data.len();
        self.push(head, waiting).await
    }

    /// Ends the file. With `size`, the server compares it with what it holds.
    ///
    /// The client can be used again afterwards, also when the server refused.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the size differs, or some of the data could not be stored.
    pub async fn finish(
        mut self,
        size: Option<u64>,
        waiting: &mut Waiting<'_>,
    ) -> Result<(), ClientError> {
        let text = size.map(|size| size.to_string());
        let keys = text.as_deref().map(|size| ("FileSize", size));
        self.encode("Eof", keys.as_slice(), b"")?;
        self.push(self.packet.len(), waiting).await?;
        let mut reply = Vec::new();
        let mut look = || waiting(self.delivered());
        let read = self.client.read_patiently(&mut reply, 0, LIMITS, &mut look).await;
        read.map_err(|halt| self.client.halted(halt, "took"))?;
        let answer = self.answer(&reply);
        self.client.busy =
            !matches!(answer, Ok(()) | Err(ClientError::Refused { command: "Eof", .. }));
        answer
    }

    fn encode(
        &mut self,
        command: &'static str,
        keys: &[(&str, &str)],
        data: &[u8],
    ) -> Result<(), ClientError> {
        self.packet.clear();
        wire::append_request(&mut self.packet, command, keys, data).map_err(|source| {
            ClientError::Request { server: self.client.server.clone(), command, source }
        })
    }

    /// Writes the packet, whose data begins at `head`, and watches for whatever comes back.
    async fn push(&mut self, head: usize, waiting: &mut Waiting<'_>) -> Result<(), ClientError> {
        let mut patience = Patience::new(self.client.timeouts.stall, &self.client.stream);
        let mut looked = Instant::now();
        let mut sent = 0;
        while sent < self.packet.len() {
            let ready = self.client.stream.ready(Interest::READABLE | Interest::WRITABLE);
            if let Ok(ready) = timeout(patience.interval(), ready).await {
                let ready = ready.map_err(|error| self.client.broken(error.into()))?;
                if ready.is_readable() {
                    self.interruption().await?;
                }
                if ready.is_writable() {
                    match self.client.stream.try_write(&self.packet[sent..]) {
                        Ok(more) => {
                            let data = |upto: usize| upto.saturating_sub(head) as u64;
                            self.handed += data(sent + more) - data(sent);
                            self.wire += more as u64;
                            sent += more;
                            patience.moved();
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => {
                            // A server that said why before it closed is worth hearing.
                            self.interruption().await?;
                            return Err(self.client.broken(error.into()));
                        }
                    }
                }
            }
            if sent < self.packet.len() && looked.elapsed() >= patience.interval() {
                looked = Instant::now();
                waiting(self.delivered());
                if !patience.look(&self.client.stream) {
                    return Err(self.client.halted(Halt::Stalled, "took"));
                }
            }
        }
        Ok(())
    }

    /// The server's close, or what it says although nothing was asked; `Ok` when there is neither.
    async fn interruption(&self) -> Result<(), ClientError> {
        let client = &*self.client;
        let mut packet = vec![0];
        match client.stream.try_read(&mut packet) {
            Ok(0) => return Err(client.broken(Broken::Closed)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(client.broken(error.into())),
        }
        let read = client.read_patiently(&mut packet, 1, LIMITS, &mut || ()).await;
        read.map_err(|halt| client.halted(halt, "took"))?;
        let reply = self.parse(&packet)?;
        Err(self.stray(&reply))
    }

    fn parse<'p>(&self, packet: &'p [u8]) -> Result<Reply<'p>, ClientError> {
        let reply = Reply::parse(packet, LIMITS).map_err(Broken::Reply);
        reply.map_err(|broken| self.client.broken(broken))
    }

    /// The answer to the file's end; one to its data may still have been under way.
    fn answer(&self, packet: &[u8]) -> Result<(), ClientError> {
        let reply = self.parse(packet)?;
        if reply.command.eq_ignore_ascii_case("Data") {
            return Err(self.stray(&reply));
        }
        self.client.accepted("Eof", packet).map(drop)
    }

    /// A reply that nothing was asked for.
    fn stray(&self, reply: &Reply<'_>) -> ClientError {
        if reply.code != 0 {
            return self.client.refused("Data", reply);
        }
        let what = format!("{:?} where no answer is due", printable(reply.command, MESSAGE_CHARS));
        self.client.unexpected("Data", what)
    }
}
