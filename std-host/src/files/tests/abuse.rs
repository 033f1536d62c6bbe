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
    let gate = Gate::at(&bench.files, |at| at == At::List);
    // Of all of these, one is being carried out.
    for session in 1..50 {
        shard.begin(id(session), &glutton, Request::Files { dir: Path::ROOT });
    }
    gate.wait();
    shard.begin(id(60), &meter, Request::Files { dir: Path::ROOT });
    gate.wait();
    // The second one that came so far is the meter's: both are let through, and the meter has its list, while only one
    // more of the others has begun.
    gate.open();
    gate.open();
    assert_eq!(shard.outcome(id(60)), Outcome::List(10));
    shard.poll();
    let done = (1..50).filter(|session| shard.waiting.get(&id(*session)) == Some(&true)).count();
    assert!(done <= 1, "{done} of the others came before");
    gate.remove(&bench.files);
    bench.is_clean_after(from_mut(&mut shard), 61);
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
        shard.request(id(1), &meter, read);
        let in_use = code(shard.request(id(2), &meter, delete("d", "[Request]\r\nItem=a")));
        assert_eq!(in_use, Code::IN_USE.0);
        let tree = Request::DeleteDir { parent: Path::ROOT, name: path("d") };
        assert_eq!(code(shard.request(id(2), &meter, tree)), Code::DELETE_DIR.0);
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
