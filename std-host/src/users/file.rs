//! The users file: who may have access to it, and how it is changed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::parse::{Record, line_at, parse};
use super::{Error, LoginPolicy, User};

const HEADER: &str = "\
# Users of a Pulsegate server. Change it with `pulsegate user add|remove`;
# a running server takes the change over.
";

/// What a file said, and which file that was.
pub(super) struct Loaded {
    pub(super) records: Vec<Record>,
    pub(super) stamp: Stamp,
}

/// Tells one state of the file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
    /// Device, file number, time of the last change to content or permissions.
    #[cfg(unix)]
    unix: (u64, u64, i64, i64),
}

impl Stamp {
    /// Of the file at that path, if there is one.
    pub(super) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|meta| Self::new(&meta))
    }

    fn new(meta: &fs::Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            len: meta.len(),
            modified: meta.modified().ok(),
            #[cfg(unix)]
            unix: (meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()),
        }
    }
}

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To let people in by it: whoever owns it decides who that is, so it must be ours or root's.
    Serving,
    /// To look at it or change it: root may do that for the account that the server runs as.
    Editing,
}

/// Reads the file and checks everything about it.
pub(super) fn load(path: &Path, purpose: Purpose) -> Result<Loaded, Error> {
    let mut file = open(path, OpenOptions::new().read(true), purpose)?;
    let (text, stamp) = read(path, &mut file)?;
    let records = parse(path, &text)?;
    Ok(Loaded { records, stamp })
}

/// Opens without waiting for the other end of a pipe: what it is, is checked on the open file.
fn open(path: &Path, options: &mut OpenOptions, purpose: Purpose) -> Result<File, Error> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    let file = match options.open(path) {
        Ok(file) => file,
        Err(source) if source.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Missing { path: path.to_owned() });
        }
        Err(source) if source.kind() == io::ErrorKind::IsADirectory => {
            return Err(Error::NotAFile { path: path.to_owned() });
        }
        Err(source) => return Err(Error::io(path, "open it", source)),
    };
    check_file(path, &file, purpose)?;
    Ok(file)
}

/// The state is taken before the text, so that a change between the two shows at the next look.
fn read(path: &Path, file: &mut File) -> Result<(String, Stamp), Error> {
    let meta = file.metadata().map_err(|source| Error::io(path, "examine it", source))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| Error::io(path, "read it", source))?;
    let text = String::from_utf8(bytes).map_err(|bad| {
        let upto = bad.utf8_error().valid_up_to();
        Error::Content {
            path: path.to_owned(),
            line: line_at(bad.as_bytes(), upto),
            entry: None,
            problem: "not UTF-8 text; save the file as UTF-8".into(),
        }
    })?;
    Ok((text, Stamp::new(&meta)))
}

/// Looks at the open file, not at the path, which may name another by now.
fn check_file(path: &Path, file: &File, purpose: Purpose) -> Result<(), Error> {
    let meta = file.metadata().map_err(|source| Error::io(path, "examine it", source))?;
    if !meta.is_file() {
        return Err(Error::NotAFile { path: path.to_owned() });
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let us = rustix::process::geteuid().as_raw();
        check_access(path, meta.mode(), meta.uid(), us, purpose)?;
    }
    #[cfg(not(unix))]
    let _ = purpose;
    Ok(())
}

#[cfg(unix)]
fn check_access(
    path: &Path,
    mode: u32,
    owner: u32,
    us: u32,
    purpose: Purpose,
) -> Result<(), Error> {
    let path = path.to_owned();
    let root_edits = us == 0 && purpose == Purpose::Editing;
    if owner != us && owner != 0 && !root_edits {
        return Err(Error::Owner { path, owner, us });
    }
    if mode & 0o077 != 0 {
        return Err(Error::Mode { path, mode: mode & 0o777 });
    }
    Ok(())
}

/// The file while it is being changed: nobody else changes it before this is dropped.
///
/// The lock is on the file itself, so that nothing is left beside it and only those can hold it who may read it.
/// A change replaces the file, so a lock counts only if its file is still the one at the path.
pub(super) struct Editor {
    path: PathBuf,
    file: File,
    document: DocumentMut,
    records: Vec<Record>,
}

impl Editor {
    /// Opens and locks the file; creates it, open to us alone, if that is asked for and it is missing.
    pub(super) fn open(path: &Path, create: bool) -> Result<Self, Error> {
        let mut file = lock(path, create)?;
        let (text, _) = read(path, &mut file)?;
        let records = parse(path, &text)?;
        let document = text.parse::<DocumentMut>().map_err(|error| Error::Content {
            path: path.to_owned(),
            line: 1,
            entry: None,
            problem: error.message().to_owned(),
        })?;
        Ok(Self { path: path.to_owned(), file, document, records })
    }

