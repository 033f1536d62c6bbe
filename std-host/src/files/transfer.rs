//! The files of one session, between its shard and the workers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pulsegate_core::app::Answer;
use pulsegate_core::server::JobId;
use pulsegate_core::store::Outcome;
use pulsegate_core::table::SessionId;

use super::buffers::{Buffer, Buffers, Purpose, SMALL};
use super::pool::Pool;
use super::task::Task;
use super::work::Work;
use super::{Notice, Notifier};
use crate::users::User;

/// Buffers that a session may have on the way to the disk: 256 KiB.
pub(super) const MAX_HELD: usize = 4;

/// Buffers that are written at once, half of what a session may have: it fills the other half meanwhile.
const BATCH: usize = 2;

/// Pieces that are read before they are asked for.
pub(super) const AHEAD: usize = 2;

/// What both sides know of a session's files.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) shard: usize,
    pub(super) id: SessionId,
    pub(super) remote: SocketAddr,
    state: Mutex<State>,
    /// The workers' part, which only the one that runs the session locks.
    pub(super) work: Mutex<Work>,
}

/// What shard and workers hand each other. Locked for moments: nobody waits for a disk, or for anything else, with
/// this lock.
#[derive(Debug, Default)]
struct State {
    /// What is to be done, in order.
    ops: VecDeque<Op>,
    /// Bytes after all that: the shard may still add to them.
    tail: Option<Buffer>,
    /// The shard's turn is over: the tail may be written as it is.
    flush: bool,
    /// Buffers on the way to the disk, the tail and those that are being written among them.
    held: usize,
    /// A write has failed, or there is nothing to write to: bytes are thrown away.
    discard: bool,
    /// The upload has been taken over: what comes after this moment is not taken.
    taken: bool,
    /// Another session uploads the file that this one waits for.
    superseded: bool,
    /// It stands in the pool's line, is being run, or waits for another session.
    scheduled: bool,
    /// What the session waits for, and the job whose completion tells it.
    waiting: Option<(JobId, Wait)>,
    result: Option<Outcome>,
    /// What has been read and not yet been asked for.
    pieces: VecDeque<Buffer>,
    /// There is more to be read.
    more: bool,
    /// A worker has been asked to read on.
    ahead: bool,
    /// The session has ended.
    released: bool,
}

/// One thing to do.
#[derive(Debug)]
pub(super) enum Op {
    Write(Buffer),
    Task(Task, Option<Arc<User>>),
    ReadAhead,
    /// The upload of this stamp is to be let go, if it is still open: another session gets its file.
    Yield(u64),
    /// The session has ended.
    Release,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Answer,
    Room,
    Piece,
}

/// What a worker finds.
#[derive(Debug)]
pub(super) enum Next {
    /// Bytes, now in its batch.
    Write,
    Op(Op),
    /// Nothing; the session has left the line.
    Idle,
}

impl State {
    fn has_work(&self) -> bool {
        !self.ops.is_empty() || (self.flush && self.tail.is_some())
    }

    /// Adds something to be done after all bytes that have come.
    fn add(&mut self, op: Op) {
        let tail = self.tail.take().map(Op::Write);
        self.ops.extend(tail.into_iter().chain([op]));
    }

    /// Memory for more bytes, within what the session may have.
    fn buffer(&mut self, buffers: &Arc<Buffers>) -> Option<Buffer> {
        let large = (self.held < MAX_HELD).then(|| buffers.large(Purpose::Write)).flatten();
        let buffer = large.or_else(|| (self.held == 0).then(|| buffers.small()))?;
        self.held += 1;
        Some(buffer)
    }

    fn take_waiting(&mut self, wait: Wait) -> Option<JobId> {
        self.waiting.take_if(|(_, waits)| *waits == wait).map(|(job, _)| job)
    }

