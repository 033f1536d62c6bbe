//! The store in memory as the core sees it.

use crate::app::Answer;
use crate::command::Code;
use crate::server::Ask;
use crate::store::{Origin, Outcome, Request, Store};
use crate::table::SessionId;

use super::entries::{Entry, Kind, Name};
use super::{GONE, Handle, MemoryStore, Mode, NO_SPACE, Open, READ_ONLY, Sending};

impl<A, U> Store<A, U> for MemoryStore<'_> {
    fn request(&mut self, ask: &Ask<A>, _: Option<&U>, request: Request<'_>) -> Answer<Outcome> {
        let id = ask.id;
        let outcome = match request {
            Request::Dirs { parent } => self.list(id, parent, Kind::Dir),
            Request::Files { dir } => self.list(id, dir, Kind::File),
            Request::CreateDir { parent, name } => self.create_dir(parent, name),
            Request::DeleteDir { parent, name } => self.delete_dir(parent, name),
            Request::DeleteFiles { dir, names } => self.delete(dir, names),
            Request::Upload { dir, name } => self.upload(id, dir, name),
            Request::Eof { size } => Ok(self.eof(id, size)),
            Request::Download { dir, name, offset } => self.download(id, dir, name, offset),
            Request::Exists { name } => {
                Name::of([name]).and_then(|name| self.existing(&name)).map(|_| Outcome::Done)
            }
            Request::Open { name, write } => self.open_file(id, name, write),
            Request::SetSize(size) => Ok(self.set_size(id, size)),
            Request::GetSize => {
                let index = self.open(id).map(|open| open.index);
                index.map(|index| Outcome::Value(self.entries.size(index).into())).ok_or(GONE)
            }
            Request::SetPosition(position) => {
                let position = i64::try_from(position).unwrap_or(i64::MAX);
                Ok(match self.seek(id, position, Origin::Begin) {
                    Outcome::Value(_) => Outcome::Done,
                    failed => failed,
                })
            }
            Request::GetPosition => {
                self.open(id).map(|open| Outcome::Value(open.position.into())).ok_or(GONE)
            }
            Request::Read { count } => Ok(self.body(id, count)),
            Request::Written => Ok(self.written(id)),
            Request::Seek { offset, origin } => Ok(self.seek(id, offset, origin)),
            Request::Close => Ok(self.put(id, None)),
        };
        Answer::Now(outcome.unwrap_or_else(|failed| failed))
    }

    fn answer(&mut self, _: SessionId) -> Outcome {
        Outcome::Done
    }

    fn write(&mut self, ask: &Ask<A>, bytes: &[u8]) -> Answer<usize> {
        self.store_bytes(ask.id, bytes);
        Answer::Now(bytes.len())
    }

    fn read(&mut self, ask: &Ask<A>) -> Answer<Option<&[u8]>> {
        let Some(handle) = self.handle(ask.id) else { return Answer::Now(None) };
        let (sending, file) = (handle.sending, handle.file);
        Answer::Now(match (sending, file) {
            (Sending::List { row, at }, _) => {
                self.show_row(row);
                self.row.get(at..self.row_len)
            }
            (Sending::File { left }, Some(Open { index, position, .. })) => {
                self.range(index, position, (position + left).min(self.entries.size(index)))
            }
            _ => None,
        })
    }

    fn consume(&mut self, id: SessionId, len: usize) {
        let row_len = self.row_len;
        // Of the row after the one that is being sent.
        let is_last = |rows: &[Entry], row: usize| {
            rows.get(row + 1).is_none_or(|entry| entry.kind() == Kind::Free)
        };
        let Some(handle) = self.handles.iter_mut().find(|handle| handle.id == Some(id)) else {
            return;
        };
        match &mut handle.sending {
            Sending::List { row, at } => {
                *at += len;
                if *at >= row_len {
                    if is_last(self.rows, *row) {
                        handle.sending = Sending::Nothing;
                        self.list_of = None;
                    } else {
                        (*row, *at) = (*row + 1, 0);
                    }
                }
            }
            Sending::File { left } => {
                let len = u32::try_from(len).unwrap_or(u32::MAX).min(*left);
                *left -= len;
                if let Some(open) = &mut handle.file {
                    open.position += len;
                }
            }
            Sending::Nothing => {}
        }
    }

    fn remaining(&self, id: SessionId) -> u64 {
        let handle = self.handles.iter().find(|handle| handle.id == Some(id));
        match handle.map(|handle| handle.sending) {
            Some(Sending::File { left }) => left.into(),
            _ => 0,
        }
    }

    fn release(&mut self, id: SessionId) {
        if let Some(handle) = self.handles.iter_mut().find(|handle| handle.id == Some(id)) {
            *handle = Handle::EMPTY;
        }
        self.list_of.take_if(|owner| *owner == id);
    }
}

impl MemoryStore<'_> {
    fn store_bytes(&mut self, id: SessionId, bytes: &[u8]) {
        let most = self.most();
        let Some(handle) = self.handle(id) else { return };
        let Some(open) = handle.file.as_mut().filter(|_| handle.failure.is_none()) else { return };
        if open.mode == Mode::Read {
            handle.failure = Some(READ_ONLY);
            return;
        }
        let room = most.saturating_sub(open.position) as usize;
        let len = bytes.len().min(room);
        if len < bytes.len() {
            handle.failure = Some("no space left on the server");
        }
        let (index, begin) = (open.index, open.position);
        // Below `most`, which is a u32.
        let end = begin + len as u32;
        open.position = end;
        handle.written += len as u32;
        if begin > self.entries.size(index) {
            self.extend(index, begin);
        }
        let at = index * most as usize + begin as usize;
        if let (Some(to), Some(from)) = (self.bytes.get_mut(at..at + len), bytes.get(..len)) {
            to.copy_from_slice(from);
        }
        let size = self.entries.size(index).max(end);
        self.entries.set_size(index, size);
    }

    fn written(&mut self, id: SessionId) -> Outcome {
        let Some(handle) = self.handle(id) else { return NO_SPACE };
        let count = core::mem::take(&mut handle.written);
        match handle.failure.take() {
            Some(why) => Outcome::Failed(Code::UNKNOWN, why),
            None => Outcome::Value(count.into()),
        }
    }
}
