//! The server: accepts, drives, judges and ends sessions. It knows neither which network stack
//! carries them nor which protocol they speak.

use core::fmt;
use core::ops::DerefMut;

use embassy_time::{Duration, Instant};

use crate::fmt::debug;
use crate::list::{self, Head, Link, Links};
pub use crate::session::{CloseReason, Session, Timers};
use crate::session::{Phase, saturating};
use crate::socket::{End, Socket};
use crate::sweep::Sweep;
use crate::table::{SessionId, Slot, Table};

mod contract;
mod ending;
mod memory;
mod records;

pub use contract::{Address, Ask, Context, JobId, Protocol, Step};
#[cfg(feature = "alloc")]
pub use memory::Boxed;
pub use memory::{Lent, Memory, Parts};
pub use records::{Closed, Closes, Counters};

/// Settings of the server that are no protocol's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Precision of all timeouts: none ends early, none later than this.
    pub tick: Duration,
    /// How long an orderly end may take to flush its output.
    pub flush_timeout: Duration,
    /// How long input is read and thrown away after the FIN.
    pub linger_timeout: Duration,
    /// How many bytes of input are thrown away after the FIN.
    pub linger_bytes: u32,
    /// How long the application may keep a session waiting.
    pub app_timeout: Duration,
    /// Whether a full table makes room by ending the oldest connection that has proven nothing.
    pub evict: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(100),
            flush_timeout: Duration::from_secs(5),
            linger_timeout: Duration::from_secs(2),
            linger_bytes: 64 * 1024,
            app_timeout: Duration::from_secs(120),
            evict: true,
        }
    }
}

/// A connection was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "an evicted session's socket must be aborted"]
pub struct Admission {
    /// The new session. Drive it once at once: its first bytes may be there already.
    pub id: SessionId,
    /// A session that was ended to make room. Its socket must be aborted.
    pub evicted: Option<SessionId>,
}

/// Why a connection was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Refused {
    /// Every slot is taken, and no session may be evicted.
    Full,
    /// The server stops.
    Stopping,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the session table is full",
            Self::Stopping => "the server is stopping",
        })
    }
}

impl core::error::Error for Refused {}

/// What a session waits for, which tells the adapter when to drive it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a session that wants more turns is not woken by its socket"]
pub enum Wants {
    /// More turns: drive it again after the others had theirs.
    More,
    /// Bytes from the peer, or its end.
    Input,
    /// Room for output.
    Output,
    /// The application: [`Server::complete`].
    App,
    /// Nothing. The session has ended and its slot is free; drop the socket. Where the end was no
    /// orderly one, the socket has been aborted.
    Nothing(CloseReason),
}

/// The handle or the question is no longer current; nobody was harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stale;

struct Newcomers<'a, P: Protocol, S>(&'a mut Table<Session<P>, S>, Link);

impl<P: Protocol, S: DerefMut<Target = [Slot<Session<P>>]>> Links for Newcomers<'_, P, S> {
    fn link_mut(&mut self, index: u32) -> &mut Link {
        self.0.at_mut(index).map_or(&mut self.1, |session| &mut session.newcomer)
    }
}

/// Sessions of protocol `P` in memory `M`.
pub struct Server<P: Protocol, M: Memory<P>> {
    config: Config,
    protocol: P,
    table: Table<Session<P>, M::Slots>,
    sweep: Sweep<M::Wheel>,
    scratch: M::Scratch,
    closes: Closes<P, M::Ring>,
    newcomers: Head,
    counters: Counters,
    stopping: bool,
}

impl<P: Protocol, M: Memory<P>> Server<P, M> {
    /// A server without sessions.
    pub fn new(config: Config, protocol: P, memory: M) -> Self {
        let parts = memory.into_parts();
        Self {
            table: Table::new(parts.slots),
            sweep: Sweep::new(parts.wheel, config.tick),
            scratch: parts.scratch,
            closes: Closes::new(parts.closes),
            newcomers: Head::EMPTY,
            counters: Counters::default(),
            stopping: false,
            config,
            protocol,
        }
    }

    /// Takes a new connection in.
    ///
    /// # Errors
    /// [`Refused`] says why it was not; the caller still has the socket, and aborts it.
    pub fn accept(
        &mut self,
        now: Instant,
        local: P::Address,
        remote: P::Address,
    ) -> Result<Admission, Refused> {
        if self.stopping {
            self.counters.refused += 1;
            return Err(Refused::Stopping);
        }
        let evicted = if self.table.is_full() { self.evict(now) } else { None };
        let state = self.protocol.open(now);
        let timers = self.protocol.timers(&state, now, now);
        let mut session = Session {
            timer: Link::UNLINKED,
            newcomer: Link::UNLINKED,
            local,
            remote,
            connected_at: now,
            last_active: now,
            received: 0,
            sent: 0,
            fixed: Instant::MAX,
            job: 0,
            phase: Phase::open(now),
            state,
        };
        session.set_timers(timers);
        let Ok(id) = self.table.insert(session) else {
            self.counters.refused += 1;
            return Err(Refused::Full);
        };
        self.file_newcomer(id);
        self.sweep.arm(now, &mut self.table, id);
        self.counters.accepted += 1;
        debug!("session {}.{} accepted", id.index(), id.generation());
        Ok(Admission { id, evicted })
    }

