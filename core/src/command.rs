//! Command text: a borrowed view of what a peer sent, a writer for replies, the result codes.
//!
//! The text is lines separated by CR LF: `[Request]` or `[Response]`, then `Key=Value`.

use core::fmt::{self, Write};

use crate::frame::{ByteOrder, HEADER_LEN, Header};

/// How a command ended, as the number in `Code=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Code(pub u32);

impl Code {
    /// Success.
    pub const OK: Code = Code(0);
    /// No such command.
    pub const NO_SUCH_COMMAND: Code = Code(1);
    /// A length of the packet is wrong.
    pub const LENGTH: Code = Code(2);
    /// The packet is not a command text.
    pub const FORMAT: Code = Code(3);
    /// Something else went wrong; the message says what.
    pub const UNKNOWN: Code = Code(4);
    /// The text names no command.
    pub const INCOMPLETE: Code = Code(5);
    /// A parameter is missing or does not parse.
    pub const PARAMETER: Code = Code(6);
    /// Unknown user or wrong password.
    pub const PASSWORD: Code = Code(7);
    /// Login required.
    pub const LOGIN_REQUIRED: Code = Code(8);
    /// There is no such file.
    pub const NO_FILE: Code = Code(9);
    /// The session has no file open.
    pub const NOT_OPEN: Code = Code(10);
    /// Somebody else has the file.
    pub const IN_USE: Code = Code(11);
    /// There is no such directory.
    pub const NO_DIR: Code = Code(0x0200_0001);
    /// The directory cannot be made.
    pub const CREATE_DIR: Code = Code(0x0200_0002);
    /// The directory cannot be deleted.
    pub const DELETE_DIR: Code = Code(0x0200_0003);
    /// The file cannot be deleted.
    pub const DELETE_FILE: Code = Code(0x0200_0007);
    /// The file has not the size that it is to have.
    pub const FILE_SIZE: Code = Code(0x0200_0008);
}

/// Why a packet is not a command text: [`Code::FORMAT`]. The peer must mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FormatError {
    /// Not UTF-8.
    NotUtf8,
    /// Fewer than two lines.
    TooFewLines,
    /// The first line is neither `[Request]` nor `[Response]`.
    UnknownFirstLine,
}

impl FormatError {
    /// The text that the peer is sent.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::NotUtf8 => "command text is not UTF-8",
            Self::TooFewLines => "command text needs two lines or more, separated by CR LF",
            Self::UnknownFirstLine => "first line is neither [Request] nor [Response]",
        }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for FormatError {}

/// Who is asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `[Request]`.
    Request,
    /// `[Response]`.
    Response,
}

/// A command text where it stands in the input.
#[derive(Debug, Clone, Copy)]
pub struct Command<'a> {
    kind: Kind,
    keys: &'a str,
}

impl<'a> Command<'a> {
    /// Reads a command text.
    ///
    /// # Errors
    /// [`FormatError`] when it is none.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let text = core::str::from_utf8(bytes).map_err(|_| FormatError::NotUtf8)?;
        // Empty lines do not count, not even before the first.
        let mut text = text;
        while let Some(rest) = text.strip_prefix("\r\n") {
            text = rest;
        }
        let (first, keys) = split_line(text);
        let keys = keys.ok_or(FormatError::TooFewLines)?;
        let kind = if first.eq_ignore_ascii_case("[Request]") {
            Kind::Request
        } else if first.eq_ignore_ascii_case("[Response]") {
            Kind::Response
        } else {
            return Err(FormatError::UnknownFirstLine);
        };
        if Lines(Some(keys)).all(str::is_empty) {
            return Err(FormatError::TooFewLines);
        }
        Ok(Self { kind, keys })
    }

    /// Request or response.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// All `Key=Value` lines in order; the value is all after the first `=`. Other lines are ignored.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        Lines(Some(self.keys)).filter_map(|line| {
            let at = line.bytes().position(|byte| byte == b'=')?;
            Some((line.get(..at)?, line.get(at + 1..)?))
        })
    }

    /// The first value under a key, in any case.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&'a str> {
        Lines(Some(self.keys)).find_map(|line| {
            let (name, value) = line.split_at_checked(key.len())?;
            // No key has a `=` in it, so the first one stands where this one ends.
            value.strip_prefix('=').filter(|_| name.eq_ignore_ascii_case(key))
        })
    }

    /// The command's name as the peer spelled it; `None` if it names none.
    #[must_use]
    pub fn name(&self) -> Option<&'a str> {
        self.get("Command").filter(|name| !name.is_empty())
    }
}

/// The lines of a text. `str::split` searches for any text whatever, and takes longer to get ready for it than a command
/// has bytes.
struct Lines<'a>(Option<&'a str>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (line, rest) = split_line(self.0?);
        self.0 = rest;
        Some(line)
    }
}

/// The first line of a text, and what follows it if it does not end there.
fn split_line(text: &str) -> (&str, Option<&str>) {
    match text.as_bytes().windows(2).position(|pair| pair == b"\r\n") {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 2..)),
        None => (text, None),
    }
}

