//! The server on a host: shards, each on a thread of its own, and what they share.

mod app;
mod list;
mod log;
mod presence;
mod shard;
mod stats;
mod store;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use embassy_time::Instant;
use pulsegate_core::protocol::{IocpConfig, Reply};
use pulsegate_core::server::{CloseReason, Config, JobId};
use pulsegate_core::table::SessionId;

use crate::clock::{Clock, to_core};
use crate::files::{Files, FilesConfig, Notice};
use crate::net::{BindError, bind};
use crate::users::{Checker, Throttle, User, UserDb};
pub use list::{ClientRow, Snapshot};
pub use log::LogHub;
pub use stats::Stats;

/// Everything that a server is built from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
    /// Threads that serve sessions.
    pub shards: usize,
    /// Most sessions, over all shards together.
    pub max_sessions: usize,
    /// Bytes that the connections of one shard may keep beside the kernel's buffers, together:
    /// halves of packets, echoes that wait for their reader.
    pub backlog_bytes: usize,
    /// Precision of all timeouts.
    pub tick: Duration,
    /// Whether a full table makes room by ending the oldest connection that has proven nothing.
    pub evict: bool,
    /// Whether devices see the client list as operators do.
    pub devices_list: bool,
    /// Settings of the protocol.
    pub protocol: IocpConfig,
    /// The files, if there are any.
    pub files: Option<FilesConfig>,
    /// The log, where sessions may read it (LogOutput).
    pub log: Option<Arc<LogHub>>,
}

impl Settings {
    /// The defaults of `serve` for a server of one shard at this address, with room for so many
    /// sessions.
    #[must_use]
    pub fn new(listen: SocketAddr, max_sessions: usize) -> Self {
        Self {
            listen,
            shards: 1,
            max_sessions,
            backlog_bytes: 64 << 20,
            tick: Duration::from_millis(100),
            evict: true,
            devices_list: false,
            protocol: IocpConfig::default(),
            files: None,
            log: None,
        }
    }
}

/// Why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The address could not be bound.
    Bind(BindError),
    /// The directory for files is of no use.
    Files(crate::files::StartError),
    /// The system gave no thread, no descriptor or no memory.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => error.fmt(f),
            Self::Files(error) => error.fmt(f),
            Self::System(error) => write!(f, "cannot start the server: {error}"),
        }
    }
}

// The message holds the cause, so there is no source to print a second time.
impl std::error::Error for StartError {}

/// A session that ended, for those who watch a running server.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Why.
    pub reason: CloseReason,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Who had logged in.
    pub user: Option<String>,
    /// How long the connection stood.
    pub age: Duration,
    /// How long before its end the peer last proved that it lived.
    pub silence: Duration,
    /// How long after its deadline it ended; `None` if its deadline had not come.
    pub overdue: Option<Duration>,
}

/// Called on a shard's thread for every session that ends: do little, never block.
pub type Observer = Arc<dyn Fn(&Ended) + Send + Sync>;

type UserRef = Arc<User>;

/// How long a server that stops waits for its files: what has been read of an upload is written.
const FILES_GRACE: Duration = Duration::from_secs(30);

/// What is put into a shard from outside.
enum Message {
    /// The answer to a question of one of its sessions.
    Complete { id: SessionId, job: JobId, answer: Reply<UserRef> },
    /// A client list is ready to be read.
    List { id: SessionId, job: JobId, text: Option<Vec<u8>> },
    /// Add your sessions to a list.
    Rows(Arc<list::Gather>),
    /// The table is full and `asker` has nobody to evict: end a newcomer for it, or pass it on to
    /// the next shard.
    MakeRoom { asker: usize },
    /// The answer to that: a place that is counted already, or none in the whole server.
    Room { found: bool },
    /// There is something new in the log.
    Log,
    /// End a session.
    Close { id: SessionId, reason: CloseReason },
    /// Take no more connections, end all sessions, be gone at the latest by then.
    Stop { until: Instant },
}

/// The way into a shard.
struct Inbox {
    sender: Sender<Message>,
    waker: mio::Waker,
}

/// What all shards share. Nothing here is touched by a heartbeat.
struct Shared {
    settings: Settings,
    clock: Clock,
    /// Sessions over all shards, and connections that are being admitted.
    sessions: AtomicUsize,
    inboxes: Vec<Inbox>,
    users: UserDb,
    checker: Checker,
    throttle: Mutex<Throttle>,
    presence: presence::Presence,
    lists: list::Line,
    /// How each shard stands to the log.
    reading: Vec<log::Reading>,
    files: Option<Arc<Files>>,
    observer: Option<Observer>,
}

