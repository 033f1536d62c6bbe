//! What a worker does for one session, and what is kept for it between two of its turns.

use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, MutexGuard, PoisonError};

use pulsegate_core::store::Outcome;

use super::Inner;
use super::buffers::Buffer;
use super::failure::Failure;
use super::list::Kind;
use super::reading::{Body, exists};
use super::registry::Reader;
use super::shares::{Share, owner};
use super::slow::{self, Permit};
use super::stream::Stream;
use super::task::Task;
use super::transfer::{Next, Op, Transfer};
use super::upload::Upload;
use super::usage::{Count, Grant, Usage};
use crate::users::User;

/// Things that a worker does for one session before it turns to the next: a megabyte, if they are writes.
const SLICE: usize = 8;

/// The workers' part of a session.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// A task that waits for something. It is begun anew when that has come.
    task: Option<(Task, Option<Arc<User>>)>,
    /// A task is being carried out.
    in_task: bool,
    /// Bytes that are to be written now.
    pub(super) batch: VecDeque<Buffer>,
    /// Among the files that may be open at a time. Given back before the file is closed: whoever waits for the file needs
    /// one.
    pub(super) place: Option<Share>,
    pub(super) open: Open,
    /// What is being read for the peer.
    pub(super) body: Option<Body>,
    /// Why bytes are thrown away.
    pub(super) failure: Option<Failure>,
    /// Bytes written since that was last asked for.
    pub(super) written: u64,
    pub(super) hold: Hold,
}

/// What a session has open.
#[derive(Debug, Default)]
pub(super) enum Open {
    #[default]
    Nothing,
    Upload(Upload),
    Stream(Stream),
    Download {
        /// Closed before the reader is forgotten.
        file: File,
        _reader: Option<Reader>,
    },
}

/// What a session has, or waits for, that others may want. It has them during one task or one write.
///
/// They are taken in the order of the fields, and nobody who waits for a file has any: no circle of sessions that
/// wait for each other can come to be.
#[derive(Debug, Default)]
pub(super) struct Hold {
    grant: Option<Grant>,
    /// It will be this session's when it is resumed.
    next_grant: Option<Arc<Usage>>,
    permit: Option<Permit>,
    /// The same.
    next_permit: Option<(slow::Kind, Arc<str>)>,
}

/// How far a task has come.
#[derive(Debug)]
pub(super) enum Flow {
    Done(Outcome),
    /// The session waits in somebody's line, and is resumed from there.
    Wait,
}

/// Where a worker is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cx<'a> {
    pub(super) inner: &'a Inner,
    pub(super) transfer: &'a Arc<Transfer>,
}

/// Whether the worker may go on with the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Next,
    Wait,
}

/// Works for a session until it has nothing more to be done, has to wait, or others have their turn.
pub(super) fn run(inner: &Inner, transfer: &Arc<Transfer>) {
    let cx = Cx { inner, transfer };
    let mut work = lock(transfer);
    work.hold.begin(inner);
    for _ in 0..SLICE {
        let then = if let Some((task, user)) = work.task.take() {
            work.perform(cx, task, user)
        } else if !work.batch.is_empty() {
            work.write(cx)
        } else {
            match transfer.next(&mut work.batch) {
                Next::Write => work.write(cx),
                Next::Op(op) => work.carry_out(cx, op),
                Next::Idle => {
                    drop(work);
                    inner.pool.retire();
                    return;
                }
            }
        };
        if then == Then::Wait {
            work.hold.wait();
            return;
        }
        work.hold = Hold::default();
    }
    drop(work);
    inner.pool.resume(Arc::clone(transfer));
}

/// Puts a session in order whose worker has panicked: the task has failed, what was being written is lost and the
/// peer will be told so, the rest goes on.
pub(super) fn recover(inner: &Inner, transfer: &Arc<Transfer>) {
    let mut work = lock(transfer);
    let buffers = work.batch.len();
    let outcome = work.in_task.then(|| Failure::INTERNAL.outcome());
    *work = Work { failure: Some(Failure::INTERNAL), ..Work::default() };
    drop(work);
    transfer.set_discard(true);
    transfer.recover(&inner.notifier, buffers, outcome);
    inner.pool.resume(Arc::clone(transfer));
}

