//! All that is in a directory, without following links, with one descriptor however deep it is.

use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, DirEntry};

use super::usage::Count;

/// What a walk comes by.
pub(super) enum Found<'a> {
    /// Something that is no directory.
    File(&'a DirEntry),
    /// A directory, before what is in it.
    Directory,
    /// A directory, after what is in it; its path from where the walk began.
    Left(&'a Path),
}

/// Shows everything below a directory. What disappears meanwhile is left out.
///
/// Paths are resolved within the directory where the walk began: it stays in there whatever is moved about meanwhile.
pub(super) fn walk<E: From<io::Error>>(
    dir: &Dir,
    mut found: impl FnMut(Found<'_>) -> Result<(), E>,
) -> Result<(), E> {
    enum Todo {
        Enter(PathBuf),
        Leave(PathBuf),
    }
    let mut todo = vec![Todo::Enter(PathBuf::from("."))];
    while let Some(next) = todo.pop() {
        let path = match next {
            Todo::Enter(path) => path,
            Todo::Leave(path) => {
                found(Found::Left(&path))?;
                continue;
            }
        };
        let Some(entries) = unless_gone(dir.read_dir(&path))? else { continue };
        if path != Path::new(".") {
            todo.push(Todo::Leave(path.clone()));
        }
        for entry in entries {
            let entry = entry?;
            let Some(kind) = unless_gone(entry.file_type())? else { continue };
            if kind.is_dir() {
                found(Found::Directory)?;
                todo.push(Todo::Enter(path.join(entry.file_name())));
            } else {
                found(Found::File(&entry))?;
            }
        }
    }
    Ok(())
}

/// Makes nothing of what is not there any more.
pub(super) fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Counts what is in a directory: every file by its length, links among them as files without any.
pub(super) fn count(dir: &Dir, count: &mut Count) -> io::Result<()> {
    walk(dir, |found| {
        match found {
            Found::File(entry) => {
                if let Some(metadata) = unless_gone(entry.metadata())? {
                    let bytes = if metadata.is_file() { metadata.len() } else { 0 };
                    count.bytes = count.bytes.saturating_add(bytes);
                    count.files += 1;
                }
            }
            Found::Directory => count.files += 1,
            Found::Left(_) => {}
        }
        Ok(())
    })
}
