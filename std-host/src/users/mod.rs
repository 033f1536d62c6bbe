//! Who may log in: the users file, password hashes, and the checks of logins.
//!
//! The wire carries the MD5 of the password as 32 hexadecimal digits. That digest is as good as the password itself
//! to whoever can read the connection, so nothing here makes a login over an open network safe: put a VPN or TLS in
//! front. What this module protects is the file at rest, the names in it, and the server's time.
//!
//! # What the time of an answer tells
//!
//! An answer may be fast only when it says "yes". Every refusal costs one Argon2 hash on a [`Checker`] thread,
//! whether the name does not exist, belongs to a device with a generated secret (whose own check takes a
//! microsecond), or belongs to somebody with a password. So a stranger who times refusals learns no names. What is
//! left is less than a microsecond of table and SHA-256 work, below the noise of a network; and a file that mixes
//! Argon2 parameters, where the stand-in uses the parameters that most entries have.
//!
//! # How a server logs somebody in
//!
//! 1. [`Throttle::delay`] says how long this address and name have to wait.
//! 2. If that is nothing, [`UserDb::quick`] answers at once for whoever is known. A delayed login must not take
//!    this way, or the delay would hold back wrong guesses and let the right one through: it goes to
//!    [`Checker::submit`] with [`UserDb::check`] and the delay.
//! 3. [`Quick::Slow`] goes to [`Checker::submit`] too.
//! 4. The verdict is told to [`Throttle::failed`] or [`Throttle::succeeded`].

use std::fmt;
use std::str::FromStr;

mod checker;
mod db;
mod error;
mod file;
mod hash;
mod manage;
mod parse;
mod throttle;

pub use checker::Checker;
pub use db::{Check, Quick, UserDb, Verdict};
pub use error::Error;
pub use hash::digest_of;
pub use manage::{Added, Listed, PasswordSource, add, list, remove};
pub use throttle::Throttle;

/// The longest user name, in bytes of UTF-8.
pub const MAX_NAME: usize = 64;

/// One entry of the users file, without its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name, as it is sent at login. Upper and lower case differ.
    pub name: String,
    /// What the user may see.
    pub role: Role,
    /// What happens when the user logs in on Control while already there.
    pub login_policy: LoginPolicy,
}

/// What a user may see and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sees the list of clients and all files.
    Operator,
    /// Sees its own upload directory and no list.
    Device,
}

/// What happens when a user logs in on Control while a Control session of the same user is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LoginPolicy {
    /// Both sessions live.
    #[default]
    Allow,
    /// The newer session wins, the older one is closed.
    Replace,
    /// The newer login is refused.
    Refuse,
}

impl Role {
    /// The word that stands for the role in the users file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Device => "device",
        }
    }
}

impl LoginPolicy {
    /// The word that stands for the policy in the users file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Replace => "replace",
            Self::Refuse => "refuse",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for LoginPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no role or no policy; it says which words do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use one of {0}")]
pub struct UnknownWord(&'static str);

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "operator" => Ok(Self::Operator),
            "device" => Ok(Self::Device),
            _ => Err(UnknownWord("\"operator\", \"device\"")),
        }
    }
}

impl FromStr for LoginPolicy {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "allow" => Ok(Self::Allow),
            "replace" => Ok(Self::Replace),
            "refuse" => Ok(Self::Refuse),
            _ => Err(UnknownWord("\"allow\", \"replace\", \"refuse\"")),
        }
    }
}

/// Says what is wrong with a user name and what to do, or that nothing is.
///
/// Control characters are refused because names travel in lines of `Key=Value` and are written to logs; the limit
/// because a session keeps the name in place, without a heap.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name is empty: give the user a name".into());
    }
    if name.len() > MAX_NAME {
        return Err(format!("the name is {} bytes long: use at most {MAX_NAME}", name.len()));
    }
    if let Some(bad) = name.chars().find(|c| c.is_control()) {
        return Err(format!(
            "the name contains the control character U+{:04X}: take it out",
            u32::from(bad)
        ));
    }
    Ok(())
}
