//! Who has which file for writing, over all shards.
//!
//! Files go by their inode, not by their name: hard links, symbolic links and file systems that fold names together
//! lead to the same entry. An entry stands from before the file's size is read until after the file has been closed.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Place;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pool::Pool;
use super::transfer::Transfer;

/// Device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u64, u64);

impl Key {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }

    pub(super) const fn new(device: u64, inode: u64) -> Self {
        Self(device, inode)
    }
}

/// The files that are being written or deleted, and where users have limits, those that are being read.
#[derive(Debug)]
pub(super) struct Registry {
    files: Mutex<Files>,
    pool: Arc<Pool>,
}

#[derive(Debug, Default)]
struct Files {
    entries: HashMap<Key, Entry>,
    /// How many sessions read a file.
    readers: HashMap<Key, usize>,
}

#[derive(Debug)]
struct Entry {
    holder: Holder,
    /// Those who try again when the holder has gone.
    waiting: Vec<(Arc<Transfer>, u64)>,
}

#[derive(Debug)]
enum Holder {
    /// An upload, and when it was asked for. A later one takes it over.
    Upload(Arc<Transfer>, u64),
    /// A session that writes anywhere in the file.
    Writer,
    /// Somebody who is about to delete it.
    Deleter,
}

/// How a claim went.
#[derive(Debug)]
pub(super) enum Claimed {
    Yours(Claim),
    /// The session is resumed when the file is free, and has to try again from the start: it may be another file then.
    Wait,
    /// A session that came later has it, or will have it.
    Superseded,
    InUse,
}

/// An entry of one's own. Drop it after the file has been closed, and never while a session's state is locked.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) key: Key,
    registry: Arc<Registry>,
}

/// A file that is known to be read. Drop it after the file has been closed.
#[derive(Debug)]
pub(super) struct Reader {
    key: Key,
    registry: Arc<Registry>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut files = self.registry.lock();
        if let Place::Occupied(mut count) = files.readers.entry(self.key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Registry {
    pub(super) fn new(pool: Arc<Pool>) -> Arc<Self> {
        Arc::new(Self { files: Mutex::default(), pool })
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims a file for an upload. Of several the one with the highest stamp gets it; the others have to go.
    pub(super) fn upload(self: &Arc<Self>, key: Key, me: &Arc<Transfer>, stamp: u64) -> Claimed {
        let mut files = self.lock();
        let entry = match files.entries.entry(key) {
            Place::Vacant(place) => {
                let holder = Holder::Upload(Arc::clone(me), stamp);
                place.insert(Entry { holder, waiting: Vec::new() });
                return Claimed::Yours(self.claim(key));
            }
            Place::Occupied(place) => place.into_mut(),
        };
        match &entry.holder {
            Holder::Writer => return Claimed::InUse,
            Holder::Deleter => {}
            Holder::Upload(_, theirs) if *theirs > stamp => return Claimed::Superseded,
            Holder::Upload(older, theirs) => {
                if entry.waiting.iter().any(|(_, theirs)| *theirs > stamp) {
                    return Claimed::Superseded;
                }
                for (waiting, _) in entry.waiting.drain(..) {
                    waiting.supersede();
                    self.pool.resume(waiting);
                }
                older.take_over(&self.pool, *theirs);
            }
        }
        entry.waiting.push((Arc::clone(me), stamp));
        Claimed::Wait
    }

    /// Claims a file for a session that writes anywhere in it.
    pub(super) fn writer(self: &Arc<Self>, key: Key, me: &Arc<Transfer>) -> Claimed {
        let mut files = self.lock();
        match files.entries.entry(key) {
            Place::Vacant(place) => {
                place.insert(Entry { holder: Holder::Writer, waiting: Vec::new() });
                Claimed::Yours(self.claim(key))
            }
            Place::Occupied(mut place) if matches!(place.get().holder, Holder::Deleter) => {
                place.get_mut().waiting.push((Arc::clone(me), 0));
                Claimed::Wait
            }
            Place::Occupied(_) => Claimed::InUse,
        }
    }

    /// Claims a file for its deletion: nobody begins to write it meanwhile, or to read it where readers are known.
    /// Never waits.
    pub(super) fn deleter(self: &Arc<Self>, key: Key) -> Option<Claim> {
        let mut files = self.lock();
        let is_read = files.readers.contains_key(&key);
        match files.entries.entry(key) {
            Place::Vacant(place) if !is_read => {
                place.insert(Entry { holder: Holder::Deleter, waiting: Vec::new() });
                Some(self.claim(key))
            }
            _ => None,
        }
    }

    /// Makes a reader known, so that the file is not deleted: what is deleted while it is open takes room that nobody
    /// counts. `None`: it is being deleted.
    pub(super) fn reader(self: &Arc<Self>, key: Key) -> Option<Reader> {
        let mut files = self.lock();
        let entry = files.entries.get(&key);
        if entry.is_some_and(|entry| matches!(entry.holder, Holder::Deleter)) {
            return None;
        }
        *files.readers.entry(key).or_default() += 1;
        Some(Reader { key, registry: Arc::clone(self) })
    }

    /// Whether somebody has this file.
    pub(super) fn has(&self, key: Key) -> bool {
        let files = self.lock();
        files.entries.contains_key(&key) || files.readers.contains_key(&key)
    }

    /// How many files somebody has.
    pub(super) fn len(&self) -> usize {
        self.lock().entries.len()
    }

    fn claim(self: &Arc<Self>, key: Key) -> Claim {
        Claim { key, registry: Arc::clone(self) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut files = self.registry.lock();
        let Some(entry) = files.entries.remove(&self.key) else { return };
        if let Holder::Upload(transfer, _) = &entry.holder {
            // Under the registry's lock, as taking over is: what is said of this file must not reach the next one.
            transfer.not_taken();
        }
        drop(files);
        for (waiting, _) in entry.waiting {
            self.registry.pool.resume(waiting);
        }
    }
}
