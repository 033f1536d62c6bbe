//! Many sessions, slow workers, little memory, panics.

use super::buffers::{LARGE, SMALL};
use super::transfer::MAX_HELD;
use std::slice::from_mut;

use super::*;

#[test]
fn uploads_and_downloads_of_256_sessions_at_once() {
    let mut bench = Bench::new();
    let mut shards: Vec<Shard> = (0..4).map(|_| bench.shard()).collect();
    let len = 700_000;
    let (files, limit) = (Arc::clone(&bench.files), 64 << 20);
    std::thread::scope(|scope| {
        for (number, shard) in shards.iter_mut().enumerate() {
            let files = &files;
            scope.spawn(move || {
                let user = device(&number.to_string());
                let content = |session: u64| bytes(session * 1000, len);
                let sessions = 0..64;
                for session in sessions.clone() {
                    shard.begin(id(session), &user, upload(&session.to_string()));
                }
                for session in sessions.clone() {
                    assert_eq!(shard.outcome(id(session)), Outcome::Value(0));
                }
                // As the core does it: whoever can is served, whoever cannot waits.
                let mut sent = vec![0; 64];
                while sent.iter().any(|sent| *sent < len) {
                    for session in sessions.clone() {
                        let done = &mut sent[session as usize];
                        let end = (*done + 40_000).min(len);
                        if *done < len && shard.waiting.get(&id(session)) != Some(&false) {
                            shard.waiting.remove(&id(session));
                            let bytes = bytes(session * 1000 + *done as u64, end - *done);
                            *done += shard.try_write(id(session), &bytes);
                        }
                    }
                    shard.store.end_turn();
                    shard.poll();
                    assert!(files.memory() <= limit + 256 * 2 * SMALL, "{files:?}");
                }
                for session in sessions.clone() {
                    shard.begin(id(session), &user, eof(len as u64));
                }
                for session in sessions.clone() {
                    assert_eq!(shard.outcome(id(session)), DONE);
                }
                for session in sessions.clone() {
                    let name = session.to_string();
                    let get = Request::Download { dir: Path::ROOT, name: path(&name), offset: 0 };
                    shard.begin(id(session), &user, get);
                }
                for session in sessions {
                    assert_eq!(shard.outcome(id(session)), Outcome::Value(len as u64));
                    assert!(shard.read_exact(id(session), len as u64) == content(session));
                }
            });
        }
    });
    bench.is_clean();
}

#[test]
fn a_session_has_its_share_of_memory_and_no_more() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    shard.request(id(1), &meter, upload("a"));
    let gate = Gate::at(&bench.files, |at| matches!(at, At::Write(_)));
    let all = bytes(0, 1_000_000);
    let mut taken = 0;
    while let len @ 1.. = shard.try_write(id(1), &all[taken..]) {
        taken += len;
    }
    assert_eq!((taken, bench.files.memory()), (MAX_HELD * LARGE, MAX_HELD * LARGE));
    gate.wait();
    // No room before something has been written.
    shard.poll();
    assert_eq!(shard.waiting.get(&id(1)), Some(&false));
    for _ in 0..100 {
        gate.open();
    }
    shard.wait(id(1));
    gate.remove(&bench.files);
    shard.write(id(1), &all[taken..]);
    assert_eq!(shard.request(id(1), &meter, eof(1_000_000)), DONE);
    assert_eq!(bench.read("meter/a"), all);
    bench.is_clean();
}

