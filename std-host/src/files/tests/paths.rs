//! What is planted in the directory, and users whose names are paths.

use std::os::unix::fs::symlink;

use std::slice::from_mut;

use super::*;

/// A secret beside the directory of the files, which nobody may reach or change.
struct Outside {
    dir: TempDir,
}

impl Outside {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        Self { dir }
    }

    fn is_whole(&self) {
        assert_eq!(fs::read(self.dir.path().join("secret")).unwrap(), b"secret");
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["empty", "secret"]);
    }
}

/// Every request that takes a path, with a name in it.
fn requests(name: &str) -> Vec<(&'static str, Request<'_>)> {
    let (root, name) = (Path::ROOT, path(name));
    vec![
        ("Dirs", Request::Dirs { parent: name }),
        ("Files", Request::Files { dir: name }),
        ("CreateDir", Request::CreateDir { parent: name, name: path("new") }),
        ("CreateDir at", Request::CreateDir { parent: root, name }),
        ("DeleteDir", Request::DeleteDir { parent: name, name: path("empty") }),
        ("DeleteDir at", Request::DeleteDir { parent: root, name }),
        ("Upload", Request::Upload { dir: name, name: path("secret") }),
        ("Upload at", Request::Upload { dir: root, name }),
        ("Download", Request::Download { dir: name, name: path("secret"), offset: 0 }),
        ("Download at", Request::Download { dir: root, name, offset: 0 }),
        ("Exists", Request::Exists { name }),
        ("Open", Request::Open { name, write: false }),
        ("Open to write", Request::Open { name, write: true }),
    ]
}

fn codes(shard: &mut Shard, user: &Arc<User>, name: &str) -> Vec<(&'static str, u32)> {
    let mut codes = Vec::new();
    for (kind, request) in requests(name) {
        codes.push((kind, code(shard.request(id(1), user, request))));
        // What it opened is closed.
        shard.release(id(1));
    }
    codes
}

#[test]
fn links_do_not_lead_out() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let outside = Outside::new();
    let meter = device("meter");
    fs::create_dir_all(bench.at("meter/sub")).unwrap();
    fs::create_dir_all(bench.at("other")).unwrap();
    bench.put("other/secret", "secret");
    let links = [
        ("absolute", outside.dir.path().to_path_buf()),
        ("relative", PathBuf::from("../..")),
        ("neighbour", PathBuf::from("../other")),
        ("to-file", outside.dir.path().join("secret")),
        ("to-new", outside.dir.path().join("new")),
        ("passwd", PathBuf::from("/etc/passwd")),
        ("magic", PathBuf::from("/proc/self/root")),
        ("sub/up", PathBuf::from("../../other")),
    ];
    for (name, target) in &links {
        symlink(target, bench.at("meter").join(name)).unwrap();
        for (kind, code) in codes(&mut shard, &meter, name) {
            let expected = match kind {
                // The link itself is there, and is no directory.
                "DeleteDir at" => Code::DELETE_DIR.0,
                _ => Code::PARAMETER.0,
            };
            assert_eq!(code, expected, "{kind} {name}");
        }
    }
    // Nor are they listed.
    let (dirs, files) = (Request::Dirs { parent: Path::ROOT }, Request::Files { dir: Path::ROOT });
    assert_eq!(shard.list(id(2), &meter, dirs), "|sub");
    assert_eq!(shard.list(id(2), &meter, files), "");
    // What goes is the link.
    let links = "[Request]\r\nItem=absolute\r\nItem=to-file\r\nItem=passwd";
    assert_eq!(shard.request(id(2), &meter, delete("", links)), DONE);
    let through = delete("neighbour", "[Request]\r\nItem=secret");
    assert_eq!(code(shard.request(id(2), &meter, through)), Code::PARAMETER.0);
    assert!(fs::symlink_metadata(bench.at("meter/absolute")).is_err());
    // A tree goes with its links, not with what they lead to.
    let tree = Request::DeleteDir { parent: Path::ROOT, name: path("sub") };
    assert_eq!(shard.request(id(2), &meter, tree), DONE);
    assert_eq!(bench.read("other/secret"), b"secret");
    outside.is_whole();
    bench.is_clean();
}

#[test]
fn links_within_are_followed() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    bench.put("meter/sub/a", "abc");
    bench.put("meter/b", "b");
    symlink("sub", bench.at("meter/dir")).unwrap();
    symlink("../b", bench.at("meter/sub/back")).unwrap();
    symlink("sub/made", bench.at("meter/dangling")).unwrap();
    let (dirs, files) = (Request::Dirs { parent: Path::ROOT }, Request::Files { dir: path("dir") });
    assert_eq!(shard.list(id(1), &meter, dirs), "|dir|sub");
    assert_eq!(shard.list(id(1), &meter, files), "|a=3|back=1");
    shard.upload_all(id(1), &meter, "dir/back", b"both");
    assert_eq!(bench.read("meter/b"), b"both");
    assert_eq!(code(shard.request(id(1), &meter, Request::Exists { name: path("dangling") })), 9);
    shard.upload_all(id(1), &meter, "dangling", b"x");
    assert_eq!(bench.read("meter/sub/made"), b"x");
    // Both names lead to one upload.
    shard.request(id(1), &meter, upload("dangling"));
    shard.write(id(1), b"y");
    assert_eq!(shard.request(id(2), &meter, upload("sub/made")), Outcome::Value(2));
    shard.wait_taken_over(id(1));
    bench.is_clean_after(from_mut(&mut shard), 3);
}

