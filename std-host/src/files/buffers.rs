//! Memory for bytes on their way to a disk or from it: pooled, and bounded over all sessions.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::io::Errno;

use super::shares::{Share, Shares};

/// What a buffer holds while there is memory.
pub(super) const LARGE: usize = 64 * 1024;

/// What a buffer holds when there is none: everybody goes on, slowly.
pub(super) const SMALL: usize = 4 * 1024;

/// Large buffers that are kept for the next user.
const KEPT: usize = 32;

/// What a buffer is for. Readers have half of the memory at most: those that do not take what they asked for must not
/// slow those that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Write,
    Read,
}

/// The memory of one server's files.
#[derive(Debug)]
pub(super) struct Buffers {
    limit: usize,
    /// Bytes of all buffers that are in use, by capacity.
    used: AtomicUsize,
    /// For lists, half of the memory; what they use is part of `used`.
    lists: Arc<Shares>,
    free: Mutex<Vec<Vec<u8>>>,
}

/// A piece of memory that goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    /// What it counts for.
    size: usize,
    /// Of the memory for lists.
    list: Option<Share>,
    home: Arc<Buffers>,
}

impl Buffers {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        let free = Mutex::new(Vec::new());
        Arc::new(Self { limit, used: AtomicUsize::new(0), lists: Shares::new(limit / 2), free })
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// A large buffer, unless the memory for this purpose is in use.
    pub(super) fn large(self: &Arc<Self>, purpose: Purpose) -> Option<Buffer> {
        let limit = match purpose {
            Purpose::Write => self.limit,
            Purpose::Read => self.limit / 2,
        };
        let more = |used: usize| used.checked_add(LARGE).filter(|more| *more <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let bytes = kept.unwrap_or_else(|| Vec::with_capacity(LARGE));
        Some(Buffer { bytes, size: LARGE, list: None, home: Arc::clone(self) })
    }

    /// A small buffer, whatever is in use: for sessions that have no other, so that their number bounds it.
    pub(super) fn small(self: &Arc<Self>) -> Buffer {
        self.used.fetch_add(SMALL, Ordering::Relaxed);
        let bytes = Vec::with_capacity(SMALL);
        Buffer { bytes, size: SMALL, list: None, home: Arc::clone(self) }
    }

    /// How long a further list of this user may be, as far as can be said before it has been made.
    pub(super) fn room_for_lists(&self, owner: &str) -> usize {
        self.lists.room_alone(owner)
    }

    /// Takes in the text of a user's list; one is always possible, more only within half of the memory.
    pub(super) fn list(self: &Arc<Self>, owner: &str, text: Vec<u8>) -> Option<Buffer> {
        let size = text.capacity();
        let list = Some(self.lists.take_alone(owner, size)?);
        self.used.fetch_add(size, Ordering::Relaxed);
        Some(Buffer { bytes: text, size, list, home: Arc::clone(self) })
    }
}

impl Buffer {
    /// What is in it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether nothing more fits in.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= self.size
    }

    /// Copies in what fits, and says how much.
    pub(super) fn put(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.size - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..len]);
        len
    }

    /// Fills an empty buffer from a place in a file, with at most so many bytes, and says with how many: none at the
    /// file's end.
    pub(super) fn fill(&mut self, file: &File, offset: u64, most: u64) -> io::Result<usize> {
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(self.size);
        while self.bytes.len() < most {
            let from = offset.saturating_add(self.bytes.len() as u64);
            match rustix::io::pread(file, spare_capacity(&mut self.bytes), from) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The memory may be more than is wanted.
        self.bytes.truncate(most);
        Ok(self.bytes.len())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.used.fetch_sub(self.size, Ordering::Relaxed);
        if self.list.is_none() && self.size == LARGE {
            let mut free = self.home.free.lock().unwrap_or_else(PoisonError::into_inner);
            if free.len() < KEPT {
                let mut bytes = std::mem::take(&mut self.bytes);
                bytes.clear();
                free.push(bytes);
            }
        }
    }
}
