//! The commands that move files and show the log, against a server that fails on the way.

#[allow(dead_code, reason = "each test binary uses a part of the shared helpers")]
mod command;
#[allow(dead_code, reason = "each test binary uses a part of the shared servers")]
mod support;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use support::file_server::{Cut, Faults, FileServer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn content(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// What a command printed, and its exit code.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs `pulsegate COMMAND --server … --user … ARGS`, with pauses that suit a test.
async fn run(command: &str, server: &FileServer, args: &[&str]) -> Ran {
    let addr = server.addr.to_string();
    let common = [
        command,
        "--server",
        &addr,
        "--user",
        "device",
        "--password-stdin",
        "--retry-pause",
        "5ms",
    ];
    let args: Vec<String> = common.iter().chain(args).map(|&arg| arg.to_owned()).collect();
    let running = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        command::run(&args, "secret\n")
    });
    Ran::of(running.await.unwrap())
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.text(name)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_go_up_and_come_back_over_a_bad_line() {
    let files = Files::new();
    let (one, two) = (content(500_000), content(70_001));
    let paths = [files.write("one", &one), files.write("two", &two)];
    let faults = Faults { cut: Some((90_000, Cut::Unread)), ..Faults::default() };
    let server = FileServer::start(faults).await;
    let up = run("upload", &server, &["--dir", "a/b", "--make-dir", &paths[0], &paths[1]]).await;
    assert_eq!(up.code, Some(0), "{up:?}");
    let lines: Vec<_> = up.out.lines().collect();
    assert!(lines[0].starts_with("one: 500000 bytes, 5 reconnects, "), "{up:?}");
    assert!(lines[1].starts_with("two: 70001 bytes, "), "{up:?}");
    assert_eq!(lines[2..], ["2 of 2 files are on the server"]);
    // Lines, and no bar: nobody sits at a terminal.
    assert!(up.err.contains("one: 488.28 KiB\n"), "{up:?}");
    assert!(up.err.contains("one: 488.28 KiB, from 87.89 KiB\n"), "{up:?}");
    assert_eq!(up.err.matches("closed the connection").count(), 6, "{up:?}");
    assert!(up.err.contains(" s (failure 1 of 20)\n") && !up.err.contains('\x1b'), "{up:?}");
    assert!(server.file("a/b/one") == one && server.file("a/b/two") == two);
    assert_eq!(server.state().received, one.len() + two.len());

    let output = files.text("back");
    let down = run("download", &server, &["--dir", "a/b", "--output", &output, "one"]).await;
    assert_eq!(down.code, Some(0), "{down:?}");
    assert!(down.out.starts_with(&format!("{output}: 500000 bytes, ")), "{down:?}");
    assert!(std::fs::read(&output).unwrap() == one);
    assert!(!files.path("back.part").exists());
    let again = run("download", &server, &["--dir", "a/b", "--output", &output, "two"]).await;
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("--force"), "{again:?}");
    let list = run("download", &server, &["--dir", "a/b", "--list"]).await;
    assert_eq!(list.out, "        500000 one\n         70001 two\n", "{list:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_bad_file_does_not_stop_the_others() {
    let files = Files::new();
    let server = FileServer::start(Faults::default()).await;
    server.put("a", b"something longer");
    let (a, b) = (files.write("a", b"short"), files.write("b", b"data"));
    let up = run("upload", &server, &[&a, &b]).await;
    assert_eq!(up.code, Some(1), "{up:?}");
    assert!(up.out.ends_with("1 of 2 files are on the server\n"), "{up:?}");
    assert!(up.err.contains("error: ") && up.err.contains("16 bytes"), "{up:?}");
    assert_eq!(server.file("b"), b"data");
    let up = run("upload", &server, &["--dir", "d", &b]).await;
    assert!(up.code == Some(1) && up.err.contains("--make-dir"), "{up:?}");
    let up = run("upload", &server, &["--replace", "--name", "a", &b]).await;
    assert_eq!((up.code, server.file("a")), (Some(0), b"data".to_vec()), "{up:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_and_endless_failures_end_with_1() {
    let files = Files::new();
    let (a, b) = (files.write("a", &content(100_000)), files.write("b", b"data"));
    let refuse = Some((u32::MAX, "Login", 7, "no\x1b[31m"));
    let server = FileServer::start(Faults { refuse, ..Faults::default() }).await;
    let up = run("upload", &server, &[&a, &b]).await;
    assert_eq!(up.code, Some(1), "{up:?}");
    assert!(up.err.contains("code 7") && up.err.contains("no\\u{1b}[31m"), "{up:?}");
    // Nor would the next file fare better.
    assert_eq!(server.state().connections, 1);

    let server = FileServer::start(Faults { room: Some(50_000), ..Faults::default() }).await;
    let up = run("upload", &server, &[&a]).await;
    assert_eq!(up.code, Some(1), "{up:?}");
    assert!(up.err.contains("code 4") && up.err.contains("no space left"), "{up:?}");

    // Each attempt ends without a byte more.
    let cut = Some((0, Cut::Unread));
    let server = FileServer::start(Faults { cut, ..Faults::default() }).await;
    server.put("a", &content(100_000));
    server.put("f", b"data");
    let up = run("upload", &server, &["--retries", "3", "--name", "n", &a]).await;
    assert_eq!((up.code, server.state().connections), (Some(1), 4), "{up:?}");
    assert!(up.err.contains("gave up after 4 failures"), "{up:?}");
    let output = files.text("f");
    let down = run("download", &server, &["--retries", "0", "--output", &output, "f"]).await;
    assert_eq!((down.code, server.state().connections), (Some(1), 5), "{down:?}");
    assert!(!files.path("f").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_cannot_work_are_told_before_anything_is_sent() {
    let files = Files::new();
    std::fs::create_dir(files.path("d")).unwrap();
    let (a, b) = (files.write("a", b"1"), files.write("d/a", b"2"));
    let server = FileServer::start(Faults::default()).await;
    let missing = files.text("missing");
    let cases: [(&[&str], i32, &str); 6] = [
        (&[&missing], 1, "cannot open"),
        (&[&a, &b], 1, "two files would be called a"),
        (&["--name", "x", &a, &b], 1, "--name is for a single file"),
        (&["--packet", "0", &a], 2, "--packet"),
        (&["--retries", "often", &a], 2, "forever"),
        (&[], 2, "FILE"),
    ];
    for (args, code, told) in cases {
        let up = run("upload", &server, args).await;
        assert_eq!(up.code, Some(code), "{up:?}");
        assert!(up.err.contains(told), "{up:?}");
    }
    assert_eq!(server.state().connections, 0);
    let dir = run("upload", &server, &[&files.text("d")]).await;
    assert!(dir.code == Some(1) && dir.err.contains("no regular file"), "{dir:?}");
    let help = command::run(&["upload", "--help"], "");
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("Exits with 0 when all files are on the server whole"), "{help}");
}

#[test]
fn the_commands_against_the_server_itself() {
    let files = Files::new();
    let store = tempfile::tempdir().unwrap();
    let server = command::Server::start(&["--files", store.path().to_str().unwrap()]);
    let addr = server.address;
    let whole = content(3_000_000);
    let path = files.write("f", &whole);
    // A part of it is there, as a broken connection leaves it.
    std::fs::create_dir(store.path().join("a")).unwrap();
    std::fs::write(store.path().join("a/f"), &whole[..1_000_000]).unwrap();
    let mut reader = logs(addr, &["--for", "20s"]);
    let mut following = String::new();
    BufReader::new(reader.stderr.take().unwrap()).read_line(&mut following).unwrap();
    assert!(following.starts_with("following the log of "), "{following}");
    let addr = addr.to_string();
    let common = ["--server", &addr, "--user", "admin", "--password-stdin", "--dir", "a"];
    let up = command::run(&[&["upload"], &common[..], &[&path]].concat(), "admin\n");
    let up = Ran::of(up);
    assert!(up.code == Some(0) && up.out.contains("resumed from 1000000"), "{up:?}");
    assert!(std::fs::read(store.path().join("a/f")).unwrap() == whole);
    let output = files.text("back");
    let fetch = ["--output", &output, "f"];
    let down = Ran::of(command::run(&[&["download"], &common[..], &fetch].concat(), "admin\n"));
    assert_eq!(down.code, Some(0), "{down:?}");
    assert!(std::fs::read(&output).unwrap() == whole);
    // One of the two logins at least, however late the server came to the reader's connection.
    let lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("logged in")));
    kill_process(Pid::from_child(&reader), Signal::INT).unwrap();
    reader.wait().unwrap();
    server.stop();
}

/// A server that writes `text` to each reader of its log, and then closes or waits.
async fn log_server(text: &'static str, closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), 9);
            stream.write_all(text.as_bytes()).await.unwrap();
            if !closes {
                open.push(stream);
            }
        }
    });
    addr
}

