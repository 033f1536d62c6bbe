//! One thread of the server: its listener, its sockets, its table, one readiness queue.
//!
//! The thread blocks in the readiness queue itself; nothing is woken but what has something to do.

mod admission;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use embassy_time::Instant;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use pulsegate_core::protocol::{Flag, Iocp, IocpConfig, Reply};
use pulsegate_core::server::{Boxed, CloseReason, Config, JobId, Server, Wants};
use pulsegate_core::sweep::slots_for;
use pulsegate_core::table::SessionId;

use super::app::HostApp;
use super::stats::ShardStats;
use super::{Inbox, Message, Shared};
use crate::clock::to_std;
use crate::net::{Conn, IoBuffers, TcpSocket, abort, bound_output, keep_alive};
use crate::users::User;

/// Bytes that one session may handle before the others have their turn.
const TURN_BUDGET: usize = 64 * 1024;

/// Looks of the sweep before sessions have their turn again.
const LOOKS_PER_TURN: u32 = 4096;

/// Ended sessions that are remembered.
const CLOSES: usize = 256;

/// Events taken from the readiness queue at once.
const EVENTS: usize = 1024;

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

// Session ids travel as tokens, whole, so that a late event for a reused slot hits nobody.
const _: () = assert!(usize::BITS >= 64, "a host needs 64 bits");

/// What a shard is built from.
pub(super) struct Setup {
    pub(super) index: usize,
    pub(super) listener: TcpListener,
    pub(super) shared: Arc<Shared>,
    pub(super) inbox: Receiver<Message>,
    pub(super) poll: Poll,
    pub(super) config: Config,
    pub(super) protocol: IocpConfig,
    pub(super) stats: Arc<ShardStats>,
}

/// Opens a shard's readiness queue and the way into it.
pub(super) fn queue() -> io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    Ok((poll, waker))
}

/// A connection and the session that it belongs to.
struct Place {
    id: SessionId,
    conn: Conn,
    /// It stands on the list of those that asked for more turns.
    ready: bool,
}

pub(super) struct Shard {
    index: usize,
    shared: Arc<Shared>,
    inbox: Receiver<Message>,
    poll: Poll,
    listener: Option<TcpListener>,
    accept_pending: bool,
    accept_rests_until: Option<Instant>,
    /// Connections for which the other shards are asked to make room.
    waiting: VecDeque<(TcpStream, SocketAddr)>,
    server: Server<Iocp<HostApp>, Boxed<Iocp<HostApp>>>,
    conns: Vec<Option<Place>>,
    io: IoBuffers,
    /// Sessions that asked for more turns, each at most once.
    ready: Vec<SessionId>,
    /// Memory for the next such list.
    spare: Vec<SessionId>,
    now: Instant,
    /// When this turn began.
    began: Instant,
    /// The last turn was so long ago that bytes may have waited.
    late: bool,
    stopping_until: Option<Instant>,
    stats: Arc<ShardStats>,
    published_at: Instant,
}

impl Shard {
    /// Builds the shard on the thread that will run it.
    pub(super) fn new(mut setup: Setup) -> io::Result<Self> {
        let registry = setup.poll.registry();
        registry.register(&mut setup.listener, LISTENER, Interest::READABLE)?;
        let capacity = setup.shared.settings.max_sessions;
        let wheel = slots_for(setup.protocol.longest_timeout(), setup.config.tick);
        let scratch = setup.protocol.limits.longest_head() + 256;
        let memory = Boxed::new(capacity, wheel, scratch, CLOSES);
        let app = HostApp::new(setup.index, Arc::clone(&setup.shared));
        let now = setup.shared.clock.now();
        Ok(Self {
            server: Server::new(setup.config, Iocp::new(setup.protocol, app), memory),
            io: IoBuffers::new(setup.shared.settings.backlog_bytes),
            index: setup.index,
            shared: setup.shared,
            inbox: setup.inbox,
            poll: setup.poll,
            listener: Some(setup.listener),
            accept_pending: true,
            accept_rests_until: None,
            waiting: VecDeque::new(),
            conns: Vec::with_capacity(capacity),
            ready: Vec::new(),
            spare: Vec::new(),
            now,
            began: now,
            late: false,
            stopping_until: None,
            stats: setup.stats,
            published_at: now,
        })
    }