    /// Makes room where all is full because of a limit that the table does not know (descriptors,
    /// a limit over several servers): ends the oldest session that has proven nothing, if the
    /// configuration allows it. Its socket must be aborted.
    pub fn evict(&mut self, now: Instant) -> Option<SessionId> {
        let id = self.newcomers.first().filter(|_| self.config.evict)?;
        let id = self.table.id_at(id as usize)?;
        self.end(now, id, CloseReason::Evicted, None);
        Some(id)
    }

    /// Serves a session as far as its socket and `budget` (bytes) let it. Call it when the socket
    /// is readable or writable, after [`Wants::More`], and after [`Server::complete`]; calling it
    /// at any other time is harmless. A stale `id` answers `Nothing(PeerClosed)` and touches
    /// nothing: its end has been reported before.
    pub fn drive<S: Socket>(
        &mut self,
        now: Instant,
        id: SessionId,
        socket: &mut S,
        budget: usize,
    ) -> Wants {
        let Some(session) = self.table.get_mut(id) else {
            return Wants::Nothing(CloseReason::PeerClosed);
        };
        if session.ending().is_some() {
            return self.drive_ending(now, id, socket);
        }
        let mut cx = Context {
            now,
            id,
            job: JobId(session.job),
            local: session.local,
            remote: session.remote,
            connected_at: session.connected_at,
            scratch: &mut self.scratch,
            // Without any, no byte that has arrived could save a session that is judged.
            budget: budget.max(1),
            changed: false,
        };
        let step = self.protocol.drive(&mut cx, &mut session.state, socket);
        let changed = cx.changed;
        let progress = socket.progress(now);
        if progress.received > 0 {
            session.received = session.received.saturating_add(progress.received as u64);
            session.last_active = session.last_active.max(progress.at.min(now));
        }
        session.sent = session.sent.saturating_add(progress.sent as u64);
        if changed {
            self.state_changed(now, id);
        }
        self.after(now, id, socket, step)
    }

    /// Carries out what the protocol asked for.
    fn after<S: Socket>(
        &mut self,
        now: Instant,
        id: SessionId,
        socket: &mut S,
        step: Step,
    ) -> Wants {
        match step {
            Step::More => Wants::More,
            Step::Input => Wants::Input,
            Step::Output | Step::App if socket.rx(0).end == End::Failed => {
                self.end_now(now, id, CloseReason::PeerReset, socket)
            }
            Step::Output => Wants::Output,
            Step::App => self.wait_for_app(now, id, socket),
            Step::Survey => {
                let Some(session) = self.table.get(id) else {
                    return Wants::Nothing(CloseReason::PeerClosed);
                };
                let (local, remote) = (session.local, session.remote);
                let ask = Ask { now, id, job: JobId(session.job), local, remote };
                let Some(answer) = self.protocol.survey(&ask, &mut self.table.iter()) else {
                    return self.wait_for_app(now, id, socket);
                };
                if let Some(session) = self.table.get_mut(id) {
                    self.protocol.answer(&mut session.state, answer);
                    self.state_changed(now, id);
                }
                // A look at all sessions is a turn's work, however small the request was.
                Wants::More
            }
            Step::Close(reason) => {
                self.begin_end(now, id, reason);
                self.drive_ending(now, id, socket)
            }
            Step::Abort(reason) => self.end_now(now, id, reason, socket),
        }
    }

    /// The session's state answers otherwise from now on: deadlines and eviction follow it.
    fn state_changed(&mut self, now: Instant, id: SessionId) {
        self.file_newcomer(id);
        let Some(session) = self.table.get_mut(id).filter(|session| !session.is_waiting()) else {
            return;
        };
        session.set_timers(self.protocol.timers(&session.state, session.connected_at, now));
        self.sweep.arm(now, &mut self.table, id);
    }

    /// Puts a session on the list of newcomers, or takes it off, as its state has it.
    fn file_newcomer(&mut self, id: SessionId) {
        let Some(session) = self.table.get(id) else {
            return;
        };
        let newcomer = session.ending().is_none() && self.protocol.is_newcomer(&session.state);
        if newcomer == session.newcomer.is_linked() {
            return;
        }
        if newcomer {
            let mut links = Newcomers(&mut self.table, Link::UNLINKED);
            list::push_back(&mut self.newcomers, 0, &mut links, id.index() as u32);
        } else {
            self.forget_newcomer(id);
        }
    }

