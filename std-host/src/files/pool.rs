//! The line of sessions that have file work, and the threads that do it.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::slow::{Kind, Line, Permit};
use super::transfer::Transfer;

/// Sessions that wait for a thread, each at most once, in the order in which they came.
#[derive(Debug)]
pub(super) struct Pool {
    queue: Mutex<Queue>,
    work: Condvar,
    done: Condvar,
}

#[derive(Debug)]
struct Queue {
    ready: VecDeque<Arc<Transfer>>,
    /// Threads that sleep.
    idle: usize,
    /// Sessions with work: ready, running, or waiting for something that another one has.
    active: usize,
    /// Permits for slow work. There are half as many as threads for trees, and one for counts, so that some threads are
    /// left (where there are enough) for those who merely want their bytes written.
    trees: Line,
    counts: Line,
    closed: bool,
}

impl Pool {
    pub(super) fn new(workers: NonZeroUsize) -> Arc<Self> {
        let queue = Queue {
            ready: VecDeque::new(),
            idle: 0,
            active: 0,
            trees: Line::new((workers.get() / 2).max(1)),
            counts: Line::new(1),
            closed: false,
        };
        Arc::new(Self { queue: Mutex::new(queue), work: Condvar::new(), done: Condvar::new() })
    }

    /// A session has work that had none.
    pub(super) fn begin(&self, transfer: Arc<Transfer>) {
        let mut queue = self.lock();
        queue.active += 1;
        self.push(queue, transfer);
    }

    /// A session goes on: its slice was over, or what it waited for has come.
    pub(super) fn resume(&self, transfer: Arc<Transfer>) {
        self.push(self.lock(), transfer);
    }

    /// A session has no more work.
    pub(super) fn retire(&self) {
        let mut queue = self.lock();
        queue.active -= 1;
        if queue.active == 0 {
            self.done.notify_all();
            if queue.closed {
                self.work.notify_all();
            }
        }
    }

    fn push(&self, mut queue: MutexGuard<'_, Queue>, transfer: Arc<Transfer>) {
        queue.ready.push_back(transfer);
        let asleep = queue.idle > 0;
        drop(queue);
        // Waking costs a system call, and busy threads come by themselves.
        if asleep {
            self.work.notify_one();
        }
    }

    /// The next session with work; `None` when the pool is closed and all is done.
    pub(super) fn next(&self) -> Option<Arc<Transfer>> {
        let mut queue = self.lock();
        loop {
            if let Some(transfer) = queue.ready.pop_front() {
                return Some(transfer);
            }
            if queue.closed && queue.active == 0 {
                return None;
            }
            queue.idle += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    /// A permit for slow work of a user's; if there is none, the session is resumed when it has one.
    pub(super) fn permit(
        self: &Arc<Self>,
        kind: Kind,
        owner: &Arc<str>,
        transfer: &Arc<Transfer>,
    ) -> Option<Permit> {
        let taken = self.lock().line(kind).take(owner, transfer);
        taken.then(|| self.granted(kind, Arc::clone(owner)))
    }

    /// The permit that a session has waited for.
    pub(super) fn granted(self: &Arc<Self>, kind: Kind, owner: Arc<str>) -> Permit {
        Permit { pool: Arc::clone(self), kind, owner }
    }

    /// A permit goes to whoever's turn it is.
    pub(super) fn give_back(&self, kind: Kind, owner: &Arc<str>) {
        let mut queue = self.lock();
        if let Some(next) = queue.line(kind).give_back(owner) {
            self.push(queue, next);
        }
    }

    /// Sessions with work.
    pub(super) fn active(&self) -> usize {
        self.lock().active
    }

    /// Waits until there is no work, and says whether that has come.
    pub(super) fn wait(&self, timeout: Duration) -> bool {
        let queue = self.lock();
        let busy = |queue: &mut Queue| queue.active > 0;
        let waited = self.done.wait_timeout_while(queue, timeout, busy);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// The threads end when there is no more work.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    const fn line(&mut self, kind: Kind) -> &mut Line {
        match kind {
            Kind::Tree => &mut self.trees,
            Kind::Count => &mut self.counts,
        }
    }
}
