//! Changes to a users file from a command line.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use zeroize::Zeroizing;

use super::file::{self, Editor, Purpose};
use super::hash::{Costs, FastHash, SlowHash, Stored, digest_of, generate_secret};
use super::parse::Record;
use super::{Error, LoginPolicy, Role, User, check_name};

/// The longest password that is read, in bytes.
const MAX_PASSWORD: u64 = 1024;

/// Where the password of a new user comes from.
pub enum PasswordSource {
    /// The first line of standard input.
    Stdin,
    /// Asked for twice at the terminal, without echo.
    Prompt,
    /// A generated secret, which is returned once and stored under the fast scheme.
    Generate,
    /// Given.
    Text(Zeroizing<String>),
}

/// A user that was added.
pub struct Added {
    /// The user.
    pub user: User,
    /// The generated secret, if one was asked for. It is stored nowhere else.
    pub secret: Option<Zeroizing<String>>,
}

/// One line of a list of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The user.
    pub user: User,
    /// What kind of hash the file keeps.
    pub scheme: &'static str,
}

/// Adds a user to the file, which is created, readable by us alone, if it is missing.
///
/// # Errors
///
/// If the name is unusable or taken, no password comes, or the file cannot be read or replaced.
pub fn add(
    path: &Path,
    name: &str,
    role: Role,
    policy: LoginPolicy,
    password: PasswordSource,
) -> Result<Added, Error> {
    check_name(name).map_err(|problem| Error::Name { name: name.to_owned(), problem })?;
    // Nobody should think of a password before hearing that the name is taken or the file is wrong.
    match file::load(path, Purpose::Editing) {
        Ok(loaded) if loaded.records.iter().any(|known| known.user.name == name) => {
            return Err(Error::Exists { path: path.to_owned(), name: name.to_owned() });
        }
        Ok(_) | Err(Error::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    // Asking and hashing take their time: not while the file is locked.
    let (stored, secret) = credential(password)?;
    let user = User { name: name.to_owned(), role, login_policy: policy };
    let record = Record { user, stored };
    let mut editor = Editor::open(path, true)?;
    editor.add(&record)?;
    editor.save()?;
    Ok(Added { user: record.user, secret })
}

/// Removes a user from the file.
///
/// # Errors
///
/// If there is no such user, or the file cannot be read or replaced.
pub fn remove(path: &Path, name: &str) -> Result<(), Error> {
    let mut editor = Editor::open(path, false)?;
    editor.remove(name)?;
    editor.save()
}

/// The users of the file, in its order.
///
/// # Errors
///
/// If the file cannot be read.
pub fn list(path: &Path) -> Result<Vec<Listed>, Error> {
    let loaded = file::load(path, Purpose::Editing)?;
    let listed = loaded
        .records
        .into_iter()
        .map(|record| Listed { user: record.user, scheme: record.stored.scheme() });
    Ok(listed.collect())
}

type Credential = (Stored, Option<Zeroizing<String>>);

fn credential(source: PasswordSource) -> Result<Credential, Error> {
    let password = match source {
        PasswordSource::Generate => {
            let secret = generate_secret()?;
            let digest = Zeroizing::new(digest_of(&secret));
            return Ok((Stored::Fast(FastHash::new(&digest)?), Some(secret)));
        }
        PasswordSource::Stdin => first_line(io::stdin().lock())?,
        PasswordSource::Prompt => prompt()?,
        PasswordSource::Text(text) => text,
    };
    if password.is_empty() {
        return Err(Error::Password("the password is empty: give one".into()));
    }
    let digest = Zeroizing::new(digest_of(&password));
    let slow = SlowHash::new(&digest, Costs::default())?;
    Ok((Stored::Slow(slow), None))
}

/// The first line without its end: `echo`, `printf` and files from Windows all mean the same password.
fn first_line(input: impl BufRead) -> Result<Zeroizing<String>, Error> {
    // Enough room from the start: a buffer that grows leaves copies behind.
    let mut line = Zeroizing::new(String::with_capacity(2048));
    let read = input.take(MAX_PASSWORD + 2).read_line(&mut line);
    read.map_err(|error| Error::Password(format!("cannot read the password: {error}")))?;
    let end = line.trim_end_matches('\n');
    let end = end.strip_suffix('\r').unwrap_or(end).len();
    line.truncate(end);
    if end as u64 > MAX_PASSWORD {
        let problem = format!("the password is longer than {MAX_PASSWORD} bytes");
        return Err(Error::Password(problem));
    }
    Ok(line)
}

fn prompt() -> Result<Zeroizing<String>, Error> {
    let ask =
        |what: &str| rpassword::prompt_password(what).map(Zeroizing::new).map_err(no_terminal);
    let first = ask("Password: ")?;
    let second = ask("Again: ")?;
    if *first != *second {
        let problem = "the two passwords differ: try again".into();
        return Err(Error::Password(problem));
    }
    Ok(first)
}

fn no_terminal(error: io::Error) -> Error {
    let problem = if io::stdin().is_terminal() {
        format!("cannot ask for the password: {error}")
    } else {
        format!(
            "no terminal to ask for the password ({error}): \
             pipe it in with --password-stdin, or let --generate make one"
        )
    };
    Error::Password(problem)
}

#[cfg(test)]
#[path = "manage_tests.rs"]
mod tests;
