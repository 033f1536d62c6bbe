//! The text of a users file: what it must say.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use toml_edit::{Document, Item, Table};

use super::hash::Stored;
use super::{Error, LoginPolicy, User, check_name};

/// One entry of the file.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) user: User,
    pub(super) stored: Stored,
}

/// The line, counted from 1, of that byte.
pub(super) fn line_at(text: &[u8], offset: usize) -> usize {
    let upto = &text[..offset.min(text.len())];
    1 + upto.iter().filter(|b| **b == b'\n').count()
}

/// Reads the text of a users file.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Record>, Error> {
    let parser = Parser { path, text };
    // The parser's own message shows the line, which may hold a hash: only what it complains about is passed on.
    let document = Document::parse(text).map_err(|error| {
        let line = parser.line(error.span());
        let key = parser.key_on(line);
        let problem = format!("{key}{}; correct the TOML", error.message().trim_end());
        parser.error(line, None, problem)
    })?;
    for (key, item) in document.iter() {
        if key != "user" || !item.is_array_of_tables() {
            let span = document.as_table().key(key).and_then(|key| key.span());
            let problem = format!("unexpected {key:?}; only [[user]] entries belong here");
            return Err(parser.error(parser.line(span.or(item.span())), None, problem));
        }
    }
    let Some(tables) = document.get("user").and_then(Item::as_array_of_tables) else {
        return Ok(Vec::new());
    };
    let mut records = Vec::with_capacity(tables.len());
    let mut lines = HashMap::new();
    for (index, table) in tables.iter().enumerate() {
        let entry = EntryReader::new(&parser, index, table);
        let record = entry.read()?;
        let line = entry.line("name");
        if let Some(first) = lines.insert(record.user.name.clone(), line) {
            let problem =
                format!("the name is taken by the entry at line {first}; remove one of the two");
            return Err(entry.error("name", problem));
        }
        records.push(record);
    }
    Ok(records)
}

struct Parser<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Parser<'_> {
    fn line(&self, span: Option<Range<usize>>) -> usize {
        line_at(self.text.as_bytes(), span.map_or(0, |span| span.start))
    }

    /// The key that the line seems to be about, as the beginning of a message.
    fn key_on(&self, line: usize) -> String {
        let key = self.text.lines().nth(line - 1).and_then(|line| {
            let key = line.split_once('=')?.0.trim();
            let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            (key.len() <= 32 && !key.is_empty() && key.bytes().all(bare)).then_some(key)
        });
        key.map_or_else(String::new, |key| format!("key {key:?}: "))
    }

    fn error(&self, line: usize, entry: Option<String>, problem: String) -> Error {
        Error::Content { path: self.path.to_owned(), line, entry, problem }
    }
}

/// Reads one `[[user]]`.
struct EntryReader<'a> {
    parser: &'a Parser<'a>,
    table: &'a Table,
    label: String,
}

impl<'a> EntryReader<'a> {
    fn new(parser: &'a Parser<'a>, index: usize, table: &'a Table) -> Self {
        let label = match table.get("name").and_then(Item::as_str) {
            // Escaped and cut: the name itself may be what is wrong.
            Some(name) if name.chars().count() > 24 => {
                format!("user {:?}…", name.chars().take(24).collect::<String>())
            }
            Some(name) if !name.is_empty() => format!("user {name:?}"),
            _ => format!("entry {}", index + 1),
        };
        Self { parser, table, label }
    }

    fn read(&self) -> Result<Record, Error> {
        for (key, _) in self.table {
            if !matches!(key, "name" | "role" | "login" | "hash") {
                let problem = format!("unknown key {key:?}; the keys are name, role, login, hash");
                return Err(self.error(key, problem));
            }
        }
        let name = self.required("name", "write name = \"…\"")?;
        check_name(name).map_err(|problem| self.error("name", problem))?;
        let role = self.required("role", "write role = \"device\" or role = \"operator\"")?;
        let role = role
            .parse()
            .map_err(|words| self.error("role", format!("unknown role {role:?}; {words}")))?;
        let login_policy = match self.string("login")? {
            Some(login) => login.parse().map_err(|words| {
                self.error("login", format!("unknown login {login:?}; {words}"))
            })?,
            None => LoginPolicy::default(),
        };
        let again = "remove the entry and add the user again with: pulsegate user add";
        let hash = self.required("hash", again)?;
        let stored = Stored::parse(hash).map_err(|what| {
            self.error("hash", format!("key \"hash\" is no password hash, {what}; {again}"))
        })?;
        let user = User { name: name.to_owned(), role, login_policy };
        Ok(Record { user, stored })
    }

    fn required(&self, key: &str, way_out: &str) -> Result<&'a str, Error> {
        self.string(key)?
            .ok_or_else(|| self.error(key, format!("key {key:?} is missing; {way_out}")))
    }

    fn string(&self, key: &str) -> Result<Option<&'a str>, Error> {
        match self.table.get(key) {
            None => Ok(None),
            Some(item) => match item.as_str() {
                Some(text) => Ok(Some(text)),
                None => {
                    let found = item.type_name();
                    let problem =
                        format!("key {key:?} is of type {found}; write it as a string in quotes");
                    Err(self.error(key, problem))
                }
            },
        }
    }

    /// Where the key stands, or else the entry.
    fn line(&self, key: &str) -> usize {
        let of_key = self.table.key(key).and_then(|key| key.span());
        self.parser.line(of_key.or(self.table.span()))
    }

    fn error(&self, key: &str, problem: String) -> Error {
        let line = self.line(key);
        self.parser.error(line, Some(self.label.clone()), problem)
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
