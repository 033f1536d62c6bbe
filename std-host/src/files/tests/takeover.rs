//! Uploads of one file by several sessions, one after the other and at once.

use std::slice::from_mut;

use super::*;

#[test]
fn what_the_older_session_handed_over_counts() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    let all = bytes(0, 400_000);
    shard.request(id(1), &meter, upload("a"));
    // Full buffers, and one that the shard has not even let go of.
    let mut taken = 0;
    while let len @ 1.. = shard.try_write(id(1), &all[taken..250_000]) {
        taken += len;
    }
    assert_eq!(taken, 250_000);
    shard.begin(id(2), &meter, upload("a"));
    assert_eq!(shard.outcome(id(2)), Outcome::Value(250_000));
    shard.wait_taken_over(id(1));
    // What comes now from the older one is not taken, and told.
    shard.write(id(1), &[0; 500_000]);
    assert_eq!(code(shard.request(id(1), &meter, eof(1))), Code::IN_USE.0);
    shard.release(id(1));
    shard.write(id(2), &all[250_000..]);
    assert_eq!(shard.request(id(2), &meter, eof(400_000)), DONE);
    assert_eq!(bench.read("meter/a"), all);
    bench.is_clean();
}

#[test]
fn a_takeover_waits_for_what_is_being_written() {
    let mut bench = Bench::with(|config| config.workers = NonZeroUsize::new(2).unwrap());
    let mut shard = bench.shard();
    let meter = device("meter");
    let all = bytes(0, 200_000);
    shard.request(id(1), &meter, upload("a"));
    let gate = Gate::at(&bench.files, |at| matches!(at, At::Write(_)));
    shard.write(id(1), &all[..200_000]);
    // One worker writes, the other comes to take over, waits, and is free for others.
    gate.wait();
    shard.begin(id(2), &meter, upload("a"));
    assert_eq!(shard.request(id(3), &meter, Request::Exists { name: path("a") }), DONE);
    shard.poll();
    assert_eq!((shard.waiting.get(&id(2)), &shard.taken_over[..]), (Some(&false), &[][..]));
    for _ in 0..10 {
        gate.open();
    }
    assert_eq!(shard.outcome(id(2)), Outcome::Value(200_000));
    gate.remove(&bench.files);
    shard.wait_taken_over(id(1));
    bench.is_clean_after(from_mut(&mut shard), 4);
    assert_eq!(bench.read("meter/a"), all);
}

#[test]
fn a_session_that_ends_by_itself_makes_way() {
    // With two workers the newer one takes over from one that has said that it ends; with one it comes after that.
    for (workers, ends_with_eof) in [(1, true), (1, false), (2, true), (2, false)] {
        let mut bench = Bench::with(|config| config.workers = NonZeroUsize::new(workers).unwrap());
        let mut shard = bench.shard();
        let meter = device("meter");
        shard.request(id(1), &meter, upload("a"));
        let gate = Gate::at(&bench.files, |at| matches!(at, At::Write(_)));
        shard.write(id(1), b"abc");
        gate.wait();
        if ends_with_eof {
            shard.begin(id(1), &meter, eof(3));
        } else {
            shard.release(id(1));
        }
        shard.begin(id(2), &meter, upload("a"));
        if workers == 2 {
            shard.queue_behind(id(3), &meter);
        }
        gate.remove(&bench.files);
        assert_eq!(shard.outcome(id(2)), Outcome::Value(3));
        if ends_with_eof {
            assert_eq!(shard.outcome(id(1)), DONE);
            // Its file is closed, and its session may go on.
            shard.write(id(2), b"d");
            assert_eq!(shard.request(id(1), &meter, upload("b")), Outcome::Value(0));
            shard.write(id(1), b"other");
            assert_eq!(shard.request(id(1), &meter, eof(5)), DONE);
        }
        assert_eq!(shard.taken_over, []);
        bench.is_clean_after(from_mut(&mut shard), 4);
    }
}

#[test]
fn the_newest_of_three_gets_the_file() {
    let mut bench = Bench::with(|config| config.workers = NonZeroUsize::new(2).unwrap());
    let mut shard = bench.shard();
    let meter = device("meter");
    shard.request(id(1), &meter, upload("a"));
    let gate = Gate::at(&bench.files, |at| matches!(at, At::Write(_)));
    shard.write(id(1), b"abc");
    gate.wait();
    shard.begin(id(2), &meter, upload("a"));
    // By the other worker, after the one before.
    shard.queue_behind(id(8), &meter);
    shard.begin(id(3), &meter, upload("a"));
    // The second one has waited in vain.
    assert_eq!(code(shard.outcome(id(2))), Code::IN_USE.0);
    shard.wait_taken_over(id(2));
    // And one that ends while it waits does no harm.
    shard.queue_behind(id(9), &meter);
    shard.release(id(3));
    shard.begin(id(4), &meter, upload("a"));
    gate.open();
    gate.remove(&bench.files);
    assert_eq!(shard.outcome(id(4)), Outcome::Value(3));
    shard.wait_taken_over(id(1));
    assert!(!shard.taken_over.contains(&id(4)));
    bench.is_clean_after(from_mut(&mut shard), 10);
}