/// A server that runs. Dropping it leaves the shards running until the process ends; stop it with
/// [`Running::stop`].
pub struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    stats: Vec<Arc<stats::ShardStats>>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Starts a server. It accepts when this returns.
///
/// # Errors
/// [`StartError`] when the address cannot be bound or the system gives no thread.
pub fn start(
    settings: Settings,
    users: UserDb,
    observer: Option<Observer>,
) -> Result<Running, StartError> {
    let listeners = bind(settings.listen, settings.shards.max(1)).map_err(StartError::Bind)?;
    let server = Arc::new(OnceLock::new());
    let files = settings.files.as_ref().map(|files| open_files(files, Arc::clone(&server)));
    let files = files.transpose().map_err(StartError::Files)?;
    let running =
        start_on(listeners, settings, users, files, observer).map_err(StartError::System)?;
    // Its workers have had nothing to tell yet.
    let _ = server.set(Arc::downgrade(&running.shared));
    Ok(running)
}

/// Opens the files of a server that is still to be started: its shards are told when it is there.
fn open_files(
    config: &FilesConfig,
    server: Arc<OnceLock<Weak<Shared>>>,
) -> Result<Arc<Files>, crate::files::StartError> {
    let notify = move |notice| {
        let Some(server) = server.get().and_then(Weak::upgrade) else { return };
        match notice {
            Notice::Complete { shard, id, job } => {
                let answer = Reply::Store;
                server.inboxes[shard].send(Message::Complete { id, job, answer });
            }
            Notice::TakenOver { shard, id } => {
                let reason = CloseReason::TakenOver;
                server.inboxes[shard].send(Message::Close { id, reason });
            }
        }
    };
    Files::start(config, Arc::new(notify)).map(Arc::new)
}

fn start_on(
    listeners: Vec<mio::net::TcpListener>,
    settings: Settings,
    users: UserDb,
    files: Option<Arc<Files>>,
    observer: Option<Observer>,
) -> io::Result<Running> {
    let first = listeners.first().ok_or_else(|| io::Error::other("no listener"))?;
    let address = first.local_addr()?;
    // The wheel turns twice in a tick, so that a thread which wakes up late is still within it.
    let tick = to_core(settings.tick) / 2;
    let config = Config { tick, evict: settings.evict, ..Config::default() };
    let protocol = settings.protocol;
    let mut inboxes = Vec::new();
    let mut receivers = Vec::new();
    for _ in &listeners {
        let (poll, waker) = shard::queue()?;
        let (sender, inbox) = mpsc::channel();
        inboxes.push(Inbox { sender, waker });
        receivers.push((poll, inbox));
    }
    let shared = Arc::new(Shared {
        clock: Clock::new(),
        sessions: AtomicUsize::new(0),
        inboxes,
        users,
        checker: Checker::new()?,
        throttle: Mutex::new(Throttle::default()),
        presence: presence::Presence::default(),
        lists: list::Line::default(),
        reading: listeners.iter().map(|_| log::Reading::default()).collect(),
        files,
        observer,
        settings,
    });
    if let Some(log) = &shared.settings.log {
        log.serve(Arc::downgrade(&shared));
    }
    let mut running = Running { address, shared, stats: Vec::new(), threads: Vec::new() };
    for (index, (listener, (poll, inbox))) in listeners.into_iter().zip(receivers).enumerate() {
        let stats = Arc::new(stats::ShardStats::default());
        running.stats.push(Arc::clone(&stats));
        let shared = Arc::clone(&running.shared);
        let setup = shard::Setup { index, listener, shared, inbox, poll, config, protocol, stats };
        let thread = std::thread::Builder::new().name(format!("shard-{index}"));
        running.threads.push(thread.spawn(move || shard::Shard::new(setup)?.run())?);
    }
    Ok(running)
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has done, as of at most a tenth of a second ago.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats::sum(self.stats.iter().map(AsRef::as_ref))
    }

    /// Every session as it stands. The shards are asked through their inboxes; wait for the
    /// [`Snapshot`].
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        list::snapshot(&self.shared)
    }

    /// Reads the users file again if it has changed; a session that is logged in stays so.
    ///
    /// # Errors
    /// Those of the file; the users stay as they were.
    pub fn reload_users(&self) -> Result<bool, crate::users::Error> {
        self.shared.users.reload_if_changed()
    }

    /// Whether a shard has ended by itself, which it never should.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Takes no more connections, ends every session in good order, and waits for the shards; what
    /// is not gone after `grace` is reset. Gives what the server has done to its end.
    ///
    /// # Errors
    /// That of the first shard that had failed.
    pub fn stop(self, grace: Duration) -> io::Result<Stats> {
        let until = self.shared.clock.now() + to_core(grace);
        for inbox in &self.shared.inboxes {
            inbox.send(Message::Stop { until });
        }
        for thread in self.threads {
            thread.join().map_err(|_| io::Error::other("a shard panicked"))??;
        }
        if let Some(files) = &self.shared.files
            && !files.finish(FILES_GRACE)
        {
            return Err(io::Error::other(format!(
                "the disk did not take all of the uploads' bytes within {FILES_GRACE:?}"
            )));
        }
        Ok(Stats::sum(self.stats.iter().map(AsRef::as_ref)))
    }
}
