//! What can go wrong with the users file. Every message names the file and the way out; none shows a hash.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the users file or of a change to it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not there.
    #[error("users file {}: not found; create it with: pulsegate user add NAME --users {}", .path.display(), .path.display())]
    Missing {
        /// The users file.
        path: PathBuf,
    },
    /// The system refused an operation on the file.
    #[error("users file {}: cannot {doing}: {source}{}", .path.display(), hint(.source))]
    Io {
        /// The users file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The path names a directory, a device or a pipe.
    #[error("users file {}: not a regular file; give the path of a TOML file", .path.display())]
    NotAFile {
        /// The users file.
        path: PathBuf,
    },
    /// Others than the owner may read or change the file.
    #[error("users file {}: mode {mode:03o} lets others at the password hashes; run: chmod 600 {}", .path.display(), .path.display())]
    Mode {
        /// The users file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to somebody who is neither us nor root.
    #[error("users file {}: owned by uid {owner}, not by uid {us} or root; run: chown {us} {}", .path.display(), .path.display())]
    Owner {
        /// The users file.
        path: PathBuf,
        /// Whose file it is.
        owner: u32,
        /// Who we are.
        us: u32,
    },
    /// The text of the file is wrong.
    #[error("users file {}, line {line}{}: {problem}", .path.display(), entry_label(.entry.as_deref()))]
    Content {
        /// The users file.
        path: PathBuf,
        /// Where, counted from 1.
        line: usize,
        /// Which entry: its name if it has a readable one, otherwise its number.
        entry: Option<String>,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// A user of that name is there already.
    #[error("users file {}: user {name:?} exists; remove it first: pulsegate user remove NAME --users {}", .path.display(), .path.display())]
    Exists {
        /// The users file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// There is no user of that name.
    #[error("users file {}: no user {name:?} (names are case-sensitive); see: pulsegate user list --users {}", .path.display(), .path.display())]
    NoSuchUser {
        /// The users file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A name that cannot be a user's.
    #[error("user {name:?}: {problem}")]
    Name {
        /// The name, as given.
        name: String,
        /// What is wrong and how to repair it.
        problem: String,
    },
    /// No usable password was given.
    #[error("{0}")]
    Password(String),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes: {0}")]
    Random(getrandom::Error),
}

impl Error {
    /// Wraps an I/O error with the file and what was being done to it.
    pub(super) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), doing, source }
    }

    /// Whether the same file, unchanged, may well load at the next try: the fault was the system's.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() != io::ErrorKind::PermissionDenied,
            Self::Random(_) => true,
            _ => false,
        }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "; run as the owner of the file and of its directory",
        io::ErrorKind::NotFound => "; create its directory first",
        _ => "",
    }
}

fn entry_label(entry: Option<&str>) -> String {
    entry.map_or_else(String::new, |entry| format!(", {entry}"))
}
