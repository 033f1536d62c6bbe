//! Users who want more than their share.

use std::slice::from_mut;

use super::*;

/// One user's many sessions with slow requests have one turn, and then the next user has.
#[test]
fn one_user_does_not_keep_the_others_from_their_lists() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let (glutton, meter) = (device("glutton"), device("meter"));
    bench.put("meter/a", b"1");
    let (arrive, reached) = channel();
    let (open, opened) = channel::<()>();
    let first = Mutex::new(Some((arrive, opened)));
    bench.files.inner.set_probe(move |at| {
        // Only the first list waits.
        let first = if at == At::List { first.lock().unwrap().take() } else { None };
        if let Some((arrive, opened)) = first {
            let _ = arrive.send(());
            let _ = opened.recv_timeout(LONG);
        }
        Ok(())
    });
    for session in 1..50 {
        shard.begin(id(session), &glutton, Request::Files { dir: Path::ROOT });
    }
    reached.recv_timeout(LONG).unwrap();
    // There is a second permit, and it is not the glutton's.
    shard.begin(id(60), &meter, Request::Files { dir: Path::ROOT });
    assert_eq!(shard.outcome(id(60)), Outcome::List(10));
    shard.poll();
    let done = (1..50).filter(|session| shard.waiting.get(&id(*session)) == Some(&true)).count();
    assert_eq!(done, 0, "the glutton's only permit has not come back");
    drop(open);
    for session in 1..50 {
        assert_eq!(shard.outcome(id(session)), Outcome::List(0));
    }
    bench.is_clean_after(from_mut(&mut shard), 61);
}

#[test]
fn users_have_their_turns_one_after_the_other() {
    let pool = pool::Pool::new(NonZeroUsize::MIN);
    let transfer = |number| transfer::Transfer::new(0, id(number), SocketAddr::from(([0; 4], 0)));
    let owners = ["one", "one", "one", "one", "two", "three"].map(Arc::from);
    let mut permit = pool.permit(slow::Kind::Tree, &owners[0], &transfer(0));
    for (number, owner) in (1..).zip(&owners[1..]) {
        assert!(pool.permit(slow::Kind::Tree, owner, &transfer(number)).is_none());
    }
    let mut turns = Vec::new();
    while permit.take().is_some() {
        // It has come back.
        if turns.len() < owners.len() - 1 {
            let next = pool.next().unwrap().id.to_bits();
            permit = Some(pool.granted(slow::Kind::Tree, Arc::clone(&owners[next as usize])));
            turns.push(next);
        }
    }
    assert_eq!(turns, [1, 4, 5, 2, 3]);
    assert!(pool.permit(slow::Kind::Tree, &owners[0], &transfer(6)).is_some());
}

/// Sessions that have ended meanwhile do not keep the others waiting.
#[test]
fn lists_for_nobody_are_not_made() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let glutton = device("glutton");
    let gate = Gate::at(&bench.files, |at| at == At::List);
    for session in 0..20 {
        shard.begin(id(session), &glutton, Request::Files { dir: Path::ROOT });
    }
    gate.wait();
    (0..20).for_each(|session| shard.release(id(session)));
    gate.open();
    bench.is_clean();
    assert!(gate.reached.try_recv().is_err(), "a directory was read for nobody");
}

/// A long list takes what it is long, and while it is not read, no directory is read that nobody could be told of.
#[test]
fn lists_that_would_be_refused_are_not_made() {
    let mut bench = Bench::with(|config| config.memory = 0);
    let mut shard = bench.shard();
    let admin = operator();
    (0..100).for_each(|number| bench.put(&format!("{number}"), ""));
    let list = Request::Files { dir: Path::ROOT };
    let Outcome::List(len) = shard.request(id(1), &admin, list) else { panic!() };
    assert_eq!(bench.files.memory(), len as usize);
    let gate = Gate::at(&bench.files, |at| at == At::List);
    let later = "too many long lists are being read; try again later";
    assert_eq!(shard.request(id(2), &admin, list), Outcome::Failed(Code::UNKNOWN, later));
    gate.remove(&bench.files);
    bench.is_clean_after(from_mut(&mut shard), 3);
}

/// Lists that are under way are not in the way of the count that a first upload needs.
#[test]
fn a_first_count_does_not_wait_for_lists() {
    let mut bench = Bench::with(|config| config.max_user_bytes = Some(1_000));
    let mut shard = bench.shard();
    let gate = Gate::at(&bench.files, |at| at == At::List);
    for session in 1..20 {
        let user = device(&format!("meter-{session}"));
        shard.begin(id(session), &user, Request::Files { dir: Path::ROOT });
    }
    gate.wait();
    gate.wait();
    shard.upload_all(id(20), &device("camera"), "a", b"picture");
    gate.remove(&bench.files);
    bench.is_clean_after(from_mut(&mut shard), 21);
}

