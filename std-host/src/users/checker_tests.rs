use std::collections::BTreeSet;
use std::sync::mpsc;

use super::super::db::{Quick, UserDb};
use super::super::hash::digest_of;
use super::super::{LoginPolicy, Role, User};
use super::*;

/// Nothing takes that long; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(30);

/// What a job waits for.
type End = Arc<Mutex<mpsc::Receiver<()>>>;

/// A job that reports when it runs, and ends when it is told.
struct Held {
    mark: Mark,
    started: mpsc::Sender<u8>,
    end: End,
    verdict: Verdict,
}

impl Job for Held {
    fn mark(&self) -> Mark {
        self.mark
    }

    fn run(&self) -> Verdict {
        self.started.send(self.mark[0]).unwrap();
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(end.recv_timeout(LONG).is_ok(), "told to panic");
        self.verdict.clone()
    }
}

/// A pool of held jobs, and the ends of their channels.
struct Bench {
    pool: Pool<Held>,
    started: mpsc::Receiver<u8>,
    starts: mpsc::Sender<u8>,
    /// One for each mark: jobs of different marks end in any order.
    ends: HashMap<u8, (mpsc::Sender<()>, End)>,
    answers: mpsc::Receiver<(u8, Verdict)>,
    answered: mpsc::Sender<(u8, Verdict)>,
}

impl Bench {
    fn new(workers: usize) -> Self {
        let (starts, started) = mpsc::channel();
        let (answered, answers) = mpsc::channel();
        Self {
            pool: Pool::new(NonZeroUsize::new(workers).unwrap()).unwrap(),
            started,
            starts,
            ends: HashMap::new(),
            answers,
            answered,
        }
    }

    fn submit(&mut self, mark: u8, delay: Duration) {
        let (_, end) = self.ends.entry(mark).or_insert_with(|| {
            let (end, ended) = mpsc::channel();
            (end, Arc::new(Mutex::new(ended)))
        });
        let job = Held {
            mark: [mark; 32],
            started: self.starts.clone(),
            end: Arc::clone(end),
            verdict: accepted(mark),
        };
        let answered = self.answered.clone();
        let done = move |verdict| {
            let _ = answered.send((mark, verdict));
        };
        self.pool.submit(job, delay, Box::new(done));
    }

    fn start(&self) -> u8 {
        self.started.recv_timeout(LONG).unwrap()
    }

    fn end(&self, mark: u8) {
        self.ends[&mark].0.send(()).unwrap();
    }

    fn answer(&self) -> u8 {
        let (mark, verdict) = self.answers.recv_timeout(LONG).unwrap();
        assert_eq!(verdict, accepted(mark), "the answer of another job");
        mark
    }

    fn pending(&self) -> usize {
        self.pool.shared.lock().pending
    }
}

fn accepted(mark: u8) -> Verdict {
    Verdict::Accepted(Arc::new(User {
        name: mark.to_string(),
        role: Role::Device,
        login_policy: LoginPolicy::Allow,
    }))
}

#[test]
fn no_more_run_at_once_than_there_are_threads() {
    let mut bench = Bench::new(2);
    for mark in 0..6 {
        bench.submit(mark, Duration::ZERO);
    }
    assert_eq!(bench.pending(), 6);
    let mut running = BTreeSet::from([bench.start(), bench.start()]);
    for _ in 0..6 {
        // Both threads are held: nothing else can have started.
        assert_eq!(bench.started.try_recv().ok(), None);
        let mark = running.pop_first().unwrap();
        bench.end(mark);
        assert_eq!(bench.answer(), mark);
        if bench.pending() >= 2 {
            running.insert(bench.start());
        }
    }
    assert_eq!(bench.pending(), 0);
}

