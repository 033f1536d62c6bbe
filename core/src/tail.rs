//! The last lines of a log in lent memory, for readers that follow it: whoever writes never waits,
//! and a reader that falls behind is told how many lines it has lost.

use core::fmt::{self, Write};
use core::ops::DerefMut;

use crate::front::Front;

/// Bytes before each line that say how long it is.
const PREFIX: usize = 2;

/// Where a reader is in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// Number of the next line; wraps.
    line: u32,
    /// Where in the ring it begins.
    at: u32,
}

/// A ring of lines. When it is full, the oldest ones go.
///
/// ```
/// use pulsegate_core::tail::Tail;
///
/// let mut memory = [0; 64];
/// let mut tail = Tail::new(&mut memory[..], 48);
/// let mut reader = tail.end();
/// tail.push(format_args!("session {} closed", 7));
/// let mut text = [0; 64];
/// let len = tail.read(&mut reader, &mut text).unwrap();
/// assert_eq!(&text[..len], b"session 7 closed\r\n");
/// assert_eq!(tail.read(&mut reader, &mut text), None);
/// ```
#[derive(Debug)]
pub struct Tail<M> {
    ring: M,
    /// Longest line with its CR LF, in bytes.
    longest: usize,
    /// The oldest line there is, and how many bytes there are from its prefix on.
    first: Cursor,
    used: usize,
    /// Number of the line that comes next.
    next: u32,
}

impl<M: DerefMut<Target = [u8]>> Tail<M> {
    /// A log without lines. Lines are cut to `longest` bytes with their CR LF; readers need a
    /// buffer of that size. Memory that holds no such line keeps none.
    pub fn new(ring: M, longest: usize) -> Self {
        let most = ring.len().saturating_sub(PREFIX).min(usize::from(u16::MAX));
        let first = Cursor { line: 0, at: 0 };
        Self { longest: longest.min(most), ring, first, used: 0, next: 0 }
    }

    /// A reader that sees what comes from now on.
    #[must_use]
    pub fn end(&self) -> Cursor {
        Cursor { line: self.next, at: self.index(self.first.at as usize + self.used) }
    }

    /// Adds a line. Line breaks within it become spaces.
    pub fn push(&mut self, line: fmt::Arguments<'_>) {
        if self.longest < 2 {
            return;
        }
        // Making room does not move it. The prefix is written when the length is known.
        let begin = self.first.at as usize + self.used;
        self.append(0);
        self.append(0);
        let mut writer = Line { tail: self, len: 0 };
        // It says so when a line is too long, which is cut then.
        let _ = writer.write_fmt(line);
        // At most `longest`, which is a u16.
        let [low, high] = ((writer.len + 2) as u16).to_le_bytes();
        self.append(b'\r');
        self.append(b'\n');
        self.put(begin, low);
        self.put(begin + 1, high);
        self.next = self.next.wrapping_add(1);
    }

    /// Copies whole lines from the reader's place on, as many as fit, and moves it; first of all a
    /// line that says how many were lost. `None`: there is nothing new. `Some(0)`: the next line
    /// does not fit.
    pub fn read(&self, reader: &mut Cursor, buf: &mut [u8]) -> Option<usize> {
        let mut out = Front::new(buf);
        let behind = self.first.line.wrapping_sub(reader.line);
        // A reader is never ahead: the difference is small unless lines have gone.
        if behind != 0 && behind <= u32::MAX / 2 {
            if write!(out, "... {behind} lines lost\r\n").is_err() {
                return Some(0);
            }
            *reader = self.first;
        }
        if reader.line == self.next && out.len == 0 {
            return None;
        }
        while reader.line != self.next {
            let at = reader.at as usize;
            let Some(len) = self.len_at(at) else { break };
            let Some(to) = out.buf.get_mut(out.len..out.len + len) else { break };
            for (offset, place) in to.iter_mut().enumerate() {
                *place = self.byte(at + PREFIX + offset).unwrap_or(b' ');
            }
            out.len += len;
            *reader =
                Cursor { line: reader.line.wrapping_add(1), at: self.index(at + PREFIX + len) };
        }
        Some(out.len)
    }