/// What is deleted while somebody reads it takes room that nobody counts.
#[test]
fn where_users_have_limits_a_file_that_is_read_is_not_deleted() {
    let mut bench = Bench::with(|config| config.max_user_bytes = Some(1_000_000));
    let mut shard = bench.shard();
    let meter = device("meter");
    let open = Request::Open { name: path("d/a"), write: false };
    let get = Request::Download { dir: path("d"), name: path("a"), offset: 0 };
    for read in [open, get] {
        bench.put("meter/d/a", bytes(0, 900_000));
        (0..50).for_each(|number| bench.put(&format!("meter/d/{number}"), ""));
        shard.request(id(1), &meter, read);
        let in_use = code(shard.request(id(2), &meter, delete("d", "[Request]\r\nItem=a")));
        assert_eq!(in_use, Code::IN_USE.0);
        let tree = Request::DeleteDir { parent: Path::ROOT, name: path("d") };
        assert_eq!(code(shard.request(id(2), &meter, tree)), Code::DELETE_DIR.0);
        assert_eq!(fs::read_dir(bench.at("meter/d")).unwrap().count(), 51, "it stays whole");
        shard.release(id(1));
        assert!(bench.files.finish(LONG));
        assert_eq!(shard.request(id(2), &meter, delete("d", "[Request]\r\nItem=a")), DONE);
    }
    bench.is_clean_after(from_mut(&mut shard), 3);
}

/// The other descriptors are the sessions'.
#[test]
fn no_more_files_are_open_than_may_be() {
    let mut bench = Bench::with(|config| config.max_open = 3);
    let mut shard = bench.shard();
    let admin = operator();
    bench.put("r", bytes(0, 400_000));
    shard.request(id(1), &admin, upload("a"));
    shard.request(id(2), &admin, Request::Open { name: path("b"), write: true });
    let get = Request::Download { dir: Path::ROOT, name: path("r"), offset: 0 };
    assert_eq!(shard.request(id(3), &admin, get), Outcome::Value(400_000));
    let refused = shard.request(id(4), &admin, upload("c"));
    assert!(matches!(refused, Outcome::Failed(Code::UNKNOWN, text) if text.contains("too many")));
    // What has one may open another instead; what could not be opened has none.
    assert_eq!(shard.request(id(1), &admin, upload("c")), Outcome::Value(0));
    let missing = Request::Open { name: path("none"), write: false };
    assert_eq!(code(shard.request(id(1), &admin, missing)), Code::NO_FILE.0);
    assert_eq!(shard.request(id(4), &admin, upload("d")), Outcome::Value(0));
    // A download that has been read to its end is closed.
    assert_eq!(shard.read_exact(id(3), 400_000).len(), 400_000);
    assert!(bench.files.finish(LONG));
    assert_eq!(shard.request(id(5), &admin, upload("e")), Outcome::Value(0));
    bench.is_clean_after(from_mut(&mut shard), 6);
}

/// However many sessions one user has, the others get at their files and lists.
#[test]
fn one_user_does_not_take_all_there_is() {
    let mut bench = Bench::with(|config| {
        config.max_open = 64;
        config.memory = 20_000;
    });
    let mut shard = bench.shard();
    let (greedy, other) = (device("greedy"), device("other"));
    let refused = |outcome| matches!(outcome, Outcome::Failed(Code::UNKNOWN, text) if text.starts_with("too many"));
    let opened = (0..64)
        .take_while(|n| !refused(shard.request(id(*n), &greedy, upload(&n.to_string()))))
        .count();
    assert_eq!(opened, 56, "all but an eighth");
    assert_eq!(shard.request(id(100), &other, upload("a")), Outcome::Value(0));
    (0..64).for_each(|session| shard.release(id(session)));

    let lister = device("lister");
    for user in ["lister", "other"] {
        (0..10).for_each(|number| bench.put(&format!("{user}/{number:0>66}"), ""));
    }
    let list = Request::Files { dir: Path::ROOT };
    let listed = (200..264)
        .take_while(|session| !refused(shard.request(id(*session), &lister, list)))
        .count();
    let one = bench.files.memory() / listed;
    let most = 10_000 - 10_000 / 8;
    assert!((most - one + 1..=most).contains(&(one * listed)), "{listed} lists of {one}");
    assert!(matches!(shard.request(id(101), &other, list), Outcome::List(_)));
    bench.is_clean_after(from_mut(&mut shard), 300);
}

