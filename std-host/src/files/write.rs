//! Bytes on their way into an open file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, Write};

use super::Inner;
use super::buffers::Buffer;
use super::failure::{Failure, WRITING, failure, write_failure};
use super::stream::{MAX_POSITION, TOO_FAR};
use super::usage::{Count, Touches};
use super::work::{Cx, Open, Then, Work};

/// How much of a batch may be written, and what is to be said of the rest.
struct Room {
    /// Where the batch goes.
    start: u64,
    /// How long the file is.
    size: u64,
    bytes: u64,
    limit: Option<Failure>,
}

impl Work {
    /// Writes the batch, or as much of it as is possible and allowed.
    pub(super) fn write(&mut self, cx: Cx<'_>) -> Then {
        if self.failure.is_none() {
            match self.room(cx) {
                Ok(Some(room)) => self.put(cx, &room),
                Ok(None) => return Then::Wait,
                Err(failure) => self.fail(cx, failure),
            }
        }
        let buffers = self.batch.len();
        self.batch.clear();
        cx.transfer.written(&cx.inner.notifier, buffers);
        Then::Next
    }

    /// `None`: wait.
    fn room(&mut self, cx: Cx<'_>) -> Result<Option<Room>, Failure> {
        let (file, path, touches, position) = match &self.open {
            Open::Upload(upload) => (&upload.file, &upload.path, &upload.touches, None),
            Open::Stream(stream) if !stream.is_writable() => return Err(Failure::READ_ONLY),
            Open::Stream(stream) => {
                (stream.file(), &stream.path, &stream.touches, Some(stream.position))
            }
            Open::Download { .. } | Open::Nothing => return Err(Failure::NOT_OPEN),
        };
        let size = file.metadata().map_err(|error| failure(&error, path, WRITING))?.len();
        let start = position.unwrap_or(size);
        let end = start.saturating_add(len(&self.batch));
        if end > MAX_POSITION {
            return Err(TOO_FAR);
        }
        let mut limit = None;
        // What is there may be written over, whatever the limits say.
        let mut allowed = end;
        if let Some(most) = cx.inner.limits.file_bytes(size)
            && most < allowed
        {
            (allowed, limit) = (most, Some(Failure::FILE_BYTES));
        }
        if let Touches::Own(usage) = touches {
            let grown = allowed.saturating_sub(size);
            let fits = |count| cx.inner.limits.room(count) >= grown;
            let Some(count) = self.hold.count(cx, usage, fits) else { return Ok(None) };
            if !fits(count) {
                allowed = size + cx.inner.limits.room(count);
                limit = Some(Failure::USER_BYTES);
            }
        }
        Ok(Some(Room { start, size, bytes: allowed.saturating_sub(start), limit }))
    }

    fn put(&mut self, cx: Cx<'_>, room: &Room) {
        let (file, place) = match &self.open {
            Open::Upload(upload) => (&upload.file, None),
            Open::Stream(stream) => (stream.file(), Some(room.start)),
            Open::Download { .. } | Open::Nothing => return,
        };
        let (written, result) = write_all(cx, file, place, &self.batch, room.bytes);
        // A hole comes to be only with bytes behind it.
        let end = if written > 0 { room.start + written } else { 0 };
        let grown = end.saturating_sub(room.size);
        if let Some(grant) = self.hold.grant() {
            grant.add(Count { bytes: grown, files: 0 });
        }
        self.written += written;
        let (path, touches) = match &mut self.open {
            Open::Upload(upload) => {
                upload.added += written;
                (&upload.path, &upload.touches)
            }
            Open::Stream(stream) => {
                stream.position += written;
                (&stream.path, &stream.touches)
            }
            Open::Download { .. } | Open::Nothing => return,
        };
        touches.changed();
        let failure = match result {
            Ok(()) => room.limit,
            Err(error) => Some(write_failure(&error, path)),
        };
        if let Some(failure) = failure {
            self.fail(cx, failure);
        }
    }
}

fn len(batch: &VecDeque<Buffer>) -> u64 {
    batch.iter().map(|buffer| buffer.bytes().len() as u64).sum()
}

/// Writes the first bytes of a batch at a place in a file or at its end, and says how many it took before something
/// was wrong.
fn write_all(
    cx: Cx<'_>,
    file: &File,
    place: Option<u64>,
    batch: &VecDeque<Buffer>,
    bytes: u64,
) -> (u64, io::Result<()>) {
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut slices = Vec::with_capacity(batch.len());
    for buffer in batch {
        let part = &buffer.bytes()[..buffer.bytes().len().min(left)];
        left -= part.len();
        slices.push(IoSlice::new(part));
    }
    let mut slices = &mut slices[..];
    // Empty ones at the front must not be taken for the end.
    IoSlice::advance_slices(&mut slices, 0);
    let mut written = 0;
    while !slices.is_empty() {
        let result = cx.inner.write_some(file, place.map(|place| place + written), slices);
        match result {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(len) => {
                written += len as u64;
                IoSlice::advance_slices(&mut slices, len);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

impl Inner {
    /// One system call.
    fn write_some(
        &self,
        mut file: &File,
        place: Option<u64>,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        #[cfg(test)]
        if let Some(most) = self.probe_write(slices)? {
            return file.write(&slices[0][..most]);
        }
        match place {
            Some(place) => Ok(rustix::io::pwritev(file, slices, place)?),
            None => file.write_vectored(slices),
        }
    }
}