#[test]
fn an_older_question_does_not_take_over_from_a_newer_one() {
    let mut bench = Bench::with(|config| config.workers = NonZeroUsize::new(2).unwrap());
    let mut shard = bench.shard();
    let meter = device("meter");
    bench.put("meter/a", "");
    let gate = Gate::at(&bench.files, |at| at == At::Task);
    // The worker of the older one is slow.
    shard.begin(id(1), &meter, upload("a"));
    gate.wait();
    *bench.files.inner.probe.lock().unwrap() = None;
    assert_eq!(shard.request(id(2), &meter, upload("a")), Outcome::Value(0));
    gate.open();
    assert_eq!(code(shard.outcome(id(1))), Code::IN_USE.0);
    shard.wait_taken_over(id(1));
    shard.write(id(2), b"abc");
    assert_eq!(shard.request(id(2), &meter, eof(3)), DONE);
    assert_eq!(shard.taken_over, [id(1)]);
    bench.is_clean_after(from_mut(&mut shard), 3);
}

#[test]
fn hard_links_are_one_file() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    bench.put("meter/a", "abc");
    fs::hard_link(bench.at("meter/a"), bench.at("meter/b")).unwrap();
    shard.request(id(1), &meter, upload("a"));
    shard.write(id(1), b"def");
    assert_eq!(shard.request(id(2), &meter, upload("b")), Outcome::Value(6));
    shard.wait_taken_over(id(1));
    bench.is_clean_after(from_mut(&mut shard), 3);
}

#[test]
fn a_file_that_is_replaced_meanwhile_is_another_one() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    shard.request(id(1), &meter, upload("a"));
    shard.write(id(1), b"old");
    assert!(bench.files.finish(LONG));
    // Not through the server, which would not do it.
    fs::remove_file(bench.at("meter/a")).unwrap();
    assert_eq!(shard.request(id(2), &meter, upload("a")), Outcome::Value(0));
    shard.write(id(2), b"new");
    assert_eq!(shard.request(id(2), &meter, eof(3)), DONE);
    assert_eq!(shard.request(id(1), &meter, eof(3)), DONE);
    assert_eq!((bench.read("meter/a"), &shard.taken_over[..]), (b"new".into(), &[][..]));
    bench.is_clean();
}

#[test]
fn an_upload_waits_for_a_deletion_and_begins_anew() {
    let meter = device("meter");
    let file = delete("d", "[Request]\r\nItem=a");
    let tree = Request::DeleteDir { parent: Path::ROOT, name: path("d") };
    for deletion in [file, tree] {
        for write in [false, true] {
            let mut bench = Bench::with(|config| config.workers = NonZeroUsize::new(2).unwrap());
            let mut shard = bench.shard();
            bench.put("meter/d/a", "old");
            let gate = Gate::at(&bench.files, |at| at == At::Delete);
            shard.begin(id(1), &meter, deletion);
            gate.wait();
            let begin = if write {
                Request::Open { name: path("d/a"), write }
            } else {
                Request::Upload { dir: path("d"), name: path("a") }
            };
            shard.begin(id(2), &meter, begin);
            // The other worker has seen that.
            shard.queue_behind(id(3), &meter);
            shard.poll();
            assert_eq!(shard.waiting.get(&id(2)), Some(&false));
            gate.remove(&bench.files);
            // The tree goes before the file is made anew, or stays because it has been.
            match (shard.outcome(id(1)), code(shard.outcome(id(2)))) {
                (DONE, 0) if !matches!(deletion, Request::DeleteDir { .. }) => {}
                (DONE, code) => {
                    assert_eq!(code, Code::NO_DIR.0);
                    continue;
                }
                (Outcome::Failed(Code::DELETE_DIR, _), 0) => {}
                other => panic!("{other:?}"),
            }
            shard.write(id(2), b"new");
            bench.is_clean_after(from_mut(&mut shard), 4);
            assert_eq!(bench.read("meter/d/a"), b"new");
        }
    }
}

