//! Counters that a shard publishes now and then, so that reading them never slows it.

use std::sync::atomic::{AtomicU64, Ordering};

use embassy_time::Duration;
use pulsegate_core::protocol::Iocp;
use pulsegate_core::server::{Boxed, CloseReason, Server};

use super::app::HostApp;

/// How often a busy shard publishes.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

const REASONS: usize = CloseReason::ALL.len();

type HostServer = Server<Iocp<HostApp>, Boxed<Iocp<HostApp>>>;

#[derive(Debug, Default)]
pub(super) struct ShardStats {
    pub(super) refused: AtomicU64,
    pub(super) accept_errors: AtomicU64,
    sessions: AtomicU64,
    accepted: AtomicU64,
    commands: AtomicU64,
    heartbeats: AtomicU64,
    logins: AtomicU64,
    login_failures: AtomicU64,
    echoed: AtomicU64,
    stored: AtomicU64,
    sent: AtomicU64,
    closed: [AtomicU64; REASONS],
}

impl ShardStats {
    pub(super) fn publish(&self, server: &HostServer) {
        let set = |to: &AtomicU64, value: u64| to.store(value, Ordering::Relaxed);
        let (work, counters) = (server.protocol().work(), server.counters());
        set(&self.sessions, server.sessions().len() as u64);
        set(&self.accepted, counters.accepted);
        set(&self.commands, work.commands);
        set(&self.heartbeats, work.heartbeats);
        set(&self.logins, work.logins);
        set(&self.login_failures, work.login_failures);
        set(&self.echoed, work.echoed);
        set(&self.stored, work.stored);
        set(&self.sent, work.sent);
        for (to, reason) in self.closed.iter().zip(CloseReason::ALL) {
            set(to, counters.closed(reason));
        }
    }

    /// Whether something has happened since the last publication.
    pub(super) fn is_behind(&self, server: &HostServer) -> bool {
        let counters = server.counters();
        self.commands.load(Ordering::Relaxed) != server.protocol().work().commands
            || self.accepted.load(Ordering::Relaxed) != counters.accepted
            || self.sessions.load(Ordering::Relaxed) != server.sessions().len() as u64
    }
}

/// What a server has done since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sessions that stand.
    pub sessions: u64,
    /// Connections taken in.
    pub accepted: u64,
    /// Connections refused because the table was full.
    pub refused: u64,
    /// Failures to accept (descriptors, memory).
    pub accept_errors: u64,
    /// Commands answered, heartbeats included.
    pub commands: u64,
    /// Heartbeats answered.
    pub heartbeats: u64,
    /// Logins accepted.
    pub logins: u64,
    /// Logins that failed.
    pub login_failures: u64,
    /// Bytes of data parts passed back.
    pub echoed: u64,
    /// Bytes of files received.
    pub stored: u64,
    /// Bytes of files and lists of files sent.
    pub sent: u64,
    closed: [u64; REASONS],
}

impl Stats {
    /// Sessions that ended for this reason.
    #[must_use]
    pub const fn closed(&self, reason: CloseReason) -> u64 {
        self.closed[reason as usize]
    }

    /// Sessions that ended, by reason, without the reasons that did not occur.
    pub fn closes(&self) -> impl Iterator<Item = (CloseReason, u64)> + '_ {
        CloseReason::ALL.into_iter().zip(self.closed).filter(|(_, count)| *count > 0)
    }

    pub(super) fn sum<'a>(shards: impl Iterator<Item = &'a ShardStats>) -> Self {
        let mut sum = Self::default();
        for shard in shards {
            let parts = [
                (&mut sum.sessions, &shard.sessions),
                (&mut sum.accepted, &shard.accepted),
                (&mut sum.refused, &shard.refused),
                (&mut sum.accept_errors, &shard.accept_errors),
                (&mut sum.commands, &shard.commands),
                (&mut sum.heartbeats, &shard.heartbeats),
                (&mut sum.logins, &shard.logins),
                (&mut sum.login_failures, &shard.login_failures),
                (&mut sum.echoed, &shard.echoed),
                (&mut sum.stored, &shard.stored),
                (&mut sum.sent, &shard.sent),
            ];
            let closes = sum.closed.iter_mut().zip(&shard.closed);
            for (to, from) in parts.into_iter().chain(closes) {
                *to += from.load(Ordering::Relaxed);
            }
        }
        sum
    }
}
