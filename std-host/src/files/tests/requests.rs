//! Every request, and every code that it may get.

use super::*;

#[test]
fn an_upload_is_resumed_where_it_was_cut() {
    let mut bench = Bench::with(|config| config.sync = true);
    let mut shard = bench.shard();
    let meter = device("meter");
    let all = bytes(0, 300_000);
    assert_eq!(shard.request(id(1), &meter, upload("a.bin")), Outcome::Value(0));
    shard.write(id(1), &all[..100_001]);
    // Cut without a word.
    shard.release(id(1));
    assert!(bench.files.finish(LONG));
    assert_eq!(bench.read("meter/a.bin"), &all[..100_001]);
    assert_eq!(shard.request(id(2), &meter, upload("a.bin")), Outcome::Value(100_001));
    shard.write(id(2), &all[100_001..]);
    assert_eq!(shard.request(id(2), &meter, Request::Eof { size: Some(300_000) }), DONE);
    assert_eq!(bench.read("meter/a.bin"), all);
    // The file is closed.
    assert_eq!(code(shard.request(id(2), &meter, eof(300_000))), Code::NOT_OPEN.0);
    // Complete already: a device that missed the answer asks again.
    assert_eq!(shard.request(id(2), &meter, upload("a.bin")), Outcome::Value(300_000));
    assert_eq!(shard.request(id(2), &meter, Request::Eof { size: None }), DONE);
    bench.is_clean();
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(bench.at(path)).unwrap().permissions().mode() & 0o777
    };
    // The process's mask may take away more.
    assert_eq!((mode("meter") | 0o750, mode("meter/a.bin") | 0o640), (0o750, 0o640));
}

#[test]
fn the_end_of_an_upload_tells_a_wrong_size_and_keeps_the_file() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    shard.request(id(1), &meter, upload("a"));
    shard.write(id(1), b"123");
    assert_eq!(code(shard.request(id(1), &meter, eof(4))), Code::FILE_SIZE.0);
    assert_eq!(code(shard.request(id(1), &meter, eof(3))), Code::NOT_OPEN.0);
    assert_eq!(shard.request(id(1), &meter, upload("a")), Outcome::Value(3));
    shard.write(id(1), b"4");
    assert_eq!(shard.request(id(1), &meter, eof(4)), DONE);
    assert_eq!(bench.read("meter/a"), b"1234");
}

#[test]
fn an_upload_closes_the_one_before() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    shard.request(id(1), &meter, upload("a"));
    shard.write(id(1), b"first");
    assert_eq!(shard.request(id(1), &meter, upload("b")), Outcome::Value(0));
    assert_eq!(bench.files.writing(), 1);
    shard.write(id(1), b"second");
    // The same file again is no other session.
    assert_eq!(shard.request(id(1), &meter, upload("b")), Outcome::Value(6));
    assert_eq!(shard.request(id(1), &meter, eof(6)), DONE);
    assert_eq!((bench.read("meter/a"), bench.read("meter/b")), (b"first".into(), b"second".into()));
    assert_eq!(shard.taken_over, []);
    bench.is_clean();
}

#[test]
fn an_upload_needs_its_directory_and_a_name_that_is_free() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    bench.put("meter/dir/file", "x");
    let mut at = |dir, name| {
        let request = Request::Upload { dir: path(dir), name: path(name) };
        let outcome = shard.request(id(1), &meter, request);
        code(outcome)
    };
    assert_eq!(at("missing", "a"), Code::NO_DIR.0);
    assert_eq!(at("", "missing/a"), Code::NO_DIR.0);
    assert_eq!(at("dir/file", "a"), Code::NO_DIR.0);
    assert_eq!(at("", "dir"), Code::PARAMETER.0);
    assert_eq!(at("dir", "new"), 0);
    assert_eq!(at("", r"dir\other"), 0);
    shard.release(id(1));
    bench.is_clean();
}

