//! The files of devices: a directory that Upload, Download and RemoteStream work in.
//!
//! [`ShardFiles`] is the [`Store`](pulsegate_core::store::Store) of one shard. It never touches the disk: it hands a
//! session's bytes and questions to the workers of [`Files`], a few threads of lower priority that all shards share,
//! and these report back with a [`Notice`].
//!
//! # Order, and who waits for whom
//!
//! What a session hands over forms one line, and one worker at a time works on it: bytes and questions of a session
//! keep their order without a lock being held for it. Sessions stand in the pool's line in the order in which they
//! got work; after a slice (a megabyte) a session goes to its end, so that one with much to do does not keep those
//! with little.
//!
//! A worker waits for the disk and for nothing else. What a session may have to wait for (a file that another session
//! uploads, the count of a user's bytes, the right to do slow work) it waits for in the line of whoever has it, and
//! the worker goes on with the next session: no number of waiting sessions uses up the workers. A session that waits
//! for a file has nothing that others could wait for; the count is taken before the right to slow work, and nobody
//! who has that right waits. So there is no circle. Slow work (lists, deleting trees) gets half of the workers, counting
//! one of its own, and users have their turns at it one after the other.
//!
//! Locks are held for moments, by code that neither blocks nor calls out: the registry's, then a session's state, then
//! the pool's line or the free buffers, in this order. A shard takes those of its own sessions and, when a session
//! gets work, the line's. Should a worker lose its processor while it holds one, the shard that wants it sleeps, which
//! gives the worker a processor.
//!
//! # Bytes
//!
//! A byte is copied once on a shard, from its receive buffer into a buffer that the worker writes from. What
//! [`Store::write`](pulsegate_core::store::Store::write) has taken is written, whether the session lives or not;
//! what cannot be written is told at the end of the upload. A session has 256 KiB on the way at most, half of it being
//! written while the other half fills; when the memory of all sessions is in use, 4 KiB.

mod buffers;
mod failure;
mod list;
mod pool;
mod reading;
mod registry;
mod remove;
mod root;
mod shard;
mod shares;
mod slow;
mod stream;
mod task;
mod transfer;
mod upload;
mod usage;
mod walk;
mod work;
mod write;

use std::fmt;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use pulsegate_core::server::JobId;
use pulsegate_core::table::SessionId;

use buffers::Buffers;
use failure::{Failure, READING, failure};
use pool::Pool;
use registry::{Key, Reader, Registry};
use root::Root;
use shares::Shares;
use usage::{Count, Usages};

pub use root::StartError;
pub use shard::ShardFiles;

/// What a server keeps files with.
#[derive(Debug, Clone)]
pub struct FilesConfig {
    /// The directory. Operators see all of it, a device the directory of its name in it.
    pub root: PathBuf,
    /// Whether the end of an upload waits until the disk has it.
    pub sync: bool,
    /// Most bytes of a file that peers write.
    pub max_file_bytes: Option<u64>,
    /// Most bytes of all files of a device together.
    pub max_user_bytes: Option<u64>,
    /// Most files and directories of a device.
    pub max_user_files: Option<u64>,
    /// Most files that are open at a time; each takes a descriptor.
    pub max_open: usize,
    /// Threads that work on files.
    pub workers: NonZeroUsize,
    /// Bytes of memory for what is on its way to the disk or from it, over all sessions. Beyond it each session still
    /// has a few KiB.
    pub memory: usize,
}

/// What a shard has to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Something that a session waits for has come: complete its job.
    Complete {
        /// Whose session it is.
        shard: usize,
        /// The session.
        id: SessionId,
        /// Its question.
        job: JobId,
    },
    /// Another session uploads the file that this one has uploaded: end it.
    TakenOver {
        /// Whose session it is.
        shard: usize,
        /// The session.
        id: SessionId,
    },
}

/// Called on a worker's thread, with no lock held: be short, never block. Hold a server's parts weakly: the workers
/// keep this as long as they live.
pub type Notify = Arc<dyn Fn(Notice) + Send + Sync>;

/// The files of a server, and the threads that work on them.
///
/// Dropping it lets the threads finish what they have, but waits for nothing: [`Files::finish`] does.
pub struct Files {
    inner: Arc<Inner>,
}

/// What shards and workers share.
struct Inner {
    root: Root,
    limits: Limits,
    buffers: Arc<Buffers>,
    pool: Arc<Pool>,
    registry: Arc<Registry>,
    usages: Usages,
    /// For open files: the other descriptors were promised to sessions.
    places: Arc<Shares>,
    notifier: Notifier,
    uploads: AtomicU64,
    #[cfg(test)]
    probe: std::sync::Mutex<Option<Probe>>,
}

/// What may be written.
#[derive(Debug, Clone, Copy)]
struct Limits {
    file_bytes: Option<u64>,
    user_bytes: Option<u64>,
    user_files: Option<u64>,
}

/// The way back to the shards.
struct Notifier(Notify);

impl Files {
    /// Opens the directory, which must be there, and starts the threads.
    ///
    /// # Errors
    /// [`StartError`] says what is wrong with the directory and what to do.
    pub fn start(config: &FilesConfig, notify: Notify) -> Result<Self, StartError> {
        let root = Root::open(&config.root, config.sync)?;
        let limits = Limits {
            file_bytes: config.max_file_bytes,
            user_bytes: config.max_user_bytes,
            user_files: config.max_user_files,
        };
        let counts = limits.user_bytes.is_some() || limits.user_files.is_some();
        let pool = Pool::new(config.workers);
        let inner = Inner {
            root,
            limits,
            buffers: Buffers::new(config.memory),
            registry: Registry::new(Arc::clone(&pool)),
            usages: Usages::new(counts, Arc::clone(&pool)),
            places: Shares::new(config.max_open),
            pool,
            notifier: Notifier(notify),
            uploads: AtomicU64::new(0),
            #[cfg(test)]
            probe: std::sync::Mutex::default(),
        };
        // Before the threads, so that an error half way ends those that have started.
        let files = Self { inner: Arc::new(inner) };
        for _ in 0..config.workers.get() {
            let inner = Arc::clone(&files.inner);
            let thread = thread::Builder::new().name("pulsegate-files".into());
            thread.spawn(move || inner.work()).map_err(StartError::Thread)?;
        }
        Ok(files)
    }