    fn forget_newcomer(&mut self, id: SessionId) {
        if self.table.get(id).is_some_and(|session| session.newcomer.is_linked()) {
            let mut links = Newcomers(&mut self.table, Link::UNLINKED);
            list::unlink(core::slice::from_mut(&mut self.newcomers), &mut links, id.index() as u32);
        }
    }

    /// While the application keeps the session waiting, the peer's clock stands still.
    fn wait_for_app<S: Socket>(&mut self, now: Instant, id: SessionId, socket: &mut S) -> Wants {
        let limit = saturating(now, self.config.app_timeout);
        if let Some(session) = self.table.get_mut(id).filter(|session| !session.is_waiting()) {
            // How long the peer has been silent is known only now: the answer comes without a socket.
            session.take_proof(now, socket);
            session.stop_clock(now, limit);
            self.sweep.arm(now, &mut self.table, id);
        }
        Wants::App
    }

    /// The application answers a question. Drive the session after this.
    ///
    /// # Errors
    /// [`Stale`] when the session has ended or does not wait for this answer; the answer is dropped.
    pub fn complete(
        &mut self,
        now: Instant,
        id: SessionId,
        job: JobId,
        answer: P::Answer,
    ) -> Result<(), Stale> {
        let session = self.table.get_mut(id).ok_or(Stale)?;
        if !session.is_waiting() || session.job != job.0 {
            return Err(Stale);
        }
        session.job = session.job.wrapping_add(1);
        session.start_clock(now);
        self.protocol.answer(&mut session.state, answer);
        self.state_changed(now, id);
        Ok(())
    }

    /// Ends a session in good order: what has been written is flushed, then a FIN. Drive it after
    /// this. Of a session that is ending already, the first reason stands.
    ///
    /// # Errors
    /// [`Stale`] when it has ended already.
    pub fn close(&mut self, now: Instant, id: SessionId, reason: CloseReason) -> Result<(), Stale> {
        self.table.get(id).ok_or(Stale)?;
        self.begin_end(now, id, reason);
        Ok(())
    }

    /// Names the next session whose deadline has passed; [`Server::judge`] it. One that is not
    /// judged is named again a tick later. `looks` bounds the work of this call and is counted
    /// down; at zero, serve the sockets and come back: [`Server::poll_at`] lies in the past then.
    pub fn due(&mut self, now: Instant, looks: &mut u32) -> Option<SessionId> {
        self.sweep.due(now, &mut self.table, looks)
    }

    /// Judges a session that [`Server::due`] has named: first takes what its socket already holds,
    /// then asks it for its last proof of life. Alive: its deadline counts from when the proof
    /// arrived. Else it is aborted, and the answer is [`Wants::Nothing`].
    pub fn judge<S: Socket>(
        &mut self,
        now: Instant,
        id: SessionId,
        socket: &mut S,
        budget: usize,
    ) -> Wants {
        let wants = self.drive(now, id, socket, budget);
        let Some(session) = self.table.get_mut(id) else {
            return wants;
        };
        if matches!(session.phase, Phase::Open { .. }) {
            session.take_proof(now, socket);
        }
        match session.expiry() {
            Some((at, reason)) if at <= now => self.end_now(now, id, reason, socket),
            _ => {
                self.sweep.arm(now, &mut self.table, id);
                wants
            }
        }
    }

    /// When to call [`Server::due`] next; `None` when no session has a deadline. Goes stale with
    /// every other call.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        self.sweep.poll_at()
    }

    /// How many sessions have a deadline: all of them, or else a watchdog should know.
    #[must_use]
    pub const fn deadlines(&self) -> usize {
        self.sweep.armed()
    }

    /// From now on every new connection is refused. End the sessions with [`Server::close`].
    pub const fn stop_accepting(&mut self) {
        self.stopping = true;
    }

    /// The sessions there are.
    #[must_use]
    pub const fn sessions(&self) -> &Table<Session<P>, M::Slots> {
        &self.table
    }

    /// The longest reply: how much output a socket must be able to take at once.
    #[must_use]
    pub fn longest_reply(&self) -> usize {
        self.scratch.len()
    }

    /// What has been counted.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The last sessions that ended.
    #[must_use]
    pub const fn closes(&self) -> &Closes<P, M::Ring> {
        &self.closes
    }

    /// The protocol, and through it the application.
    #[must_use]
    pub const fn protocol(&self) -> &P {
        &self.protocol
    }

    /// The protocol to change.
    #[must_use]
    pub const fn protocol_mut(&mut self) -> &mut P {
        &mut self.protocol
    }
}