fn lock(transfer: &Transfer) -> MutexGuard<'_, Work> {
    transfer.work.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Work {
    fn carry_out(&mut self, cx: Cx<'_>, op: Op) -> Then {
        match op {
            Op::Task(task, user) => return self.perform(cx, task, user),
            Op::Write(buffer) => {
                self.batch.push_back(buffer);
                return self.write(cx);
            }
            Op::ReadAhead => self.read_ahead(cx),
            Op::Yield(stamp) => self.yield_upload(cx, stamp),
            Op::Release => self.close(),
        }
        Then::Next
    }

    fn perform(&mut self, cx: Cx<'_>, task: Task, user: Option<Arc<User>>) -> Then {
        self.body = None;
        cx.transfer.clear_pieces();
        self.in_task = true;
        let flow = self.attempt(cx, &task, user.as_ref());
        self.in_task = false;
        if matches!(self.open, Open::Nothing) {
            // It could not be opened, or is waited for.
            self.place = None;
        }
        let outcome = match flow {
            Ok(Flow::Done(outcome)) => outcome,
            Ok(Flow::Wait) => {
                self.task = Some((task, user));
                return Then::Wait;
            }
            Err(failure) => failure.outcome(),
        };
        let Transfer { shard, id, remote, .. } = &**cx.transfer;
        tracing::debug!(session = %format_args!("{shard}.{id}"), %remote, ?task, ?outcome, "files");
        cx.transfer.answer(&cx.inner.notifier, outcome, self.body.is_some());
        Then::Next
    }

    fn attempt(
        &mut self,
        cx: Cx<'_>,
        task: &Task,
        user: Option<&Arc<User>>,
    ) -> Result<Flow, Failure> {
        #[cfg(test)]
        cx.inner.probe(super::At::Task)?;
        match task {
            Task::Dirs(path) => self.list(cx, path, user, Kind::Directories),
            Task::Files(path) => self.list(cx, path, user, Kind::Files),
            Task::CreateDir(path) => self.create_dir(cx, path, user),
            Task::DeleteDir(path) => self.delete_dir(cx, path, user),
            Task::DeleteFiles { dir, names } => self.delete_files(cx, dir, names, user),
            Task::Upload { path, stamp } => self.open_upload(cx, path, *stamp, user),
            Task::Eof { size } => self.finish_upload(cx, *size),
            Task::Download { path, offset } => self.download(cx, path, *offset, user),
            Task::Exists(path) => exists(cx, path, user),
            Task::Open { path, write } => self.open_stream(cx, path, *write, user),
            Task::SetSize(size) => self.set_size(cx, *size),
            Task::Read { count } => self.read_stream(cx, *count),
            Task::Written => self.tell_written(cx),
            Task::GetSize => self.stream()?.len().map(value),
            Task::SetPosition(position) => self.stream()?.set_position(*position),
            Task::GetPosition => Ok(value(self.stream()?.position)),
            Task::Seek { offset, origin } => self.stream()?.seek(*offset, *origin),
            Task::Close => {
                self.stream()?;
                self.close();
                Ok(Flow::Done(Outcome::Done))
            }
        }
    }

    /// Closes what is open. What is waiting for the file is resumed.
    pub(super) fn close(&mut self) {
        self.place = None;
        self.open = Open::Nothing;
        self.body = None;
    }

    /// Forgets what was wrong with the file before: from now on bytes are for another one.
    pub(super) fn begin_file(&mut self, cx: Cx<'_>) {
        self.close();
        self.failure = None;
        self.written = 0;
        cx.transfer.set_discard(false);
    }

    /// Makes it one of the files that may be open, unless it is.
    pub(super) fn take_place(
        &mut self,
        cx: Cx<'_>,
        user: Option<&Arc<User>>,
    ) -> Result<(), Failure> {
        if self.place.is_none() {
            let place = cx.inner.places.take(owner(user), 1);
            self.place = Some(place.ok_or(Failure::TOO_MANY_FILES)?);
        }
        Ok(())
    }

    /// Throws bytes away from now on, for a reason that is told when the peer asks.
    pub(super) fn fail(&mut self, cx: Cx<'_>, failure: Failure) {
        self.failure = Some(failure);
        cx.transfer.set_discard(true);
    }
}

pub(super) fn value(value: u64) -> Flow {
    Flow::Done(Outcome::Value(value))
}

impl Hold {
    /// The session goes on: what it has waited for is its own.
    fn begin(&mut self, inner: &Inner) {
        if let Some(usage) = self.next_grant.take() {
            self.grant = Some(usage.granted());
        }
        if let Some((kind, owner)) = self.next_permit.take() {
            self.permit = Some(inner.pool.granted(kind, owner));
        }
    }

    /// The session waits. What it needs not have meanwhile goes to others.
    fn wait(&mut self) {
        self.permit = None;
        if self.next_permit.is_none() {
            self.grant = None;
        }
    }

    /// Takes a count; `false`: wait.
    pub(super) fn own(&mut self, cx: Cx<'_>, usage: &Arc<Usage>) -> bool {
        if self.grant.as_ref().is_some_and(|grant| Arc::ptr_eq(grant.usage(), usage)) {
            return true;
        }
        self.grant = None;
        self.grant = usage.take(cx.transfer);
        if self.grant.is_none() {
            self.next_grant = Some(Arc::clone(usage));
        }
        self.grant.is_some()
    }

    /// What has been taken, to be booked on.
    pub(super) fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref()
    }

    /// Takes a user's right to slow work; `false`: wait.
    pub(super) fn may_be_slow(&mut self, cx: Cx<'_>, kind: slow::Kind, owner: &str) -> bool {
        if self.permit.is_none() {
            let owner = Arc::from(owner);
            self.permit = cx.inner.pool.permit(kind, &owner, cx.transfer);
            self.next_permit = self.permit.is_none().then_some((kind, owner));
        }
        self.permit.is_some()
    }

    /// The same for trees.
    pub(super) fn may_walk(&mut self, cx: Cx<'_>, user: Option<&Arc<User>>) -> bool {
        self.may_be_slow(cx, slow::Kind::Tree, owner(user))
    }

    /// Takes a count and says what it is; one that does not please is made anew, if it is old. `None`: wait.
    pub(super) fn count(
        &mut self,
        cx: Cx<'_>,
        usage: &Arc<Usage>,
        pleases: impl Fn(Count) -> bool,
    ) -> Option<Count> {
        if !self.own(cx, usage) {
            return None;
        }
        let grant = self.grant.as_ref()?;
        if let Some(count) = grant.count()
            && (pleases(count) || !grant.doubt())
        {
            return Some(count);
        }
        if !self.may_be_slow(cx, slow::Kind::Count, usage.device()) {
            return None;
        }
        let grant = self.grant.as_ref()?;
        let version = grant.version();
        let count = cx.inner.count(usage.device());
        grant.set(count, version);
        self.permit = None;
        Some(count)
    }
}
