//! Files that are open for random access.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pulsegate_core::command::Code;
use pulsegate_core::store::{Origin, Outcome};

use super::failure::{Failure, WRITING, failure, write_failure};
use super::reading::Body;
use super::registry::{Claim, Claimed, Reader};
use super::root::{Mode, open_to_read};
use super::upload::{key_of, lock};
use super::usage::{Count, Touches};
use super::work::{Cx, Flow, Open, Work, value};
use crate::users::User;

/// Farthest place that file systems know.
pub(super) const MAX_POSITION: u64 = i64::MAX as u64;

pub(super) const TOO_FAR: Failure = Failure(Code::PARAMETER, "no file reaches that far");

/// An open file.
#[derive(Debug)]
pub(super) struct Stream {
    /// Closed before the claim is given up.
    file: File,
    /// None if it is open for reading only.
    claim: Option<Claim>,
    _reader: Option<Reader>,
    pub(super) path: PathBuf,
    pub(super) touches: Touches,
    pub(super) position: u64,
}

impl Work {
    pub(super) fn open_stream(
        &mut self,
        cx: Cx<'_>,
        path: &Path,
        write: bool,
        user: Option<&Arc<User>>,
    ) -> Result<Flow, Failure> {
        self.begin_file(cx);
        self.take_place(cx, user)?;
        let user = user.map(AsRef::as_ref);
        let (file, claim, reader, touches) = if write {
            let touches = cx.inner.usages.touches(user, path);
            match self.open_writer(cx, path, user, &touches)? {
                Some((file, claim)) => (file, Some(claim), None, touches),
                None => return Ok(Flow::Wait),
            }
        } else {
            let (file, _) = open_to_read(&*cx.inner.root.home(user)?, path)?;
            let reader = cx.inner.reader(&file, path)?;
            (file, None, reader, Touches::Nobody)
        };
        let path = path.into();
        let stream = Stream { file, claim, _reader: reader, path, touches, position: 0 };
        self.open = Open::Stream(stream);
        Ok(Flow::Done(Outcome::Done))
    }

    fn open_writer(
        &mut self,
        cx: Cx<'_>,
        path: &Path,
        user: Option<&User>,
        touches: &Touches,
    ) -> Result<Option<(File, Claim)>, Failure> {
        for _ in 0..super::upload::ATTEMPTS {
            let home = cx.inner.root.home(user)?;
            let Some(file) = self.open_or_create(cx, &home, path, Mode::Random, touches, Ok(()))?
            else {
                return Ok(None);
            };
            let claim = match cx.inner.registry.writer(key_of(&file, path)?, cx.transfer) {
                Claimed::Yours(claim) => claim,
                Claimed::Wait => return Ok(None),
                Claimed::Superseded | Claimed::InUse => return Err(Failure::IN_USE),
            };
            lock(&file, path)?;
            let metadata = file.metadata().map_err(|error| failure(&error, path, WRITING))?;
            if metadata.nlink() > 0 {
                return Ok(Some((file, claim)));
            }
        }
        Err(Failure::IN_USE)
    }

    /// The file that is open for random access.
    pub(super) fn stream(&mut self) -> Result<&mut Stream, Failure> {
        match &mut self.open {
            Open::Stream(stream) => Ok(stream),
            _ => Err(Failure::NOT_OPEN),
        }
    }

    pub(super) fn set_size(&mut self, cx: Cx<'_>, size: u64) -> Result<Flow, Failure> {
        let Open::Stream(stream) = &self.open else { return Err(Failure::NOT_OPEN) };
        if stream.claim.is_none() {
            return Err(Failure::READ_ONLY);
        }
        if size > MAX_POSITION {
            return Err(TOO_FAR);
        }
        let before = stream.len()?;
        if size > before && !cx.inner.limits.allows_file(size) {
            return Err(Failure::FILE_BYTES);
        }
        let grown = size.saturating_sub(before);
        if let Touches::Own(usage) = &stream.touches {
            let fits = |count| grown == 0 || cx.inner.limits.room(count) >= grown;
            match self.hold.count(cx, usage, fits) {
                None => return Ok(Flow::Wait),
                Some(count) if fits(count) => {}
                Some(_) => return Err(Failure::USER_BYTES),
            }
        }
        stream.file.set_len(size).map_err(|error| write_failure(&error, &stream.path))?;
        stream.touches.changed();
        if let Some(grant) = self.hold.grant() {
            grant.add(Count { bytes: grown, files: 0 });
            grant.remove(Count { bytes: before.saturating_sub(size), files: 0 });
        }
        Ok(Flow::Done(Outcome::Done))
    }

    pub(super) fn read_stream(&mut self, cx: Cx<'_>, count: u32) -> Result<Flow, Failure> {
        let stream = self.stream()?;
        let left = stream.len()?.saturating_sub(stream.position);
        let len = left.min(u64::from(count)) as u32;
        let body = Body { position: stream.position, left: u64::from(len) };
        stream.position += u64::from(len);
        if len > 0 {
            self.body = Some(body);
            // The first bytes are there with the answer.
            self.read_ahead(cx);
        }
        Ok(Flow::Done(Outcome::Body(len)))
    }

    /// What has been written since this was last asked. What failed is told once; then writes are taken again.
    pub(super) fn tell_written(&mut self, cx: Cx<'_>) -> Result<Flow, Failure> {
        self.stream()?;
        let written = std::mem::take(&mut self.written);
        match self.failure.take() {
            None => Ok(value(written)),
            Some(failure) => {
                cx.transfer.set_discard(false);
                Err(failure)
            }
        }
    }
}

impl Stream {
    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    pub(super) const fn is_writable(&self) -> bool {
        self.claim.is_some()
    }

    pub(super) fn len(&self) -> Result<u64, Failure> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(|error| failure(&error, &self.path, WRITING))?.len())
    }

    pub(super) fn set_position(&mut self, position: u64) -> Result<Flow, Failure> {
        if position > MAX_POSITION {
            return Err(TOO_FAR);
        }
        self.position = position;
        Ok(Flow::Done(Outcome::Done))
    }

    pub(super) fn seek(&mut self, offset: i64, origin: Origin) -> Result<Flow, Failure> {
        let from = match origin {
            Origin::Begin => 0,
            Origin::Current => self.position,
            Origin::End => self.len()?,
        };
        let Some(position) = from.checked_add_signed(offset) else {
            return Err(if offset < 0 {
                Failure(Code::PARAMETER, "before the start of the file")
            } else {
                TOO_FAR
            });
        };
        self.set_position(position)?;
        Ok(value(position))
    }
}
