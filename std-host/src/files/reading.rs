//! Files that are read for peers: downloads, and pieces of files that are open for random access.

use std::path::Path;
use std::sync::Arc;

use pulsegate_core::command::Code;
use pulsegate_core::store::Outcome;

use super::failure::{Failure, READING, failure};
use super::root::open_to_read;
use super::work::{Cx, Flow, Open, Work, value};
use crate::users::User;

/// What is still to be read for the peer.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) position: u64,
    pub(super) left: u64,
}

impl Work {
    pub(super) fn download(
        &mut self,
        cx: Cx<'_>,
        path: &Path,
        offset: u64,
        user: Option<&Arc<User>>,
    ) -> Result<Flow, Failure> {
        self.begin_file(cx);
        self.take_place(cx, user)?;
        let home = cx.inner.root.home(user.map(AsRef::as_ref))?;
        let (file, size) = open_to_read(&home, path)?;
        let Some(left) = size.checked_sub(offset) else {
            return Err(Failure(Code::PARAMETER, "the offset is beyond the end of the file"));
        };
        if left > 0 {
            let reader = cx.inner.reader(&file, path)?;
            self.open = Open::Download { file, _reader: reader };
            self.body = Some(Body { position: offset, left });
            // The first bytes are there with the answer.
            self.read_ahead(cx);
        }
        Ok(value(left))
    }

    /// Reads on for the peer until it has enough in advance.
    pub(super) fn read_ahead(&mut self, cx: Cx<'_>) {
        while let Some(body) = &mut self.body {
            let file = match &self.open {
                Open::Download { file, .. } => file,
                Open::Stream(stream) => stream.file(),
                Open::Upload(_) | Open::Nothing => return,
            };
            let Some(mut piece) = cx.transfer.room_ahead(&cx.inner.buffers, body.left) else {
                return;
            };
            let read = piece.fill(file, body.position, body.left);
            let (id, shard) = (cx.transfer.id, cx.transfer.shard);
            match read {
                Ok(len) if len > 0 => {
                    body.position += len as u64;
                    body.left -= len as u64;
                    let more = body.left > 0;
                    cx.transfer.deliver(&cx.inner.notifier, Some(piece), more);
                    if more {
                        continue;
                    }
                }
                Ok(_) => {
                    tracing::warn!(session = %format_args!("{shard}.{id}"), "a file has shrunk while it was read");
                    cx.transfer.deliver(&cx.inner.notifier, None, false);
                }
                Err(error) => {
                    tracing::warn!(session = %format_args!("{shard}.{id}"), %error, "cannot read a file");
                    cx.transfer.deliver(&cx.inner.notifier, None, false);
                }
            }
            self.body = None;
            if matches!(self.open, Open::Download { .. }) {
                self.close();
            }
        }
    }
}

/// Whether there is a file at a path.
pub(super) fn exists(cx: Cx<'_>, path: &Path, user: Option<&Arc<User>>) -> Result<Flow, Failure> {
    let home = cx.inner.root.home(user.map(AsRef::as_ref))?;
    let metadata = home.metadata(path).map_err(|error| failure(&error, path, READING))?;
    if metadata.is_file() { Ok(Flow::Done(Outcome::Done)) } else { Err(READING.unfit) }
}