#[test]
fn identical_checks_run_once() {
    let mut bench = Bench::new(2);
    bench.submit(1, Duration::ZERO);
    assert_eq!(bench.start(), 1);
    for _ in 0..99 {
        bench.submit(1, Duration::ZERO);
    }
    // The other thread is free, and takes another login rather than the same again.
    bench.submit(2, Duration::ZERO);
    assert_eq!(bench.start(), 2);
    assert_eq!(bench.pending(), 101);
    bench.end(1);
    for _ in 0..100 {
        assert_eq!(bench.answer(), 1);
    }
    bench.end(2);
    assert_eq!(bench.answer(), 2);
    assert_eq!(bench.pending(), 0);
    assert_eq!(bench.started.try_recv().ok(), None);
    // An answer is not kept.
    bench.submit(1, Duration::ZERO);
    assert_eq!(bench.start(), 1);
    bench.end(1);
    assert_eq!(bench.answer(), 1);
}

#[test]
fn identical_checks_that_wait_run_once() {
    let mut bench = Bench::new(1);
    bench.submit(1, Duration::ZERO);
    assert_eq!(bench.start(), 1);
    for _ in 0..10 {
        bench.submit(2, Duration::ZERO);
        bench.submit(3, Duration::ZERO);
    }
    bench.end(1);
    assert_eq!(bench.answer(), 1);
    // In the order of arrival.
    for mark in [2, 3] {
        assert_eq!(bench.start(), mark);
        bench.end(mark);
        for _ in 0..10 {
            assert_eq!(bench.answer(), mark);
        }
    }
    assert_eq!(bench.started.try_recv().ok(), None);
}

#[test]
fn a_delay_is_not_shortened_by_the_same_login_elsewhere() {
    let mut bench = Bench::new(1);
    bench.submit(1, LONG * 100);
    bench.submit(1, Duration::ZERO);
    assert_eq!(bench.start(), 1);
    bench.end(1);
    assert_eq!(bench.answer(), 1);
    assert_eq!(bench.pending(), 1, "the delayed one still waits");
    assert!(bench.answers.try_recv().is_err());
}

#[test]
fn the_delayed_run_when_due_and_in_order() {
    let mut bench = Bench::new(1);
    let begun = Instant::now();
    // Far enough apart for a machine that is held up between the two.
    let delays = [Duration::from_millis(20), Duration::from_millis(400)];
    bench.submit(3, delays[1]);
    bench.submit(2, delays[0]);
    bench.submit(4, LONG * 100);
    for (mark, delay) in [2, 3].into_iter().zip(delays) {
        assert_eq!(bench.start(), mark);
        // Never early; how late is for the system to say.
        assert!(begun.elapsed() >= delay);
        bench.end(mark);
        assert_eq!(bench.answer(), mark);
    }
    assert_eq!(bench.pending(), 1);
}

#[test]
fn a_panic_refuses_and_costs_no_thread() {
    let mut bench = Bench::new(1);
    bench.submit(1, Duration::ZERO);
    assert_eq!(bench.start(), 1);
    // The channel closes: the job panics.
    bench.ends.remove(&1);
    let (mark, verdict) = bench.answers.recv_timeout(LONG).unwrap();
    assert_eq!((mark, verdict), (1, Verdict::Refused));
    let job = |bench: &mut Bench| {
        bench.submit(2, Duration::ZERO);
        assert_eq!(bench.start(), 2);
        bench.end(2);
    };
    job(&mut bench);
    assert_eq!(bench.answer(), 2);
    // Nor does a panic of the callback.
    let end = Arc::clone(&bench.ends[&2].1);
    let panics =
        Held { mark: [3; 32], started: bench.starts.clone(), end, verdict: Verdict::Refused };
    bench.end(2);
    let done = Box::new(|_| panic!("in the callback"));
    bench.pool.submit(panics, Duration::ZERO, done);
    assert_eq!(bench.start(), 3);
    job(&mut bench);
    assert_eq!(bench.answer(), 2);
}

