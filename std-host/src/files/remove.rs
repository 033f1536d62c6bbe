//! Directories that are made, files and directories that go.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::{Dir, DirEntry, Metadata, OpenOptions, OpenOptionsExt};
use pulsegate_core::command::Code;
use pulsegate_core::store::Outcome;
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::Inner;
use super::failure::{DIRECTORY, Failure, failure, write_failure};
use super::root::{check_dir, key, new_directory, parent};
use super::usage::{Count, Touches};
use super::walk::{Found, unless_gone, walk};
use super::work::{Cx, Flow, Work};
use crate::users::User;

const DONE: Flow = Flow::Done(Outcome::Done);

const EXISTS: Failure = Failure(Code::CREATE_DIR, "there is a file of that name");
const NOT_A_DIR: Failure = Failure(Code::DELETE_DIR, "no such directory");
const DIR_IN_USE: Failure = Failure(Code::DELETE_DIR, "a file in it is in use");
const IS_A_DIR: Failure = Failure(Code::DELETE_FILE, "it is a directory");

impl Work {
    pub(super) fn create_dir(
        &mut self,
        cx: Cx<'_>,
        path: &Path,
        user: Option<&Arc<User>>,
    ) -> Result<Flow, Failure> {
        let user = user.map(AsRef::as_ref);
        let home = cx.inner.root.home(user)?;
        // A device repeats what it had no answer to: that costs no room.
        match unless_gone(home.metadata(path)) {
            Ok(Some(metadata)) if metadata.is_dir() => return Ok(DONE),
            Ok(Some(_)) => return Err(EXISTS),
            Ok(None) => check_dir(&home, parent(path))?,
            Err(error) => return Err(failure(&error, path, DIRECTORY)),
        }
        let touches = cx.inner.usages.touches(user, path);
        if let Touches::Own(usage) = &touches {
            let fits = |count| cx.inner.limits.fits_another(count);
            match self.hold.count(cx, usage, fits) {
                None => return Ok(Flow::Wait),
                Some(count) if fits(count) => {}
                Some(_) => return Err(Failure::USER_FILES.code(Code::CREATE_DIR)),
            }
        }
        match home.create_dir_with(path, &new_directory()) {
            Ok(()) => {}
            // Another session, just now; or a link that leads nowhere.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return if home.is_dir(path) { Ok(DONE) } else { Err(EXISTS) };
            }
            Err(error) => {
                return Err(failure(&error, path, DIRECTORY).or_code(Code::CREATE_DIR));
            }
        }
        if let Some(grant) = self.hold.grant() {
            grant.add(Count { bytes: 0, files: 1 });
        }
        touches.changed();
        cx.inner.root.sync_parent(&home, path)?;
        Ok(DONE)
    }

    pub(super) fn delete_files(
        &mut self,
        cx: Cx<'_>,
        dir: &Path,
        names: &[PathBuf],
        user: Option<&Arc<User>>,
    ) -> Result<Flow, Failure> {
        let user = user.map(AsRef::as_ref);
        let home = cx.inner.root.home(user)?;
        check_dir(&home, dir)?;
        let touches = cx.inner.usages.touches(user, &dir.join("file"));
        if let Touches::Own(usage) = &touches
            && !self.hold.own(cx, usage)
        {
            return Ok(Flow::Wait);
        }
        let mut worst = Ok(DONE);
        // One that cannot go does not keep the others.
        for path in names {
            match delete_file(cx.inner, &home, path) {
                Ok(gone) => {
                    if let Some(grant) = self.hold.grant() {
                        grant.remove(gone);
                    }
                }
                Err(failure) if worst.is_ok() => worst = Err(failure),
                Err(_) => {}
            }
        }
        touches.changed();
        worst
    }

    pub(super) fn delete_dir(
        &mut self,
        cx: Cx<'_>,
        path: &Path,
        user: Option<&Arc<User>>,
    ) -> Result<Flow, Failure> {
        if !self.hold.may_walk(cx, user) {
            return Ok(Flow::Wait);
        }
        let user = user.map(AsRef::as_ref);
        let home = cx.inner.root.home(user)?;
        check_dir(&home, parent(path))?;
        let top = open_itself(&home, path)?;
        // Before anything goes: a directory that cannot go stays whole.
        walk(&top, |found| match found {
            Found::File(entry) => match unless_gone(entry.metadata())? {
                Some(metadata) if cx.inner.registry.has(key(&metadata)) => Err(Stop(DIR_IN_USE)),
                _ => Ok(()),
            },
            Found::Directory | Found::Left(_) => Ok(()),
        })
        .map_err(|Stop(failure)| failure)?;
        let deleted = walk(&top, |found| match found {
            Found::File(entry) => delete_entry(cx.inner, entry),
            Found::Directory => Ok(()),
            Found::Left(path) => Ok(top.remove_dir(path)?),
        });
        // Nobody has counted what has gone, all or some of it.
        cx.inner.usages.touches(user, path).void();
        deleted.map_err(|Stop(failure)| failure)?;
        home.remove_dir(path).map_err(|error| Stop::from(error).0)?;
        Ok(DONE)
    }
}

