//! What can go wrong between a client and a server, each with its way out.

use std::io;
use std::time::Duration;

use super::wire::{EncodeError, ReplyError};

/// A failed connection or request; every text names the server, and says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address is not `host:port`, or its name has no address.
    #[error("cannot resolve {server}; give the server as host:port, for example 127.0.0.1:9999")]
    Resolve {
        /// The address as given.
        server: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// No address of the server took the connection.
    #[error("cannot connect to {server}; is a server listening there, and the port open?")]
    Connect {
        /// The address as given.
        server: String,
        /// The last address's answer.
        source: io::Error,
    },
    /// Nobody answered the connection attempt.
    #[error(
        "{server} did not answer within {}; check the address, and firewalls on the way",
        humantime::format_duration(*.after)
    )]
    ConnectTimeout {
        /// The address as given.
        server: String,
        /// How long the client waited.
        after: Duration,
    },
    /// The connection broke in the middle of a request.
    #[error("the connection to {server} broke; connect again, and look for a reason in its log")]
    Io {
        /// The address as given.
        server: String,
        /// What the socket said.
        source: io::Error,
    },
    /// The server closed the connection instead of answering.
    #[error(
        "{server} closed the connection without an answer; its log says why \
         (a full table, an idle timeout, a protocol that is switched off, another upload of the same file)"
    )]
    Closed {
        /// The address as given.
        server: String,
    },
    /// The server stopped sending before the reply was complete.
    #[error(
        "{server} did not complete its answer to {command} within {}; is it overloaded, \
         or the line cut?",
        humantime::format_duration(*.after)
    )]
    Timeout {
        /// The address as given.
        server: String,
        /// The request that was under way.
        command: &'static str,
        /// How long the client waited.
        after: Duration,
    },
    /// The data of a file stood still.
    #[error(
        "{server} {direction} no data for {}; is it overloaded, or the line cut?",
        humantime::format_duration(*.after)
    )]
    Stalled {
        /// The address as given.
        server: String,
        /// `took` for an upload, `sent` for a download.
        direction: &'static str,
        /// How long the client waited.
        after: Duration,
    },
    /// A log was asked for, and the connection ended at once.
    #[error(
        "{server} does not give its log to this machine: it closed the connection at once; \
         let its operator switch the log output on, or ask from the server's own machine"
    )]
    NoLog {
        /// The address as given.
        server: String,
    },
    /// The request cannot be written as a packet.
    #[error("cannot send {command} to {server}; correct the text or shorten the data")]
    Request {
        /// The address as given.
        server: String,
        /// The request.
        command: &'static str,
        /// What is wrong with it.
        source: EncodeError,
    },
    /// The bytes that came back are no reply of this protocol.
    #[error("{server} sent something else than a reply; is it a server of this protocol?")]
    Protocol {
        /// The address as given.
        server: String,
        /// What is wrong with the bytes.
        source: ReplyError,
    },
    /// A well-formed reply with contents that do not fit the request.
    #[error("{server} answered {command} with {what}; is it a server of this protocol?")]
    Unexpected {
        /// The address as given.
        server: String,
        /// The request.
        command: &'static str,
        /// What the reply held.
        what: String,
    },
    /// The server said no.
    #[error(
        "{server} refused {command} with code {code} ({}){}",
        code_text(*.code),
        if .message.is_empty() { String::new() } else { format!(": {}", .message) }
    )]
    Refused {
        /// The address as given.
        server: String,
        /// The request.
        command: &'static str,
        /// The result code.
        code: u32,
        /// The server's own words, escaped and cut; may be empty.
        message: String,
    },
    /// An earlier request failed or was dropped half-way, so replies can no longer be matched.
    #[error("the connection to {server} was given up after an earlier failure; connect again")]
    GivenUp {
        /// The address as given.
        server: String,
    },
}

/// The result code of a directory that does not exist.
pub const NO_DIRECTORY: u32 = 0x0200_0001;

/// The result code of a file that somebody else uses.
pub(super) const FILE_IN_USE: u32 = 11;

/// The result code of a file that ended with another size than announced.
pub(super) const FILE_SIZE: u32 = 0x0200_0008;

/// What a result code means, and what to do about it.
fn code_text(code: u32) -> &'static str {
    match code {
        1 => "no such command: the server speaks another version of the protocol",
        2 => "packet length error",
        3 => "packet format error",
        4 => "server error: its log says more",
        5 => "command incomplete",
        6 => "parameter error",
        7 => "unknown user or wrong password",
        8 => "login required, or this user may not do that",
        9 => "file does not exist",
        10 => "no file open",
        FILE_IN_USE => "file in use",
        NO_DIRECTORY => "directory does not exist",
        0x0200_0002 => "cannot create directory",
        0x0200_0003 => "cannot delete directory",
        0x0200_0007 => "cannot delete file",
        FILE_SIZE => "the file on the server has another size",
        _ => "see the protocol's list of codes",
    }
}
