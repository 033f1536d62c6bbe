//! Whether the machine let a test run.
//!
//! What measures when a server acts is at the mercy of the machine as the server is: a shared one may hold all its
//! processes up for half a second, and a client that was to send twice a second is closed rightly. Such a run proves
//! nothing, and is made again. A hold-up is noticed by a thread that sleeps a little and is woken late.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the watching thread sleeps.
const STEP: Duration = Duration::from_millis(5);

/// Hold-ups that nobody need know of.
const LEAST: Duration = Duration::from_millis(10);

/// Runs before it is given up to find one without a hold-up.
const RUNS: usize = 20;

/// Watches how this process is let run, from its creation to its end.
#[derive(Debug)]
pub struct Pace {
    seen: Arc<Seen>,
    /// Its end ends the thread.
    _running: Sender<()>,
}

#[derive(Debug)]
struct Seen {
    log: Mutex<Log>,
    looked: Condvar,
}

#[derive(Debug)]
struct Log {
    /// When the thread last woke.
    woke: Instant,
    /// When each hold-up ended, and how long it was.
    held: Vec<(Instant, Duration)>,
}

impl Seen {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, running: &Receiver<()>) {
        let mut before = Instant::now();
        while running.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
            let woke = Instant::now();
            let held = (woke - before).saturating_sub(STEP);
            before = woke;
            let mut log = self.log();
            log.woke = woke;
            if held >= LEAST {
                log.held.push((woke, held));
            }
            drop(log);
            self.looked.notify_all();
        }
    }
}

impl Pace {
    /// Begins to watch.
    #[must_use]
    pub fn watch() -> Self {
        let log = Mutex::new(Log { woke: Instant::now(), held: Vec::new() });
        let seen = Arc::new(Seen { log, looked: Condvar::new() });
        let (running, ends) = channel();
        let watched = Arc::clone(&seen);
        std::thread::spawn(move || watched.watch(&ends));
        Self { seen, _running: running }
    }

    /// The longest hold-up from `since` until now. Waits for the watching thread, which may be held up itself.
    #[must_use]
    pub fn held_up_since(&self, since: Instant) -> Duration {
        let now = Instant::now();
        let log = self.seen.looked.wait_while(self.seen.log(), |log| log.woke < now);
        let log = log.unwrap_or_else(PoisonError::into_inner);
        log.held
            .iter()
            .filter(|(end, _)| *end >= since)
            .map(|(_, held)| *held)
            .max()
            .unwrap_or_default()
    }
}

/// The outcome of the first run during which nothing was held up for longer than `most`.
///
/// # Panics
/// When there is none in twenty runs: this machine cannot tell.
pub fn undisturbed<T>(most: Duration, run: impl FnMut() -> T) -> T {
    first_undisturbed(&Pace::watch(), most, run)
}

fn first_undisturbed<T>(pace: &Pace, most: Duration, mut run: impl FnMut() -> T) -> T {
    for _ in 0..RUNS {
        let began = Instant::now();
        let outcome = run();
        let held = pace.held_up_since(began);
        if held <= most {
            return outcome;
        }
        eprintln!("held up for {held:?}: this run proves nothing");
    }
    panic!(
        "the machine held up each of {RUNS} runs for more than {most:?}: too busy for a test of timeouts"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_up_is_seen_by_whom_it_concerns() {
        let pace = Pace::watch();
        let began = Instant::now();
        // As if the thread had been woken late.
        let held = Duration::from_secs(3600);
        pace.seen.log().held.push((began, held));
        assert_eq!(pace.held_up_since(began), held);
        assert!(pace.held_up_since(began + Duration::from_nanos(1)) < held);
    }

    #[test]
    fn a_run_that_was_held_up_is_made_again() {
        let pace = Pace::watch();
        let (hour, most) = (Duration::from_secs(3600), Duration::from_secs(1800));
        let mut runs = 0;
        let outcome = first_undisturbed(&pace, most, || {
            runs += 1;
            if runs < 3 {
                pace.seen.log().held.push((Instant::now(), hour));
            }
            runs
        });
        assert_eq!(outcome, 3);
    }
}