fn logs(addr: SocketAddr, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pulsegate"))
        .args(["logs", "--server", &addr.to_string()])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for two lines, then ends the command as a person would.
async fn first_lines_then_ctrl_c(mut child: Child) -> Vec<String> {
    let out = BufReader::new(child.stdout.take().unwrap());
    let lines = tokio::task::spawn_blocking(|| out.lines().take(2).map(Result::unwrap).collect());
    let lines = tokio::time::timeout(command::PATIENCE, lines).await.unwrap().unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(ended(child).await.code, Some(0));
    lines
}

async fn ended(child: Child) -> Ran {
    let output = tokio::task::spawn_blocking(|| child.wait_with_output());
    let output = tokio::time::timeout(command::PATIENCE, output).await.unwrap().unwrap().unwrap();
    Ran::of(output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_followed_and_its_lines_are_harmless() {
    let addr = log_server("one\r\ntwo \x1b[2J\u{202e}\r\n", false).await;
    let lines = first_lines_then_ctrl_c(logs(addr, &[])).await;
    assert_eq!(lines, ["one", "two \\u{1b}[2J\\u{202e}"]);
    let ran = ended(logs(addr, &["--for", "50ms"])).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_ends_or_is_not_given_is_told() {
    let ran = ended(logs(log_server("one\r\n", true).await, &[])).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), "one\n"), "{ran:?}");
    assert!(ran.err.contains("closed the connection"), "{ran:?}");
    for args in [&[][..], &["--reconnect"]] {
        let ran = ended(logs(log_server("", true).await, args)).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("does not give its log"), "{ran:?}");
    }
    let addr = log_server("one\r\n", true).await;
    let lines = first_lines_then_ctrl_c(logs(addr, &["--reconnect"])).await;
    assert_eq!(lines, ["one", "one"]);
}