#[test]
fn a_file_that_another_process_has_locked_is_in_use() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    bench.put("meter/a", "abc");
    let other = fs::File::open(bench.at("meter/a")).unwrap();
    other.lock().unwrap();
    assert_eq!(code(shard.request(id(1), &meter, upload("a"))), Code::IN_USE.0);
    let open = Request::Open { name: path("a"), write: true };
    assert_eq!(code(shard.request(id(1), &meter, open)), Code::IN_USE.0);
    drop(other);
    assert_eq!(shard.request(id(1), &meter, upload("a")), Outcome::Value(3));
    // And is locked against others.
    let other = fs::File::open(bench.at("meter/a")).unwrap();
    assert!(other.try_lock().is_err());
    shard.release(id(1));
    bench.is_clean();
    assert!(other.try_lock().is_ok());
}

#[test]
fn bytes_without_an_open_file_are_thrown_away() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    shard.write(id(1), &bytes(0, 1_000_000));
    assert_eq!(code(shard.request(id(1), &meter, Request::Written)), Code::NOT_OPEN.0);
    assert_eq!(shard.request(id(1), &meter, upload("a")), Outcome::Value(0));
    shard.write(id(1), b"abc");
    assert_eq!(shard.request(id(1), &meter, eof(3)), DONE);
    bench.is_clean();
}

#[test]
fn downloads_begin_at_their_offset() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    let all = bytes(0, 1_000_003);
    bench.put("meter/dir/a", &all);
    let get = |name, offset| Request::Download { dir: path("dir"), name: path(name), offset };
    for offset in [0, 1, 65_536, 999_999, 1_000_002] {
        let left = 1_000_003 - offset;
        assert_eq!(shard.request(id(1), &meter, get("a", offset)), Outcome::Value(left));
        assert_eq!(shard.store.remaining(id(1)), left);
        assert_eq!(
            shard.read_exact(id(1), left / 2),
            &all[offset as usize..][..(left / 2) as usize]
        );
        assert_eq!(shard.store.remaining(id(1)), left - left / 2);
        shard.read_exact(id(1), left - left / 2);
        assert_eq!(shard.store.remaining(id(1)), 0);
        assert_eq!(shard.read(id(1), 1), None);
    }
    assert_eq!(shard.request(id(1), &meter, get("a", 1_000_003)), Outcome::Value(0));
    assert_eq!(code(shard.request(id(1), &meter, get("a", 1_000_004))), Code::PARAMETER.0);
    assert_eq!(code(shard.request(id(1), &meter, get("b", 0))), Code::NO_FILE.0);
    let missing = Request::Download { dir: path("missing"), name: path("a"), offset: 0 };
    assert_eq!(code(shard.request(id(1), &meter, missing)), Code::NO_FILE.0);
    let directory = Request::Download { dir: Path::ROOT, name: path("dir"), offset: 0 };
    assert_eq!(code(shard.request(id(1), &meter, directory)), Code::NO_FILE.0);
    bench.is_clean();
}

#[test]
fn a_download_that_is_broken_off_gives_its_memory_back() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    bench.put("meter/a", bytes(0, 1_000_000));
    let get = Request::Download { dir: Path::ROOT, name: path("a"), offset: 0 };
    shard.request(id(1), &meter, get);
    shard.read(id(1), 10);
    shard.release(id(1));
    // Or another one is begun.
    shard.request(id(2), &meter, get);
    shard.read(id(2), 10);
    assert_eq!(shard.request(id(2), &meter, get), Outcome::Value(1_000_000));
    assert_eq!(shard.read_exact(id(2), 1_000_000), bytes(0, 1_000_000));
    bench.is_clean();
}

#[test]
fn a_file_that_shrinks_ends_its_download() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    bench.put("meter/a", bytes(0, 1_000_000));
    let get = Request::Download { dir: Path::ROOT, name: path("a"), offset: 0 };
    assert_eq!(shard.request(id(1), &meter, get), Outcome::Value(1_000_000));
    fs::File::options().write(true).open(bench.at("meter/a")).unwrap().set_len(10).unwrap();
    let mut got = 0;
    while let Some(bytes) = shard.read(id(1), usize::MAX) {
        got += bytes.len();
    }
    assert!(got < 1_000_000, "{got}");
    // One that grows gives what it had.
    bench.put("meter/a", bytes(0, 200_000));
    assert_eq!(shard.request(id(1), &meter, get), Outcome::Value(200_000));
    bench.put("meter/a", bytes(0, 400_000));
    assert_eq!(shard.read_exact(id(1), 200_000), bytes(0, 200_000));
    assert_eq!(shard.read(id(1), 1), None);
    bench.is_clean();
}

