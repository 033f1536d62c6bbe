//! The log as sessions read it: lines go into a ring that never waits for its readers, and shards
//! with readers are told that there is something new.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use pulsegate_core::tail::{Cursor, Tail};

use super::{Message, Shared};

/// Bytes of lines that are kept for readers who are behind.
const RING: usize = 1 << 20;

/// Longest line with its CR LF, in bytes; the rest is cut. What a shard can send at once is longer.
const LONGEST: usize = 512;

/// The log's lines for those who read it over a connection. Nothing is kept while nobody reads.
///
/// Whatever writes the program's log writes here, too: [`LogHub`] is a writer of lines.
pub struct LogHub {
    tail: Mutex<Tail<Box<[u8]>>>,
    readers: AtomicUsize,
    server: OnceLock<Weak<Shared>>,
}

/// What a shard has of the hub.
#[derive(Debug, Default)]
pub(super) struct Reading {
    readers: AtomicUsize,
    /// It has been told of something new, and has not looked yet.
    told: AtomicBool,
}

impl std::fmt::Debug for LogHub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHub").field("readers", &self.readers).finish_non_exhaustive()
    }
}

impl LogHub {
    /// A log without readers.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            tail: Mutex::new(Tail::new(vec![0; RING].into_boxed_slice(), LONGEST)),
            readers: AtomicUsize::new(0),
            server: OnceLock::new(),
        })
    }

    /// Whether anybody reads; else a line need not even be formatted.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// The server whose sessions read this log; the first one stays.
    pub(super) fn serve(&self, server: Weak<Shared>) {
        let _ = self.server.set(server);
    }

    fn tail(&self) -> MutexGuard<'_, Tail<Box<[u8]>>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session of a shard begins to read.
    pub(super) fn open(&self, reading: &Reading) -> Cursor {
        self.readers.fetch_add(1, Ordering::Relaxed);
        reading.readers.fetch_add(1, Ordering::Relaxed);
        self.tail().end()
    }

    pub(super) fn close(&self, reading: &Reading) {
        self.readers.fetch_sub(1, Ordering::Relaxed);
        reading.readers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn read(&self, reader: &mut Cursor, buf: &mut [u8]) -> Option<usize> {
        self.tail().read(reader, buf)
    }

    fn push(&self, line: &str) {
        self.tail().push(format_args!("{line}"));
        let Some(server) = self.server.get().and_then(Weak::upgrade) else { return };
        for (reading, inbox) in server.reading.iter().zip(&server.inboxes) {
            let is_read = reading.readers.load(Ordering::Relaxed) > 0;
            if is_read && !reading.told.swap(true, Ordering::AcqRel) {
                inbox.send(Message::Log);
            }
        }
    }
}

impl Reading {
    /// The shard looks now; what comes after this is told anew.
    pub(super) fn look(&self) {
        self.told.store(false, Ordering::Release);
    }
}

/// Takes one line, or several, at a call.
impl io::Write for &LogHub {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        String::from_utf8_lossy(bytes).lines().for_each(|line| self.push(line));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
