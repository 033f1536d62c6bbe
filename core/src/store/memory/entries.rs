//! The names in a store in memory: a flat table in which a path is one name.

use crate::command::Code;
use crate::path::Path;
use crate::store::{Outcome, write_row};

/// Longest path in bytes, with a separator between its names.
pub(super) const NAME: usize = 64;

/// A path in the one way of spelling it that the table knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    bytes: [u8; NAME],
    len: usize,
}

impl Name {
    /// The path through these paths, one within the other.
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = Path<'a>>) -> Result<Self, Outcome> {
        let mut name = Self { bytes: [0; NAME], len: 0 };
        for part in paths.into_iter().flat_map(|path| path.components()) {
            let separator: &[u8] = if name.len == 0 { b"" } else { b"/" };
            for piece in [separator, part.as_bytes()] {
                let room = name.bytes.get_mut(name.len..name.len + piece.len());
                let Some(room) = room else {
                    return Err(Outcome::Failed(Code::PARAMETER, "the path is too long"));
                };
                room.copy_from_slice(piece);
                name.len += piece.len();
            }
        }
        Ok(name)
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The directory that it is in.
    pub(super) fn parent(&self) -> Self {
        let len = self.as_bytes().iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        let mut parent = Self { bytes: [0; NAME], len };
        if let (Some(to), Some(from)) = (parent.bytes.get_mut(..len), self.bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        parent
    }

    /// What follows the last separator.
    fn last(&self) -> &[u8] {
        self.as_bytes().rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    fn is_under(&self, dir: &Self) -> bool {
        let rest = self.as_bytes().strip_prefix(dir.as_bytes());
        rest.is_some_and(|rest| rest.first().is_none_or(|&byte| byte == b'/'))
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Free,
    File,
    Dir,
}

/// A file, a directory, or room for one.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    name: Name,
    kind: Kind,
    size: u32,
}

impl Entry {
    /// Room for one.
    pub const FREE: Entry =
        Entry { name: Name { bytes: [0; NAME], len: 0 }, kind: Kind::Free, size: 0 };

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) const fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn last(&self) -> &[u8] {
        self.name.last()
    }
}

/// Why there is no entry for a new name.
pub(super) struct Full(pub(super) &'static str);

pub(super) fn text(bytes: &[u8]) -> &str {
    // Names come from texts, and are cut at separators alone.
    core::str::from_utf8(bytes).unwrap_or_default()
}

/// The table.
#[derive(Debug)]
pub(super) struct Entries<'m>(pub(super) &'m mut [Entry]);

impl Entries<'_> {
    fn used(&self) -> impl Iterator<Item = (usize, &Entry)> {
        self.0.iter().enumerate().filter(|(_, entry)| entry.kind != Kind::Free)
    }

    pub(super) fn find(&self, name: &Name, kind: Kind) -> Option<usize> {
        let found = self.used().find(|(_, entry)| entry.name == *name && entry.kind == kind);
        found.map(|(index, _)| index)
    }

    pub(super) fn is_dir(&self, name: &Name) -> bool {
        name.len == 0 || self.find(name, Kind::Dir).is_some()
    }

    /// The entry of that name, a new one if there is none.
    pub(super) fn make(&mut self, name: &Name, kind: Kind) -> Result<usize, Full> {
        if let Some((index, entry)) = self.used().find(|(_, entry)| entry.name == *name) {
            let taken = Full("there is something else of that name");
            return if entry.kind == kind { Ok(index) } else { Err(taken) };
        }
        if !self.is_dir(&name.parent()) {
            return Err(Full("there is no such directory"));
        }
        let free = self.0.iter_mut().enumerate().find(|(_, entry)| entry.kind == Kind::Free);
        let (index, entry) = free.ok_or(Full("no space left on the server"))?;
        *entry = Entry { name: *name, kind, size: 0 };
        Ok(index)
    }

    pub(super) fn size(&self, index: usize) -> u32 {
        self.0.get(index).map_or(0, |entry| entry.size)
    }

    pub(super) fn set_size(&mut self, index: usize, size: u32) {
        if let Some(entry) = self.0.get_mut(index) {
            entry.size = size;
        }
    }

    pub(super) fn free(&mut self, index: usize) {
        if let Some(entry) = self.0.get_mut(index) {
            *entry = Entry::FREE;
        }
    }

    pub(super) fn is_under(&self, index: usize, dir: &Name) -> bool {
        self.0.get(index).is_some_and(|entry| entry.kind != Kind::Free && entry.name.is_under(dir))
    }

    /// A directory goes, and all that is in it.
    pub(super) fn free_under(&mut self, dir: &Name) {
        for entry in self.0.iter_mut().filter(|entry| entry.name.is_under(dir)) {
            *entry = Entry::FREE;
        }
    }

    /// Copies what is in a directory, sorted by name, and gives the length of its text.
    pub(super) fn freeze(&self, dir: &Name, kind: Kind, rows: &mut [Entry]) -> u32 {
        rows.fill(Entry::FREE);
        let found = self
            .used()
            .map(|(_, entry)| entry)
            .filter(|entry| entry.kind == kind && entry.name.parent() == *dir);
        let mut count = 0;
        for (row, entry) in rows.iter_mut().zip(found) {
            *row = *entry;
            count += 1;
        }
        let rows = rows.get_mut(..count).unwrap_or_default();
        rows.sort_unstable_by_key(|row| row.name);
        let mut len = Length(0);
        for row in rows.iter() {
            let size = (row.kind == Kind::File).then_some(row.size.into());
            // Counting cannot fail.
            let _ = write_row(&mut len, text(row.last()), size);
        }
        len.0
    }
}

struct Length(u32);

impl core::fmt::Write for Length {
    fn write_str(&mut self, s: &str) -> core::fmt::Result {
        self.0 += s.len() as u32;
        Ok(())
    }
}
