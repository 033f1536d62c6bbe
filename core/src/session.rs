//! One connection's state: its addresses, its deadline, how far its end has come.

#[cfg(target_pointer_width = "32")]
mod size;

use core::fmt;

use embassy_time::{Duration, Instant};

use crate::list::Link;
use crate::server::Protocol;
use crate::socket::Socket;
use crate::sweep::Timed;

/// Why a connection ended. Each connection ends with exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum CloseReason {
    /// The peer sent its FIN and has been answered.
    PeerClosed,
    /// The connection was reset by the peer or given up by the network stack.
    PeerReset,
    /// No proof of life within the idle timeout.
    Idle,
    /// No protocol flag within the flag timeout.
    NoFlag,
    /// No login within the login timeout.
    NoLogin,
    /// A protocol flag that is unknown or switched off.
    BadFlag,
    /// A packet that breaks the protocol.
    BadPacket,
    /// A command that does not exist.
    UnknownCommand,
    /// Too many failed logins.
    LoginFailures,
    /// The peer took nothing of a frozen list for too long.
    SlowReader,
    /// The application did not answer in time.
    AppTimeout,
    /// The application broke a promise: a file that is being sent has shrunk, say.
    AppFailed,
    /// The same user came back on a newer connection, or another one goes on with its upload.
    TakenOver,
    /// The table was full and this connection had proven nothing yet.
    Evicted,
    /// An operator or the application asked for it.
    Kicked,
    /// The server stops.
    Shutdown,
}

impl CloseReason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [CloseReason; 16] = [
        Self::PeerClosed,
        Self::PeerReset,
        Self::Idle,
        Self::NoFlag,
        Self::NoLogin,
        Self::BadFlag,
        Self::BadPacket,
        Self::UnknownCommand,
        Self::LoginFailures,
        Self::SlowReader,
        Self::AppTimeout,
        Self::AppFailed,
        Self::TakenOver,
        Self::Evicted,
        Self::Kicked,
        Self::Shutdown,
    ];

    /// The reason's name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PeerClosed => "peer-closed",
            Self::PeerReset => "peer-reset",
            Self::Idle => "idle",
            Self::NoFlag => "no-flag",
            Self::NoLogin => "no-login",
            Self::BadFlag => "bad-flag",
            Self::BadPacket => "bad-packet",
            Self::UnknownCommand => "unknown-command",
            Self::LoginFailures => "login-failures",
            Self::SlowReader => "slow-reader",
            Self::AppTimeout => "app-timeout",
            Self::AppFailed => "app-failed",
            Self::TakenOver => "taken-over",
            Self::Evicted => "evicted",
            Self::Kicked => "kicked",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// When a session's patience ends: at a fixed moment, after a silence, or both, whichever is
/// sooner. A protocol says so for each of its states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// A moment that activity does not move, and the reason it stands for.
    pub fixed: Option<(Instant, CloseReason)>,
    /// The longest silence; counted from the last proof of life. The reason is
    /// [`CloseReason::Idle`]. Kept in whole milliseconds, rounded up; one of 49 days and more never
    /// ends.
    pub silence: Option<Duration>,
}

impl Timers {
    /// No deadline at all.
    pub const NEVER: Timers = Timers { fixed: None, silence: None };

    /// A fixed moment alone.
    #[must_use]
    pub const fn at(at: Instant, reason: CloseReason) -> Self {
        Self { fixed: Some((at, reason)), silence: None }
    }
}

/// A longest silence in milliseconds: there is one for each session, and half the room will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Silence(u32);

impl Silence {
    const UNLIMITED: Silence = Silence(u32::MAX);

    /// When a silence that began at `since` has lasted too long.
    fn end(self, since: Instant) -> Instant {
        if self == Self::UNLIMITED {
            return Instant::MAX;
        }
        saturating(since, Duration::from_millis(self.0.into()))
    }
}

impl From<Duration> for Silence {
    fn from(span: Duration) -> Self {
        // Compared first, for the conversion of the longest spans overflows.
        if span >= Duration::from_millis(u32::MAX.into()) {
            return Self::UNLIMITED;
        }
        let ms = span.as_millis();
        // Nobody is ended early.
        let ms = ms + u64::from(Duration::from_millis(ms) < span);
        Self(u32::try_from(ms).unwrap_or(u32::MAX))
    }
}

/// How far a connection has come, and what its patience depends on there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The protocol is spoken.
    Open {
        /// Silence counts from here at the earliest.
        since: Instant,
        silence: Silence,
        /// What the session's fixed moment stands for.
        fixed_reason: CloseReason,
    },
    /// The application keeps the session waiting, and the peer's clock stands still; so much
    /// silence had gone by before. The fixed moment is the application's.
    Waiting { spent: Duration },
    /// Output is being flushed; the FIN follows it.
    Flushing(CloseReason),
    /// The FIN is out; input is read and thrown away, so that no RST overtakes the last reply.
    Lingering { reason: CloseReason, discarded: u32 },
}