/// Why a walk ends early.
struct Stop(Failure);

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self(match error.kind() {
            // Somebody has put something in meanwhile.
            io::ErrorKind::DirectoryNotEmpty => {
                Failure(Code::DELETE_DIR, "something has been added to it meanwhile; try again")
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NOT_A_DIR,
            _ => write_failure(&error, Path::new("")).code(Code::DELETE_DIR),
        })
    }
}

/// Opens a directory, and not what a link leads to.
fn open_itself(home: &Dir, path: &Path) -> Result<Dir, Failure> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags.bits().cast_signed());
    match home.open_with(path, &options) {
        Ok(dir) => Ok(Dir::from_std_file(dir.into_std())),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => Err(NOT_A_DIR),
        Err(error) => match failure(&error, path, DIRECTORY) {
            Failure::NO_DIR => Err(NOT_A_DIR),
            failure => Err(failure.or_code(Code::DELETE_DIR)),
        },
    }
}

/// Deletes a file within a directory that goes. Nobody begins to write it meanwhile.
fn delete_entry(inner: &Inner, entry: &DirEntry) -> Result<(), Stop> {
    let Some(before) = unless_gone(entry.metadata())? else { return Ok(()) };
    let _claim = inner.registry.deleter(key(&before)).ok_or(Stop(DIR_IN_USE))?;
    // Who deletes it now needs the same claim, so from here on it is what it is.
    let now = unless_gone(entry.metadata())?;
    #[cfg(test)]
    inner.probe(super::At::Delete).map_err(Stop)?;
    match now {
        Some(now) if key(&now) != key(&before) => Err(Stop(DIR_IN_USE)),
        Some(_) => Ok(unless_gone(entry.remove_file()).map(|_| ())?),
        None => Ok(()),
    }
}

/// Deletes a file, and says what has gone with it. One that is not there is no failure.
fn delete_file(inner: &Inner, home: &Dir, path: &Path) -> Result<Count, Failure> {
    let look = || -> Result<Option<Metadata>, Failure> {
        match home.symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => Err(IS_A_DIR),
            Ok(metadata) => Ok(Some(metadata)),
            Err(error) => match failure(&error, path, DIRECTORY) {
                Failure::NO_DIR => Ok(None),
                failure => Err(failure),
            },
        }
    };
    let Some(before) = look()? else { return Ok(Count::default()) };
    let _claim = inner.registry.deleter(key(&before)).ok_or(Failure::IN_USE)?;
    // Who deletes it now needs the same claim, so from here on it is what it is.
    let metadata = match look()? {
        Some(now) if key(&now) == key(&before) => now,
        Some(_) => return Err(Failure::IN_USE),
        None => return Ok(Count::default()),
    };
    #[cfg(test)]
    inner.probe(super::At::Delete)?;
    match unless_gone(home.remove_file(path)) {
        Ok(Some(())) => {
            let bytes = if metadata.is_file() { metadata.len() } else { 0 };
            Ok(Count { bytes, files: 1 })
        }
        Ok(None) => Ok(Count::default()),
        Err(error) => Err(failure(&error, path, DIRECTORY).or_code(Code::DELETE_FILE)),
    }
}
