//! How many files may be open at a time: the other descriptors were promised to sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pulsegate_core::command::Code;

use super::failure::Failure;

/// What is told when there are too many.
const TOO_MANY: Failure =
    Failure(Code::UNKNOWN, "too many files are open on the server, try again later");

/// Places for open files.
#[derive(Debug)]
pub(super) struct Places(Arc<AtomicUsize>);

/// One of them; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(most)))
    }

    pub(super) fn take(&self) -> Result<Place, Failure> {
        let less = |free: usize| free.checked_sub(1);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        taken.map(|_| Place(Arc::clone(&self.0))).map_err(|_| TOO_MANY)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