/// The count of a user's bytes, which the one needs that is to give up the file.
#[test]
fn who_waits_for_a_file_keeps_nothing_that_others_need() {
    let mut bench = Bench::with(|config| {
        config.workers = NonZeroUsize::new(2).unwrap();
        config.max_user_bytes = Some(1000);
    });
    let mut shard = bench.shard();
    let meter = device("meter");
    shard.request(id(1), &meter, upload("other"));
    let gate = Gate::at(&bench.files, |at| matches!(at, At::Write(_)));
    shard.write(id(1), b"x");
    gate.wait();
    // Both wait for the count; the file is not there yet.
    for session in [2, 3] {
        shard.begin(id(session), &meter, upload("a"));
        shard.queue_behind(id(session + 2), &meter);
    }
    // The first one makes the file, the second one has the count next and is slow.
    let (arrive, reached) = channel();
    let (open, opened) = channel::<()>();
    let (arrive, opened) = (Mutex::new((0, arrive)), Mutex::new(opened));
    bench.files.inner.set_probe(move |at| {
        if at == At::Task {
            let mut arrived = arrive.lock().unwrap();
            arrived.0 += 1;
            if arrived.0 == 2 {
                arrived.1.send(()).unwrap();
                drop(arrived);
                let _ = opened.lock().unwrap().recv_timeout(LONG);
            }
        }
        Ok(())
    });
    gate.open();
    assert_eq!(shard.outcome(id(2)), Outcome::Value(0));
    reached.recv_timeout(LONG).unwrap();
    shard.write(id(2), b"abc");
    open.send(()).unwrap();
    assert_eq!(shard.outcome(id(3)), Outcome::Value(3));
    bench.is_clean_after(from_mut(&mut shard), 6);
}

#[test]
fn deleting_and_uploading_do_not_lose_what_is_uploaded() {
    let mut bench = Bench::new();
    let meter = device("meter");
    let rounds = 300;
    let mut shards = [bench.shard(), bench.shard()];
    let [writer, deleter] = &mut shards;
    fs::create_dir_all(bench.at("meter/d")).unwrap();
    std::thread::scope(|scope| {
        let meter = &meter;
        scope.spawn(move || {
            for _ in 0..rounds * 4 {
                let outcome = deleter.request(id(1), meter, delete("d", "[Request]\r\nItem=a"));
                assert!(
                    [0, Code::IN_USE.0, Code::NO_DIR.0].contains(&code(outcome)),
                    "{outcome:?}"
                );
                let tree = Request::DeleteDir { parent: Path::ROOT, name: path("d") };
                deleter.request(id(1), meter, tree);
            }
        });
        for round in 0..rounds {
            let request = Request::CreateDir { parent: Path::ROOT, name: path("d") };
            assert_eq!(writer.request(id(2), meter, request), DONE);
            let request = Request::Upload { dir: path("d"), name: path("a") };
            let Outcome::Value(from) = writer.request(id(2), meter, request) else { continue };
            assert!(from <= 5, "{from}");
            writer.write(id(2), &b"12345"[from as usize..]);
            // While it is open nobody deletes it: its name leads to it.
            assert!(bench.at("meter/d/a").exists(), "round {round}");
            assert_eq!(writer.request(id(2), meter, eof(5)), DONE);
        }
    });
    bench.is_clean_after(&mut shards, 3);
}

/// Every session uploads the same file from where it is told, and stops when it is taken over. Whatever the order,
/// the file is one whole.
#[test]
fn fifty_sessions_race_for_one_file() {
    let mut bench = Bench::new();
    let meter = device("meter");
    let all = bytes(0, 3_000_000);
    let mut shards: Vec<Shard> = (0..5).map(|_| bench.shard()).collect();
    let finished: usize = std::thread::scope(|scope| {
        let (all, meter) = (&all, &meter);
        let threads: Vec<_> = shards
            .iter_mut()
            .map(|shard| {
                scope.spawn(move || {
                    let mut finished = 0;
                    for session in 0..10 {
                        let session = id(session);
                        // The answer may be that another one was faster.
                        if let Outcome::Value(from) = shard.request(session, meter, upload("a")) {
                            let end = (from as usize + 250_000).min(all.len());
                            shard.write(session, &all[from as usize..end]);
                            if end == all.len() {
                                let outcome = shard.request(session, meter, eof(end as u64));
                                finished += usize::from(outcome == DONE);
                            }
                        }
                        shard.poll();
                    }
                    finished
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    bench.is_clean_after(&mut shards, 10);
    let stored = bench.read("meter/a");
    assert!(!stored.is_empty() && stored == all[..stored.len()], "{} bytes", stored.len());
    // One session may still finish it.
    shards[0].upload_all(id(99), &meter, "a", &all);
    assert_eq!(bench.read("meter/a"), all);
    assert!(finished <= 50);
}

/// All at once, so that they stand in each other's way.
#[test]
fn of_fifty_that_ask_at_once_the_last_one_stays() {
    for workers in [1, 4] {
        let mut bench = Bench::with(|config| config.workers = NonZeroUsize::new(workers).unwrap());
        let mut shard = bench.shard();
        let meter = device("meter");
        for session in 0..50 {
            shard.begin(id(session), &meter, upload("a"));
        }
        for session in 0..50 {
            let outcome = shard.outcome(id(session));
            assert!(matches!(code(outcome), 0 | 11), "{outcome:?}");
        }
        for session in 0..49 {
            shard.wait_taken_over(id(session));
        }
        assert!(bench.files.finish(LONG));
        shard.poll();
        assert_eq!((shard.taken_over.len(), bench.files.writing()), (49, 1));
        shard.write(id(49), b"abc");
        assert_eq!(shard.request(id(49), &meter, eof(3)), DONE);
        bench.is_clean_after(from_mut(&mut shard), 50);
    }
}
