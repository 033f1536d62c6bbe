//! The directory that peers see, and the way to what is in it.
//!
//! Paths are resolved by `cap_std`, on Linux with `openat2` and `RESOLVE_BENEATH`: whatever symbolic links lead to,
//! they do not lead out.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use cap_std::ambient_authority;
use cap_std::fs::{
    Dir, DirBuilder, DirBuilderExt, Metadata, MetadataExt, OpenOptions, OpenOptionsExt,
};
use pulsegate_core::command::Code;
use rustix::fs::{Access, AtFlags, CWD, OFlags};

use super::failure::{DIRECTORY, Failure, READING, Terms, failure, write_failure};
use super::registry::Key;
use crate::users::{Role, User};

/// Longest name of a file.
const MAX_NAME: usize = 255;

/// Who may read a new file, or look into a new directory: the server and its group.
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// Why a directory cannot be served.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// It is not there, or not to be reached.
    Missing(PathBuf, io::Error),
    /// It is something else.
    NotADirectory(PathBuf),
    /// The server may not write in it.
    NotWritable(PathBuf, io::Error),
    /// The system gave no thread.
    Thread(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(path, error) => {
                let path = path.display();
                write!(
                    f,
                    "cannot open the directory {path} for files: {error}; create it first, or name another one"
                )
            }
            Self::NotADirectory(path) => {
                write!(
                    f,
                    "{} is not a directory: name one that files may be kept in",
                    path.display()
                )
            }
            Self::NotWritable(path, error) => {
                let path = path.display();
                write!(
                    f,
                    "cannot write in the directory {path}: {error}; let the server's user write there, or name another one"
                )
            }
            Self::Thread(error) => write!(f, "cannot start the threads for files: {error}"),
        }
    }
}

// The message holds the cause, so there is no source to print a second time.
impl std::error::Error for StartError {}

/// The directory of all files.
#[derive(Debug)]
pub(super) struct Root {
    dir: Dir,
    sync: bool,
}

/// The directory that a user sees.
#[derive(Debug)]
pub(super) enum Home<'a> {
    /// An operator's, or that of a stranger where such are let in.
    Root(&'a Dir),
    Device(Dir),
}

impl Deref for Home<'_> {
    type Target = Dir;

    fn deref(&self) -> &Dir {
        match self {
            Self::Root(dir) => dir,
            Self::Device(dir) => dir,
        }
    }
}

impl Root {
    /// Opens it. It must be there, and be writable.
    pub(super) fn open(path: &Path, sync: bool) -> Result<Self, StartError> {
        let dir = Dir::open_ambient_dir(path, ambient_authority()).map_err(|error| {
            if error.kind() == io::ErrorKind::NotADirectory {
                StartError::NotADirectory(path.into())
            } else {
                StartError::Missing(path.into(), error)
            }
        })?;
        let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        rustix::fs::accessat(CWD, path, wanted, AtFlags::EACCESS)
            .map_err(|error| StartError::NotWritable(path.into(), error.into()))?;
        Ok(Self { dir, sync })
    }

    /// The directory of a user; that of a device is made if need be.
    pub(super) fn home(&self, user: Option<&User>) -> Result<Home<'_>, Failure> {
        match user.and_then(device) {
            Some(device) => self.device(device).map(Home::Device),
            None => Ok(Home::Root(&self.dir)),
        }
    }

    /// The directory of a device.
    pub(super) fn device(&self, name: &str) -> Result<Dir, Failure> {
        if !is_plain(name) {
            return Err(Failure(Code::UNKNOWN, "this user's name is no name of a directory"));
        }
        let path = Path::new(name);
        let opened = match self.dir.open_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match self.dir.create_dir_with(path, &new_directory()) {
                    Ok(()) => self.sync_parent(&self.dir, path)?,
                    // Another session of the same device was faster.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(failure(&error, path, HOME)),
                }
                self.dir.open_dir(path)
            }
            opened => opened,
        };
        opened.map_err(|error| failure(&error, path, HOME))
    }

    /// If the disk is to be waited for, waits until it has the name of what is at a path.
    pub(super) fn sync_parent(&self, dir: &Dir, path: &Path) -> Result<(), Failure> {
        if !self.sync {
            return Ok(());
        }
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlags::DIRECTORY.bits().cast_signed());
        let synced = dir.open_with(parent(path), &options).and_then(|dir| dir.sync_all());
        synced.map_err(|error| write_failure(&error, path))
    }

    /// If the disk is to be waited for, waits until it has a file.
    pub(super) fn sync_file(&self, file: &File, path: &Path) -> Result<(), Failure> {
        if self.sync {
            file.sync_all().map_err(|error| write_failure(&error, path))
        } else {
            Ok(())
        }
    }
}

/// What devices are told when their directory is not to be had.
const HOME: Terms = {
    let failure = Failure(Code::UNKNOWN, "the server has no directory for this user");
    Terms { missing: failure, unfit: failure }
};

/// The name of the directory that is all a user sees; `None` is one that sees everything.
pub(super) fn device(user: &User) -> Option<&str> {
    match user.role {
        Role::Device => Some(&user.name),
        Role::Operator => None,
    }
}

/// Whether a user's name names a directory in any directory, and nothing else.
fn is_plain(name: &str) -> bool {
    name.len() <= MAX_NAME
        && !matches!(name, "" | "." | "..")
        && !name.contains(|c: char| c.is_control() || matches!(c, '/' | '\\' | ':'))
}

/// Where the name of what is at a path stands.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How directories are made.
pub(super) fn new_directory() -> DirBuilder {
    let mut builder = DirBuilder::new();
    builder.mode(DIR_MODE);
    builder
}

/// How files are opened: nothing that is planted among them (a pipe, a terminal) makes the server wait or is taken over.
fn careful(options: &mut OpenOptions) -> &OpenOptions {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    options.mode(FILE_MODE).custom_flags(flags.bits().cast_signed())
}

/// Opens a file to be read, and says how long it is.
pub(super) fn open_to_read(dir: &Dir, path: &Path) -> Result<(File, u64), Failure> {
    let opened = dir.open_with(path, careful(OpenOptions::new().read(true)));
    let file = opened.map_err(|error| failure(&error, path, READING))?.into_std();
    let metadata = file.metadata().map_err(|error| failure(&error, path, READING))?;
    if metadata.is_file() { Ok((file, metadata.len())) } else { Err(READING.unfit) }
}

/// How a file is opened to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// At its end only.
    Append,
    /// Read and written anywhere.
    Random,
}

/// Opens a file to be written. What it is, the caller has to look at.
pub(super) fn open_to_write(dir: &Dir, path: &Path, mode: Mode, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    match mode {
        Mode::Append => options.append(true),
        Mode::Random => options.read(true).write(true),
    };
    dir.open_with(path, careful(options.create(create))).map(cap_std::fs::File::into_std)
}

/// Whether something is a directory, or leads to one.
pub(super) fn check_dir(dir: &Dir, path: &Path) -> Result<(), Failure> {
    match dir.metadata(path) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Failure::NO_DIR),
        Err(error) => Err(failure(&error, path, DIRECTORY)),
    }
}

/// The key of what a directory's entry is itself, should it be a link.
pub(super) fn key(metadata: &Metadata) -> Key {
    Key::new(metadata.dev(), metadata.ino())
}
