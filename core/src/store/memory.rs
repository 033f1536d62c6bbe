//! A store in lent memory, for microcontrollers and tests: a few files of a fixed share each.
//! Everybody sees the same files.

mod contract;
mod entries;

use crate::command::Code;
use crate::front::Front;
use crate::path::Path;
use crate::table::SessionId;

use super::{Origin, Outcome, write_row};
pub use entries::Entry;
use entries::{Entries, Full, Kind, Name, text};

/// Longest row of a list: what surrounds it, a name, and ten digits.
const ROW: usize = entries::NAME + 20;

/// Somebody has deleted what the session had open.
const GONE: Outcome = Outcome::Failed(Code::NO_FILE, "the file has been deleted");

const NO_SPACE: Outcome = Outcome::Failed(Code::UNKNOWN, "no space left on the server");

/// What one session has open. The store needs one for each session that uses files at a time.
#[derive(Debug)]
pub struct Handle {
    id: Option<SessionId>,
    file: Option<Open>,
    /// Why a write has failed.
    failure: Option<&'static str>,
    /// Bytes written since somebody asked.
    written: u32,
    sending: Sending,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    index: usize,
    position: u32,
    mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Read,
    Write,
    Append,
}

/// What is on its way to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Nothing,
    /// From this row of the frozen list and this byte of it on.
    List {
        row: usize,
        at: usize,
    },
    /// So many bytes from where the file stands.
    File {
        left: u32,
    },
}

impl Handle {
    /// Nobody's.
    pub const EMPTY: Handle =
        Handle { id: None, file: None, failure: None, written: 0, sending: Sending::Nothing };
}

/// Files in lent memory.
///
/// The memory is shared out evenly: each entry may have as many bytes as there are bytes per
/// entry. A directory takes an entry, too. Everything is answered at once.
///
/// An upload that goes on with another session's file leaves that session without it;
/// [`MemoryStore::taken_over`] names the sessions that have to be closed for that.
#[derive(Debug)]
pub struct MemoryStore<'m> {
    entries: Entries<'m>,
    bytes: &'m mut [u8],
    handles: &'m mut [Handle],
    /// The frozen list, and whose it is.
    rows: &'m mut [Entry],
    list_of: Option<SessionId>,
    row: [u8; ROW],
    row_len: usize,
    victims: [Option<SessionId>; 4],
}

impl<'m> MemoryStore<'m> {
    /// A store for as many files and directories as there are entries. `rows` is for lists and has
    /// to be as long as `entries`.
    pub fn new(
        entries: &'m mut [Entry],
        bytes: &'m mut [u8],
        handles: &'m mut [Handle],
        rows: &'m mut [Entry],
    ) -> Self {
        Self {
            entries: Entries(entries),
            bytes,
            handles,
            rows,
            list_of: None,
            row: [0; ROW],
            row_len: 0,
            victims: [None; 4],
        }
    }

    /// A session whose upload another one has taken over: close it with
    /// [`CloseReason::TakenOver`](crate::server::CloseReason::TakenOver). Ask until there is none.
    pub fn taken_over(&mut self) -> Option<SessionId> {
        self.victims.iter_mut().find_map(Option::take)
    }

    /// The bytes of a file.
    #[must_use]
    pub fn contents(&self, path: &str) -> Option<&[u8]> {
        let name = Name::of([Path::parse(path).ok()?]).ok()?;
        let index = self.entries.find(&name, Kind::File)?;
        self.range(index, 0, self.entries.size(index))
    }

    /// Bytes that a file may have.
    #[must_use]
    pub fn most(&self) -> u32 {
        let share = self.bytes.len().checked_div(self.entries.0.len()).unwrap_or(0);
        u32::try_from(share).unwrap_or(u32::MAX)
    }

    fn range(&self, index: usize, from: u32, to: u32) -> Option<&[u8]> {
        let begin = index * self.most() as usize;
        self.bytes.get(begin + from as usize..begin + to as usize)
    }

    /// The handle of a session, an unused one if it has none yet.
    fn handle(&mut self, id: SessionId) -> Option<&mut Handle> {
        let own = self.handles.iter().position(|handle| handle.id == Some(id));
        let index = own.or_else(|| self.handles.iter().position(|handle| handle.id.is_none()))?;
        let handle = self.handles.get_mut(index)?;
        handle.id = Some(id);
        Some(handle)
    }

    fn open(&mut self, id: SessionId) -> Option<&mut Open> {
        self.handle(id)?.file.as_mut()
    }

    /// Whether somebody writes a file.
    fn is_written(&self, index: usize) -> bool {
        let writes = |open: Open| open.index == index && open.mode != Mode::Read;
        self.handles.iter().any(|handle| handle.file.is_some_and(writes))
    }