#[test]
fn directories_are_listed_made_and_deleted() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    let make = |parent, name| Request::CreateDir { parent: path(parent), name: path(name) };
    let drop_dir = |parent, name| Request::DeleteDir { parent: path(parent), name: path(name) };
    let dirs = |parent| Request::Dirs { parent: path(parent) };
    let files = |dir| Request::Files { dir: path(dir) };
    assert_eq!(shard.list(id(1), &meter, dirs("")), "");
    for name in ["b", "a", "ä", "a"] {
        assert_eq!(shard.request(id(1), &meter, make("", name)), DONE, "{name}");
    }
    assert_eq!(shard.request(id(1), &meter, make("a", "inner")), DONE);
    assert_eq!(shard.request(id(1), &meter, make("", r"a\inner\most")), DONE);
    assert_eq!(code(shard.request(id(1), &meter, make("missing", "a"))), Code::NO_DIR.0);
    bench.put("meter/a/file", "12345");
    bench.put("meter/a/empty", "");
    assert_eq!(code(shard.request(id(1), &meter, make("a", "file"))), Code::CREATE_DIR.0);
    assert_eq!(code(shard.request(id(1), &meter, make("a/file", "x"))), Code::NO_DIR.0);
    assert_eq!(shard.list(id(1), &meter, dirs("")), "|a|b|ä");
    assert_eq!(shard.list(id(1), &meter, dirs("a")), "|inner");
    assert_eq!(shard.list(id(1), &meter, files("a")), "|empty=0|file=5");
    assert_eq!(shard.list(id(1), &meter, files("a/inner")), "");
    for missing in ["missing", "a/file", "a/file/x"] {
        assert_eq!(shard.list(id(1), &meter, dirs(missing)), Code::NO_DIR.0.to_string());
        assert_eq!(shard.list(id(1), &meter, files(missing)), Code::NO_DIR.0.to_string());
    }
    assert_eq!(code(shard.request(id(1), &meter, drop_dir("missing", "a"))), Code::NO_DIR.0);
    assert_eq!(code(shard.request(id(1), &meter, drop_dir("a", "missing"))), Code::DELETE_DIR.0);
    assert_eq!(code(shard.request(id(1), &meter, drop_dir("a", "file"))), Code::DELETE_DIR.0);
    shard.request(id(2), &meter, Request::Upload { dir: path("a/inner"), name: path("x") });
    assert_eq!(code(shard.request(id(1), &meter, drop_dir("", "a"))), Code::DELETE_DIR.0);
    // It has stayed whole.
    assert_eq!(shard.list(id(1), &meter, files("a")), "|empty=0|file=5");
    shard.request(id(2), &meter, Request::Eof { size: None });
    assert_eq!(shard.request(id(1), &meter, drop_dir("", "a")), DONE);
    assert_eq!(shard.list(id(1), &meter, dirs("")), "|b|ä");
    bench.is_clean();
}

#[test]
fn a_deep_tree_goes_with_one_descriptor() {
    let mut bench = Bench::with(|config| config.max_user_files = Some(1010));
    let mut shard = bench.shard();
    let meter = device("meter");
    // As deep as peers can make it, and a little wide.
    let deep = "d/".repeat(1000);
    fs::create_dir_all(bench.at("meter").join(&deep)).unwrap();
    for name in ["d/a", "d/d/b", &format!("{deep}c")] {
        bench.put(&format!("meter/{name}"), "x");
    }
    let tree = Request::DeleteDir { parent: Path::ROOT, name: path("d") };
    let make = Request::CreateDir { parent: Path::ROOT, name: path("e") };
    for name in 1003..1010 {
        shard.upload_all(id(1), &meter, &name.to_string(), b"x");
    }
    assert_eq!(code(shard.request(id(1), &meter, make)), Code::CREATE_DIR.0);
    assert_eq!(shard.request(id(1), &meter, tree), DONE);
    assert!(!bench.at("meter/d").exists());
    assert_eq!(shard.request(id(1), &meter, make), DONE);
    bench.is_clean();
}