#[test]
fn without_memory_everybody_goes_on_in_small_pieces() {
    for memory in [0, LARGE, 3 * LARGE] {
        let mut bench = Bench::with(|config| config.memory = memory);
        let mut shard = bench.shard();
        let meter = device("meter");
        let all = bytes(0, 200_000);
        let names: Vec<String> = (0..20).map(|name| name.to_string()).collect();
        for (session, name) in (0..).zip(&names) {
            assert_eq!(shard.request(id(session), &meter, upload(name)), Outcome::Value(0));
        }
        let mut sent = vec![0; names.len()];
        while sent.iter().any(|sent| *sent < all.len()) {
            for session in 0..names.len() {
                let at = id(session as u64);
                if shard.waiting.get(&at) != Some(&false) {
                    shard.waiting.remove(&at);
                    let len = shard.try_write(at, &all[sent[session]..]);
                    sent[session] += len;
                }
            }
            assert!(bench.files.memory() <= memory + names.len() * SMALL);
            shard.store.end_turn();
            shard.poll();
        }
        for session in 0..20 {
            assert_eq!(shard.request(id(session), &meter, eof(200_000)), DONE);
        }
        for (session, name) in (0..).zip(&names) {
            let get = Request::Download { dir: Path::ROOT, name: path(name), offset: 0 };
            assert_eq!(shard.request(id(session), &meter, get), Outcome::Value(200_000));
            shard.read(id(session), 1);
        }
        // What is shown, and one more: nothing for 20 readers who do not read.
        assert!(bench.files.memory() <= memory / 2 + names.len() * 2 * SMALL);
        for session in 0..20 {
            assert_eq!(shard.read_exact(id(session), 199_999), all[1..]);
        }
        bench.is_clean();
    }
}

#[test]
fn lists_that_nobody_reads_do_not_use_up_the_memory() {
    let mut bench = Bench::with(|config| config.memory = 10_000);
    let mut shard = bench.shard();
    let admin = operator();
    for number in 0..100 {
        bench.put(&format!("{number:0>80}"), "");
    }
    let list = Request::Files { dir: Path::ROOT };
    let Outcome::List(len) = shard.request(id(1), &admin, list) else { panic!() };
    // One there must be room for; the next one waits for better times.
    let later = "too many long lists are being read; try again later";
    assert_eq!(shard.request(id(2), &admin, list), Outcome::Failed(Code::UNKNOWN, later));
    shard.read_exact(id(1), len.into());
    assert_eq!(shard.request(id(2), &admin, list), Outcome::List(len));
    shard.release(id(2));
    bench.is_clean();
}

/// Sessions that wait for each other do not use up the workers: with a single one all of this still ends.
#[test]
fn one_worker_is_enough_for_everything_at_once() {
    let mut bench = Bench::with(|config| {
        config.workers = NonZeroUsize::MIN;
        config.max_user_bytes = Some(10_000_000);
        config.max_user_files = Some(1000);
    });
    let mut shards: Vec<Shard> = (0..4).map(|_| bench.shard()).collect();
    std::thread::scope(|scope| {
        for (number, shard) in shards.iter_mut().enumerate() {
            scope.spawn(move || {
                let (meter, admin) = (device("meter"), operator());
                for round in 0..30 {
                    // Takeovers, counts that are void, lists, trees: in each other's way.
                    shard.begin(id(1), &meter, upload("same"));
                    shard.begin(id(2), &meter, Request::Files { dir: Path::ROOT });
                    let own = format!("{number}-{round}");
                    shard.begin(id(3), &meter, upload(&own));
                    let tree = Request::DeleteDir { parent: Path::ROOT, name: path("tree") };
                    shard.begin(id(4), &meter, tree);
                    let make = Request::CreateDir { parent: path("meter"), name: path("tree") };
                    shard.begin(id(5), &admin, make);
                    for session in [5, 4, 3, 2, 1] {
                        shard.outcome(id(session));
                    }
                    shard.write(id(1), &[1; 5000]);
                    shard.write(id(3), &[1; 5000]);
                    assert_eq!(shard.request(id(3), &meter, eof(5000)), DONE);
                    shard.request(id(1), &meter, Request::Eof { size: None });
                }
            });
        }
    });
    bench.is_clean_after(&mut shards, 6);
}

