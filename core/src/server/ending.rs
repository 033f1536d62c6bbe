//! How sessions end: in good order, or at once.

use embassy_time::Instant;

use super::{CloseReason, Closed, Memory, Protocol, Server, Session, Wants};
use crate::fmt::info;
use crate::session::{Phase, saturating};
use crate::socket::{End, Finish, Socket};
use crate::table::SessionId;

impl<P: Protocol, M: Memory<P>> Server<P, M> {
    pub(super) fn begin_end(&mut self, now: Instant, id: SessionId, reason: CloseReason) {
        let limit = saturating(now, self.config.flush_timeout);
        let Some(session) = self.table.get_mut(id).filter(|session| session.ending().is_none())
        else {
            return;
        };
        session.phase = Phase::Flushing(reason);
        session.fixed = limit;
        self.forget_newcomer(id);
        self.sweep.arm(now, &mut self.table, id);
    }

    /// One turn of an ending session: flush, FIN, then throw input away for a while.
    pub(super) fn drive_ending<S: Socket>(
        &mut self,
        now: Instant,
        id: SessionId,
        socket: &mut S,
    ) -> Wants {
        let linger = saturating(now, self.config.linger_timeout);
        let Some(session) = self.table.get_mut(id) else {
            return Wants::Nothing(CloseReason::PeerClosed);
        };
        if let Phase::Flushing(reason) = session.phase {
            // A reply whose promised length will not come must not look like a whole one.
            if socket.rx(0).end == End::Failed || self.protocol.is_mid_reply(&session.state) {
                return self.end_now(now, id, reason, socket);
            }
            if socket.finish() == Finish::Pending {
                return Wants::Output;
            }
            session.phase = Phase::Lingering { reason, discarded: 0 };
            session.fixed = linger;
            self.sweep.arm(now, &mut self.table, id);
        }
        let limit = self.config.linger_bytes;
        let Some(session) = self.table.get_mut(id) else {
            return Wants::Nothing(CloseReason::PeerClosed);
        };
        let Phase::Lingering { reason, discarded } = &mut session.phase else {
            return Wants::Output;
        };
        let reason = *reason;
        loop {
            let rx = socket.rx(1);
            let (len, end) = (rx.bytes.len(), rx.end);
            socket.consume(len);
            *discarded = discarded.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
            if *discarded > limit || end == End::Failed {
                return self.end_now(now, id, reason, socket);
            }
            if len == 0 {
                return if end == End::Finished {
                    self.end(now, id, reason, Some(socket.progress(now).received));
                    Wants::Nothing(reason)
                } else {
                    Wants::Input
                };
            }
        }
    }

    /// Resets the connection and frees the slot.
    pub(super) fn end_now<S: Socket>(
        &mut self,
        now: Instant,
        id: SessionId,
        reason: CloseReason,
        socket: &mut S,
    ) -> Wants {
        let received = socket.progress(now).received;
        socket.abort();
        // Of a session that was ending already, the first reason stands.
        let reason = self.table.get(id).and_then(Session::ending).unwrap_or(reason);
        self.end(now, id, reason, Some(received));
        Wants::Nothing(reason)
    }

    /// Frees the slot, counts, records and tells the protocol: the one place where sessions end.
    pub(super) fn end(
        &mut self,
        now: Instant,
        id: SessionId,
        reason: CloseReason,
        received: Option<usize>,
    ) {
        self.forget_newcomer(id);
        let Some(mut session) = self.sweep.remove(&mut self.table, id) else {
            return;
        };
        session.received = session.received.saturating_add(received.unwrap_or(0) as u64);
        let deadline = session.expiry().map(|(at, _)| at).filter(|&at| at <= now);
        let closed = Closed {
            id,
            reason,
            at: now,
            local: session.local,
            remote: session.remote,
            user: self.protocol.user(&session.state).cloned(),
            age: now.saturating_duration_since(session.connected_at),
            silence: now.saturating_duration_since(session.last_active),
            overdue: deadline.map(|at| now.saturating_duration_since(at)),
            received: session.received,
            sent: session.sent,
        };
        info!(
            "session {}.{} closed: {}, silent for {} ms",
            id.index(),
            id.generation(),
            reason.name(),
            closed.silence.as_millis()
        );
        self.counters.count_close(reason);
        self.protocol.closed(&closed, &mut session.state);
        self.closes.push(closed);
    }
}