#[test]
fn files_are_deleted() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    for name in ["d/a", "d/b", "d/c", "d/dir/x", "d/up"] {
        bench.put(&format!("meter/{name}"), "x");
    }
    let some = "[Request]\r\nItem=a\r\nItem=missing\r\nItem=b";
    assert_eq!(shard.request(id(1), &meter, delete("d", some)), DONE);
    let files = Request::Files { dir: path("d") };
    assert_eq!(shard.list(id(1), &meter, files), "|c=1|up=1");
    let missing = delete("missing", some);
    assert_eq!(code(shard.request(id(1), &meter, missing)), Code::NO_DIR.0);
    let directory = delete("d", "[Request]\r\nItem=dir\r\nItem=c");
    assert_eq!(code(shard.request(id(1), &meter, directory)), Code::DELETE_FILE.0);
    // The others have gone all the same.
    assert_eq!(shard.list(id(1), &meter, files), "|up=1");
    shard.request(id(2), &meter, Request::Upload { dir: path("d"), name: path("up") });
    let busy = delete("d", "[Request]\r\nItem=up");
    assert_eq!(code(shard.request(id(1), &meter, busy)), Code::IN_USE.0);
    shard.request(id(2), &meter, Request::Eof { size: None });
    assert_eq!(shard.request(id(1), &meter, busy), DONE);
    bench.is_clean();
}

#[test]
fn an_open_file_is_read_and_written_anywhere() {
    use pulsegate_core::store::Origin;
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let admin = operator();
    let mut ask = |request| shard.request(id(1), &admin, request);
    let open = |write| Request::Open { name: path("a"), write };
    for request in [
        Request::GetSize,
        Request::SetSize(1),
        Request::GetPosition,
        Request::SetPosition(1),
        Request::Read { count: 1 },
        Request::Seek { offset: 0, origin: Origin::Begin },
        Request::Written,
        Request::Close,
    ] {
        assert_eq!(code(ask(request)), Code::NOT_OPEN.0, "{request:?}");
    }
    assert_eq!(code(ask(Request::Exists { name: path("a") })), Code::NO_FILE.0);
    assert_eq!(code(ask(open(false))), Code::NO_FILE.0);
    assert_eq!(ask(open(true)), DONE);
    assert_eq!(ask(Request::Exists { name: path("a") }), DONE);
    shard.write(id(1), &bytes(0, 200_000));
    let mut ask = |request| shard.request(id(1), &admin, request);
    assert_eq!(ask(Request::Written), Outcome::Value(200_000));
    assert_eq!(ask(Request::Written), Outcome::Value(0));
    assert_eq!(ask(Request::GetPosition), Outcome::Value(200_000));
    assert_eq!(ask(Request::Read { count: 10 }), Outcome::Body(0));
    let seek = |offset, origin| Request::Seek { offset, origin };
    assert_eq!(ask(seek(-100_000, Origin::End)), Outcome::Value(100_000));
    assert_eq!(ask(Request::Read { count: 70_000 }), Outcome::Body(70_000));
    assert_eq!(shard.read_exact(id(1), 70_000), bytes(100_000, 70_000));
    let mut ask = |request| shard.request(id(1), &admin, request);
    assert_eq!(ask(Request::Read { count: 70_000 }), Outcome::Body(30_000));
    assert_eq!(shard.read_exact(id(1), 30_000), bytes(170_000, 30_000));
    assert_eq!(shard.read(id(1), 1), None);
    let mut ask = |request| shard.request(id(1), &admin, request);
    assert_eq!(ask(Request::SetPosition(10)), DONE);
    assert_eq!(ask(seek(-5, Origin::Current)), Outcome::Value(5));
    assert_eq!(code(ask(seek(-6, Origin::Current))), Code::PARAMETER.0);
    assert_eq!(code(ask(seek(-1, Origin::Begin))), Code::PARAMETER.0);
    assert_eq!(code(ask(seek(i64::MAX, Origin::End))), Code::PARAMETER.0);
    assert_eq!(code(ask(Request::SetPosition(u64::MAX))), Code::PARAMETER.0);
    assert_eq!(ask(Request::GetPosition), Outcome::Value(5));
    shard.write(id(1), b"-----");
    let mut ask = |request| shard.request(id(1), &admin, request);
    assert_eq!(ask(Request::SetSize(12)), DONE);
    assert_eq!(ask(Request::GetSize), Outcome::Value(12));
    assert_eq!(ask(Request::Close), DONE);
    assert_eq!(code(ask(Request::Close)), Code::NOT_OPEN.0);
    assert_eq!(bench.read("a"), [0, 1, 2, 3, 4, b'-', b'-', b'-', b'-', b'-', 10, 11]);
    bench.is_clean();
}

