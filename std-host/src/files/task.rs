//! What a session wants of the workers, in memory of its own.

use std::path::PathBuf;

use pulsegate_core::store::{Origin, Path, Request};

/// A [`Request`] that may travel. Paths are relative, and checked by their form.
#[derive(Debug)]
pub(super) enum Task {
    Dirs(PathBuf),
    Files(PathBuf),
    CreateDir(PathBuf),
    DeleteDir(PathBuf),
    DeleteFiles { dir: PathBuf, names: Vec<PathBuf> },
    Upload { path: PathBuf, stamp: u64 },
    Eof { size: Option<u64> },
    Download { path: PathBuf, offset: u64 },
    Exists(PathBuf),
    Open { path: PathBuf, write: bool },
    SetSize(u64),
    GetSize,
    SetPosition(u64),
    GetPosition,
    Read { count: u32 },
    Written,
    Seek { offset: i64, origin: Origin },
    Close,
}

impl Task {
    /// `stamp` is the order in which uploads have come: of two for one file the later one stays.
    pub(super) fn of(request: Request<'_>, stamp: impl FnOnce() -> u64) -> Self {
        match request {
            Request::Dirs { parent } => Self::Dirs(path(&[parent])),
            Request::Files { dir } => Self::Files(path(&[dir])),
            Request::CreateDir { parent, name } => Self::CreateDir(path(&[parent, name])),
            Request::DeleteDir { parent, name } => Self::DeleteDir(path(&[parent, name])),
            Request::DeleteFiles { dir, names } => {
                let names = names.iter().map(|name| path(&[dir, name])).collect();
                Self::DeleteFiles { dir: path(&[dir]), names }
            }
            Request::Upload { dir, name } => {
                Self::Upload { path: path(&[dir, name]), stamp: stamp() }
            }
            Request::Eof { size } => Self::Eof { size },
            Request::Download { dir, name, offset } => {
                Self::Download { path: path(&[dir, name]), offset }
            }
            Request::Exists { name } => Self::Exists(path(&[name])),
            Request::Open { name, write } => Self::Open { path: path(&[name]), write },
            Request::SetSize(size) => Self::SetSize(size),
            Request::GetSize => Self::GetSize,
            Request::SetPosition(position) => Self::SetPosition(position),
            Request::GetPosition => Self::GetPosition,
            Request::Read { count } => Self::Read { count },
            Request::Written => Self::Written,
            Request::Seek { offset, origin } => Self::Seek { offset, origin },
            Request::Close => Self::Close,
        }
    }
}

/// One path after the other; the directory itself is `.`.
fn path(parts: &[Path<'_>]) -> PathBuf {
    let path: PathBuf = parts.iter().flat_map(Path::components).collect();
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
}