    /// Appends an entry.
    pub(super) fn add(&mut self, record: &Record) -> Result<(), Error> {
        let User { name, role, login_policy } = &record.user;
        if self.records.iter().any(|known| known.user.name == *name) {
            return Err(Error::Exists { path: self.path.clone(), name: name.clone() });
        }
        let mut table = Table::new();
        table["name"] = value(name);
        table["role"] = value(role.as_str());
        if *login_policy != LoginPolicy::default() {
            table["login"] = value(login_policy.as_str());
        }
        table["hash"] = value(record.stored.to_string());
        // Comments at the end of the file stay where they are: before the new entry.
        let mut before = self.document.trailing().as_str().unwrap_or("").to_owned();
        if before.is_empty() && self.records.is_empty() {
            before = HEADER.into();
        }
        self.document.set_trailing("");
        table.decor_mut().set_prefix(format!("{before}\n"));
        if let Some(tables) = self.tables() {
            tables.push(table);
        }
        self.records.push(record.clone());
        Ok(())
    }

    /// Removes the entry of that name.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), Error> {
        let Some(index) = self.records.iter().position(|known| known.user.name == name) else {
            return Err(Error::NoSuchUser { path: self.path.clone(), name: name.to_owned() });
        };
        self.records.remove(index);
        let Some(tables) = self.tables() else {
            return Ok(());
        };
        let removed = tables.remove(index);
        // A comment right above the entry goes with it; what is set apart by an empty line belongs to the file.
        let prefix = removed.decor().prefix().and_then(|raw| raw.as_str());
        let kept =
            prefix.and_then(|prefix| prefix.rfind("\n\n").map(|at| &prefix[..=at])).unwrap_or("");
        if let Some(next) = tables.get_mut(index) {
            let old = next.decor().prefix().and_then(|raw| raw.as_str());
            let joined = format!("{kept}{}", old.unwrap_or("\n"));
            next.decor_mut().set_prefix(joined);
        } else {
            let old = self.document.trailing().as_str().unwrap_or("");
            let joined = format!("{kept}{old}");
            self.document.set_trailing(joined);
        }
        Ok(())
    }

    fn tables(&mut self) -> Option<&mut ArrayOfTables> {
        self.document
            .entry("user")
            .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()))
            .as_array_of_tables_mut()
    }

    /// Replaces the file as a whole: after a crash there is the old one or the new one.
    pub(super) fn save(self) -> Result<(), Error> {
        let path = self.path.as_path();
        let fail = |doing| move |source| Error::io(path, doing, source);
        let text = self.document.to_string();
        // Never leave a file behind that the server will not read.
        parse(path, &text)?;
        // A link to the file stays a link.
        let target = fs::canonicalize(path).map_err(fail("resolve its path"))?;
        let directory = target.parent().unwrap_or(Path::new("/"));
        // Created with mode 0600.
        let mut temporary = tempfile::Builder::new()
            .prefix(".pulsegate-users-")
            .tempfile_in(directory)
            .map_err(fail("create a file beside it"))?;
        keep_owner(&self.file, temporary.as_file()).map_err(fail("keep its owner"))?;
        temporary
            .write_all(text.as_bytes())
            .and_then(|()| temporary.as_file().sync_all())
            .map_err(fail("write the new version of it"))?;
        temporary.persist(&target).map_err(|failed| fail("replace it")(failed.error))?;
        #[cfg(unix)]
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(fail("make the change durable"))?;
        Ok(())
    }
}

/// What root changes stays readable for the server that runs as somebody else.
fn keep_owner(old: &File, new: &File) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let (old, now) = (old.metadata()?, new.metadata()?);
        if old.uid() != now.uid() {
            fchown(new, Some(old.uid()), Some(old.gid()))?;
        } else if old.gid() != now.gid() {
            // The group has no rights in the file: not worth an error.
            let _ = fchown(new, None, Some(old.gid()));
        }
    }
    #[cfg(not(unix))]
    let _ = (old, new);
    Ok(())
}

fn lock(path: &Path, create: bool) -> Result<File, Error> {
    // Every turn that does not succeed means that somebody else's change did.
    for _ in 0..10_000 {
        let file = match open(path, OpenOptions::new().read(true).write(true), Purpose::Editing) {
            Err(Error::Missing { .. }) if create => match create_new(path) {
                Ok(()) => continue,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::io(path, "create it", error)),
            },
            other => other?,
        };
        file.lock().map_err(|source| Error::io(path, "lock it", source))?;
        let now = Stamp::of(path);
        let locked = file.metadata().map_err(|source| Error::io(path, "examine it", source))?;
        if now == Some(Stamp::new(&locked)) {
            return Ok(file);
        }
    }
    let busy = io::Error::other("it is replaced all the time, or is a link to nowhere");
    Err(Error::io(path, "lock it", busy))
}

fn create_new(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
