//! Whole files to and from a server, over as many connections as it takes.
//!
//! A [`Transfer`] keeps one connection for file after file. When that breaks, it connects again with
//! growing pauses and continues where the other side stands; what the server refuses for good, and
//! what cannot be mended here, ends the file with an error.

mod download;
mod part;
mod retry;
mod source;
mod upload;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Client, ClientError, Flag, Timeouts};
pub use download::DownloadFile;
use retry::Attempts;
pub use retry::{BACK_OFF_MAX, BackOff, Retry};
pub use upload::UploadFile;

/// Data of one packet, unless told otherwise.
pub const PACKET: u32 = 32 * 1024;

/// Where files go to or come from, and how patiently.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server, as host:port.
    pub server: String,
    /// Log in as this user.
    pub user: String,
    /// With this password.
    pub password: String,
    /// Bytes of a file in one packet, 1 to 1 MiB.
    pub packet: u32,
    /// How long to wait for what.
    pub timeouts: Timeouts,
    /// How often to connect again, and how soon.
    pub retry: Retry,
}

impl Options {
    /// A user on a server, and the defaults of the commands.
    pub fn new(server: &str, user: &str, password: &str) -> Self {
        Self {
            server: server.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            packet: PACKET,
            timeouts: Timeouts::default(),
            retry: Retry::default(),
        }
    }
}

/// What happens to a file under way.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection stands, and the file continues after so many bytes.
    From {
        /// Bytes on the other side of what is to be sent.
        done: u64,
        /// Bytes of the whole file.
        size: u64,
    },
    /// So many bytes of the file are over.
    Moved {
        /// Bytes from the file's beginning; acknowledged ones where the system tells.
        done: u64,
    },
    /// An attempt failed, and there will be another.
    Waiting {
        /// Why.
        error: &'a ClientError,
        /// How long the pause is.
        pause: Duration,
        /// Failures in a row that brought nothing new, this one included.
        failures: u32,
    },
}

/// Takes what happens.
pub type Observer<'a> = dyn FnMut(Event<'_>) + Send + 'a;

/// What a whole file took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Bytes of the file.
    pub size: u64,
    /// Bytes that were there when the first connection asked.
    pub resumed_from: u64,
    /// Bytes of the file that went through sockets, those of lost connections included.
    pub moved: u64,
    /// Connections made after the first.
    pub reconnects: u32,
}

/// Why a file did not get over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The server refused, or what came from it makes no sense.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// All attempts failed.
    #[error("gave up after {failures} failures in a row that brought nothing new")]
    GaveUp {
        /// How many.
        failures: u32,
        /// The last one.
        source: ClientError,
    },
    /// A file of this machine cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Local {
        /// What failed.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Directories and devices have no size to be sent.
    #[error("{} is no regular file; give files, one by one", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// A file was written to while it was sent.
    #[error(
        "{} changed while it was sent: the server's {name} may hold old and new parts; send it \
         again with --replace when nobody writes to it, or send a copy", path.display()
    )]
    Changed {
        /// The local file.
        path: PathBuf,
        /// Its name on the server.
        name: String,
    },
    /// The server holds another file under the name.
    #[error(
        "the server's {name} has {stored} bytes, {} only {size}: it is another file; give this one \
         another --name, or send it with --replace to delete the server's first", path.display()
    )]
    LongerOnServer {
        /// The local file.
        path: PathBuf,
        /// Its name on the server.
        name: String,
        /// Bytes that the server holds.
        stored: u64,
        /// Bytes of the local file.
        size: u64,
    },
    /// The local file exists already.
    #[error("{} exists; give another --output, or --force to replace it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// What was fetched earlier does not belong to what the server has now.
    #[error(
        "{} is no beginning of the server's {name}{why}; if it is not needed, delete it to start \
         anew", path.display()
    )]
    OtherFile {
        /// The unfinished local file.
        path: PathBuf,
        /// The name on the server.
        name: String,
        /// How that is known.
        why: &'static str,
    },
    /// Another process writes the same unfinished file.
    #[error("{} is being written by another download; wait for its end", path.display())]
    InUse {
        /// The unfinished local file.
        path: PathBuf,
    },
}

/// Files in one direction, one after the other.
#[derive(Debug)]
pub struct Transfer {
    options: Options,
    flag: Flag,
    client: Option<Client>,
    /// Connections that were made and logged in.
    connections: u32,
}

impl Transfer {
    /// Towards the server; connects when there is something to send.
    #[must_use]
    pub fn uploads(options: Options) -> Self {
        Self { options, flag: Flag::Upload, client: None, connections: 0 }
    }

    /// From the server; connects when there is something to fetch.
    #[must_use]
    pub fn downloads(options: Options) -> Self {
        Self { options, flag: Flag::Download, client: None, connections: 0 }
    }

    /// A connection that has logged in: the last one as long as it is good, else a new one.
    async fn client(&mut self) -> Result<&mut Client, ClientError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => {
                let Options { server, user, password, timeouts, .. } = &self.options;
                let mut client = Client::connect_with(server, self.flag, *timeouts).await?;
                client.login(user, password).await?;
                self.connections += 1;
                client
            }
        };
        Ok(self.client.insert(client))
    }

    /// How many connections will have been made when the next file has its first one.
    fn first_connection(&self) -> u32 {
        self.connections + u32::from(self.client.is_none())
    }

    /// Waits for the time of the next attempt, or says that there is none. A connection that is of no more use is
    /// forgotten.
    async fn again(
        &mut self,
        failed: Failed,
        attempts: &mut Attempts,
        observe: &mut Observer<'_>,
    ) -> Result<(), TransferError> {
        if !matches!(failed, Failed::Client(ClientError::Refused { .. })) {
            self.client = None;
        }
        match failed {
            Failed::Final(error) => Err(error),
            Failed::Client(error) => attempts.again(error, observe).await,
        }
    }
}

/// Why an attempt ended.
enum Failed {
    /// Perhaps the next attempt fares better.
    Client(ClientError),
    /// It cannot.
    Final(TransferError),
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<TransferError> for Failed {
    fn from(error: TransferError) -> Self {
        Self::Final(error)
    }
}

/// Names what could not be done with which file.
fn local(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::Local { action, path, source }
}
