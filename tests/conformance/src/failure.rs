//! Why a case did not pass, with the bytes to see it by.

use std::fmt;
use std::fmt::Write as _;

/// What a case comes to.
pub type Outcome = Result<(), Stop>;

/// Why a case ended before its end.
#[derive(Clone, Debug)]
pub enum Stop {
    /// The server broke a rule.
    Fail(Failure),
    /// The target cannot be asked this; says why.
    Skip(String),
}

/// A broken rule.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What the client had sent last, shortened.
    pub sent: String,
    /// What the rule demands.
    pub expected: String,
    /// What came instead.
    pub got: String,
}

impl Stop {
    pub(crate) fn skip(why: &str) -> Self {
        Self::Skip(why.to_owned())
    }

    /// A failure that needs no bytes to be understood.
    pub(crate) fn fail(expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self::Fail(Failure { sent: String::new(), expected: expected.into(), got: got.into() })
    }

    /// The same with `context` in front of what was expected.
    pub(crate) fn within(self, context: &str) -> Self {
        match self {
            Self::Fail(failure) => Self::Fail(Failure {
                expected: format!("{context}: {}", failure.expected),
                ..failure
            }),
            skip @ Self::Skip(_) => skip,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.sent.is_empty() {
            writeln!(f, "  sent     {}", self.sent)?;
        }
        writeln!(f, "  expected {}", self.expected)?;
        write!(f, "  got      {}", self.got)
    }
}

/// Bytes as hex and as escaped text, cut where they get long; `total` is how many there were.
pub(crate) fn show(bytes: &[u8], total: usize) -> String {
    const SHOWN: usize = 128;
    if total == 0 {
        return "nothing".to_owned();
    }
    let head = &bytes[..bytes.len().min(SHOWN)];
    let mut hex = String::new();
    for byte in head {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x} ");
    }
    let cut = if total > head.len() { " …" } else { "" };
    format!("{total} bytes: {}{cut} \"{}\"{cut}", hex.trim_end(), head.escape_ascii())
}