#[test]
fn dropping_answers_the_running_and_drops_the_rest() {
    let mut bench = Bench::new(1);
    bench.submit(1, Duration::ZERO);
    assert_eq!(bench.start(), 1);
    bench.submit(1, Duration::ZERO);
    bench.submit(2, Duration::ZERO);
    bench.submit(2, LONG * 100);
    let Bench { pool, started, ends, answers, answered, .. } = bench;
    let shared = Arc::clone(&pool.shared);
    let dropping = thread::spawn(move || drop(pool));
    // Closed before the running one ends.
    while !shared.lock().closed {
        thread::yield_now();
    }
    ends[&1].0.send(()).unwrap();
    dropping.join().unwrap();
    drop(answered);
    let marks: Vec<_> = answers.iter().map(|(mark, _)| mark).collect();
    assert_eq!(marks, [1, 1]);
    assert_eq!(started.try_recv().ok(), None);
    assert_eq!(shared.lock().pending, 0);
}

#[test]
fn the_last_handle_may_go_in_a_callback() {
    let db = UserDb::demo().unwrap();
    let checker = Arc::new(Checker::with_workers(NonZeroUsize::MIN).unwrap());
    let (send, receive) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let held = Arc::clone(&checker);
    let check = db.check("admin", &digest_of("admin"));
    checker.submit(check, Duration::ZERO, move |_| {
        gone.recv_timeout(LONG).unwrap();
        drop(held);
        send.send(()).unwrap();
    });
    drop(checker);
    go.send(()).unwrap();
    receive.recv_timeout(LONG).unwrap();
}

#[test]
fn a_callback_may_submit_again() {
    let db = UserDb::demo().unwrap();
    let checker = Arc::new(Checker::new().unwrap());
    let (send, receive) = mpsc::channel();
    let again = Arc::clone(&checker);
    let second = db.check("admin", &digest_of("admin"));
    checker.submit(db.check("x", &digest_of("x")), Duration::ZERO, move |first| {
        assert_eq!(first, Verdict::Refused);
        again.submit(second, Duration::ZERO, move |verdict| {
            send.send(verdict).unwrap();
        });
    });
    let verdict = receive.recv_timeout(LONG).unwrap();
    assert_eq!(verdict, Verdict::Accepted(db.get("admin").unwrap()));
}

/// The marks of real checks: the same login is the same, and nothing else is.
#[test]
fn only_the_same_login_is_identical() {
    let db = UserDb::demo().unwrap();
    let mark = |name: &str, password: &str| db.check(name, &digest_of(password)).mark();
    assert_eq!(mark("a", "p"), mark("a", "p"));
    assert_ne!(mark("a", "p"), mark("b", "p"));
    assert_ne!(mark("a", "p"), mark("a", "q"));
    // Names too long for any user are nobody's, but not the same nobody's.
    let (long, longer) = ("x".repeat(65), "x".repeat(66));
    assert_ne!(mark(&long, "p"), mark(&longer, "p"));
    let Quick::Slow(quick) = db.quick("a", &digest_of("p")) else {
        panic!("nobody is called a");
    };
    assert_eq!(quick.mark(), mark("a", "p"));
}

#[cfg(target_os = "linux")]
#[test]
fn the_threads_step_back() {
    struct Nice(mpsc::Sender<i32>);
    impl Job for Nice {
        fn mark(&self) -> Mark {
            [0; 32]
        }
        fn run(&self) -> Verdict {
            let id = rustix::thread::gettid();
            let nice = rustix::process::getpriority_process(Some(id)).unwrap();
            self.0.send(nice).unwrap();
            Verdict::Refused
        }
    }
    let before = rustix::process::getpriority_process(None).unwrap();
    let (send, receive) = mpsc::channel();
    let pool = Pool::new(NonZeroUsize::MIN).unwrap();
    pool.submit(Nice(send), Duration::ZERO, Box::new(|_| ()));
    assert_eq!(receive.recv_timeout(LONG).unwrap(), 10.max(before));
    // And no other thread does.
    let after = rustix::process::getpriority_process(None).unwrap();
    assert_eq!(after, before);
}