#[test]
fn a_file_open_for_reading_is_not_written() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let admin = operator();
    bench.put("a", "abc");
    let open = |write| Request::Open { name: path("a"), write };
    assert_eq!(shard.request(id(1), &admin, open(false)), DONE);
    shard.write(id(1), b"xyz");
    let refused = Outcome::Failed(Code::UNKNOWN, "the file is open for reading only");
    assert_eq!(shard.request(id(1), &admin, Request::Written), refused);
    assert_eq!(shard.request(id(1), &admin, Request::SetSize(0)), refused);
    assert_eq!(shard.request(id(1), &admin, Request::Written), Outcome::Value(0));
    shard.write(id(1), b"xyz");
    assert_eq!(shard.request(id(1), &admin, Request::Written), refused);
    assert_eq!(bench.read("a"), b"abc");
    // Somebody else may write it meanwhile, but not two.
    assert_eq!(shard.request(id(2), &admin, open(true)), DONE);
    assert_eq!(code(shard.request(id(3), &admin, open(true))), Code::IN_USE.0);
    assert_eq!(code(shard.request(id(3), &admin, upload("a"))), Code::IN_USE.0);
    assert_eq!(shard.request(id(2), &admin, upload("a")), Outcome::Value(3));
    assert_eq!(code(shard.request(id(3), &admin, open(true))), Code::IN_USE.0);
    assert_eq!(shard.request(id(3), &admin, open(false)), DONE);
    for session in 1..4 {
        shard.release(id(session));
    }
    assert_eq!(shard.taken_over, []);
    bench.is_clean();
}

#[test]
fn a_question_is_answered_once_however_often_it_is_asked() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let admin = operator();
    shard.request(id(1), &admin, Request::Open { name: path("a"), write: true });
    shard.write(id(1), b"abc");
    shard.begin(id(1), &admin, Request::Written);
    assert!(bench.files.finish(LONG));
    for _ in 0..3 {
        // The result is there, but its completion is still on its way.
        let ask = shard.ask(id(1));
        assert_eq!(shard.store.request(&ask, Some(&admin), Request::Written), Answer::Later);
    }
    assert_eq!(shard.outcome(id(1)), Outcome::Value(3));
    shard.poll();
    assert_eq!(shard.request(id(1), &admin, Request::Written), Outcome::Value(0));
    shard.release(id(1));
    bench.is_clean();
}

#[test]
fn long_lists_are_told_not_cut() {
    use super::list::{Kind, text};
    let dir = tempfile::tempdir().unwrap();
    for number in 0..100 {
        fs::write(dir.path().join(format!("{number:0>3}")), "12345").unwrap();
        fs::create_dir(dir.path().join(format!("{number:0>4}"))).unwrap();
    }
    let home = cap_std::fs::Dir::from_std_file(fs::File::open(dir.path()).unwrap());
    let list = |kind, most| text(&home, std::path::Path::new("."), kind, most);
    let too_long = Failure(Code::UNKNOWN, "the directory has too many entries for one reply");
    // Line break, key and name; the size of a file.
    for (kind, len) in [(Kind::Directories, 100 * 11), (Kind::Files, 100 * 12)] {
        assert_eq!(list(kind, len).unwrap().len(), len);
        assert_eq!(list(kind, len - 1), Err(too_long));
        assert_eq!(list(kind, 10), Err(too_long));
    }
}
