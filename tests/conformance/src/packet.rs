//! Requests as a client writes them, replies as a strict client reads them.

use std::fmt::Display;

/// Largest total length a packet may claim, in either direction.
pub(crate) const MAX_TOTAL: usize = 10 * 1024 * 1024;

/// A packet to send.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    text: Vec<u8>,
    data: Vec<u8>,
}

impl Packet {
    /// A well-formed request with no keys but its command.
    pub(crate) fn request(command: &str) -> Self {
        Self::text(format!("[Request]\r\nCommand={command}"))
    }

    /// A packet with this command text, well-formed or not.
    pub(crate) fn text(text: impl Into<Vec<u8>>) -> Self {
        Self { text: text.into(), data: Vec::new() }
    }

    /// Adds a line to the command text.
    pub(crate) fn key(mut self, key: &str, value: impl Display) -> Self {
        self.text.extend_from_slice(format!("\r\n{key}={value}").as_bytes());
        self
    }

    /// Sets the data part.
    pub(crate) fn data(mut self, data: impl Into<Vec<u8>>) -> Self {
        self.data = data.into();
        self
    }

    /// Length of the command text.
    pub(crate) fn text_len(&self) -> usize {
        self.text.len()
    }

    /// The packet as it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes =
            header(length(4 + self.text.len() + self.data.len()), length(self.text.len()));
        bytes.reserve_exact(self.text.len() + self.data.len());
        bytes.extend_from_slice(&self.text);
        bytes.extend_from_slice(&self.data);
        bytes
    }
}

/// The two lengths at the head of a packet.
pub(crate) fn header(total_len: u32, command_len: u32) -> Vec<u8> {
    [total_len.to_le_bytes(), command_len.to_le_bytes()].concat()
}

/// The heartbeat.
pub(crate) fn heartbeat() -> Packet {
    Packet::request("Active")
}

/// Bytes without a short period, so that a part lost or doubled shows.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A reply of the server, already found to be well-formed.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// Value of `Command=`.
    pub(crate) command: String,
    /// Value of `Code=`.
    pub(crate) code: u32,
    /// Value of `Message=`, which failures have and successes have not.
    pub(crate) message: Option<String>,
    /// The further keys, in order.
    pub(crate) keys: Vec<(String, String)>,
    /// The data part.
    pub(crate) data: Vec<u8>,
}

impl Reply {
    /// Reads what follows the total length of a packet, strictly: the form of a reply has no freedom but the text of
    /// its values.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, String> {
        let (len, rest) = body.split_first_chunk::<4>().ok_or("a reply with total_len under 4")?;
        let len = u32::from_le_bytes(*len) as usize;
        let (text, data) =
            rest.split_at_checked(len).ok_or("a reply with command_len over total_len - 4")?;
        let text = std::str::from_utf8(text).map_err(|_| "a reply with invalid UTF-8")?;
        if text.ends_with("\r\n") {
            return Err("a reply with CR LF at its end".to_owned());
        }
        let mut lines = text.split("\r\n");
        if lines.next() != Some("[Response]") {
            return Err("a reply without [Response]".to_owned());
        }
        let mut keys = Vec::new();
        for line in lines {
            if line.contains(['\r', '\n']) {
                return Err("a reply with a lone CR or LF".to_owned());
            }
            let (key, value) = line.split_once('=').ok_or("a reply with a line that has no '='")?;
            keys.push((key.to_owned(), value.to_owned()));
        }
        let mut keys = keys.into_iter().peekable();
        let mut named = |name: &str| keys.next_if(|(key, _)| key == name).map(|(_, value)| value);
        let command = named("Command").ok_or("a reply whose second line is not Command=")?;
        let code = named("Code").ok_or("a reply whose third line is not Code=")?;
        let code: u32 = match code.parse() {
            Ok(number) if code.bytes().all(|digit| digit.is_ascii_digit()) => number,
            _ => {
                return Err(format!("a reply with Code={code}, which is no decimal number"));
            }
        };
        let message = named("Message");
        let keys: Vec<_> = keys.collect();
        if message.is_some() != (code != 0) || keys.iter().any(|(key, _)| key == "Message") {
            return Err("a reply whose Message line does not fit its code and place".to_owned());
        }
        Ok(Self { command, code, message, keys, data: data.to_vec() })
    }

    /// The value of a further key.
    pub(crate) fn key(&self, name: &str) -> Option<&str> {
        self.keys.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::{Packet, Reply, heartbeat};

    #[test]
    fn a_packet_is_laid_out_as_on_the_wire() {
        let packet = heartbeat().data([1, 2, 3]).bytes();
        assert_eq!(packet, b"\x20\0\0\0\x19\0\0\0[Request]\r\nCommand=Active\x01\x02\x03");
    }

    fn parse(text: &str) -> Result<Reply, String> {
        Reply::parse(&Packet::text(text).data([9]).bytes()[4..])
    }

    #[test]
    fn replies_are_read() {
        let reply =
            parse("[Response]\r\nCommand=A=b\r\nCode=6\r\nMessage=\r\nItem=1\r\nItem=2").unwrap();
        assert_eq!(
            (reply.command.as_str(), reply.code, reply.message.as_deref()),
            ("A=b", 6, Some(""))
        );
        assert_eq!(reply.key("Item"), Some("1"));
        assert_eq!((reply.keys.len(), reply.data), (2, vec![9]));
    }

    #[test]
    fn sloppy_replies_are_refused() {
        for text in [
            "[response]\r\nCommand=A\r\nCode=0",
            "[Response]\r\nCommand=A\r\nCode=0\r\n",
            "[Response]\nCommand=A\nCode=0",
            "[Response]\r\nCode=0\r\nCommand=A",
            "[Response]\r\nCommand=A\r\nCode=+0",
            "[Response]\r\nCommand=A\r\nCode=0\r\nMessage=",
            "[Response]\r\nCommand=A\r\nCode=6",
            "[Response]\r\nCommand=A\r\nCode=6\r\nItem=1\r\nMessage=",
            "[Response]\r\nCommand=A\r\nCode=0\r\nItem",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