impl Phase {
    /// Without any deadline yet.
    pub(crate) const fn open(since: Instant) -> Self {
        Self::Open { since, silence: Silence::UNLIMITED, fixed_reason: CloseReason::Idle }
    }
}

/// One connection in the server's table.
#[derive(Debug)]
pub struct Session<P: Protocol> {
    pub(crate) timer: Link,
    pub(crate) newcomer: Link,
    pub(crate) local: P::Address,
    pub(crate) remote: P::Address,
    pub(crate) connected_at: Instant,
    pub(crate) last_active: Instant,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    /// The moment of the deadline that activity does not move; the end of time never comes. What
    /// it stands for is the phase's.
    pub(crate) fixed: Instant,
    pub(crate) job: u32,
    pub(crate) phase: Phase,
    pub(crate) state: P::State,
}

impl<P: Protocol> Session<P> {
    /// The server's end.
    pub const fn local(&self) -> P::Address {
        self.local
    }

    /// The peer's end.
    pub const fn remote(&self) -> P::Address {
        self.remote
    }

    /// When the connection was accepted.
    pub const fn connected_at(&self) -> Instant {
        self.connected_at
    }

    /// When the peer last proved that it lives, as far as it has been noticed: a proof that only
    /// the network stack knows of is found when the deadline is looked at.
    pub const fn last_active(&self) -> Instant {
        self.last_active
    }

    /// Bytes received and sent since the connection began.
    pub const fn bytes(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// What the protocol keeps for the session.
    pub const fn state(&self) -> &P::State {
        &self.state
    }

    pub(crate) const fn is_waiting(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    /// Why the session is ending, if it is.
    pub(crate) const fn ending(&self) -> Option<CloseReason> {
        match self.phase {
            Phase::Open { .. } | Phase::Waiting { .. } => None,
            Phase::Flushing(reason) | Phase::Lingering { reason, .. } => Some(reason),
        }
    }

    /// Takes over the protocol's deadlines, which count while it is spoken.
    pub(crate) fn set_timers(&mut self, timers: Timers) {
        if let Phase::Open { silence, fixed_reason, .. } = &mut self.phase {
            (self.fixed, *fixed_reason) = timers.fixed.unwrap_or((Instant::MAX, CloseReason::Idle));
            *silence = timers.silence.map_or(Silence::UNLIMITED, Silence::from);
        }
    }

    /// The application keeps the session waiting from now on, until `limit` at the latest.
    pub(crate) fn stop_clock(&mut self, now: Instant, limit: Instant) {
        if let Phase::Open { since, .. } = self.phase {
            let spent = now.saturating_duration_since(self.last_active.max(since));
            self.phase = Phase::Waiting { spent };
            self.fixed = limit;
        }
    }

    /// The application has answered: as much silence has gone by as when it was asked. The
    /// protocol's deadlines are to be set anew.
    pub(crate) fn start_clock(&mut self, now: Instant) {
        if let Phase::Waiting { spent } = self.phase {
            self.phase = Phase::open(now.checked_sub(spent).unwrap_or(Instant::MIN));
            self.fixed = Instant::MAX;
        }
    }

    /// Asks the socket when the peer last proved that it lives.
    pub(crate) fn take_proof<S: Socket>(&mut self, now: Instant, socket: &mut S) {
        let proof = socket.proof(now);
        let Some(at) = proof.at().map(|at| at.min(now).max(self.connected_at)) else {
            return;
        };
        // What was heard does not count while something is owed, so this may go back.
        self.last_active = if proof.owed_since.is_some() { at } else { self.last_active.max(at) };
    }

    /// Which deadline is the sooner one, and what it stands for.
    pub(crate) fn expiry(&self) -> Option<(Instant, CloseReason)> {
        let fixed = self.fixed;
        let sooner = match self.phase {
            Phase::Open { since, silence, fixed_reason } => {
                let idle = silence.end(self.last_active.max(since));
                if fixed <= idle { (fixed, fixed_reason) } else { (idle, CloseReason::Idle) }
            }
            Phase::Waiting { .. } => (fixed, CloseReason::AppTimeout),
            Phase::Flushing(reason) | Phase::Lingering { reason, .. } => (fixed, reason),
        };
        Some(sooner).filter(|&(at, _)| at < Instant::MAX)
    }
}

/// A timeout that reaches beyond the end of time never comes.
pub(crate) fn saturating(from: Instant, after: Duration) -> Instant {
    from.checked_add(after).unwrap_or(Instant::MAX)
}

impl<P: Protocol> Timed for Session<P> {
    fn link_mut(&mut self) -> &mut Link {
        &mut self.timer
    }

    fn deadline(&self) -> Option<Instant> {
        self.expiry().map(|(at, _)| at)
    }
}
