//! Threads that run slow checks, a few at a time, out of the way of those that serve sessions.
//!
//! Order is by arrival. Someone who floods the server with wrong logins makes others wait whose password has never
//! been right since the server started; those whose login is known, and devices with generated secrets, do not come
//! here at all (unless they are throttled).

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use super::db::{Check, Mark, Verdict};

/// Longer delays are cut: there is no reason for one, and the clock must not overflow.
const MAX_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Runs [`Check`]s with bounded concurrency on threads of its own, with lowered priority where the system has that
/// for threads (Linux), so that a fleet that logs in does not hold up the heartbeats of those that are in.
///
/// Identical logins that wait at the same time are checked once. The queue is not bounded here: every waiting check
/// belongs to a session, and a session has one at a time.
///
/// Dropping it lets running checks finish and answer; those that have not begun are dropped unanswered, together
/// with what was to be called for them.
pub struct Checker {
    pool: Pool<Check>,
}

impl Checker {
    /// With as many threads as half the processors, one at least.
    ///
    /// # Errors
    ///
    /// If the system gives no thread.
    pub fn new() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = NonZeroUsize::new(processors / 2).unwrap_or(NonZeroUsize::MIN);
        Self::with_workers(workers)
    }

    /// With that many threads: as many checks run at the same time, at 19 MiB each.
    ///
    /// # Errors
    ///
    /// If the system does not give that many threads.
    pub fn with_workers(workers: NonZeroUsize) -> io::Result<Self> {
        Pool::new(workers).map(|pool| Self { pool })
    }

    /// Runs the check, not before the delay has passed, and calls back with the verdict, on a thread of this
    /// checker and with no lock held: the callback may submit again, and should be short.
    pub fn submit<F>(&self, check: Check, delay: Duration, done: F)
    where
        F: FnOnce(Verdict) + Send + 'static,
    {
        self.pool.submit(check, delay, Box::new(done));
    }

    /// How many submitted checks have not been answered: delayed, waiting, or running.
    pub fn pending(&self) -> usize {
        self.pool.shared.lock().pending
    }
}

impl fmt::Debug for Checker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker")
            .field("workers", &self.pool.threads.len())
            .field("pending", &self.pending())
            .finish()
    }
}

/// What the pool needs to know of a check.
trait Job: Send + 'static {
    /// Jobs of the same mark have the same answer.
    fn mark(&self) -> Mark;
    fn run(&self) -> Verdict;
}

impl Job for Check {
    fn mark(&self) -> Mark {
        Check::mark(self)
    }

    fn run(&self) -> Verdict {
        Check::run(self)
    }
}

type Done = Box<dyn FnOnce(Verdict) + Send>;

struct Pool<J: Job> {
    shared: Arc<Shared<J>>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared<J> {
    queue: Mutex<Queue<J>>,
    changed: Condvar,
}

struct Queue<J> {
    /// Those whose time has not come, the next one on top.
    delayed: BinaryHeap<Reverse<Delayed<J>>>,
    /// Those that may run, one for each mark that no thread is busy with.
    ready: VecDeque<J>,
    /// Who waits for the answer, for each mark that is ready or running.
    waiting: HashMap<Mark, Vec<Done>>,
    pending: usize,
    turn: u64,
    closed: bool,
}

struct Delayed<J> {
    due: Instant,
    /// Of those due at the same time the first come is first.
    turn: u64,
    job: J,
    done: Done,
}

impl<J> Delayed<J> {
    fn rank(&self) -> (Instant, u64) {
        (self.due, self.turn)
    }
}

impl<J> PartialEq for Delayed<J> {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl<J> Eq for Delayed<J> {}

impl<J> PartialOrd for Delayed<J> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<J> Ord for Delayed<J> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl<J: Job> Queue<J> {
    /// Lets the job run, or wait for the answer of one like it. Only jobs whose time has come get here, so nobody
    /// shortens a delay by having the same login checked elsewhere.
    fn enqueue(&mut self, job: J, done: Done) {
        match self.waiting.entry(job.mark()) {
            Entry::Occupied(mut like_it) => like_it.get_mut().push(done),
            Entry::Vacant(vacant) => {
                vacant.insert(vec![done]);
                self.ready.push_back(job);
            }
        }
    }