    fn read_ahead(&mut self) {
        if self.more && !self.ahead && self.pieces.len() < AHEAD {
            self.ahead = true;
            self.ops.push_back(Op::ReadAhead);
        }
    }
}

impl Transfer {
    pub(super) fn new(shard: usize, id: SessionId, remote: SocketAddr) -> Arc<Self> {
        let (state, work) = (Mutex::default(), Mutex::default());
        Arc::new(Self { shard, id, remote, state, work })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and puts the session into the line if it has work now and is not there.
    fn change<R>(self: &Arc<Self>, pool: &Pool, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        let begins = state.has_work() && !std::mem::replace(&mut state.scheduled, true);
        drop(state);
        if begins {
            pool.begin(Arc::clone(self));
        }
        result
    }
}

/// The shard's side.
impl Transfer {
    /// Asks for something; the job is completed when it has been done.
    pub(super) fn ask(
        self: &Arc<Self>,
        pool: &Pool,
        task: Task,
        user: Option<Arc<User>>,
        job: JobId,
    ) {
        self.change(pool, |state| {
            state.add(Op::Task(task, user));
            state.result = None;
            state.waiting = Some((job, Wait::Answer));
        });
    }

    /// The result of what was asked for.
    pub(super) fn result(&self) -> Option<Outcome> {
        self.lock().result.take()
    }

    /// Takes bytes to be written; later if none fit.
    pub(super) fn write(
        self: &Arc<Self>,
        pool: &Pool,
        buffers: &Arc<Buffers>,
        bytes: &[u8],
        job: JobId,
    ) -> Answer<usize> {
        self.change(pool, |state| {
            if state.discard || state.taken {
                return Answer::Now(bytes.len());
            }
            let mut rest = bytes;
            while !rest.is_empty() {
                let mut buffer = match state.tail.take() {
                    Some(tail) => tail,
                    None => match state.buffer(buffers) {
                        Some(buffer) => buffer,
                        None => break,
                    },
                };
                rest = &rest[buffer.put(rest)..];
                if buffer.is_full() {
                    state.ops.push_back(Op::Write(buffer));
                } else {
                    state.tail = Some(buffer);
                }
            }
            let taken = bytes.len() - rest.len();
            if taken == 0 && !bytes.is_empty() {
                state.waiting = Some((job, Wait::Room));
                return Answer::Later;
            }
            Answer::Now(taken)
        })
    }

    /// The shard's turn is over: what it has written need not wait for more.
    pub(super) fn flush(self: &Arc<Self>, pool: &Pool) {
        self.change(pool, |state| state.flush = state.tail.is_some());
    }

    /// Takes the next piece that has been read.
    pub(super) fn piece(self: &Arc<Self>, pool: &Pool, job: JobId) -> Answer<Option<Buffer>> {
        self.change(pool, |state| {
            let piece = state.pieces.pop_front();
            state.read_ahead();
            if piece.is_none() && state.more {
                state.waiting = Some((job, Wait::Piece));
                return Answer::Later;
            }
            Answer::Now(piece)
        })
    }

    /// The session has ended: what it has handed over is still written.
    pub(super) fn release(self: &Arc<Self>, pool: &Pool) {
        // Their memory goes back when the lock has.
        let _pieces = self.change(pool, |state| {
            state.add(Op::Release);
            state.waiting = None;
            state.released = true;
            std::mem::take(&mut state.pieces)
        });
    }
}

/// The workers' side.
impl Transfer {
    /// Takes what is to be done next. Bytes go into `batch`, which is empty.
    pub(super) fn next(&self, batch: &mut VecDeque<Buffer>) -> Next {
        let mut state = self.lock();
        while batch.len() < BATCH {
            match state.ops.pop_front() {
                Some(Op::Write(buffer)) => batch.push_back(buffer),
                Some(op) if batch.is_empty() => {
                    state.ahead &= !matches!(op, Op::ReadAhead);
                    return Next::Op(op);
                }
                Some(op) => {
                    state.ops.push_front(op);
                    break;
                }
                None => {
                    if state.flush {
                        state.flush = false;
                        batch.extend(state.tail.take());
                    }
                    break;
                }
            }
        }
        if batch.is_empty() {
            state.scheduled = false;
            return Next::Idle;
        }
        Next::Write
    }

