//! What a case asks of the thing under test: connections, time, and the limits to size itself by.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::client::{DOWNLOAD, LOG_OUTPUT, REMOTE_STREAM, UPLOAD};

/// A server under test.
pub trait Target {
    /// Opens a connection and sends nothing on it.
    fn connect(&mut self) -> Result<Box<dyn Wire>, WireError>;

    /// Opens a connection on which the server can have only about `window` bytes under way to a client that does not
    /// read. `None` where the target has no such means; the cases that need it are skipped then.
    fn connect_narrow(&mut self, window: usize) -> Option<Result<Box<dyn Wire>, WireError>> {
        let _ = window;
        None
    }

    /// What cases may ask of this target.
    fn limits(&self) -> &Limits;

    /// The clock that the server's timeouts are to be measured by.
    fn clock(&self) -> Rc<dyn Clock>;
}

/// The target's time. On a target with a manual clock, waiting is what makes time pass.
pub trait Clock {
    /// Time since an arbitrary fixed moment.
    fn now(&self) -> Duration;

    /// Lets this much time pass while the server keeps working.
    fn sleep(&self, time: Duration);
}

/// One client's end of a connection. Dropping it ends the connection.
pub trait Wire {
    /// Hands over bytes until all are accepted or `timeout` has passed, and says how many were accepted. Bytes of one
    /// call are not joined with those of an earlier one, as far as the client's side can see to that.
    fn send(&mut self, bytes: &[u8], timeout: Duration) -> Result<usize, WireError>;

    /// Waits for bytes, at most for `timeout`; a timeout of zero takes what is there.
    fn recv(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Received, WireError>;

    /// Ends the sending direction; receiving goes on.
    fn half_close(&mut self) -> Result<(), WireError>;

    /// The addresses as the server must list them; `None` where something between translates them.
    fn endpoints(&self) -> Option<Endpoints>;
}

/// The two ends of a connection, named from the server's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoints {
    /// The server's address.
    pub local: SocketAddr,
    /// The client's address.
    pub remote: SocketAddr,
}

/// What came of waiting for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes are in the buffer, at least one.
    Bytes(usize),
    /// Nothing arrived in time.
    Quiet,
    /// The server has ended the connection.
    Closed(Closed),
}

/// How a connection ended, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// In order: everything the server had sent has arrived.
    Eof,
    /// By a reset: what was under way may be lost.
    Reset,
}

/// Why an operation on a connection was impossible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WireError {
    /// The server has closed or reset the connection.
    Closed,
    /// The means of the test failed, not necessarily the server.
    Broken(String),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the connection is closed"),
            Self::Broken(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for WireError {}

/// A user that the server knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Name as it is sent.
    pub user: String,
    /// MD5 of the password as 32 lower-case hex digits, which is what the wire carries.
    pub digest: String,
}

impl Login {
    /// A user with a password in clear.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), digest: format!("{:x}", md5::compute(password)) }
    }
}

/// What a target's store of files takes from a case.
#[derive(Clone, Debug)]
pub struct Files {
    /// Largest file that a case may make, in bytes.
    pub max_file: usize,
    /// How many files and directories a case may hold at once. Cases run beside one another: where the store has few
    /// places, those divided by the number of cases at once.
    pub max_entries: usize,
    /// Longest name of a file, in bytes.
    pub max_name: usize,
    /// Whether there are directories. Where there are none, cases keep their files in the root.
    pub directories: bool,
    /// Size over which the server refuses to let a file grow, where that is to be tried. Not under `max_file`.
    pub full_at: Option<usize>,
}

impl Files {
    /// A directory on a host's disk.
    #[must_use]
    pub fn host() -> Self {
        Self {
            max_file: 16 * 1024 * 1024,
            max_entries: 64,
            max_name: 255,
            directories: true,
            full_at: None,
        }
    }

    /// A few places in memory.
    #[must_use]
    pub fn microcontroller() -> Self {
        Self {
            max_file: 2048,
            max_entries: 8,
            max_name: 40,
            directories: true,
            full_at: Some(2048),
        }
    }
}