    fn put(&mut self, id: SessionId, file: Option<Open>) -> Outcome {
        match self.handle(id) {
            Some(handle) => {
                *handle = Handle { id: Some(id), file, ..Handle::EMPTY };
                Outcome::Done
            }
            None => Outcome::Failed(Code::UNKNOWN, "too many sessions use files"),
        }
    }

    fn upload(&mut self, id: SessionId, dir: Path<'_>, name: Path<'_>) -> Result<Outcome, Outcome> {
        self.put(id, None);
        let name = Name::of([dir, name])?;
        if !self.entries.is_dir(&Name::of([dir])?) {
            return Err(Outcome::Failed(Code::NO_DIR, ""));
        }
        self.refuse_dir(&name)?;
        let index = self.entries.make(&name, Kind::File).map_err(full)?;
        for handle in self.handles.iter_mut().filter(|handle| handle.id != Some(id)) {
            let Some(open) = handle.file.filter(|open| open.index == index) else { continue };
            match open.mode {
                Mode::Read => {}
                Mode::Write => return Err(Outcome::Failed(Code::IN_USE, "")),
                Mode::Append => {
                    handle.file = None;
                    let place = self.victims.iter_mut().find(|place| place.is_none());
                    if let Some(place) = place {
                        *place = handle.id;
                    }
                }
            }
        }
        let size = self.entries.size(index);
        match self.put(id, Some(Open { index, position: size, mode: Mode::Append })) {
            Outcome::Done => Ok(Outcome::Value(size.into())),
            failed => Err(failed),
        }
    }

    fn eof(&mut self, id: SessionId, size: Option<u64>) -> Outcome {
        let Some(handle) = self.handle(id) else { return NO_SPACE };
        let (file, failure) = (handle.file.take(), handle.failure.take());
        if let Some(why) = failure {
            return Outcome::Failed(Code::UNKNOWN, why);
        }
        let stored = file.map_or(0, |open| self.entries.size(open.index));
        if size.is_some_and(|size| size != u64::from(stored)) {
            return Outcome::Failed(Code::FILE_SIZE, "the file has another size");
        }
        Outcome::Done
    }

    fn download(
        &mut self,
        id: SessionId,
        dir: Path<'_>,
        name: Path<'_>,
        offset: u64,
    ) -> Result<Outcome, Outcome> {
        let index = self.existing(&Name::of([dir, name])?)?;
        let size = self.entries.size(index);
        let position = u32::try_from(offset).ok().filter(|&offset| offset <= size);
        let Some(position) = position else {
            return Err(Outcome::Failed(Code::PARAMETER, "FileSize is beyond the file's end"));
        };
        let left = size - position;
        self.put(id, Some(Open { index, position, mode: Mode::Read }));
        self.send(id, Sending::File { left });
        Ok(Outcome::Value(left.into()))
    }

    fn refuse_dir(&self, name: &Name) -> Result<(), Outcome> {
        let failed = Outcome::Failed(Code::PARAMETER, "it is a directory");
        self.entries.find(name, Kind::Dir).map_or(Ok(()), |_| Err(failed))
    }

    fn existing(&self, name: &Name) -> Result<usize, Outcome> {
        self.entries.find(name, Kind::File).ok_or(Outcome::Failed(Code::NO_FILE, ""))
    }

    fn open_file(
        &mut self,
        id: SessionId,
        name: Path<'_>,
        write: bool,
    ) -> Result<Outcome, Outcome> {
        self.put(id, None);
        let name = Name::of([name])?;
        let index = match self.existing(&name) {
            Err(_) if write && self.entries.is_dir(&name.parent()) => {
                self.refuse_dir(&name)?;
                self.entries.make(&name, Kind::File).map_err(full)?
            }
            found => found?,
        };
        // The session's own has been closed above.
        if write && self.is_written(index) {
            return Err(Outcome::Failed(Code::IN_USE, ""));
        }
        let mode = if write { Mode::Write } else { Mode::Read };
        Ok(self.put(id, Some(Open { index, position: 0, mode })))
    }

    fn set_size(&mut self, id: SessionId, size: u64) -> Outcome {
        let most = self.most();
        let Some(&mut Open { index, mode, .. }) = self.open(id) else { return GONE };
        if mode == Mode::Read {
            return Outcome::Failed(Code::UNKNOWN, READ_ONLY);
        }
        match u32::try_from(size) {
            Ok(size) if size <= most => {
                self.extend(index, size);
                self.entries.set_size(index, size);
                Outcome::Done
            }
            _ => NO_SPACE,
        }
    }

    /// What lies between a file's old end and a new one reads as zero.
    fn extend(&mut self, index: usize, to: u32) {
        let begin = index * self.most() as usize;
        let (from, to) = (begin + self.entries.size(index) as usize, begin + to as usize);
        if let Some(gap) = self.bytes.get_mut(from..to) {
            gap.fill(0);
        }
    }

