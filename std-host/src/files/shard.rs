//! A shard's side of the files.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use pulsegate_core::app::{Answer, Ask};
use pulsegate_core::server::JobId;
use pulsegate_core::store::{Outcome, Request, Store};
use pulsegate_core::table::SessionId;

use super::Files;
use super::buffers::Buffer;
use super::failure::Failure;
use super::task::Task;
use super::transfer::Transfer;
use crate::users::User;

/// The files of one shard's sessions. It lives on the shard's thread and never waits.
///
/// Every call that answers [`Answer::Later`] is followed by one [`Notice::Complete`](super::Notice::Complete) with its
/// job. Until the shard has completed that job, which gives the session's next question a new number, a repeated call
/// is answered in the same way, even if the result is there already: two completions would be one too many.
#[derive(Debug)]
pub struct ShardFiles {
    shard: usize,
    files: Arc<Files>,
    /// Sessions that have used files.
    sessions: HashMap<SessionId, Session>,
    /// Those of which bytes wait in a buffer that is not full.
    written: Vec<SessionId>,
}

#[derive(Debug)]
struct Session {
    transfer: Arc<Transfer>,
    /// The job whose completion it waits for.
    waits: Option<JobId>,
    /// What is shown to be sent, and how much of it has been.
    piece: Option<Buffer>,
    sent: usize,
    is_download: bool,
    remaining: u64,
    /// It is among those that have written in this turn.
    has_written: bool,
}

impl Session {
    /// Whether it waits still: for the completion of this very job.
    fn is_waiting(&self, job: JobId) -> bool {
        self.waits == Some(job)
    }

    fn later<T>(&mut self, job: JobId) -> Answer<T> {
        self.waits = Some(job);
        Answer::Later
    }
}

impl ShardFiles {
    /// The files of the sessions of one shard; notices carry its number.
    #[must_use]
    pub fn new(shard: usize, files: Arc<Files>) -> Self {
        Self { shard, files, sessions: HashMap::new(), written: Vec::new() }
    }

    /// Hands over what has been written since the last call. Call it whenever all sessions have had their turn; if
    /// none has written, it does nothing.
    pub fn end_turn(&mut self) {
        while let Some(id) = self.written.pop() {
            if let Some(session) = self.sessions.get_mut(&id) {
                session.has_written = false;
                session.transfer.flush(&self.files.inner.pool);
            }
        }
    }

    fn session(&mut self, ask: &Ask<SocketAddr>) -> &mut Session {
        let shard = self.shard;
        self.sessions.entry(ask.id).or_insert_with(|| Session {
            transfer: Transfer::new(shard, ask.id, ask.remote),
            waits: None,
            piece: None,
            sent: 0,
            is_download: false,
            remaining: 0,
            has_written: false,
        })
    }
}

/// A shard that ends keeps what its sessions have handed over, whether they have ended or not.
impl Drop for ShardFiles {
    fn drop(&mut self) {
        for (_, session) in self.sessions.drain() {
            session.transfer.release(&self.files.inner.pool);
        }
    }
}

impl Store<SocketAddr, Arc<User>> for ShardFiles {
    fn request(
        &mut self,
        ask: &Ask<SocketAddr>,
        user: Option<&Arc<User>>,
        request: Request<'_>,
    ) -> Answer<Outcome> {
        let files = Arc::clone(&self.files);
        let session = self.session(ask);
        // Asked again before its answer: that stays one task.
        if session.is_waiting(ask.job) {
            return Answer::Later;
        }
        session.piece = None;
        session.is_download = matches!(request, Request::Download { .. });
        session.remaining = 0;
        let task = Task::of(request, || files.inner.stamp());
        session.transfer.ask(&files.inner.pool, task, user.cloned(), ask.job);
        session.later(ask.job)
    }

    fn answer(&mut self, id: SessionId) -> Outcome {
        // There is one after each completion.
        let none = Failure::INTERNAL.outcome();
        let Some(session) = self.sessions.get_mut(&id) else { return none };
        let outcome = session.transfer.result().unwrap_or(none);
        if let (true, Outcome::Value(remaining)) = (session.is_download, outcome) {
            session.remaining = remaining;
        }
        outcome
    }

    fn write(&mut self, ask: &Ask<SocketAddr>, bytes: &[u8]) -> Answer<usize> {
        let files = Arc::clone(&self.files);
        let session = self.session(ask);
        if session.is_waiting(ask.job) {
            return Answer::Later;
        }
        let inner = &files.inner;
        match session.transfer.write(&inner.pool, &inner.buffers, bytes, ask.job) {
            Answer::Later => session.later(ask.job),
            Answer::Now(taken) => {
                if !std::mem::replace(&mut session.has_written, true) {
                    self.written.push(ask.id);
                }
                Answer::Now(taken)
            }
        }
    }

    fn read(&mut self, ask: &Ask<SocketAddr>) -> Answer<Option<&[u8]>> {
        let Some(session) = self.sessions.get_mut(&ask.id) else { return Answer::Now(None) };
        if session.is_waiting(ask.job) {
            return Answer::Later;
        }
        if session.piece.is_none() {
            match session.transfer.piece(&self.files.inner.pool, ask.job) {
                Answer::Later => return session.later(ask.job),
                Answer::Now(piece) => (session.piece, session.sent) = (piece, 0),
            }
        }
        let piece = session.piece.as_ref();
        Answer::Now(piece.map(|piece| &piece.bytes()[session.sent..]))
    }

    fn consume(&mut self, id: SessionId, len: usize) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.sent += len;
        session.remaining = session.remaining.saturating_sub(len as u64);
        session.piece.take_if(|piece| session.sent >= piece.bytes().len());
    }

    fn remaining(&self, id: SessionId) -> u64 {
        self.sessions.get(&id).map_or(0, |session| session.remaining)
    }

    fn release(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id) {
            session.transfer.release(&self.files.inner.pool);
        }
    }
}