/// Who may use RemoteStream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteStream {
    /// Nobody: it is switched off.
    Off,
    /// Who has logged in.
    Login,
    /// Everybody.
    Open,
}

/// What cases may ask of a target, and the settings its server runs with.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long the server waits for the protocol flag.
    pub flag_timeout: Duration,
    /// How long the server lets a connection be silent. Must be longer than a reply takes.
    pub idle_timeout: Duration,
    /// How much later than its timeout a connection may be closed.
    pub tick: Duration,
    /// What network and scheduling may add to that, a delayed acknowledgement included.
    pub slack: Duration,
    /// How much earlier than its timeout a close may seem to come because the two clocks differ. Zero unless the
    /// server's clock is not the test's.
    pub grain: Duration,
    /// How long a reply may take before the case gives up.
    pub reply_timeout: Duration,
    /// Pause between two segments that the server is meant to see as two.
    pub segment_gap: Duration,
    /// Longest command text the server accepts, in bytes.
    pub max_command: usize,
    /// Largest data part to try where it is streamed through.
    pub max_data: usize,
    /// Largest packet that a client may send whole before it reads anything of the reply.
    pub whole_data: usize,
    /// How many connections a case may hold at once.
    pub max_sessions: usize,
    /// A user for the cases that need a login, with the right to see the client list and all files.
    pub login: Option<Login>,
    /// A user who sees no client list, and of the files only those in the directory that bears its name.
    pub device: Option<Login>,
    /// Whether times in client lists are dates, by a clock that agrees with this machine's to within ten minutes; else
    /// they are seconds since boot.
    pub wall_clock: bool,
    /// The files behind Upload and Download; `None` where the two are switched off.
    pub files: Option<Files>,
    /// Who may use RemoteStream.
    pub remote_stream: RemoteStream,
    /// Whether LogOutput is switched on for the connections of cases.
    pub log: bool,
    /// Whether a client that sends on and on without reading can be made, and must be given up.
    pub stalled_reader: bool,
}

impl Limits {
    /// A server on a host with its default limits and the demo user, that serves files, RemoteStream after a login, and
    /// its log.
    #[must_use]
    pub fn host() -> Self {
        Self {
            flag_timeout: Duration::from_secs(6),
            idle_timeout: Duration::from_secs(60),
            tick: Duration::from_millis(100),
            slack: Duration::from_millis(350),
            grain: Duration::ZERO,
            reply_timeout: Duration::from_secs(5),
            segment_gap: Duration::from_millis(2),
            max_command: 4096,
            max_data: 10 * 1024 * 1024,
            whole_data: 1024 * 1024,
            max_sessions: 200,
            login: Some(Login::new("admin", "admin")),
            device: None,
            wall_clock: true,
            files: Some(Files::host()),
            remote_stream: RemoteStream::Login,
            log: true,
            stalled_reader: true,
        }
    }

    /// A server on a microcontroller: small commands, few sessions, no files, no client that sends more than both ends
    /// hold.
    #[must_use]
    pub fn microcontroller() -> Self {
        Self {
            max_command: 256,
            max_data: 64 * 1024,
            whole_data: 512,
            max_sessions: 6,
            wall_clock: false,
            files: None,
            remote_stream: RemoteStream::Off,
            stalled_reader: false,
            ..Self::host()
        }
    }

    /// Everything that is to happen at once has happened by then: before any timeout could have been its cause.
    #[must_use]
    pub fn at_once(&self) -> Duration {
        self.flag_timeout.min(self.idle_timeout)
    }

    /// Protocol flags that exist but are switched off in this server.
    #[must_use]
    pub fn flags_off(&self) -> Vec<u8> {
        let on = [
            (UPLOAD, self.files.is_some()),
            (DOWNLOAD, self.files.is_some()),
            (REMOTE_STREAM, self.remote_stream != RemoteStream::Off),
            (LOG_OUTPUT, self.log),
        ];
        on.into_iter().filter(|(_, on)| !on).map(|(flag, _)| flag).collect()
    }
}
