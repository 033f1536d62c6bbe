//! The file store behind Upload, Download and RemoteStream: what an application does for them.
//!
//! [`NoStore`] is the one of an application without files, and costs nothing.

mod memory;

use core::fmt::{self, Write};

use crate::app::Answer;
use crate::command::{Code, Command};
pub use crate::path::{Path, PathError};
use crate::server::Ask;
use crate::table::SessionId;
pub use memory::{Entry, Handle, MemoryStore};

/// Where a seek counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Origin {
    /// The file's first byte.
    Begin,
    /// Where the file stands.
    Current,
    /// The file's end.
    End,
}

/// What a peer wants of the store. Paths are checked; `name` is to be read within `dir`.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// The names of the directories in one. Answer: [`Outcome::List`].
    Dirs {
        /// Where.
        parent: Path<'a>,
    },
    /// A new directory; one that is there already is no failure. Answer: [`Outcome::Done`].
    CreateDir {
        /// Where.
        parent: Path<'a>,
        /// Its name.
        name: Path<'a>,
    },
    /// A directory is to go, with all that is in it. Answer: [`Outcome::Done`].
    DeleteDir {
        /// Where.
        parent: Path<'a>,
        /// Its name.
        name: Path<'a>,
    },
    /// Names and sizes of the files in a directory. Answer: [`Outcome::List`].
    Files {
        /// Which directory.
        dir: Path<'a>,
    },
    /// Files are to go; those that are not there are no failure. Answer: [`Outcome::Done`].
    DeleteFiles {
        /// In which directory.
        dir: Path<'a>,
        /// Their names.
        names: Names<'a>,
    },
    /// A file is to be written on at its end, or begun; what the session had open is closed.
    /// Another session that uploads the same file has to go, and what it has handed over counts.
    /// Answer: [`Outcome::Value`], the bytes stored.
    Upload {
        /// In which directory.
        dir: Path<'a>,
        /// Its name.
        name: Path<'a>,
    },
    /// The upload is whole: the file is closed. Answer: [`Outcome::Done`], when what has been
    /// written is where it is to be; a failure of an earlier write is told now.
    Eof {
        /// How long the file must be.
        size: Option<u64>,
    },
    /// A file is to be sent from an offset on. Answer: [`Outcome::Value`], the bytes that remain;
    /// [`Store::read`] gives them.
    Download {
        /// In which directory.
        dir: Path<'a>,
        /// Its name.
        name: Path<'a>,
        /// Bytes that the peer has already.
        offset: u64,
    },
    /// Whether there is such a file. Answer: [`Outcome::Done`].
    Exists {
        /// Its name.
        name: Path<'a>,
    },
    /// A file is opened for random access; what the session had open is closed. One that is to be
    /// written is created if need be. Answer: [`Outcome::Done`].
    Open {
        /// Its name.
        name: Path<'a>,
        /// Whether it is to be written, too.
        write: bool,
    },
    /// The open file is cut or extended to so many bytes. Answer: [`Outcome::Done`].
    SetSize(u64),
    /// Answer: [`Outcome::Value`], the open file's bytes.
    GetSize,
    /// The next byte to be read or written. Answer: [`Outcome::Done`].
    SetPosition(u64),
    /// Answer: [`Outcome::Value`], the next byte to be read or written.
    GetPosition,
    /// Bytes from where the open file stands, at most so many. Answer: [`Outcome::Body`].
    Read {
        /// How many.
        count: u32,
    },
    /// What has been written since the last answer is to be where it belongs. Answer:
    /// [`Outcome::Value`], the bytes written.
    Written,
    /// Moves where the open file stands. Answer: [`Outcome::Value`], the new position.
    Seek {
        /// How far.
        offset: i64,
        /// From where.
        origin: Origin,
    },
    /// The open file is closed. Answer: [`Outcome::Done`].
    Close,
}

/// The names of a request that names several files: its `Item` lines, checked.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a>(Command<'a>);