/// As many slow requests as there may be leave workers to those who only want their bytes written.
#[test]
fn slow_requests_leave_workers_to_the_others() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    let pool = &bench.files.inner.pool;
    let waiting = transfer::Transfer::new(7, id(7), SocketAddr::from(([0; 4], 0)));
    // Whoever has them does not give them back.
    let permit = |owner: &str| pool.permit(slow::Kind::Tree, &Arc::from(owner), &waiting).unwrap();
    let permits = [permit("one"), permit("other")];
    for session in 1..20 {
        shard.begin(id(session), &meter, Request::Files { dir: Path::ROOT });
    }
    shard.upload_all(id(20), &meter, "a", &bytes(0, 1_000_000));
    shard.poll();
    assert!(shard.waiting.values().all(|done| !done));
    drop(permits);
    for session in 1..20 {
        assert!(matches!(shard.outcome(id(session)), Outcome::List(_)));
    }
    bench.is_clean_after(from_mut(&mut shard), 21);
}

#[test]
fn a_panic_costs_no_worker_and_lets_nobody_wait() {
    let mut bench = Bench::with(|config| config.workers = NonZeroUsize::MIN);
    let mut shard = bench.shard();
    let meter = device("meter");
    let internal = Outcome::Failed(Code::UNKNOWN, "an error within the server");
    shard.request(id(1), &meter, upload("a"));
    shard.request(id(2), &meter, upload("b"));
    bench.files.inner.set_probe(|at| {
        assert_ne!(at, At::Task, "told to panic");
        Ok(())
    });
    assert_eq!(shard.request(id(1), &meter, Request::Files { dir: Path::ROOT }), internal);
    bench.files.inner.set_probe(|at| {
        assert!(!matches!(at, At::Write(_)), "told to panic");
        Ok(())
    });
    // More than it may have: it waits for the writer that panics.
    shard.write(id(2), &[1; 500_000]);
    assert_eq!(shard.request(id(2), &meter, eof(500_000)), internal);
    *bench.files.inner.probe.lock().unwrap() = None;
    for session in [1, 2] {
        shard.upload_all(id(session), &meter, "c", b"abc");
    }
    bench.is_clean_after(from_mut(&mut shard), 3);
}

#[test]
fn the_threads_step_back_and_end_with_their_work() {
    let (send, receive) = channel();
    let mut bench = Bench::with(|config| config.workers = NonZeroUsize::MIN);
    let mut shard = bench.shard();
    let meter = device("meter");
    let send = Mutex::new(send);
    bench.files.inner.set_probe(move |_| {
        let thread = Some(rustix::thread::gettid());
        let _ = send.lock().unwrap().send(rustix::process::getpriority_process(thread).unwrap());
        Ok(())
    });
    let before = rustix::process::getpriority_process(None).unwrap();
    shard.request(id(1), &meter, upload("a"));
    assert_eq!(receive.recv_timeout(LONG).unwrap(), before.max(10));
    // Handed over and let go: it is still written, then the threads and the probe with them are gone.
    shard.write(id(1), &bytes(0, 100_000));
    shard.release(id(1));
    let Bench { dir, files, .. } = bench;
    drop((shard, files));
    while receive.recv_timeout(LONG).is_ok() {}
    assert_eq!(fs::read(dir.path().join("meter/a")).unwrap(), bytes(0, 100_000));
}

#[test]
fn what_a_shard_has_taken_when_it_ends_is_kept() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    shard.request(id(1), &meter, upload("a"));
    let all = bytes(0, 100_000);
    assert_eq!(shard.try_write(id(1), &all), all.len());
    // In the middle of a turn.
    drop(shard);
    bench.is_clean();
    assert_eq!(bench.read("meter/a"), all);
}

#[test]
fn a_callback_that_panics_is_not_the_files_fault() {
    let dir = tempfile::tempdir().unwrap();
    let config = FilesConfig { workers: NonZeroUsize::MIN, memory: 0, ..config(dir.path()) };
    let files = Arc::new(Files::start(&config, Arc::new(|_| panic!("told to"))).unwrap());
    let mut store = ShardFiles::new(0, Arc::clone(&files));
    let address = SocketAddr::from(([127, 0, 0, 1], 9999));
    let now = Instant::from_ticks(0);
    for number in 0..2 {
        let job = JobId::from_bits(number);
        let ask = Ask { now, id: id(1), job, local: address, remote: address };
        store.request(&ask, Some(&device("meter")), upload("a"));
        assert!(files.finish(LONG));
        assert_eq!(store.answer(id(1)), Outcome::Value(0));
    }
}
