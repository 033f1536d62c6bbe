//! The wire format as a client sees it: requests to bytes, bytes to replies.
//!
//! Pure functions; nothing here knows of sockets or time.

use std::fmt;

use pulsegate_core::frame::{ByteOrder, Header};
pub use pulsegate_core::frame::{HEADER_LEN, Limits, MAX_PACKET};
pub use pulsegate_core::protocol::Flag;

/// What a reply may weigh before it is refused unread: all that the protocol allows, for client
/// lists make the command text long.
pub const ANY_REPLY: Limits =
    Limits { packet: MAX_PACKET, command: MAX_PACKET - 4, order: ByteOrder::Little };

/// Why a request cannot be written as one packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A command name, key or value would change the packet's lines.
    #[error("{0} must not contain a line break, and a key no `=`")]
    Text(&'static str),
    /// Longer than [`MAX_PACKET`].
    #[error("the request has {0} bytes, a packet holds at most {MAX_PACKET}")]
    TooLong(usize),
}

/// Why bytes are no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// The announced lengths contradict each other or exceed the limits.
    #[error("the reply announces {total} bytes with {command} bytes of command text")]
    Length {
        /// The first length field.
        total: u32,
        /// The second length field.
        command: u32,
    },
    /// The command text is no UTF-8.
    #[error("the reply's command text is not UTF-8")]
    Utf8,
    /// The first line is not `[Response]`.
    #[error("the packet does not start with [Response]")]
    NotAResponse,
    /// A line without `=`.
    #[error("line {0} of the reply has no `=`")]
    Line(usize),
    /// A key that must be there exactly once is missing or repeated.
    #[error("the reply must have exactly one {0}= line")]
    Key(&'static str),
    /// The result code is no number.
    #[error("the reply's Code= is not a decimal number")]
    Code,
}

impl ReplyError {
    fn of(header: Header) -> Self {
        Self::Length { total: header.total_len, command: header.command_len }
    }
}

/// Writes one request packet.
///
/// # Errors
/// When a text would break the packet's lines, or the packet would be longer than [`MAX_PACKET`].
pub fn encode_request(
    command: &str,
    keys: &[(&str, &str)],
    data: &[u8],
) -> Result<Vec<u8>, EncodeError> {
    let mut packet = Vec::new();
    append_request(&mut packet, command, keys, data)?;
    Ok(packet)
}

/// As [`encode_request`], behind what `packet` holds already.
///
/// # Errors
/// As there; `packet` is left as it was.
pub fn append_request(
    packet: &mut Vec<u8>,
    command: &str,
    keys: &[(&str, &str)],
    data: &[u8],
) -> Result<(), EncodeError> {
    let breaks = |text: &str| text.contains(['\r', '\n']);
    if breaks(command) {
        return Err(EncodeError::Text("a command name"));
    }
    let mut text = format!("[Request]\r\nCommand={command}");
    for (key, value) in keys {
        if breaks(key) || key.contains('=') || breaks(value) {
            return Err(EncodeError::Text("a key or its value"));
        }
        text.push_str("\r\n");
        text.push_str(key);
        text.push('=');
        text.push_str(value);
    }
    let header = Header::new(text.len(), data.len())
        .ok_or(EncodeError::TooLong(4 + text.len() + data.len()))?;
    packet.reserve(HEADER_LEN + text.len() + data.len());
    packet.extend_from_slice(&header.to_bytes(ByteOrder::Little));
    packet.extend_from_slice(text.as_bytes());
    packet.extend_from_slice(data);
    Ok(())
}

/// How many bytes the packet at the front of `bytes` has in all, once its two length fields are there.
///
/// # Errors
/// When the lengths contradict each other or exceed `limits`: nothing after them can be trusted.
pub fn packet_len(bytes: &[u8], limits: Limits) -> Result<Option<usize>, ReplyError> {
    let Some(header) = bytes.first_chunk().map(|bytes| Header::read(bytes, limits.order)) else {
        return Ok(None);
    };
    header.check(&limits).map_err(|_| ReplyError::of(header))?;
    Ok(Some(4 + header.total_len as usize))
}