impl<'a> Names<'a> {
    /// The names in a command.
    ///
    /// # Errors
    /// That of the first name that is none; [`PathError::Empty`] if there is no name at all.
    pub fn of(command: Command<'a>) -> Result<Self, PathError> {
        let mut count = 0;
        for item in items(&command) {
            Path::parse_name(item)?;
            count += 1;
        }
        if count == 0 { Err(PathError::Empty) } else { Ok(Self(command)) }
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = Path<'a>> + use<'a> {
        items(&self.0).filter_map(|item| Path::parse_name(item).ok())
    }
}

fn items<'a>(command: &Command<'a>) -> impl Iterator<Item = &'a str> + use<'a> {
    command.pairs().filter(|(key, _)| key.eq_ignore_ascii_case("Item")).map(|(_, item)| item)
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Done,
    /// Well, and this is the number that the request was for.
    Value(u64),
    /// A list: so many bytes of text follow, rows as [`write_row`] writes them, from
    /// [`Store::read`].
    List(u32),
    /// So many bytes of data follow, from [`Store::read`].
    Body(u32),
    /// Not well: the code, and a text for whoever debugs the peer.
    Failed(Code, &'static str),
}

/// What an application does for files.
///
/// Every method runs within the server's turn: it must not block. What takes long answers
/// [`Answer::Later`], does its work elsewhere, and then calls
/// [`Server::complete`](crate::server::Server::complete) with the job of the question and
/// [`Reply::Store`](crate::protocol::Reply::Store); the result itself stays with the store until
/// the core takes it. A session has one question open at a time.
pub trait Store<A, U> {
    /// Whether there is a store. Where there is none, the protocols are off, and their code is left
    /// out of the image.
    const ON: bool = true;

    /// Begins to carry out what a user wants; `None` is a stranger, where such are let in.
    fn request(&mut self, ask: &Ask<A>, user: Option<&U>, request: Request<'_>) -> Answer<Outcome>;

    /// Gives the answer to the request that was to be answered later. Called once, after its
    /// completion.
    fn answer(&mut self, id: SessionId) -> Outcome;

    /// Takes bytes for the end of the upload, or for where the open file stands, and says how
    /// many: all, or fewer. None can be taken now: later. It has no failure of its own: what
    /// follows a failed write is taken and thrown away, and the failure told by
    /// [`Request::Eof`] or [`Request::Written`].
    fn write(&mut self, ask: &Ask<A>, bytes: &[u8]) -> Answer<usize>;

    /// Shows the next bytes of a list, a body or a download, at least one; they are shown again
    /// until [`Store::consume`]. `None`: they cannot be had any more (the file has shrunk, the disk
    /// fails), which costs the session its connection, for it was promised more.
    fn read(&mut self, ask: &Ask<A>) -> Answer<Option<&[u8]>>;

    /// So many of the bytes that were shown have been sent.
    fn consume(&mut self, id: SessionId, len: usize);

    /// Bytes of the download that have not been consumed.
    fn remaining(&self, id: SessionId) -> u64;

    /// The session has ended. What it has open is closed, what it has handed over is kept.
    fn release(&mut self, id: SessionId);
}

/// No files.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoStore;

impl<A, U> Store<A, U> for NoStore {
    const ON: bool = false;

    fn request(&mut self, _: &Ask<A>, _: Option<&U>, _: Request<'_>) -> Answer<Outcome> {
        Answer::Now(self.answer_none())
    }
    fn answer(&mut self, _: SessionId) -> Outcome {
        self.answer_none()
    }
    fn write(&mut self, _: &Ask<A>, bytes: &[u8]) -> Answer<usize> {
        Answer::Now(bytes.len())
    }
    fn read(&mut self, _: &Ask<A>) -> Answer<Option<&[u8]>> {
        Answer::Now(None)
    }
    fn consume(&mut self, _: SessionId, _: usize) {}
    fn remaining(&self, _: SessionId) -> u64 {
        0
    }
    fn release(&mut self, _: SessionId) {}
}

impl NoStore {
    const fn answer_none(self) -> Outcome {
        Outcome::Failed(Code::UNKNOWN, "no files here")
    }
}

/// Writes a row of a list: a line break, `Item=`, the name, and for a file 0x01 and its size in
/// bytes.
///
/// # Errors
/// Those of `out`.
pub fn write_row(out: &mut impl Write, name: &str, size: Option<u64>) -> fmt::Result {
    write!(out, "\r\nItem={name}")?;
    size.map_or(Ok(()), |size| write!(out, "\u{1}{size}"))
}