/// With no descriptor left for another file, a device still goes on with the one that its dead connection has open.
#[test]
fn an_upload_is_taken_over_when_no_more_files_may_be_open() {
    let mut bench = Bench::with(|config| config.max_open = 1);
    let mut shard = bench.shard();
    let meter = device("meter");
    bench.put("meter/b", b"1");
    shard.request(id(1), &meter, upload("a"));
    shard.write(id(1), b"abc");
    assert_eq!(shard.request(id(2), &meter, upload("a")), Outcome::Value(3));
    shard.wait_taken_over(id(1));
    let many = "too many files are open on the server, try again later";
    for name in ["b", "c"] {
        let refused = shard.request(id(3), &meter, upload(name));
        assert_eq!(refused, Outcome::Failed(Code::UNKNOWN, many));
    }
    assert!(!bench.at("meter/c").exists(), "it leaves nothing");
    shard.write(id(2), b"def");
    assert_eq!(shard.request(id(2), &meter, eof(6)), DONE);
    assert_eq!(shard.request(id(3), &meter, upload("b")), Outcome::Value(1));
    bench.is_clean_after(from_mut(&mut shard), 4);
}

/// What has been uploaded is whole, whether or not there is a descriptor left to open anything else.
#[test]
fn the_end_of_an_upload_opens_nothing() {
    for sync in [false, true] {
        let mut bench = Bench::with(|config| config.sync = sync);
        let mut shard = bench.shard();
        let meter = device("meter");
        shard.request(id(1), &meter, upload("a"));
        shard.write(id(1), b"abc");
        // Nothing is opened there.
        fs::rename(bench.at("meter"), bench.at("moved")).unwrap();
        bench.put("meter", "");
        assert_eq!(shard.request(id(1), &meter, eof(3)), DONE, "sync: {sync}");
        assert_eq!(bench.read("moved/a"), b"abc");
        bench.is_clean_after(from_mut(&mut shard), 2);
    }
}

/// An operator's upload that began before anybody counted.
#[test]
fn what_an_operator_adds_after_the_first_count_is_counted() {
    let mut bench = Bench::with(|config| config.max_user_bytes = Some(1000));
    let mut shard = bench.shard();
    let (admin, meter) = (operator(), device("meter"));
    bench.put("meter/a", "");
    shard.request(id(1), &admin, upload("meter/a"));
    shard.upload_all(id(2), &meter, "b", &[2; 100]);
    shard.write(id(1), &[1; 800]);
    assert_eq!(shard.request(id(1), &admin, eof(800)), DONE);
    shard.request(id(2), &meter, upload("c"));
    shard.write(id(2), &[3; 101]);
    let over = Outcome::Failed(Code::UNKNOWN, "over the user's limit of bytes");
    assert_eq!(shard.request(id(2), &meter, eof(101)), over);
    assert_eq!(bench.read("meter/c"), [3; 100]);
    bench.is_clean_after(from_mut(&mut shard), 3);
}

#[test]
fn names_of_others_making_leave_no_trace_in_memory() {
    let mut bench = Bench::with(|config| config.max_user_files = Some(10));
    let mut shard = bench.shard();
    let admin = operator();
    shard.upload_all(id(1), &device("meter"), "a", b"1");
    for number in 0..100 {
        let name = format!("none-{number}/a");
        shard.request(id(2), &admin, Request::Open { name: path(&name), write: true });
    }
    assert_eq!(bench.files.inner.usages.len(), 1);
    bench.is_clean_after(from_mut(&mut shard), 3);
}

#[test]
fn places_that_no_file_reaches_are_the_peers_mistake() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let admin = operator();
    shard.request(id(1), &admin, Request::Open { name: path("a"), write: true });
    let far = shard.request(id(1), &admin, Request::SetSize(1 << 63));
    assert_eq!(code(far), Code::PARAMETER.0);
    shard.request(id(1), &admin, Request::SetPosition((1 << 63) - 1));
    shard.write(id(1), b"xy");
    assert_eq!(code(shard.request(id(1), &admin, Request::Written)), Code::PARAMETER.0);
    bench.is_clean_after(from_mut(&mut shard), 2);
}

#[test]
fn what_peers_cannot_name_is_not_listed() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    for name in ["a\\b", "c:d", "e"] {
        bench.put(name, b"1");
    }
    assert_eq!(shard.list(id(1), &operator(), Request::Files { dir: Path::ROOT }), "|e=1");
    bench.is_clean_after(from_mut(&mut shard), 2);
}
