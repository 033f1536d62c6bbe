//! One file on its way from the server, over one connection.

use std::ops::RangeInclusive;

use super::wire::{ANY_REPLY, Limits};
use super::{Client, ClientError};

/// How much data a server may be asked to put into one packet.
pub const PACKETS: RangeInclusive<u32> = 1..=1024 * 1024;

/// What the command text of a data packet may weigh; it has some forty bytes.
const COMMAND: u32 = 1024;

/// A file that the server is sending.
///
/// Dropped before [`next`](Self::next) gave `None`, or after an error, it leaves the client given up.
#[derive(Debug)]
pub struct Download<'c> {
    client: &'c mut Client,
    remaining: u64,
    most: u32,
    limits: Limits,
    /// The memory of one packet, used again and again.
    packet: Vec<u8>,
}

impl Client {
    /// Asks for `name` in `dir` (empty for the root) from `offset` on, in packets of `packet` bytes.
    /// Needs [`Flag::Download`](super::Flag::Download) and a login.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with code 9 for a file that does not exist, 6 for an offset beyond
    /// its end.
    pub async fn download(
        &mut self,
        dir: &str,
        name: &str,
        offset: u64,
        packet: u32,
    ) -> Result<Download<'_>, ClientError> {
        let (offset, size) = (offset.to_string(), packet.to_string());
        let keys =
            [("DirName", dir), ("FileName", name), ("FileSize", &*offset), ("PacketSize", &*size)];
        let (answer, _) = self.request("Download", &keys, b"").await?;
        self.accepted("Download", &answer)?;
        // From here on the server sends what is no answer to a request.
        self.busy = true;
        let limits = Limits { packet: 4 + COMMAND + packet, command: COMMAND, ..ANY_REPLY };
        let mut download =
            Download { client: self, remaining: 0, most: packet, limits, packet: Vec::new() };
        download.receive().await?;
        let Download { client, packet, .. } = &download;
        let reply = client.accepted("SendFile", packet)?;
        download.remaining = client.number(&reply, "SendFile", "FileSize")?;
        Ok(download)
    }
}

impl Download<'_> {
    /// Bytes that are still to come.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The next bytes of the file, or `None` after the last ones: the client can then be used again.
    ///
    /// # Errors
    /// When the server closes, sends something else, or nothing for as long as
    /// [`super::Timeouts::stall`].
    pub async fn next(&mut self) -> Result<Option<&[u8]>, ClientError> {
        if self.remaining == 0 {
            self.client.busy = false;
            return Ok(None);
        }
        self.receive().await?;
        let data = self.client.accepted("Data", &self.packet)?.data;
        let most = self.remaining.min(self.most.into());
        if data.is_empty() || data.len() as u64 > most {
            let what = format!("{} bytes of data where 1 to {most} were due", data.len());
            return Err(self.client.unexpected("Download", what));
        }
        self.remaining -= data.len() as u64;
        Ok(Some(data))
    }

    async fn receive(&mut self) -> Result<(), ClientError> {
        let read = self.client.read_patiently(&mut self.packet, 0, self.limits, &mut || ()).await;
        read.map_err(|halt| self.client.halted(halt, "sent"))
    }
}
