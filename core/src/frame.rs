//! Packets: the length header, the incremental decoder, the limits.
//!
//! ```text
//! u32 total_len | u32 command_len | command: command_len bytes | data: the rest
//! ```
//!
//! `total_len` counts everything after itself. The decoder owns no buffer: it looks at the bytes
//! where they already are, asks for a longer view when the header or the command is split, and
//! lets data pass in pieces of any size.

use core::fmt;

/// Bytes of the two lengths before a command.
pub const HEADER_LEN: usize = 8;

/// What the command's own length takes of `total_len`.
const COMMAND_LEN_FIELD: u32 = 4;

/// Largest `total_len` of the protocol: 10 MiB, in both directions.
pub const MAX_PACKET: u32 = 10 * 1024 * 1024;

/// How the two lengths are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ByteOrder {
    /// As the protocol has it.
    #[default]
    Little,
    /// For fleets whose firmware got it wrong and cannot be changed.
    Big,
}

impl ByteOrder {
    fn read(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn write(self, value: u32) -> [u8; 4] {
        match self {
            Self::Little => value.to_le_bytes(),
            Self::Big => value.to_be_bytes(),
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Little => Self::Big,
            Self::Big => Self::Little,
        }
    }
}

/// What the decoder accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest `total_len` in bytes; at most [`MAX_PACKET`] by the protocol.
    pub packet: u32,
    /// Largest command text in bytes. The socket must be able to show this much and
    /// [`HEADER_LEN`] in one piece.
    pub command: u32,
    /// Byte order of the lengths, for what is read and what is written.
    pub order: ByteOrder,
}

impl Limits {
    /// For a host: commands of up to 4 KiB.
    pub const HOST: Limits = Limits { packet: MAX_PACKET, command: 4096, order: ByteOrder::Little };
    /// For a microcontroller: commands of up to 256 bytes.
    pub const SMALL: Limits = Limits { packet: MAX_PACKET, command: 256, order: ByteOrder::Little };

    /// The longest view that the decoder ever asks for, in bytes.
    #[must_use]
    pub const fn longest_head(&self) -> usize {
        HEADER_LEN.saturating_add(self.command as usize)
    }
}

/// The two lengths of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes after the first length.
    pub total_len: u32,
    /// Bytes of command text.
    pub command_len: u32,
}

impl Header {
    /// The header of a packet with these parts; `None` if it would be longer than [`MAX_PACKET`].
    #[must_use]
    pub fn new(command_len: usize, data_len: usize) -> Option<Header> {
        let command_len = u32::try_from(command_len).ok()?;
        let total_len = u32::try_from(data_len)
            .ok()?
            .checked_add(command_len)?
            .checked_add(COMMAND_LEN_FIELD)
            .filter(|&total| total <= MAX_PACKET)?;
        Some(Header { total_len, command_len })
    }

    /// Reads a header without judging it.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER_LEN], order: ByteOrder) -> Header {
        let [a, b, c, d, e, f, g, h] = *bytes;
        Header { total_len: order.read([a, b, c, d]), command_len: order.read([e, f, g, h]) }
    }

    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(self, order: ByteOrder) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = order.write(self.total_len);
        let [e, f, g, h] = order.write(self.command_len);
        [a, b, c, d, e, f, g, h]
    }

    /// Bytes of data that follow the command; 0 for a header that makes no sense.
    #[must_use]
    pub const fn data_len(self) -> u32 {
        self.total_len.saturating_sub(COMMAND_LEN_FIELD).saturating_sub(self.command_len)
    }

    /// Holds the lengths against the limits.
    ///
    /// # Errors
    /// The first rule that is broken; the peer must mend it.
    pub fn check(self, limits: &Limits) -> Result<(), LengthError> {
        if self.total_len > limits.packet {
            Err(LengthError::PacketTooLong)
        } else if self.total_len < COMMAND_LEN_FIELD {
            Err(LengthError::PacketTooShort)
        } else if self.command_len > self.total_len - COMMAND_LEN_FIELD {
            Err(LengthError::CommandBeyondPacket)
        } else if self.command_len > limits.command {
            Err(LengthError::CommandTooLong)
        } else {
            Ok(())
        }
    }
}

/// Which rule of the lengths a packet broke. The connection cannot go on: where the next packet
/// starts is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LengthError {
    /// `total_len` is over the limit.
    PacketTooLong,
    /// `total_len` does not even hold `command_len`.
    PacketTooShort,
    /// The command would end after the packet.
    CommandBeyondPacket,
    /// The command text is over its own limit.
    CommandTooLong,
    /// The lengths break a rule as they stand and none when read in the other byte order.
    WrongByteOrder,
}