    fn index(&self, at: usize) -> u32 {
        // The ring is shorter than a u32 can count, or its end is not used.
        at.checked_rem(self.ring.len()).unwrap_or(0) as u32
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.ring.get(self.index(at) as usize).copied()
    }

    /// The length of the line whose prefix is there; `None` only in a ring without memory.
    fn len_at(&self, at: usize) -> Option<usize> {
        Some(usize::from(u16::from_le_bytes([self.byte(at)?, self.byte(at + 1)?])))
    }

    fn put(&mut self, at: usize, byte: u8) {
        let index = self.index(at) as usize;
        if let Some(place) = self.ring.get_mut(index) {
            *place = byte;
        }
    }

    /// Adds a byte to the line that is being written; the oldest line goes if there is no room.
    fn append(&mut self, byte: u8) {
        if self.used >= self.ring.len() && self.first.line != self.next {
            let at = self.first.at as usize;
            let gone = PREFIX + self.len_at(at).unwrap_or(0);
            let line = self.first.line.wrapping_add(1);
            self.first = Cursor { line, at: self.index(at + gone) };
            self.used = self.used.saturating_sub(gone);
        }
        self.put(self.first.at as usize + self.used, byte);
        self.used += 1;
    }
}

/// The line that is being written.
struct Line<'a, M> {
    tail: &'a mut Tail<M>,
    len: usize,
}

impl<M: DerefMut<Target = [u8]>> Write for Line<'_, M> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = self.tail.longest - 2 - self.len;
        let piece = &s[..s.floor_char_boundary(room)];
        for byte in piece.bytes() {
            self.tail.append(if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
        }
        self.len += piece.len();
        if piece.len() < s.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_falls_behind_is_told_how_much() {
        let mut tail = Tail::new(vec![0; 100], 40);
        let mut reader = tail.end();
        let mut all = Vec::new();
        let mut buf = [0; 64];
        for n in 0..1000u32 {
            tail.push(format_args!("line {n}\nx"));
            if n % 37 == 0 {
                while let Some(len) = tail.read(&mut reader, &mut buf) {
                    assert!(len > 0);
                    all.extend_from_slice(&buf[..len]);
                }
            }
        }
        let text = String::from_utf8(all).unwrap();
        let mut next = 0;
        for line in text.lines() {
            match line.strip_prefix("... ").and_then(|rest| rest.strip_suffix(" lines lost")) {
                Some(lost) => next += lost.parse::<u32>().unwrap(),
                None => {
                    assert_eq!(line, format!("line {next} x"));
                    next += 1;
                }
            }
        }
        assert_eq!(next, 1000);
        assert!(text.contains("lost"));
    }

    #[test]
    fn long_lines_are_cut_between_characters_and_small_buffers_wait() {
        let mut tail = Tail::new(vec![0; 64], 12);
        let mut reader = tail.end();
        tail.push(format_args!("{}{}", "12345678", "9äöü"));
        assert_eq!(tail.read(&mut reader, &mut [0; 12]), Some(11));
        tail.push(format_args!("x"));
        assert_eq!(tail.read(&mut reader, &mut [0; 2]), Some(0));
        let mut buf = [0; 3];
        assert_eq!(tail.read(&mut reader, &mut buf), Some(3));
        assert_eq!((&buf, tail.read(&mut reader, &mut [0; 3])), (b"x\r\n", None));
    }

    #[test]
    fn memory_for_no_line_keeps_none() {
        for size in 0..5 {
            let mut tail = Tail::new(vec![0; size], 12);
            let mut reader = tail.end();
            tail.push(format_args!("abc"));
            let len = tail.read(&mut reader, &mut [0; 32]);
            assert!(len.is_none() || size == 4, "{size}: {len:?}");
        }
    }
}
