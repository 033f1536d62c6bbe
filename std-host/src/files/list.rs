//! Directories as text.

use std::path::Path;
use std::sync::Arc;

use cap_std::fs::{Dir, DirEntry};
use pulsegate_core::command::Code;
use pulsegate_core::frame::MAX_PACKET;
use pulsegate_core::path::Path as WirePath;
use pulsegate_core::store::{Outcome, write_row};

use super::failure::{DIRECTORY, Failure, failure};
use super::shares::owner;
use super::work::{Cx, Flow, Work};
use crate::users::User;

/// Longest text, so that there is room for the rest of the reply.
const MAX_TEXT: usize = MAX_PACKET as usize - 64 * 1024;

/// What is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directories,
    Files,
}

impl Work {
    pub(super) fn list(
        &mut self,
        cx: Cx<'_>,
        path: &Path,
        user: Option<&Arc<User>>,
        kind: Kind,
    ) -> Result<Flow, Failure> {
        // Nobody would read it, and there may be others in the line.
        if cx.transfer.is_released() {
            return Ok(Flow::Done(Outcome::List(0)));
        }
        if !self.hold.may_walk(cx, user) {
            return Ok(Flow::Wait);
        }
        let most = MAX_TEXT.min(cx.inner.buffers.room_for_lists(owner(user)));
        if most == 0 {
            return Err(TOO_MANY);
        }
        #[cfg(test)]
        cx.inner.probe(super::At::List)?;
        let home = cx.inner.root.home(user.map(AsRef::as_ref))?;
        let mut text = match text(&home, path, kind, most) {
            // At another time there may be room.
            Err(TOO_LONG) if most < MAX_TEXT => return Err(TOO_MANY),
            text => text?,
        };
        // It may wait for long, and counts with all that it has.
        text.shrink_to_fit();
        // The text has been cut to a packet's size.
        let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
        if len > 0 {
            let Some(list) = cx.inner.buffers.list(owner(user), text) else {
                return Err(TOO_MANY);
            };
            cx.transfer.deliver(&cx.inner.notifier, Some(list), false);
        }
        Ok(Flow::Done(Outcome::List(len)))
    }
}

const TOO_MANY: Failure =
    Failure(Code::UNKNOWN, "too many long lists are being read; try again later");

const TOO_LONG: Failure =
    Failure(Code::UNKNOWN, "the directory has too many entries for one reply");

type Row = (String, Option<u64>);

/// The rows of a directory's list, sorted by name, if they are not longer than that.
pub(super) fn text(home: &Dir, path: &Path, kind: Kind, most: usize) -> Result<Vec<u8>, Failure> {
    let entries = home.read_dir(path).map_err(|error| failure(&error, path, DIRECTORY))?;
    let mut rows = Vec::new();
    // At least: how many digits the sizes have is seen when they are written.
    let mut len = 0;
    for entry in entries {
        let entry = entry.map_err(|error| failure(&error, path, DIRECTORY))?;
        let Some(row) = row(home, path, &entry, kind) else { continue };
        len += "\r\nItem=".len() + row.0.len();
        if len > most {
            return Err(TOO_LONG);
        }
        rows.push(row);
    }
    rows.sort_unstable();
    let mut text = String::new();
    for (name, size) in &rows {
        if write_row(&mut text, name, *size).is_err() || text.len() > most {
            return Err(TOO_LONG);
        }
    }
    Ok(text.into_bytes())
}

/// The row of an entry, if it belongs in the list. What peers could not name is left out, and what cannot be looked
/// at: links that lead out, or nowhere, and what has just gone.
fn row(home: &Dir, path: &Path, entry: &DirEntry, kind: Kind) -> Option<Row> {
    let name = entry.file_name().into_string().ok()?;
    // A backslash separates names.
    if name.contains('\\') || WirePath::parse_name(&name).is_err() {
        return None;
    }
    let file_type = entry.file_type().ok()?;
    if file_type.is_symlink() {
        // From the home, not from the directory: it may lead to a neighbour.
        let metadata = home.metadata(path.join(&name)).ok()?;
        return match kind {
            Kind::Directories => metadata.is_dir().then_some((name, None)),
            Kind::Files => metadata.is_file().then(|| (name, Some(metadata.len()))),
        };
    }
    match kind {
        Kind::Directories => file_type.is_dir().then_some((name, None)),
        Kind::Files if file_type.is_file() => Some((name, Some(entry.metadata().ok()?.len()))),
        Kind::Files => None,
    }
}
