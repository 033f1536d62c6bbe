//! What the load generator says and what it expects to hear, as bytes.

use std::str::FromStr;

use anyhow::{Context, ensure};

/// The flag byte of the Control protocol.
pub const FLAG_CONTROL: u8 = 8;
/// The flag byte of the Throughput protocol.
pub const FLAG_THROUGHPUT: u8 = 5;
/// The largest `total_len` of a packet.
pub const MAX_TOTAL: usize = 10 * 1024 * 1024;
/// The command text of a heartbeat.
pub const HEARTBEAT_COMMAND: &str = "[Request]\r\nCommand=Active";
/// The command text of the answer to a heartbeat.
pub const HEARTBEAT_REPLY: &str = "[Response]\r\nCommand=Active\r\nCode=0";

/// Which packets are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `Active` on a Control connection: 33 bytes to the server, 42 back.
    Heartbeat,
    /// `CyclePacket` on a Throughput connection with so many data bytes.
    Cycle(usize),
}

impl FromStr for Dialect {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "heartbeat" {
            return Ok(Self::Heartbeat);
        }
        let size = text.strip_prefix("cycle:").context("expected `heartbeat` or `cycle:BYTES`")?;
        let size: usize = size.parse().context("the size of a cycle is a number of bytes")?;
        ensure!(size < MAX_TOTAL - 256, "a packet holds less than 10 MiB");
        Ok(Self::Cycle(size))
    }
}

/// What a server does with the bytes it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// The wire protocol: flag byte first, then a reply for each packet.
    Protocol,
    /// Nothing: the same bytes come back.
    Echo,
}

/// The bytes of one exchange, repeated by the load generator for as long as a connection lives.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The flag byte, where the server expects one.
    pub flag: Option<u8>,
    /// One whole request.
    pub request: Vec<u8>,
    /// One whole reply.
    pub reply: Vec<u8>,
    /// How many leading bytes of each reply are compared; of the rest only the length is checked.
    pub checked: usize,
}

impl Exchange {
    /// The exchange of a dialect with a server that does `speaks`.
    #[must_use]
    pub fn new(dialect: Dialect, speaks: Speaks) -> Self {
        let (flag, request, reply, data) = match dialect {
            Dialect::Heartbeat => {
                (FLAG_CONTROL, packet(HEARTBEAT_COMMAND, &[]), packet(HEARTBEAT_REPLY, &[]), 0)
            }
            Dialect::Cycle(size) => {
                // A period that divides no power of two: bytes moved by a whole buffer do not look right.
                let data: Vec<u8> = (0..=250u8).cycle().take(size).collect();
                let request = packet("[Request]\r\nCommand=CyclePacket\r\nCount=41", &data);
                let reply =
                    packet("[Response]\r\nCommand=CyclePacket\r\nCode=0\r\nCount=42", &data);
                (FLAG_THROUGHPUT, request, reply, size)
            }
        };
        match speaks {
            Speaks::Protocol => {
                let checked = reply.len() - data;
                Self { flag: Some(flag), request, reply, checked }
            }
            Speaks::Echo => {
                let checked = request.len() - data;
                Self { flag: None, reply: request.clone(), request, checked }
            }
        }
    }

    /// What opens a connection: the flag, where there is one, and the first request.
    #[must_use]
    pub fn opening(&self) -> Vec<u8> {
        self.flag.into_iter().chain(self.request.iter().copied()).collect()
    }
}

/// One packet: both lengths, the command text, the data.
#[must_use]
pub fn packet(command: &str, data: &[u8]) -> Vec<u8> {
    let total = 4 + command.len() + data.len();
    let mut bytes = Vec::with_capacity(4 + total);
    for length in [total, command.len()] {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_le_bytes());
    }
    bytes.extend_from_slice(command.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    #[test]
    fn heartbeat_is_the_published_vector() {
        let exchange = Exchange::new(Dialect::Heartbeat, Speaks::Protocol);
        assert_eq!(exchange.flag, Some(8));
        assert_eq!(
            exchange.request,
            unhex(
                "1d 00 00 00 19 00 00 00 5b 52 65 71 75 65 73 74 5d 0d 0a 43 6f 6d 6d 61 6e 64 3d 41 63 74 69 76 65"
            )
        );
        assert_eq!(
            exchange.reply,
            unhex(
                "26 00 00 00 22 00 00 00 5b 52 65 73 70 6f 6e 73 65 5d 0d 0a 43 6f 6d 6d 61 6e 64 3d 41 63 74 69 76 \
                 65 0d 0a 43 6f 64 65 3d 30"
            )
        );
        assert_eq!(exchange.checked, 42);
    }

    #[test]
    fn cycle_has_the_published_heads() {
        let exchange = Exchange::new(Dialect::Cycle(3), Speaks::Protocol);
        assert_eq!(exchange.flag, Some(5));
        assert_eq!(exchange.request[..8], [0x2f, 0, 0, 0, 0x28, 0, 0, 0]);
        assert_eq!(exchange.reply[..8], [0x38, 0, 0, 0, 0x31, 0, 0, 0]);
        assert_eq!(exchange.reply.len(), exchange.checked + 3);
    }

    #[test]
    fn an_echo_sends_no_flag_and_gets_its_own_bytes() {
        let exchange = Exchange::new(Dialect::Heartbeat, Speaks::Echo);
        assert_eq!(exchange.flag, None);
        assert_eq!(exchange.request.len(), 33);
        assert_eq!(exchange.request, exchange.reply);
    }

    #[test]
    fn dialects_are_parsed() {
        assert_eq!("heartbeat".parse::<Dialect>().unwrap(), Dialect::Heartbeat);
        assert_eq!("cycle:1024".parse::<Dialect>().unwrap(), Dialect::Cycle(1024));
        assert!("cycle:10485760".parse::<Dialect>().is_err());
        assert!("cycle".parse::<Dialect>().is_err());
    }
}
