//! A local file that is sent as it was when it was opened.

use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::{TransferError, local};

/// An open file, its size, and what shows whether somebody writes to it.
pub(super) struct Source {
    file: File,
    pub(super) path: PathBuf,
    pub(super) size: u64,
    modified: Option<SystemTime>,
}

impl Source {
    pub(super) async fn open(path: &Path) -> Result<Self, TransferError> {
        // Looked at first: to open a pipe could wait for ever.
        let found = tokio::fs::metadata(path).await.map_err(local("read", path))?;
        if !found.is_file() {
            return Err(TransferError::NotAFile { path: path.to_owned() });
        }
        let file = File::open(path).await.map_err(local("open", path))?;
        let metadata = file.metadata().await.map_err(local("read", path))?;
        let modified = metadata.modified().ok();
        Ok(Self { file, path: path.to_owned(), size: metadata.len(), modified })
    }

    pub(super) async fn seek(&mut self, to: u64) -> Result<(), TransferError> {
        let sought = self.file.seek(SeekFrom::Start(to)).await;
        sought.map(drop).map_err(local("read", &self.path))
    }

    /// Fills `buffer`; a file that ends before that has been cut.
    pub(super) async fn read(
        &mut self,
        buffer: &mut [u8],
        name: &str,
    ) -> Result<(), TransferError> {
        match self.file.read_exact(buffer).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.changed(name))
            }
            Err(error) => Err(local("read", &self.path)(error)),
        }
    }

    /// Whether the file is still what it was, as far as its size and time of change tell.
    pub(super) async fn check(&self, name: &str) -> Result<(), TransferError> {
        let metadata = self.file.metadata().await.map_err(local("read", &self.path))?;
        if metadata.len() != self.size || metadata.modified().ok() != self.modified {
            return Err(self.changed(name));
        }
        Ok(())
    }

    fn changed(&self, name: &str) -> TransferError {
        TransferError::Changed { path: self.path.clone(), name: name.to_owned() }
    }
}