    /// Waits until all that has been handed over is done, at most so long, and says whether it is. Ask this after the
    /// last session has ended and before the process does.
    #[must_use]
    pub fn finish(&self, timeout: Duration) -> bool {
        self.inner.pool.wait(timeout)
    }

    /// Sessions whose work is not done.
    #[must_use]
    pub fn busy(&self) -> usize {
        self.inner.pool.active()
    }

    /// Files that are open for writing.
    #[must_use]
    pub fn writing(&self) -> usize {
        self.inner.registry.len()
    }

    /// Bytes of memory on their way to the disk or from it.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.inner.buffers.used()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.inner.pool.close();
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("busy", &self.busy())
            .field("writing", &self.writing())
            .field("memory", &self.memory())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn work(&self) {
        crate::priority::step_back();
        while let Some(transfer) = self.pool.next() {
            // A panic has been reported by its hook; the thread is still needed, and so is the session's answer.
            if catch_unwind(AssertUnwindSafe(|| work::run(self, &transfer))).is_err() {
                work::recover(self, &transfer);
            }
        }
    }

    /// Counts a device's directory. What cannot be looked at is left out.
    fn count(&self, device: &str) -> Count {
        let mut count = Count::default();
        if let Ok(dir) = self.root.device(device)
            && let Err(error) = walk::count(&dir, &mut count)
        {
            tracing::warn!(user = device, %error, "cannot count all files of a user");
        }
        count
    }

    /// Where users have limits, makes it known that a file is read.
    fn reader(&self, file: &std::fs::File, path: &Path) -> Result<Option<Reader>, Failure> {
        if !self.usages.is_on() {
            return Ok(None);
        }
        let metadata = file.metadata().map_err(|error| failure(&error, path, READING))?;
        let reader = self.registry.reader(Key::of(&metadata)).ok_or(Failure::NO_FILE)?;
        // It may have gone before it was known to be read.
        let links = file.metadata().map_err(|error| failure(&error, path, READING))?.nlink();
        if links == 0 { Err(Failure::NO_FILE) } else { Ok(Some(reader)) }
    }

    /// A number above all that it has given before.
    fn stamp(&self) -> u64 {
        self.uploads.fetch_add(1, Ordering::Relaxed)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl Limits {
    /// Whether a file may be that long.
    fn allows_file(&self, size: u64) -> bool {
        self.file_bytes.is_none_or(|most| size <= most)
    }

    /// How long a file of a size may become; what it has, it keeps.
    fn file_bytes(&self, size: u64) -> Option<u64> {
        self.file_bytes.map(|most| most.max(size))
    }

    /// How many bytes may be added.
    fn room(&self, count: Count) -> u64 {
        self.user_bytes.map_or(u64::MAX, |most| most.saturating_sub(count.bytes))
    }

    /// Whether there may be another file or directory.
    fn fits_another(&self, count: Count) -> bool {
        self.user_files.is_none_or(|most| count.files < most)
    }

    /// Why a new file is not begun: it could not be, or not a byte of it could be kept.
    fn refuses_file(&self, count: Count) -> Option<Failure> {
        if !self.fits_another(count) {
            Some(Failure::USER_FILES)
        } else if self.room(count) == 0 {
            Some(Failure::USER_BYTES)
        } else {
            None
        }
    }
}

impl Notifier {
    fn tell(&self, notice: Notice) {
        // A panic has been reported by its hook, and is not the file's fault.
        let _ = catch_unwind(AssertUnwindSafe(|| (self.0)(notice)));
    }
}

/// Where tests look on, make workers wait, or let something fail.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Task,
    /// With the right to read a directory.
    List,
    /// Before so many bytes are written.
    Write(u64),
    /// Before a file goes.
    Delete,
    Sync,
}

#[cfg(test)]
type Probe = Arc<dyn Fn(At) -> std::io::Result<()> + Send + Sync>;

#[cfg(test)]
impl Inner {
    fn set_probe(&self, probe: impl Fn(At) -> std::io::Result<()> + Send + Sync + 'static) {
        *self.probe.lock().unwrap() = Some(Arc::new(probe));
    }

    fn probe(&self, at: At) -> Result<(), Failure> {
        let path = std::path::Path::new("probe");
        self.ask_probe(at).map_err(|error| failure::write_failure(&error, path))
    }

    /// How much of the first slice is to be written, if not all of all is.
    fn probe_write(&self, slices: &[std::io::IoSlice<'_>]) -> std::io::Result<Option<usize>> {
        let len = slices.iter().map(|slice| slice.len() as u64).sum();
        match self.ask_probe(At::Write(len)) {
            Ok(()) => Ok(None),
            // A short write: half of the first slice, or its only byte.
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Ok(Some(slices[0].len().div_ceil(2)))
            }
            Err(error) => Err(error),
        }
    }

    fn ask_probe(&self, at: At) -> std::io::Result<()> {
        let probe = self.probe.lock().unwrap().clone();
        probe.map_or(Ok(()), |probe| probe(at))
    }
}

#[cfg(test)]
mod tests;
