//! The unfinished local file of a download: `NAME.part`, until it is whole.

use std::ffi::OsString;
use std::fs::TryLockError;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tempfile::TempPath;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::{TransferError, local};

/// So much of what is there already is fetched once more and compared: the protocol has no other
/// way to see that it belongs to another file.
const OVERLAP: u64 = 4096;

pub(super) struct Part {
    file: File,
    pub(super) path: PathBuf,
}

impl Part {
    /// Opens or makes the unfinished file of `output`, for this process alone.
    pub(super) async fn open(output: &Path) -> Result<Self, TransferError> {
        let mut path = OsString::from(output);
        path.push(".part");
        let path = PathBuf::from(path);
        let mut options = tokio::fs::OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(&path).await;
        let file = opened.map_err(local("write", &path))?.into_std().await;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(TransferError::InUse { path }),
            // A file system without locks.
            Err(TryLockError::Error(_)) => {}
        }
        // Another download may have finished and renamed it just before the lock was free.
        let (own, named) = (file.metadata(), path.metadata());
        let own = own.map_err(local("read", &path))?;
        if !named.is_ok_and(|named| (named.dev(), named.ino()) == (own.dev(), own.ino())) {
            return Err(TransferError::InUse { path });
        }
        Ok(Self { file: File::from_std(file), path })
    }

    /// How much there is, and the last bytes of it; what comes next is written behind them.
    pub(super) async fn end(&mut self) -> Result<(u64, Vec<u8>), TransferError> {
        let end = async {
            // What a broken attempt left in memory.
            self.file.flush().await?;
            let len = self.file.seek(SeekFrom::End(0)).await?;
            let overlap = len.min(OVERLAP);
            let mut tail = vec![0; usize::try_from(overlap).unwrap_or(0)];
            self.file.seek(SeekFrom::Start(len - overlap)).await?;
            self.file.read_exact(&mut tail).await?;
            Ok((len, tail))
        };
        end.await.map_err(local("read", &self.path))
    }

    pub(super) async fn append(&mut self, data: &[u8]) -> Result<(), TransferError> {
        self.file.write_all(data).await.map_err(local("write", &self.path))
    }

    /// Leaves no empty file behind where nothing came.
    pub(super) async fn forget_if_empty(self) {
        if self.file.metadata().await.is_ok_and(|metadata| metadata.len() == 0) {
            let _ = tokio::fs::remove_file(&self.path).await;
        }
    }

    /// Makes sure that the file is on the disk with `size` bytes, and gives it its final name.
    pub(super) async fn finish(
        mut self,
        size: u64,
        output: &Path,
        force: bool,
    ) -> Result<(), TransferError> {
        let stored = async {
            self.file.flush().await?;
            self.file.sync_all().await?;
            Ok(self.file.metadata().await?.len())
        };
        let stored = stored.await.map_err(local("write", &self.path))?;
        if stored != size {
            let source = std::io::Error::other(format!("it has {stored} bytes instead of {size}"));
            return Err(local("finish", &self.path)(source));
        }
        if force {
            let renamed = tokio::fs::rename(&self.path, output).await;
            return renamed.map_err(local("rename", &self.path));
        }
        let named = TempPath::try_from_path(&self.path).map_err(local("rename", &self.path))?;
        named.persist_noclobber(output).map_err(|failed| {
            // Kept: it would be deleted otherwise.
            let _ = failed.path.keep();
            match failed.error.kind() {
                std::io::ErrorKind::AlreadyExists => {
                    TransferError::Exists { path: output.to_owned() }
                }
                _ => local("rename", &self.path)(failed.error),
            }
        })
    }
}