/// One reply, borrowed from the bytes it came in.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    /// The lines after `[Response]`.
    lines: &'a str,
    /// The command as the client spelled it; empty where the server knew none.
    pub command: &'a str,
    /// The result code, 0 for success.
    pub code: u32,
    /// What the server says about a failure; may be empty.
    pub message: Option<&'a str>,
    /// Everything behind the command text.
    pub data: &'a [u8],
}

impl fmt::Debug for Reply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("lines", &self.lines).field("data", &self.data.len()).finish()
    }
}

impl<'a> Reply<'a> {
    /// Reads one whole packet, as long as [`packet_len`] said.
    ///
    /// # Errors
    /// When the packet is no well-formed reply.
    pub fn parse(packet: &'a [u8], limits: Limits) -> Result<Self, ReplyError> {
        let whole = packet_len(packet, limits)?;
        let (bytes, body) =
            packet.split_first_chunk().ok_or(ReplyError::Length { total: 0, command: 0 })?;
        let header = Header::read(bytes, limits.order);
        if whole != Some(packet.len()) {
            return Err(ReplyError::of(header));
        }
        let (text, data) = body.split_at(header.command_len as usize);
        let text = std::str::from_utf8(text).map_err(|_| ReplyError::Utf8)?;
        let (first, lines) = text.split_once("\r\n").unwrap_or((text, ""));
        if !first.eq_ignore_ascii_case("[Response]") {
            return Err(ReplyError::NotAResponse);
        }
        let mut command = None;
        let mut code = None;
        let mut message = None;
        for (number, line) in lines.split("\r\n").enumerate() {
            if line.is_empty() {
                continue;
            }
            let (key, value) = line.split_once('=').ok_or(ReplyError::Line(number + 2))?;
            if key.eq_ignore_ascii_case("Command") {
                once(&mut command, value, "Command")?;
            } else if key.eq_ignore_ascii_case("Code") {
                once(&mut code, decimal(value)?, "Code")?;
            } else if key.eq_ignore_ascii_case("Message") {
                once(&mut message, value, "Message")?;
            }
        }
        Ok(Self {
            lines,
            command: command.ok_or(ReplyError::Key("Command"))?,
            code: code.ok_or(ReplyError::Key("Code"))?,
            message,
            data,
        })
    }

    /// All values of `key`, in their order; keys are compared without case.
    pub fn values<'k>(&self, key: &'k str) -> impl Iterator<Item = &'a str> + use<'a, 'k> {
        self.lines
            .split("\r\n")
            .filter_map(|line| line.split_once('='))
            .filter(move |(k, _)| k.eq_ignore_ascii_case(key))
            .map(|(_, value)| value)
    }

    /// The rows of a list.
    pub fn items(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.values("Item")
    }
}

fn once<T>(slot: &mut Option<T>, value: T, key: &'static str) -> Result<(), ReplyError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ReplyError::Key(key)),
    }
}