    fn seek(&mut self, id: SessionId, offset: i64, origin: Origin) -> Outcome {
        let Some(&mut Open { index, position, .. }) = self.open(id) else { return GONE };
        let from = match origin {
            Origin::Begin => 0,
            Origin::Current => position,
            Origin::End => self.entries.size(index),
        };
        let to = i64::from(from).checked_add(offset).and_then(|to| u32::try_from(to).ok());
        let (Some(to), Some(open)) = (to, self.open(id)) else {
            return Outcome::Failed(Code::PARAMETER, "there is no such position");
        };
        open.position = to;
        Outcome::Value(to.into())
    }

    fn body(&mut self, id: SessionId, count: u32) -> Outcome {
        let Some(&mut Open { index, position, .. }) = self.open(id) else { return GONE };
        let left = self.entries.size(index).saturating_sub(position).min(count);
        self.send(id, Sending::File { left });
        Outcome::Body(left)
    }

    fn send(&mut self, id: SessionId, sending: Sending) {
        if let Some(handle) = self.handle(id) {
            handle.sending = sending;
        }
    }

    /// Freezes the files or directories in a directory.
    fn list(&mut self, id: SessionId, dir: Path<'_>, kind: Kind) -> Result<Outcome, Outcome> {
        let dir = Name::of([dir])?;
        if !self.entries.is_dir(&dir) {
            return Err(Outcome::Failed(Code::NO_DIR, ""));
        }
        if self.list_of.is_some_and(|owner| owner != id) {
            return Err(Outcome::Failed(Code::UNKNOWN, "another list is being read, try again"));
        }
        let len = self.entries.freeze(&dir, kind, self.rows);
        if len > 0 {
            self.list_of = Some(id);
            self.send(id, Sending::List { row: 0, at: 0 });
        }
        Ok(Outcome::List(len))
    }

    /// Puts one row of the frozen list where it can be shown.
    fn show_row(&mut self, row: usize) {
        let mut out = Front::new(&mut self.row);
        if let Some(entry) = self.rows.get(row).filter(|entry| entry.kind() != Kind::Free) {
            let size = (entry.kind() == Kind::File).then(|| entry.size().into());
            // A row has room for the longest name.
            let _ = write_row(&mut out, text(entry.last()), size);
        }
        self.row_len = out.len;
    }

    fn delete(&mut self, dir: Path<'_>, names: super::Names<'_>) -> Result<Outcome, Outcome> {
        if !self.entries.is_dir(&Name::of([dir])?) {
            return Err(Outcome::Failed(Code::NO_DIR, ""));
        }
        for name in names.iter() {
            let name = Name::of([dir, name])?;
            if self.entries.find(&name, Kind::Dir).is_some() {
                return Err(Outcome::Failed(Code::DELETE_FILE, "it is a directory"));
            }
            let Some(index) = self.entries.find(&name, Kind::File) else { continue };
            if self.is_written(index) {
                return Err(Outcome::Failed(Code::IN_USE, ""));
            }
            self.forget(index);
            self.entries.free(index);
        }
        Ok(Outcome::Done)
    }

    /// Whoever reads a file has it no longer: its bytes may soon be another one's.
    fn forget(&mut self, index: usize) {
        for handle in self.handles.iter_mut() {
            handle.file.take_if(|open| open.index == index);
        }
    }

    fn create_dir(&mut self, parent: Path<'_>, name: Path<'_>) -> Result<Outcome, Outcome> {
        if !self.entries.is_dir(&Name::of([parent])?) {
            return Err(Outcome::Failed(Code::NO_DIR, ""));
        }
        let made = self.entries.make(&Name::of([parent, name])?, Kind::Dir);
        made.map(|_| Outcome::Done).map_err(|full| Outcome::Failed(Code::CREATE_DIR, full.0))
    }

    fn delete_dir(&mut self, parent: Path<'_>, name: Path<'_>) -> Result<Outcome, Outcome> {
        if !self.entries.is_dir(&Name::of([parent])?) {
            return Err(Outcome::Failed(Code::NO_DIR, ""));
        }
        let name = Name::of([parent, name])?;
        if self.entries.find(&name, Kind::Dir).is_none() {
            return Err(Outcome::Failed(Code::DELETE_DIR, "there is no such directory"));
        }
        let is_under = |index: &usize| self.entries.is_under(*index, &name);
        if (0..self.entries.0.len()).filter(is_under).any(|index| self.is_written(index)) {
            return Err(Outcome::Failed(Code::DELETE_DIR, "a file in it is in use"));
        }
        for index in 0..self.entries.0.len() {
            if self.entries.is_under(index, &name) {
                self.forget(index);
            }
        }
        self.entries.free_under(&name);
        Ok(Outcome::Done)
    }
}

const READ_ONLY: &str = "the file is open for reading only";

const fn full(full: Full) -> Outcome {
    Outcome::Failed(Code::UNKNOWN, full.0)
}
