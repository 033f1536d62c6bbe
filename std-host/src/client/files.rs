//! Directories and files on the server, as Upload and Download list and change them.

use super::{Client, ClientError, MESSAGE_CHARS, NO_DIRECTORY};
use crate::text::printable;

/// Stands between name and size in a list of files.
const SEPARATOR: char = '\u{1}';

/// A file in a list, as the server wrote it: escape before printing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its name, without directories.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

impl FileEntry {
    fn parse(item: &str) -> Option<Self> {
        let (name, size) = item.rsplit_once(SEPARATOR)?;
        let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
        let size = size.parse().ok().filter(|_| digits && !name.is_empty())?;
        Some(Self { name: name.to_owned(), size })
    }
}

impl Client {
    /// The names of the directories in `parent`; the empty one is the root. Needs
    /// [`Flag::Upload`](super::Flag::Upload) or [`Flag::Download`](super::Flag::Download), and a
    /// login, as all that follows.
    ///
    /// # Errors
    /// When the server refuses the list.
    pub async fn directories(&mut self, parent: &str) -> Result<Vec<String>, ClientError> {
        let (packet, _) = self.request("Dir", &[("ParentDir", parent)], b"").await?;
        Ok(self.accepted("Dir", &packet)?.items().map(str::to_owned).collect())
    }

    /// The files in `dir`.
    ///
    /// # Errors
    /// When the server refuses the list, or a row is malformed.
    pub async fn files(&mut self, dir: &str) -> Result<Vec<FileEntry>, ClientError> {
        let (packet, _) = self.request("FileList", &[("DirName", dir)], b"").await?;
        let parse = |item| {
            FileEntry::parse(item).ok_or_else(|| {
                let what = format!("a malformed row: {}", printable(item, MESSAGE_CHARS));
                self.unexpected("FileList", what)
            })
        };
        self.accepted("FileList", &packet)?.items().map(parse).collect()
    }

    /// Makes `dir` and the directories above it, as far as they are missing. Needs
    /// [`Flag::Upload`](super::Flag::Upload).
    ///
    /// # Errors
    /// When the server refuses one of them.
    pub async fn create_directories(&mut self, dir: &str) -> Result<(), ClientError> {
        let mut parent = String::new();
        for name in dir.split(['/', '\\']).filter(|name| !name.is_empty() && *name != ".") {
            let keys = [("ParentDir", &*parent), ("DirName", name)];
            let (packet, _) = self.request("CreateDir", &keys, b"").await?;
            self.accepted("CreateDir", &packet)?;
            if !parent.is_empty() {
                parent.push('/');
            }
            parent.push_str(name);
        }
        Ok(())
    }

    /// Deletes a file; one that is not there is no error. Needs
    /// [`Flag::Upload`](super::Flag::Upload).
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn delete_file(&mut self, dir: &str, name: &str) -> Result<(), ClientError> {
        let keys = [("DirName", dir), ("Item", name)];
        let (packet, _) = self.request("DeleteFile", &keys, b"").await?;
        match self.accepted("DeleteFile", &packet) {
            Err(ClientError::Refused { code: NO_DIRECTORY, .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::FileEntry;

    #[test]
    fn rows_are_a_name_and_a_size() {
        let entry = FileEntry::parse("a b\u{1}18446744073709551615").unwrap();
        assert_eq!((entry.name.as_str(), entry.size), ("a b", u64::MAX));
        for wrong in ["", "a", "a\u{1}", "\u{1}1", "a\u{1}+1", "a\u{1}18446744073709551616"] {
            assert_eq!(FileEntry::parse(wrong), None, "{wrong:?}");
        }
    }
}
