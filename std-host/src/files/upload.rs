//! Uploads: files that are written at their end, by one session at a time.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cap_std::fs::Dir;
use pulsegate_core::command::Code;
use pulsegate_core::store::Outcome;

use super::failure::{Failure, WRITING, failure};
use super::registry::{Claim, Claimed, Key};
use super::root::{Mode, check_dir, open_to_write, parent};
use super::usage::{Count, Touches};
use super::work::{Cx, Flow, Open, Work, value};
use crate::text::head;
use crate::users::User;

/// How often a file is opened anew that has been deleted between its opening and its claim.
pub(super) const ATTEMPTS: u32 = 16;

/// A file that is being uploaded.
#[derive(Debug)]
pub(super) struct Upload {
    /// Closed before the claim is given up.
    pub(super) file: File,
    _claim: Claim,
    stamp: u64,
    pub(super) path: PathBuf,
    user: Option<Arc<User>>,
    pub(super) touches: Touches,
    /// Bytes that this session has added.
    pub(super) added: u64,
    begun: Instant,
}

impl Work {
    pub(super) fn open_upload(
        &mut self,
        cx: Cx<'_>,
        path: &Path,
        stamp: u64,
        user: Option<&Arc<User>>,
    ) -> Result<Flow, Failure> {
        self.begin_file(cx);
        if cx.transfer.is_superseded() {
            return Err(superseded(cx));
        }
        let touches = cx.inner.usages.touches(user.map(AsRef::as_ref), path);
        // Without one there may be an upload to be taken over, which gives its own up.
        let has_place = self.take_place(cx, user);
        for _ in 0..ATTEMPTS {
            let home = cx.inner.root.home(user.map(AsRef::as_ref))?;
            let Some(file) =
                self.open_or_create(cx, &home, path, Mode::Append, &touches, has_place)?
            else {
                return Ok(Flow::Wait);
            };
            let claim = match cx.inner.registry.upload(key_of(&file, path)?, cx.transfer, stamp) {
                Claimed::Yours(claim) => claim,
                Claimed::Wait => return Ok(Flow::Wait),
                Claimed::Superseded => return Err(superseded(cx)),
                Claimed::InUse => return Err(Failure::IN_USE),
            };
            self.take_place(cx, user)?;
            lock(&file, path)?;
            // Only now does nobody else write it or delete it.
            let metadata = file.metadata().map_err(|error| failure(&error, path, WRITING))?;
            if metadata.nlink() == 0 {
                continue;
            }
            // Now, so that at the end the file alone is waited for, and no descriptor is needed that may not be had.
            cx.inner.root.sync_parent(&home, path)?;
            self.open = Open::Upload(Upload {
                file,
                _claim: claim,
                stamp,
                path: path.into(),
                user: user.cloned(),
                touches,
                added: 0,
                begun: Instant::now(),
            });
            return Ok(value(metadata.len()));
        }
        Err(Failure::IN_USE)
    }

    /// Opens a file to be written, and makes it if it may be made and there is room for another one. `None`: wait.
    pub(super) fn open_or_create(
        &mut self,
        cx: Cx<'_>,
        home: &Dir,
        path: &Path,
        mode: Mode,
        touches: &Touches,
        may_be_made: Result<(), Failure>,
    ) -> Result<Option<File>, Failure> {
        match open_to_write(home, path, mode, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => check_dir(home, parent(path))?,
            opened => return opened.map(Some).map_err(|error| failure(&error, path, WRITING)),
        }
        may_be_made?;
        let Touches::Own(usage) = touches else {
            let opened = open_to_write(home, path, mode, true);
            // It may have been made.
            touches.changed();
            return opened.map(Some).map_err(|error| failure(&error, path, WRITING));
        };
        // The count is this session's from here on, so nobody else of this user makes files meanwhile.
        let fits = |count| cx.inner.limits.refuses_file(count).is_none();
        let Some(count) = self.hold.count(cx, usage, fits) else { return Ok(None) };
        if let Some(failure) = cx.inner.limits.refuses_file(count) {
            return Err(failure);
        }
        // Somebody may have made it before the count was this session's.
        match open_to_write(home, path, mode, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map(Some).map_err(|error| failure(&error, path, WRITING)),
        }
        let made = open_to_write(home, path, mode, true);
        let file = made.map_err(|error| failure(&error, path, WRITING))?;
        if let Some(grant) = self.hold.grant() {
            grant.add(Count { bytes: 0, files: 1 });
        }
        Ok(Some(file))
    }

    /// The upload is whole, says the peer.
    pub(super) fn finish_upload(&mut self, cx: Cx<'_>, size: Option<u64>) -> Result<Flow, Failure> {
        let Open::Upload(upload) = &self.open else {
            return Err(self.failure.take().unwrap_or(Failure::NOT_OPEN));
        };
        let result = match self.failure.take() {
            Some(failure) => Err(failure),
            None => upload.finish(cx, size),
        };
        // In any case; what is there is kept.
        self.close();
        result.map(|()| Flow::Done(Outcome::Done))
    }

    /// Lets the upload go for another session. All that came before has been written.
    pub(super) fn yield_upload(&mut self, cx: Cx<'_>, stamp: u64) {
        if matches!(&self.open, Open::Upload(upload) if upload.stamp == stamp) {
            // Before the claim goes, which lifts the ban on new bytes.
            self.fail(cx, Failure::TAKEN_OVER);
            self.close();
            cx.transfer.tell_taken_over(&cx.inner.notifier);
        }
    }
}

impl Upload {
    fn finish(&self, cx: Cx<'_>, size: Option<u64>) -> Result<(), Failure> {
        let metadata = self.file.metadata();
        let stored = metadata.map_err(|error| failure(&error, &self.path, WRITING))?.len();
        if size.is_some_and(|size| size != stored) {
            return Err(Failure(Code::FILE_SIZE, "the file has another size; it is kept"));
        }
        #[cfg(test)]
        cx.inner.probe(super::At::Sync)?;
        cx.inner.root.sync_file(&self.file, &self.path)?;
        let (shard, id) = (cx.transfer.shard, cx.transfer.id);
        tracing::info!(
            session = %format_args!("{shard}.{id}"),
            remote = %cx.transfer.remote,
            user = self.user.as_ref().map(|user| user.name.as_str()),
            path = head(&self.path.to_string_lossy()),
            bytes = stored,
            received = self.added,
            ms = self.begun.elapsed().as_millis() as u64,
            "uploaded"
        );
        Ok(())
    }
}

fn superseded(cx: Cx<'_>) -> Failure {
    cx.transfer.tell_taken_over(&cx.inner.notifier);
    Failure::TAKEN_OVER
}

/// What a file goes by, if it is one.
pub(super) fn key_of(file: &File, path: &Path) -> Result<Key, Failure> {
    let metadata = file.metadata().map_err(|error| failure(&error, path, WRITING))?;
    if metadata.is_file() { Ok(Key::of(&metadata)) } else { Err(WRITING.unfit) }
}

/// Locks a file against other processes, as long as it is open.
pub(super) fn lock(file: &File, path: &Path) -> Result<(), Failure> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Failure::IN_USE),
        Err(TryLockError::Error(error)) => {
            // Some file systems know no locks; there the server is alone with its own.
            tracing::debug!(path = head(&path.to_string_lossy()), %error, "cannot lock a file");
            Ok(())
        }
    }
}