    /// Moves what is due, and says when the next one is.
    fn promote(&mut self, now: Instant) -> Option<Instant> {
        loop {
            let due = self.delayed.peek()?.0.due;
            if due > now {
                return Some(due);
            }
            let Reverse(next) = self.delayed.pop()?;
            self.enqueue(next.job, next.done);
        }
    }
}

impl<J> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, Queue<J>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J: Job> Shared<J> {
    /// The next job, or nothing when the pool closes.
    fn next(&self) -> Option<J> {
        let mut queue = self.lock();
        loop {
            if queue.closed {
                return None;
            }
            let now = Instant::now();
            let due = queue.promote(now);
            if let Some(job) = queue.ready.pop_front() {
                // This thread may have been the only one that knew of the rest, or when the next delay ends.
                if !queue.ready.is_empty() || due.is_some() {
                    self.changed.notify_one();
                }
                return Some(job);
            }
            queue = match due {
                Some(due) => {
                    let wait = due.saturating_duration_since(now);
                    let woken = self.changed.wait_timeout(queue, wait);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn work(&self) {
        crate::priority::step_back();
        while let Some(job) = self.next() {
            // A panic has been reported by its hook; nobody gets in by one, and the thread is still needed.
            let verdict = catch_unwind(AssertUnwindSafe(|| job.run())).unwrap_or(Verdict::Refused);
            let waiting = {
                let mut queue = self.lock();
                // Those that became due meanwhile have the same answer.
                queue.promote(Instant::now());
                let waiting = queue.waiting.remove(&job.mark()).unwrap_or_default();
                queue.pending -= waiting.len();
                waiting
            };
            for done in waiting {
                let verdict = verdict.clone();
                let _ = catch_unwind(AssertUnwindSafe(move || done(verdict)));
            }
        }
    }
}

impl<J: Job> Pool<J> {
    fn new(workers: NonZeroUsize) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                delayed: BinaryHeap::new(),
                ready: VecDeque::new(),
                waiting: HashMap::new(),
                pending: 0,
                turn: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        });
        // Before the threads, so that an error half way stops those that have started.
        let mut pool = Self { shared, threads: Vec::new() };
        for _ in 0..workers.get() {
            let shared = Arc::clone(&pool.shared);
            let thread = thread::Builder::new()
                .name("pulsegate-check".into())
                .spawn(move || shared.work())?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    fn submit(&self, job: J, delay: Duration, done: Done) {
        let mut queue = self.shared.lock();
        queue.pending += 1;
        if delay.is_zero() {
            queue.enqueue(job, done);
        } else {
            let turn = queue.turn;
            queue.turn += 1;
            let due = Instant::now() + delay.min(MAX_DELAY);
            queue.delayed.push(Reverse(Delayed { due, turn, job, done }));
        }
        drop(queue);
        self.shared.changed.notify_one();
    }
}

impl<J: Job> Drop for Pool<J> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.closed = true;
        let delayed = mem::take(&mut queue.delayed);
        let ready = mem::take(&mut queue.ready);
        // Not those of running checks: they are answered.
        let unanswered: Vec<_> =
            ready.iter().filter_map(|job| queue.waiting.remove(&job.mark())).collect();
        queue.pending -= delayed.len() + unanswered.iter().map(Vec::len).sum::<usize>();
        drop(queue);
        self.shared.changed.notify_all();
        // Callbacks may own anything, also something that submits when dropped: not under the lock.
        drop((delayed, unanswered));
        for thread in self.threads.drain(..) {
            // A callback may hold the last handle: a thread cannot wait for itself.
            if thread.thread().id() != thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