/// Digits only: `parse` alone would take a sign.
fn decimal(value: &str) -> Result<u32, ReplyError> {
    if !value.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ReplyError::Code);
    }
    value.parse().map_err(|_| ReplyError::Code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    fn reply(text: &str, data: &[u8]) -> Vec<u8> {
        let mut packet = Vec::new();
        packet.extend(((4 + text.len() + data.len()) as u32).to_le_bytes());
        packet.extend((text.len() as u32).to_le_bytes());
        packet.extend(text.as_bytes());
        packet.extend(data);
        packet
    }

    fn parse(packet: &[u8]) -> Result<Reply<'_>, ReplyError> {
        Reply::parse(packet, ANY_REPLY)
    }

    #[test]
    fn requests_are_the_documented_bytes() {
        let active = hex("1d 00 00 00 19 00 00 00 5b 52 65 71 75 65 73 74 5d 0d 0a \
             43 6f 6d 6d 61 6e 64 3d 41 63 74 69 76 65");
        assert_eq!(encode_request("Active", &[], b"").unwrap(), active);
        let cycle = hex("2f 00 00 00 28 00 00 00 5b 52 65 71 75 65 73 74 5d 0d 0a 43 6f 6d \
             6d 61 6e 64 3d 43 79 63 6c 65 50 61 63 6b 65 74 0d 0a 43 6f 75 6e 74 3d 34 31 00 ff 7f");
        let encoded = encode_request("CyclePacket", &[("Count", "41")], &[0, 255, 127]);
        assert_eq!(encoded.unwrap(), cycle);
    }

    #[test]
    fn requests_cannot_smuggle_lines_or_grow_without_bound() {
        let smuggled = encode_request("Login", &[("UserName", "a\r\nItem=b")], b"");
        assert!(matches!(smuggled, Err(EncodeError::Text(_))));
        assert!(encode_request("A\nb", &[], b"").is_err());
        assert!(encode_request("A", &[("k=", "v")], b"").is_err());
        // A value may well hold a second `=`.
        assert!(encode_request("A", &[("k", "v==")], b"").is_ok());
        let long = vec![0; MAX_PACKET as usize];
        assert!(matches!(encode_request("A", &[], &long), Err(EncodeError::TooLong(_))));
    }

    #[test]
    fn the_documented_replies_are_read() {
        let active =
            hex("26 00 00 00 22 00 00 00 5b 52 65 73 70 6f 6e 73 65 5d 0d 0a 43 6f 6d 6d \
             61 6e 64 3d 41 63 74 69 76 65 0d 0a 43 6f 64 65 3d 30");
        let read = parse(&active).unwrap();
        assert_eq!((read.command, read.code, read.message), ("Active", 0, None));
        let refused = reply("[Response]\r\nCommand=GetClients\r\nCode=8\r\nMessage=", b"");
        let read = parse(&refused).unwrap();
        assert_eq!((read.code, read.message), (8, Some("")));
    }

    #[test]
    fn items_and_data_come_out_in_order() {
        let packet = reply("[RESPONSE]\r\ncommand=X\r\ncode=0\r\nItem=a=b\r\nitem=c\r\n", b"raw");
        let read = parse(&packet).unwrap();
        assert_eq!(read.items().collect::<Vec<_>>(), ["a=b", "c"]);
        assert_eq!(read.data, b"raw");
        assert_eq!(read.values("Count").next(), None);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        let cases: [(&str, ReplyError); 8] = [
            ("[Request]\r\nCommand=A\r\nCode=0", ReplyError::NotAResponse),
            ("", ReplyError::NotAResponse),
            ("[Response]\r\nCode=0", ReplyError::Key("Command")),
            ("[Response]\r\nCommand=A", ReplyError::Key("Code")),
            ("[Response]\r\nCommand=A\r\nCode=0\r\nCode=1", ReplyError::Key("Code")),
            ("[Response]\r\nCommand=A\r\nnonsense\r\nCode=0", ReplyError::Line(3)),
            ("[Response]\r\nCommand=A\r\nCode=+0", ReplyError::Code),
            ("[Response]\r\nCommand=A\r\nCode=4294967296", ReplyError::Code),
        ];
        for (text, error) in cases {
            assert_eq!(parse(&reply(text, b"")).unwrap_err(), error, "{text}");
        }
        let mut bad = reply("[Response]\r\nCommand=A\r\nCode=0", b"");
        bad[10] = 0xff;
        assert_eq!(parse(&bad).unwrap_err(), ReplyError::Utf8);
    }

    #[test]
    fn lengths_are_judged_before_anything_is_read() {
        let limits = Limits { packet: 100, command: 50, ..ANY_REPLY };
        assert_eq!(packet_len(&[9; 7], limits), Ok(None));
        let header =
            |total: u32, command: u32| [total.to_le_bytes(), command.to_le_bytes()].concat();
        assert_eq!(packet_len(&header(100, 50), limits), Ok(Some(104)));
        for (total, command) in [(101, 50), (100, 51), (3, 0), (20, 17), (u32::MAX, u32::MAX)] {
            assert!(packet_len(&header(total, command), limits).is_err(), "{total} {command}");
        }
        // One byte too many or too few is no packet either.
        let mut packet = reply("[Response]\r\nCommand=A\r\nCode=0", b"");
        packet.push(0);
        assert!(parse(&packet).is_err());
    }
}
