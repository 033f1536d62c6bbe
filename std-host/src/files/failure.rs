//! What peers are told when the file system says no.

use std::io;
use std::path::Path;

use pulsegate_core::command::Code;
use pulsegate_core::store::Outcome;
use rustix::io::Errno;

use crate::text::head;

/// A code, and a text for whoever debugs the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure(pub(super) Code, pub(super) &'static str);

impl Failure {
    pub(super) const NO_FILE: Self = Self(Code::NO_FILE, "no such file");
    pub(super) const NOT_A_FILE: Self = Self(Code::NO_FILE, "not a regular file");
    pub(super) const NO_DIR: Self = Self(Code::NO_DIR, "no such directory");
    pub(super) const NOT_OPEN: Self = Self(Code::NOT_OPEN, "no file is open");
    pub(super) const READ_ONLY: Self = Self(Code::UNKNOWN, "the file is open for reading only");
    pub(super) const IN_USE: Self = Self(Code::IN_USE, "the file is in use");
    pub(super) const TAKEN_OVER: Self =
        Self(Code::IN_USE, "another connection uploads this file now");
    pub(super) const ESCAPE: Self = Self(Code::PARAMETER, "the path leads out of the directory");
    pub(super) const NO_SPACE: Self = Self(Code::UNKNOWN, "no space left on the server");
    pub(super) const DISK: Self = Self(Code::UNKNOWN, "the server's disk fails");
    pub(super) const INTERNAL: Self = Self(Code::UNKNOWN, "an error within the server");
    pub(super) const FILE_BYTES: Self = Self(Code::UNKNOWN, "over the limit of bytes per file");
    pub(super) const USER_BYTES: Self = Self(Code::UNKNOWN, "over the user's limit of bytes");
    pub(super) const USER_FILES: Self = Self(Code::UNKNOWN, "over the user's limit of files");
    pub(super) const TOO_MANY_FILES: Self =
        Self(Code::UNKNOWN, "too many files are open on the server, try again later");

    /// The same text under another code.
    pub(super) const fn code(self, code: Code) -> Self {
        Self(code, self.1)
    }

    /// Under the request's own code, if there is none for what happened.
    pub(super) fn or_code(self, code: Code) -> Self {
        if self.0 == Code::UNKNOWN { self.code(code) } else { self }
    }

    pub(super) const fn outcome(self) -> Outcome {
        Outcome::Failed(self.0, self.1)
    }
}

/// What a kind of request calls what was not found, and what it was not to be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    pub(super) missing: Failure,
    /// A directory where a file is wanted, or neither.
    pub(super) unfit: Failure,
}

/// Of requests that read a file.
pub(super) const READING: Terms = Terms { missing: Failure::NO_FILE, unfit: Failure::NOT_A_FILE };

/// Of requests that write a file, in a directory that must be there.
pub(super) const WRITING: Terms =
    Terms { missing: Failure::NO_DIR, unfit: Failure::NOT_A_FILE.code(Code::PARAMETER) };

/// Of requests for a directory.
pub(super) const DIRECTORY: Terms = Terms { missing: Failure::NO_DIR, unfit: Failure::NO_DIR };

/// Says what an error means to the peer. Those that are the server's own are logged with what they are.
pub(super) fn failure(error: &io::Error, path: &Path, terms: Terms) -> Failure {
    let Some(errno) = error.raw_os_error().map(Errno::from_raw_os_error) else {
        // The sandbox has no errno for it, the file system has.
        return if error.kind() == io::ErrorKind::PermissionDenied {
            Failure::ESCAPE
        } else {
            logged(error, path, Failure::DISK)
        };
    };
    match errno {
        Errno::NOENT | Errno::NOTDIR => terms.missing,
        Errno::ISDIR | Errno::NXIO | Errno::NODEV => terms.unfit,
        Errno::LOOP => Failure(Code::PARAMETER, "the path leads in a circle"),
        Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ => {
            Failure(Code::PARAMETER, "the server's file system does not take this name")
        }
        Errno::ACCESS | Errno::PERM => {
            logged(error, path, Failure(Code::UNKNOWN, "the server may not open this file"))
        }
        Errno::TXTBSY => Failure::IN_USE,
        Errno::MFILE | Errno::NFILE => {
            logged(error, path, Failure(Code::UNKNOWN, "the server has too many files open"))
        }
        _ => write_failure(error, path),
    }
}

/// Says what it means that bytes could not be written.
pub(super) fn write_failure(error: &io::Error, path: &Path) -> Failure {
    let failure = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Failure::NO_SPACE,
        io::ErrorKind::FileTooLarge => {
            Failure(Code::UNKNOWN, "the file is too long for the server's file system")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            Failure(Code::UNKNOWN, "the server's file system is read-only")
        }
        _ => Failure::DISK,
    };
    logged(error, path, failure)
}

fn logged(error: &io::Error, path: &Path, failure: Failure) -> Failure {
    tracing::warn!(path = head(&path.to_string_lossy()), %error, "{}", failure.1);
    failure
}
