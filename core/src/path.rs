//! Paths as peers spell them, confined by their form alone: no path of this type climbs out of the
//! directory that it is read in.
//!
//! What a file system adds of its own (symbolic links, names that it folds together) is the
//! store's to confine.

use core::fmt;

/// Longest name of a file or directory, in bytes: what common file systems take.
pub const MAX_NAME: usize = 255;

/// Longest path in bytes.
pub const MAX_PATH: usize = 1024;

/// Why a path is refused. The peer must mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum PathError {
    /// It begins with a separator.
    Absolute,
    /// It has a component `..`.
    Parent,
    /// It has a colon: a drive letter, or a stream within a file.
    Colon,
    /// It has a control character, NUL among them.
    Control,
    /// It is longer than [`MAX_PATH`], or a name in it longer than [`MAX_NAME`].
    TooLong,
    /// It names nothing, where a name is needed.
    Empty,
}

impl PathError {
    /// The text that the peer is sent.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::Absolute => "the path must not begin with a separator",
            Self::Parent => "the path must not contain ..",
            Self::Colon => "the path must not contain a colon",
            Self::Control => "the path must not contain control characters",
            Self::TooLong => "the path or a name in it is too long",
            Self::Empty => "the name is empty",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for PathError {}

/// A relative path that has been checked. `/` and `\` both separate its components.
///
/// ```
/// use pulsegate_core::path::{Path, PathError};
///
/// let path = Path::parse(r"2026\november/.//7.jpg").unwrap();
/// assert!(path.components().eq(["2026", "november", "7.jpg"]));
/// assert_eq!(Path::parse("../users.toml"), Err(PathError::Parent));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path<'a>(&'a str);

impl<'a> Path<'a> {
    /// The directory itself in which paths are read.
    pub const ROOT: Path<'static> = Path("");

    /// Checks a path, which may be empty: the directory itself.
    ///
    /// # Errors
    /// [`PathError`] when it would leave the directory, or no file system takes it.
    pub fn parse(text: &'a str) -> Result<Self, PathError> {
        if text.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        if text.starts_with(is_separator) {
            return Err(PathError::Absolute);
        }
        if text.contains(char::is_control) {
            return Err(PathError::Control);
        }
        if text.contains(':') {
            return Err(PathError::Colon);
        }
        let path = Self(text);
        for name in path.components() {
            if name == ".." {
                return Err(PathError::Parent);
            }
            if name.len() > MAX_NAME {
                return Err(PathError::TooLong);
            }
        }
        Ok(path)
    }

    /// Checks a path that must name something.
    ///
    /// # Errors
    /// As [`Path::parse`], and [`PathError::Empty`].
    pub fn parse_name(text: &'a str) -> Result<Self, PathError> {
        let path = Self::parse(text)?;
        if path.is_root() { Err(PathError::Empty) } else { Ok(path) }
    }

    /// The names on the way, none of them empty, `.` or `..`.
    pub fn components(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.0.split(is_separator).filter(|name| !matches!(*name, "" | "."))
    }

    /// Whether it names the directory itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.components().next().is_none()
    }
}

const fn is_separator(c: char) -> bool {
    matches!(c, '/' | '\\')
}