    /// Runs until the server is stopped and the last session has ended.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut now = self.now;
        loop {
            match self.poll.poll(&mut events, self.timeout(now)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    // No turn: how long this thread has stood still, the next one is to see.
                    now = self.shared.clock.now();
                    continue;
                }
                Err(error) => return Err(error),
            }
            self.notice_time(events.iter().count());
            for event in &events {
                match event.token() {
                    LISTENER => self.accept_pending = true,
                    WAKER => {}
                    token => {
                        let id = SessionId::from_bits(token.0 as u64);
                        self.socket_ready(id, event.is_read_closed());
                    }
                }
            }
            self.drive_ready();
            self.read_inbox();
            if self.accept_pending {
                self.accept();
            }
            self.sweep();
            self.server.protocol_mut().app_mut().end_turn();
            self.publish();
            if self.is_stopped() {
                // An orderly end would tell them that they have everything.
                for place in self.conns.iter().flatten() {
                    abort(place.conn.stream());
                }
                self.publish_now();
                return Ok(());
            }
            now = self.shared.clock.now();
            self.own_up_to_delay(now);
        }
    }

    /// A turn that was held up (the process stopped in the middle of it, the machine paused) and
    /// ends only now has stamped everything with the time of its beginning.
    fn own_up_to_delay(&mut self, now: Instant) {
        if to_std(now.saturating_duration_since(self.began)) > self.shared.settings.tick {
            for place in self.conns.iter_mut().flatten() {
                place.conn.restamp(self.began, now);
            }
        }
    }

    /// How long to sleep: not at all while there is work, else until the next deadline.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.ready.is_empty() || (self.accept_pending && self.accept_rests_until.is_none()) {
            return Some(Duration::ZERO);
        }
        let unpublished = self.published_at + super::stats::INTERVAL;
        let wakes = [
            self.server.poll_at(),
            self.accept_rests_until,
            self.stopping_until,
            Some(unpublished).filter(|_| self.stats.is_behind(&self.server)),
        ];
        let next = wakes.into_iter().flatten().min()?;
        Some(to_std(next.saturating_duration_since(now)))
    }

    /// Takes the time for this turn, and notices when the last one was long ago. Then the thread has
    /// slept, or stood still together with the whole process, which looks the same from here: bytes
    /// may have waited, and the kernel is asked when they came. A busy shard never asks.
    fn notice_time(&mut self, events: usize) {
        let now = self.shared.clock.now();
        let stood = to_std(now.saturating_duration_since(self.began));
        // A full batch means that there are more, which have waited just as long.
        self.late = stood > self.shared.settings.tick || (self.late && events == EVENTS);
        self.now = now;
        self.began = now;
    }

    fn socket_ready(&mut self, id: SessionId, fin: bool) {
        let Some(place) = place(&mut self.conns, id) else { return };
        place.conn.wake(fin);
        // Its turn comes below: news must not give it more turns than the others have.
        if !place.ready {
            self.drive(id);
        }
    }

    fn drive_ready(&mut self) {
        let mut ready = std::mem::replace(&mut self.ready, std::mem::take(&mut self.spare));
        for id in ready.drain(..) {
            if let Some(place) = place(&mut self.conns, id) {
                place.ready = false;
                self.drive(id);
            }
        }
        self.spare = ready;
    }

    fn drive(&mut self, id: SessionId) {
        let Some(place) = place(&mut self.conns, id) else { return };
        let mut socket = TcpSocket::begin_turn(&mut place.conn, &mut self.io, self.now, self.late);
        let wants = self.server.drive(self.now, id, &mut socket, TURN_BUDGET);
        socket.end_turn();
        self.treat(id);
        self.obey(id, wants);
    }

    /// A connection whose protocol has just become known is treated as that needs.
    fn treat(&mut self, id: SessionId) {
        let Some(flag) = self.server.protocol_mut().app_mut().take_opened() else { return };
        let Some(place) = place(&mut self.conns, id) else { return };
        let stream = place.conn.stream();
        match flag {
            // Readers of the log have no timeout: the network is to find out if one dies.
            Flag::LogOutput => keep_alive(stream),
            _ => bound_output(stream),
        }
    }

    fn obey(&mut self, id: SessionId, wants: Wants) {
        match wants {
            Wants::More | Wants::Output => {
                let Some(place) = place(&mut self.conns, id) else { return };
                // Room for output may have come with this very turn's flush.
                let waits = place.conn.is_blocked() || place.conn.is_full();
                let is_ready = wants == Wants::More || !waits;
                if is_ready && !std::mem::replace(&mut place.ready, true) {
                    self.ready.push(id);
                }
            }
            Wants::Input | Wants::App => {}
            Wants::Nothing(_) => {
                if self.drop_conn(id) {
                    self.give_place_back();
                }
            }
        }
    }

    /// Closes the connection of a session that has ended, if it is still there.
    fn drop_conn(&mut self, id: SessionId) -> bool {
        let Some(place) = self.conns.get_mut(id.index()) else { return false };
        let Some(mut place) = place.take_if(|place| place.id == id) else { return false };
        self.io.reclaim(&mut place.conn);
        true
    }

    fn read_inbox(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Complete { id, job, answer } => {
                    self.complete(id, job, answer);
                }
                Message::List { id, job, text } => {
                    let answer = self.server.protocol_mut().app_mut().store_list(id, text);
                    self.complete(id, job, answer);
                }
                Message::Rows(gather) => {
                    let rows = self.server.sessions().iter().map(|(_, session)| {
                        super::list::FrozenRow::of(&pulsegate_core::protocol::row(session))
                    });
                    gather.add(rows.collect());
                }
                Message::MakeRoom { asker } => self.make_room(asker),
                Message::Room { found } => self.room(found),
                Message::Close { id, reason } => {
                    if self.server.close(self.now, id, reason).is_ok() {
                        self.drive(id);
                    }
                }
                Message::Log => self.show_log(),
                Message::Stop { until } => self.stop(until),
            }
        }
    }

    /// There is something new in the log for its readers.
    fn show_log(&mut self) {
        for id in self.server.protocol_mut().app_mut().log_readers() {
            self.drive(id);
        }
    }

    fn complete(&mut self, id: SessionId, job: JobId, answer: Reply<Arc<User>>) {
        let delivered = self.server.complete(self.now, id, job, answer.clone()).is_ok();
        let app = self.server.protocol_mut().app_mut();
        if delivered {
            app.entering(id, &answer);
            self.drive(id);
        } else {
            app.undelivered(id, &answer);
        }
    }

    fn sweep(&mut self) {
        let mut looks = LOOKS_PER_TURN;
        while let Some(id) = self.server.due(self.now, &mut looks) {
            let Some(place) = place(&mut self.conns, id) else { continue };
            // Whether its bytes have been announced or not, they count.
            place.conn.wake(false);
            let mut socket = TcpSocket::begin_turn(&mut place.conn, &mut self.io, self.now, true);
            let wants = self.server.judge(self.now, id, &mut socket, TURN_BUDGET);
            socket.end_turn();
            self.obey(id, wants);
        }
    }

    fn stop(&mut self, until: Instant) {
        self.server.stop_accepting();
        self.listener = None;
        self.stopping_until = Some(until);
        let ids: Vec<SessionId> = self.server.sessions().iter().map(|(id, _)| id).collect();
        for id in ids {
            // Stale only if an earlier one's end took it along.
            let _ = self.server.close(self.now, id, CloseReason::Shutdown);
            self.drive(id);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopping_until
            .is_some_and(|until| self.server.sessions().is_empty() || self.now >= until)
    }

    fn publish(&mut self) {
        if self.now >= self.published_at + super::stats::INTERVAL {
            self.publish_now();
        }
    }

    fn publish_now(&mut self) {
        self.published_at = self.now;
        self.stats.publish(&self.server);
    }
}

/// The place of a session; nothing for one that has ended, whoever has its slot now.
fn place(conns: &mut [Option<Place>], id: SessionId) -> Option<&mut Place> {
    conns.get_mut(id.index())?.as_mut().filter(|place| place.id == id)
}

/// The way into a shard.
impl Inbox {
    /// Puts a message in; one for a shard that has ended is dropped.
    pub(super) fn send(&self, message: Message) {
        if self.sender.send(message).is_ok() {
            // It fails only when the queue is gone, and the shard with it.
            let _ = self.waker.wake();
        }
    }
}