impl LengthError {
    /// The text that the peer is sent.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::PacketTooLong => "packet length over the limit",
            Self::PacketTooShort => "packet length below 4",
            Self::CommandBeyondPacket => "command length beyond the packet",
            Self::CommandTooLong => "command text over the limit",
            Self::WrongByteOrder => "lengths look big-endian; this protocol is little-endian",
        }
    }
}

impl fmt::Display for LengthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for LengthError {}

/// What the decoder sees at the front of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Fewer bytes than it takes: come back with at least this many in one piece.
    Need(usize),
    /// A packet begins. Consume [`Packet::head_len`] bytes and tell [`Decoder::begin`].
    Packet(Packet<'a>),
    /// A piece of the current packet's data, of at least one byte. Consume as much of it as you
    /// like and tell [`Decoder::pass`].
    Data(&'a [u8]),
}

/// Header and command of one packet, where they stand in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The command text's bytes.
    pub command: &'a [u8],
    /// Bytes of data that follow.
    pub data_len: u32,
}

impl Packet<'_> {
    /// Bytes of header and command together.
    #[must_use]
    pub const fn head_len(&self) -> usize {
        HEADER_LEN + self.command.len()
    }
}

/// The decoder's whole state: how much of the current packet's data has not passed yet.
///
/// Looking changes nothing, so a packet that cannot be served yet is simply looked at again.
///
/// ```
/// use pulsegate_core::frame::{Decoder, Limits, Step};
///
/// let bytes = b"\x0a\0\0\0\x04\0\0\0beatxy";
/// let mut decoder = Decoder::new();
/// assert_eq!(decoder.look(&bytes[..5], &Limits::HOST), Ok(Step::Need(8)));
/// assert_eq!(decoder.look(&bytes[..9], &Limits::HOST), Ok(Step::Need(12)));
/// let Ok(Step::Packet(packet)) = decoder.look(bytes, &Limits::HOST) else { panic!() };
/// assert_eq!((packet.command, packet.data_len), (&b"beat"[..], 2));
/// decoder.begin(packet.data_len);
/// assert_eq!(decoder.look(&bytes[12..], &Limits::HOST), Ok(Step::Data(b"xy")));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decoder {
    data_left: u32,
}

impl Decoder {
    /// At the start of a packet.
    #[must_use]
    pub const fn new() -> Self {
        Self { data_left: 0 }
    }

    /// Bytes of the current packet's data that have not passed.
    #[must_use]
    pub const fn data_left(&self) -> u32 {
        self.data_left
    }

    /// Looks at the unconsumed input.
    ///
    /// # Errors
    /// [`LengthError`] when the packet at the front breaks a limit.
    pub fn look<'a>(&self, input: &'a [u8], limits: &Limits) -> Result<Step<'a>, LengthError> {
        if self.data_left > 0 {
            let piece = input.get(..self.data_left as usize).unwrap_or(input);
            return Ok(if piece.is_empty() { Step::Need(1) } else { Step::Data(piece) });
        }
        let Some((header, rest)) = input.split_first_chunk::<HEADER_LEN>() else {
            return Ok(Step::Need(HEADER_LEN));
        };
        let lengths = Header::read(header, limits.order);
        if let Err(error) = lengths.check(limits) {
            // Either reading can be small enough only if the other is not: no valid packet is mistaken.
            let other = Header::read(header, limits.order.other());
            let mistaken = limits.order == ByteOrder::Little && other.check(limits).is_ok();
            return Err(if mistaken { LengthError::WrongByteOrder } else { error });
        }
        Ok(match rest.get(..lengths.command_len as usize) {
            Some(command) => Step::Packet(Packet { command, data_len: lengths.data_len() }),
            None => Step::Need(HEADER_LEN.saturating_add(lengths.command_len as usize)),
        })
    }

    /// A packet's header and command have been consumed; this much data follows.
    pub const fn begin(&mut self, data_len: u32) {
        self.data_left = data_len;
    }

    /// This much of the data has been consumed.
    pub const fn pass(&mut self, len: usize) {
        // A length beyond u32 is beyond what is left, too.
        let len = if len > u32::MAX as usize { u32::MAX } else { len as u32 };
        self.data_left = self.data_left.saturating_sub(len);
    }
}