#[test]
fn circles_and_dead_ends() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    fs::create_dir_all(bench.at("meter")).unwrap();
    symlink("circle", bench.at("meter/circle")).unwrap();
    symlink("nowhere/at/all", bench.at("meter/dead")).unwrap();
    for (kind, code) in codes(&mut shard, &meter, "circle") {
        let expected = if kind == "DeleteDir at" { Code::DELETE_DIR } else { Code::PARAMETER };
        assert_eq!(code, expected.0, "{kind}");
    }
    for (kind, code) in codes(&mut shard, &meter, "dead") {
        let expected = match kind {
            "DeleteDir at" => Code::DELETE_DIR,
            "CreateDir at" => Code::CREATE_DIR,
            "Download" | "Download at" | "Exists" | "Open" => Code::NO_FILE,
            _ => Code::NO_DIR,
        };
        assert_eq!(code, expected.0, "{kind}");
    }
    let (dirs, files) = (Request::Dirs { parent: Path::ROOT }, Request::Files { dir: Path::ROOT });
    assert_eq!(shard.list(id(2), &meter, dirs), "");
    assert_eq!(shard.list(id(2), &meter, files), "");
    bench.is_clean();
}

#[test]
fn a_pipe_makes_nobody_wait() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let meter = device("meter");
    fs::create_dir_all(bench.at("meter")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(bench.at("meter/pipe")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(bench.at("meter/socket")).unwrap();
    for name in ["pipe", "socket"] {
        for (kind, code) in codes(&mut shard, &meter, name) {
            let expected = match kind {
                "Upload at" | "Open to write" => Code::PARAMETER,
                "Download" | "Download at" | "Exists" | "Open" => Code::NO_FILE,
                "CreateDir at" => Code::CREATE_DIR,
                "DeleteDir at" => Code::DELETE_DIR,
                _ => Code::NO_DIR,
            };
            assert_eq!(code, expected.0, "{kind} {name}");
        }
    }
    assert_eq!(shard.list(id(2), &meter, Request::Files { dir: Path::ROOT }), "");
    let gone = delete("", "[Request]\r\nItem=pipe\r\nItem=socket");
    assert_eq!(shard.request(id(2), &meter, gone), DONE);
    bench.is_clean();
}

#[test]
fn a_device_sees_its_own_directory_and_an_operator_all() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    shard.upload_all(id(1), &device("meter"), "a", b"meter's");
    shard.upload_all(id(1), &device("camera"), "a", b"camera's");
    let exists = Request::Exists { name: path("meter/a") };
    assert_eq!(code(shard.request(id(1), &device("camera"), exists)), Code::NO_FILE.0);
    assert_eq!(shard.request(id(1), &operator(), exists), DONE);
    let dirs = Request::Dirs { parent: Path::ROOT };
    assert_eq!(shard.list(id(1), &operator(), dirs), "|camera|meter");
    assert_eq!(shard.list(id(1), &device("meter"), dirs), "");
    // A stranger, where such are let in, sees what an operator sees.
    let ask = shard.ask(id(1));
    assert_eq!(shard.store.request(&ask, None, exists), Answer::Later);
    shard.waiting.insert(id(1), false);
    assert_eq!(shard.outcome(id(1)), DONE);
    shard.release(id(1));
    // An operator may delete a device's directory; it comes back when it is needed.
    let gone = Request::DeleteDir { parent: Path::ROOT, name: path("meter") };
    assert_eq!(shard.request(id(1), &operator(), gone), DONE);
    assert_eq!(shard.list(id(1), &device("meter"), dirs), "");
    assert_eq!(shard.list(id(1), &operator(), dirs), "|camera|meter");
    bench.is_clean();
}

#[test]
fn names_that_are_no_names_of_directories_have_no_files() {
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let long = "x".repeat(256);
    for name in ["a/b", "/etc", r"a\b", "a:b", ".", "..", "", "a\nb", &long] {
        for (kind, request) in requests("secret") {
            let outcome = shard.request(id(1), &device(name), request);
            let expected =
                Outcome::Failed(Code::UNKNOWN, "this user's name is no name of a directory");
            assert_eq!(outcome, expected, "{kind} {name:?}");
        }
    }
    assert_eq!(fs::read_dir(bench.dir.path()).unwrap().count(), 0);
    // What stands in the way of a directory is told, too.
    bench.put("meter", "a file");
    let outside = Outside::new();
    symlink(outside.dir.path(), bench.at("camera")).unwrap();
    assert_eq!(code(shard.request(id(1), &device("meter"), upload("a"))), Code::UNKNOWN.0);
    assert_eq!(code(shard.request(id(1), &device("camera"), upload("a"))), Code::PARAMETER.0);
    outside.is_whole();
    bench.is_clean();
}

#[test]
fn names_that_peers_could_not_use_are_not_listed() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let mut bench = Bench::new();
    let mut shard = bench.shard();
    let root = bench.dir.path().to_path_buf();
    for name in [&b"good"[..], b"line\r\nItem=bad", b"mark\x01", b"\xff\xfe"] {
        fs::write(root.join(OsStr::from_bytes(name)), "x").unwrap();
        fs::create_dir(root.join([OsStr::from_bytes(name), OsStr::new(".d")].concat_os())).unwrap();
    }
    assert_eq!(shard.list(id(1), &operator(), Request::Files { dir: Path::ROOT }), "|good=1");
    assert_eq!(shard.list(id(1), &operator(), Request::Dirs { parent: Path::ROOT }), "|good.d");
    bench.is_clean();
}

trait Concat {
    fn concat_os(self) -> std::ffi::OsString;
}

impl Concat for [&std::ffi::OsStr; 2] {
    fn concat_os(self) -> std::ffi::OsString {
        self.into_iter().collect()
    }
}