/// Writes a reply into a buffer: header, `[Response]`, `Command=`, `Code=`, on failure `Message=`,
/// then further keys.
///
/// What does not fit is remembered and told by [`Reply::finish`]; messages are cut to fit.
#[derive(Debug)]
pub struct Reply<'b> {
    text: Text<'b>,
}

#[derive(Debug)]
struct Text<'b> {
    buf: &'b mut [u8],
    len: usize,
    overflow: bool,
}

impl Write for Text<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.put_bytes(s.as_bytes());
        if self.overflow { Err(fmt::Error) } else { Ok(()) }
    }
}

/// The buffer of a [`Reply`] is too small for it, or the packet would be over the protocol's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ReplyTooLong;

impl fmt::Display for ReplyTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("reply does not fit")
    }
}

impl core::error::Error for ReplyTooLong {}

impl<'b> Reply<'b> {
    /// Begins the reply to `command` (as the peer spelled it; empty where none is known).
    pub fn new(buf: &'b mut [u8], command: &str, code: Code) -> Self {
        let mut text = Text { overflow: buf.len() < HEADER_LEN, buf, len: HEADER_LEN };
        text.put("[Response]\r\nCommand=");
        text.put(command);
        text.put("\r\nCode=");
        text.put_number(code.0);
        Self { text }
    }

    /// Begins the reply to a command that failed, with a message for whoever debugs the peer. The
    /// message may be empty and is cut where the buffer ends.
    pub fn failure(buf: &'b mut [u8], command: &str, code: Code, message: &str) -> Self {
        let mut reply = Self::new(buf, command, code);
        reply.text.put("\r\nMessage=");
        let room = reply.text.buf.len().saturating_sub(reply.text.len);
        reply.text.put(&message[..message.floor_char_boundary(room)]);
        reply
    }

    /// Adds a key.
    #[must_use]
    pub fn key(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.text.put("\r\n");
        self.text.put(name);
        self.text.put("=");
        // The error is remembered in the text itself.
        let _ = write!(self.text, "{value}");
        self
    }

    /// Adds a key whose value is a number.
    #[must_use]
    pub fn number(mut self, name: &str, value: i32) -> Self {
        self.text.put("\r\n");
        self.text.put(name);
        self.text.put(if value < 0 { "=-" } else { "=" });
        self.text.put_number(value.unsigned_abs());
        self
    }

    /// Completes the header for `data_len` bytes that follow the text, and gives the length of
    /// header and text, which now stand at the front of the buffer.
    ///
    /// # Errors
    /// [`ReplyTooLong`] when the buffer or the protocol's limit does not hold it.
    pub fn finish(self, data_len: usize, order: ByteOrder) -> Result<usize, ReplyTooLong> {
        self.finish_with(0, data_len, order)
    }

    /// Like [`Reply::finish`], for a text that goes on for `more_text` bytes after the buffer's.
    ///
    /// # Errors
    /// As [`Reply::finish`].
    pub fn finish_with(
        self,
        more_text: usize,
        data_len: usize,
        order: ByteOrder,
    ) -> Result<usize, ReplyTooLong> {
        let Text { buf, len, overflow } = self.text;
        let header = Header::new((len - HEADER_LEN).saturating_add(more_text), data_len);
        let bytes = header.filter(|_| !overflow).ok_or(ReplyTooLong)?.to_bytes(order);
        *buf.first_chunk_mut().ok_or(ReplyTooLong)? = bytes;
        Ok(len)
    }
}

impl Text<'_> {
    /// What does not fit is remembered in `overflow`.
    fn put_bytes(&mut self, bytes: &[u8]) {
        match self.buf.get_mut(self.len..self.len + bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                self.len += bytes.len();
            }
            None => self.overflow = true,
        }
    }

    fn put(&mut self, s: &str) {
        self.put_bytes(s.as_bytes());
    }

    /// Digit by digit: the formatter takes longer than all the rest of a reply.
    fn put_number(&mut self, mut value: u32) {
        // As many as the largest number has.
        let mut digits = [0; 10];
        let mut len = 0;
        for place in digits.iter_mut().rev() {
            // Less than ten.
            *place = b'0' + (value % 10) as u8;
            value /= 10;
            len += 1;
            if value == 0 {
                break;
            }
        }
        self.put_bytes(digits.get(digits.len() - len..).unwrap_or_default());
    }
}

/// Text from a peer, escaped and cut, for places where people read it.
///
/// Control characters, quotes and backslashes are escaped; after `LIMIT` characters it ends in `…`.
#[derive(Debug, Clone, Copy)]
pub struct Printable<'a>(pub &'a str);

impl Printable<'_> {
    /// Most characters of the text that are shown.
    pub const LIMIT: usize = 64;
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(Self::LIMIT) {
            write!(f, "{}", c.escape_debug())?;
        }
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}
