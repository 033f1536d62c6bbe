//! How connections come in: accepted, admitted, refused, or waiting for another shard to make room.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Token};
use pulsegate_core::server::Refused;
use pulsegate_core::table::SessionId;

use super::{Place, Shard, place};
use crate::net::{Conn, abort};
use crate::server::Message;

/// Connections accepted before sessions have their turn again.
const ACCEPTS_PER_TURN: usize = 128;

/// How long accepting rests when descriptors or memory have run out.
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Shard {
    pub(super) fn accept(&mut self) {
        if self.accept_rests_until.is_some_and(|until| self.now < until) {
            return;
        }
        self.accept_rests_until = None;
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = &self.listener else {
                self.accept_pending = false;
                return;
            };
            match listener.accept() {
                Ok((stream, remote)) => self.admit(stream, remote),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.accept_pending = false;
                        return;
                    }
                    // The connection ended before it was taken; the next one may be well.
                    io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionReset => {}
                    _ => {
                        self.stats.accept_errors.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(%error, "cannot accept; the listener rests for {ACCEPT_REST:?}");
                        let rest = crate::clock::to_core(ACCEPT_REST);
                        self.accept_rests_until = Some(self.now + rest);
                        return;
                    }
                },
            }
        }
    }

    fn admit(&mut self, stream: TcpStream, remote: SocketAddr) {
        let most = self.shared.settings.max_sessions;
        let count = |sessions| (sessions < most).then_some(sessions + 1);
        let counter = &self.shared.sessions;
        if counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).is_ok()
            || self.evict_for_another()
        {
            self.take_in(stream, remote);
        } else if self.shared.settings.evict && self.shared.inboxes.len() > 1 {
            // The newcomers may all be with other shards.
            self.waiting.push_back((stream, remote));
            self.ask_next(self.index);
        } else {
            self.refuse(&stream, remote, Refused::Full);
        }
    }

    /// Ends this shard's oldest newcomer, and keeps its place counted for another connection.
    fn evict_for_another(&mut self) -> bool {
        let Some(evicted) = self.server.evict(self.now) else { return false };
        // Its place is handed over and never free in between.
        self.abort_conn(evicted);
        true
    }

    /// Takes a connection in whose place is counted already.
    fn take_in(&mut self, stream: TcpStream, remote: SocketAddr) {
        // However long the turn has been held up: a newcomer has its whole flag timeout.
        self.now = self.shared.clock.now();
        // On a connection that is gone already the address is unknown; reading it would say so.
        let refused = match stream.local_addr() {
            Ok(local) => match self.server.accept(self.now, local, remote) {
                Ok(admission) => {
                    if let Some(evicted) = admission.evicted {
                        self.abort_conn(evicted);
                        self.give_place_back();
                    }
                    self.install(admission.id, stream);
                    return;
                }
                Err(refused) => Some(refused),
            },
            Err(_) => None,
        };
        self.give_place_back();
        if let Some(refused) = refused {
            self.refuse(&stream, remote, refused);
        }
    }

    pub(super) fn give_place_back(&self) {
        self.shared.sessions.fetch_sub(1, Ordering::Relaxed);
    }

    fn refuse(&self, stream: &TcpStream, remote: SocketAddr, refused: Refused) {
        self.stats.refused.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%remote, %refused, "connection refused");
        abort(stream);
    }

    /// Passes the question for room on to the next shard.
    fn ask_next(&self, asker: usize) {
        let next = (self.index + 1) % self.shared.inboxes.len();
        self.shared.inboxes[next].send(Message::MakeRoom { asker });
    }

    pub(super) fn make_room(&mut self, asker: usize) {
        if asker == self.index {
            // It has been all the way round.
            self.room(false);
        } else if self.evict_for_another() {
            self.shared.inboxes[asker].send(Message::Room { found: true });
        } else {
            self.ask_next(asker);
        }
    }

    /// Each question has one answer, and whoever has waited longest gets it.
    pub(super) fn room(&mut self, found: bool) {
        match self.waiting.pop_front() {
            Some((stream, remote)) if found => self.take_in(stream, remote),
            Some((stream, remote)) => self.refuse(&stream, remote, Refused::Full),
            None if found => self.give_place_back(),
            None => {}
        }
    }

    fn install(&mut self, id: SessionId, mut stream: TcpStream) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(id.to_bits() as usize);
        if let Err(error) = self.poll.registry().register(&mut stream, token, interest) {
            tracing::warn!(%error, "cannot watch a connection");
        }
        let conn = Conn::new(stream, self.now);
        if self.conns.len() <= id.index() {
            self.conns.resize_with(id.index() + 1, || None);
        }
        self.conns[id.index()] = Some(Place { id, conn, ready: false });
        self.drive(id);
    }

    /// Resets the connection of a session that was evicted; its place is the caller's.
    fn abort_conn(&mut self, id: SessionId) {
        if let Some(place) = place(&mut self.conns, id) {
            abort(place.conn.stream());
        }
        self.drop_conn(id);
    }
}