    /// So many buffers have gone to the disk, or have been thrown away.
    pub(super) fn written(&self, notifier: &Notifier, buffers: usize) {
        let mut state = self.lock();
        state.held -= buffers;
        let job = if state.held <= MAX_HELD / 2 { state.take_waiting(Wait::Room) } else { None };
        drop(state);
        self.complete(notifier, job);
    }

    /// Whether the session has ended: nobody reads what is made for it.
    pub(super) fn is_released(&self) -> bool {
        self.lock().released
    }

    /// Whether bytes are to be thrown away from now on.
    pub(super) fn set_discard(&self, discard: bool) {
        self.lock().discard = discard;
    }

    /// What was asked for has been done, or cannot be. `more` says whether there is something to be read.
    pub(super) fn answer(&self, notifier: &Notifier, outcome: Outcome, more: bool) {
        let mut state = self.lock();
        state.result = Some(outcome);
        state.more = more;
        let job = state.take_waiting(Wait::Answer);
        drop(state);
        self.complete(notifier, job);
    }

    /// Forgets what an earlier request has read.
    pub(super) fn clear_pieces(&self) {
        let mut state = self.lock();
        state.more = false;
        let _pieces = std::mem::take(&mut state.pieces);
        drop(state);
    }

    /// Memory for the next piece of so many bytes, if one is wanted and there is some.
    pub(super) fn room_ahead(&self, buffers: &Arc<Buffers>, left: u64) -> Option<Buffer> {
        let waiting = self.lock().pieces.len();
        if waiting >= AHEAD {
            return None;
        }
        let large = if left > SMALL as u64 { buffers.large(Purpose::Read) } else { None };
        large.or_else(|| (waiting == 0).then(|| buffers.small()))
    }

    /// A piece has been read, or none could be; `more` says whether others follow.
    pub(super) fn deliver(&self, notifier: &Notifier, piece: Option<Buffer>, more: bool) {
        let mut state = self.lock();
        state.pieces.extend(piece);
        state.more = more;
        let job = state.take_waiting(Wait::Piece);
        drop(state);
        self.complete(notifier, job);
    }

    /// Another session has this one's file: it has to end.
    pub(super) fn tell_taken_over(&self, notifier: &Notifier) {
        notifier.tell(Notice::TakenOver { shard: self.shard, id: self.id });
    }

    /// The worker has panicked in a task, or in something else; then there is no outcome.
    pub(super) fn recover(&self, notifier: &Notifier, buffers: usize, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.answer(notifier, outcome, false);
        }
        self.deliver(notifier, None, false);
        self.written(notifier, buffers);
    }

    fn complete(&self, notifier: &Notifier, job: Option<JobId>) {
        if let Some(job) = job {
            notifier.tell(Notice::Complete { shard: self.shard, id: self.id, job });
        }
    }

    /// Another session gets this one's upload: nothing more is taken, what has been taken is written first.
    pub(super) fn take_over(self: &Arc<Self>, pool: &Pool, stamp: u64) {
        self.change(pool, |state| {
            if !std::mem::replace(&mut state.taken, true) {
                state.add(Op::Yield(stamp));
            }
        });
    }

    /// The upload that was to be taken over is closed.
    pub(super) fn not_taken(&self) {
        self.lock().taken = false;
    }

    /// This session waits for a file that goes to another one.
    pub(super) fn supersede(&self) {
        self.lock().superseded = true;
    }

    /// Whether that has happened; told once.
    pub(super) fn is_superseded(&self) -> bool {
        std::mem::take(&mut self.lock().superseded)
    }
}
