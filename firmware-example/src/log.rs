//! The log as lines of text, for those who read it over the network (LogOutput). defmt's log over the cable is another
//! matter; [`tell`] tells both the same.

use core::fmt::{self, Arguments};

use defmt::Display2Format;
use embassy_time::Instant;
use heapless::Vec;
use pulsegate_core::command::Printable;
use pulsegate_core::table::SessionId;
use pulsegate_core::tail::{Cursor, Tail};

use crate::kept::LastRun;
use crate::settings::{LOG_READERS, SCRATCH, TRANSMIT_BYTES};

/// Without readers nothing of this is compiled.
const ON: bool = LOG_READERS != 0;

/// Room for lines that the readers have not taken yet, in bytes.
pub(crate) const RING: usize = if ON { 1024 } else { 0 };

/// Where a line is cut, in bytes. Those that no peer makes long on purpose are shorter.
const LINE: usize = 240;
const _: () = assert!(LINE <= TRANSMIT_BYTES && LINE <= SCRATCH);

/// Tells defmt and the readers of the log. Each value has to be `Display` and `defmt::Format`.
macro_rules! tell {
    ($log:expr, $now:expr, $level:ident, $format:literal $(, $value:expr)* $(,)?) => {{
        defmt::$level!($format $(, $value)*);
        $log.add($now, format_args!($format $(, $value)*));
    }};
}
pub(crate) use tell;

/// Text from a peer, escaped and cut.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Printable(self.0).fmt(f)
    }
}

impl defmt::Format for Escaped<'_> {
    fn format(&self, f: defmt::Formatter<'_>) {
        Display2Format(self).format(f);
    }
}

/// The lines, and who reads them. Without readers there are none: each sees what comes from then on.
pub(crate) struct Log {
    tail: Tail<&'static mut [u8]>,
    readers: Vec<SessionId, LOG_READERS>,
    /// So many of the readers, the first ones, have not been woken for the last line.
    unwoken: usize,
    last: &'static LastRun,
}

impl Log {
    /// A log in `ring`, of a gateway whose last run ended like this.
    pub(crate) fn new(ring: &'static mut [u8], last: &'static LastRun) -> Self {
        Self { tail: Tail::new(ring, LINE), readers: Vec::new(), unwoken: 0, last }
    }

    /// Adds a line, if somebody reads.
    pub(crate) fn add(&mut self, now: Instant, line: Arguments<'_>) {
        if !ON || self.readers.is_empty() {
            return;
        }
        let ms = now.as_millis();
        self.tail.push(format_args!("{}.{:03} {line}", ms / 1000, ms % 1000));
        self.unwoken = self.readers.len();
    }

    /// Lets a session read; `None` if there are enough readers.
    pub(crate) fn open(&mut self, now: Instant, id: SessionId) -> Option<Cursor> {
        if !ON || self.readers.push(id).is_err() {
            return None;
        }
        let reader = self.tail.end();
        let (starts, panic) = (self.last.starts, self.last.panic.as_deref());
        self.add(now, format_args!("{}, start {starts} since power-up", crate::board::NAME));
        if let Some(panic) = panic {
            self.add(now, format_args!("the last run ended: {panic}"));
        }
        Some(reader)
    }

    /// Copies what a reader has not seen.
    pub(crate) fn read(&self, reader: &mut Cursor, buf: &mut [u8]) -> Option<usize> {
        if ON { self.tail.read(reader, buf) } else { None }
    }

    /// A session has ended.
    pub(crate) fn close(&mut self, id: SessionId) {
        self.readers.retain(|reader| *reader != id);
        self.unwoken = self.unwoken.min(self.readers.len());
    }

    /// The next reader that is to be woken: its socket knows nothing of new lines.
    pub(crate) fn next_to_wake(&mut self) -> Option<SessionId> {
        self.unwoken = self.unwoken.checked_sub(1)?;
        self.readers.get(self.unwoken).copied()
    }
}
