//! Whole files to and from a server that fails on the way.

#[allow(dead_code, reason = "each test binary uses a part of the shared servers")]
mod support;

use std::path::{Path, PathBuf};
use std::time::Duration;

use pulsegate::client::transfer::{
    DownloadFile, Event, Options, Outcome, Retry, Transfer, TransferError, UploadFile,
};
use pulsegate::client::{Client, ClientError, Flag, LogReader, Timeouts};
use support::PATIENCE;
use support::file_server::{Cut, Faults, FileServer, packet};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Bytes that repeat nowhere near each other.
fn content(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn local(dir: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

fn options(server: &FileServer) -> Options {
    let mut options = Options::new(&server.addr.to_string(), "device", "secret");
    options.retry = Retry { failures: Some(3), pause: Duration::from_millis(2) };
    // Only a server that stands still is to be taken for one.
    options.timeouts.stall = PATIENCE;
    options.timeouts.request = PATIENCE;
    options
}

async fn upload(server: &FileServer, path: &Path) -> Result<Outcome, TransferError> {
    Transfer::uploads(options(server)).upload(UploadFile::new(path, "f"), &mut |_| {}).await
}

fn fetch(output: &Path) -> DownloadFile<'_> {
    DownloadFile { dir: "", name: "f", output, force: false }
}

async fn download(server: &FileServer, output: &Path) -> Result<Outcome, TransferError> {
    Transfer::downloads(options(server)).download(fetch(output), &mut |_| {}).await
}

fn part(output: &Path) -> PathBuf {
    let mut path = output.as_os_str().to_owned();
    path.push(".part");
    path.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_survives_many_cuts_and_sends_nothing_twice() {
    for cut in [Cut::Unread, Cut::Drained] {
        let dir = tempfile::tempdir().unwrap();
        let whole = content(1_000_003);
        let path = local(&dir, "f", &whole);
        let faults = Faults { cut: Some((47_111, cut)), ..Faults::default() };
        let server = FileServer::start(faults).await;
        let mut steps = Vec::new();
        let mut observe = |event: Event<'_>| {
            if let Event::Moved { done } = event {
                steps.push(done);
            }
        };
        let mut transfer = Transfer::uploads(options(&server));
        let outcome = transfer.upload(UploadFile::new(&path, "f"), &mut observe).await.unwrap();
        assert!(server.file("f") == whole);
        assert_eq!(steps.last(), Some(&1_000_003));
        let state = server.state();
        assert_eq!(state.received, whole.len());
        // The end is repeated when its answer is lost with the connection.
        let end = ("f".to_owned(), whole.len().to_string());
        assert!(!state.ended.is_empty() && state.ended.iter().all(|ended| *ended == end));
        let cuts = if cut == Cut::Unread { whole.len() / 47_111 } else { 1 };
        assert_eq!(outcome.reconnects as usize, cuts);
        assert_eq!(state.connections, cuts + 1);
        assert_eq!((outcome.size, outcome.resumed_from), (1_000_003, 0));
        assert!(outcome.moved >= outcome.size);
    }
}

#[tokio::test]
async fn an_upload_continues_where_the_server_stands() {
    let dir = tempfile::tempdir().unwrap();
    let whole = content(100_000);
    let path = local(&dir, "f", &whole);
    let server = FileServer::start(Faults::default()).await;
    for (held, moved) in [(60_000, 40_000), (100_000, 0)] {
        server.put("f", &whole[..held]);
        let outcome = upload(&server, &path).await.unwrap();
        assert_eq!((outcome.resumed_from, outcome.moved), (held as u64, moved));
        assert!(server.file("f") == whole);
    }
    assert_eq!(server.state().received, 40_000);
    let empty = local(&dir, "empty", b"");
    let mut transfer = Transfer::uploads(options(&server));
    transfer.upload(UploadFile::new(&empty, "e"), &mut |_| {}).await.unwrap();
    // A second file takes the same connection, here into a directory that has to be made.
    let second = UploadFile { dir: "a/b", make_dir: true, ..UploadFile::new(&path, "g") };
    transfer.upload(second, &mut |_| {}).await.unwrap();
    assert_eq!(server.state().connections, 3);
    assert!(server.file("a/b/g") == whole && server.state().files["e"].is_empty());
}

#[tokio::test]
async fn an_end_whose_answer_is_lost_is_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = local(&dir, "f", &content(100_000));
    for command in ["Upload", "Eof", "Login"] {
        let faults = Faults { swallow: Some((1, command)), ..Faults::default() };
        let server = FileServer::start(faults).await;
        upload(&server, &path).await.unwrap();
        assert_eq!(server.state().received, 100_000, "{command}");
        assert_eq!(server.state().connections, 2, "{command}");
    }
}

#[tokio::test]
async fn refusals_end_an_upload_with_code_and_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = local(&dir, "f", b"data");
    for (command, code) in [("Login", 7), ("Upload", 6), ("Upload", 9), ("Eof", 4), ("Upload", 11)]
    {
        let faults =
            Faults { refuse: Some((u32::MAX, command, code, "no\x1b")), ..Faults::default() };
        let server = FileServer::start(faults).await;
        let error = upload(&server, &path).await.unwrap_err();
        let TransferError::Client(ClientError::Refused { code: told, message, .. }) = &error else {
            panic!("{error}");
        };
        assert_eq!((*told, message.as_str()), (code, "no\\u{1b}"));
        let left = server.state().faults.refuse.unwrap().0;
        let asked = if code == 11 { 4 } else { 1 };
        assert_eq!(u32::MAX - left, asked, "{code}");
    }
    // What passes is waited for.
    let faults = Faults { refuse: Some((3, "Upload", 11, "")), ..Faults::default() };
    let server = FileServer::start(faults).await;
    upload(&server, &path).await.unwrap();
    assert_eq!(server.state().connections, 1);
}

#[tokio::test]
async fn a_full_disk_is_told_and_a_file_that_lost_its_end_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let whole = content(100_000);
    let path = local(&dir, "f", &whole);
    let server = FileServer::start(Faults { room: Some(50_000), ..Faults::default() }).await;
    let error = upload(&server, &path).await.unwrap_err().to_string();
    assert!(error.contains("code 4") && error.contains("no space left on the server"), "{error}");

    let lossy = |times| Faults { lossy_ends: Some((times, 10)), ..Faults::default() };
    let server = FileServer::start(lossy(1)).await;
    upload(&server, &path).await.unwrap();
    assert!(server.file("f") == whole);
    assert_eq!(server.state().received, 100_010);
    let server = FileServer::start(lossy(u32::MAX)).await;
    let error = upload(&server, &path).await.unwrap_err().to_string();
    assert!(error.contains("33554440") && error.contains("another size"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_is_left() {
    let dir = tempfile::tempdir().unwrap();
    // The larger one fills every buffer on the way; the smaller one waits for the end's answer.
    for size in [30_000_000, 100_000] {
        let whole = content(size);
        let path = local(&dir, "f", &whole);
        let faults = Faults { stall: Some((1, 50_000)), ..Faults::default() };
        let server = FileServer::start(faults).await;
        let mut stalls = 0;
        let mut observe = |event: Event<'_>| {
            if let Event::Waiting { error, .. } = event {
                assert!(matches!(error, ClientError::Stalled { .. }), "{error}");
                stalls += 1;
            }
        };
        let mut options = options(&server);
        options.timeouts.stall = Duration::from_secs(1);
        let send = UploadFile::new(&path, "f");
        Transfer::uploads(options).upload(send, &mut observe).await.unwrap();
        assert_eq!(stalls, 1);
        assert!(server.file("f") == whole);
        assert_eq!(server.state().received, size);
    }
}

#[tokio::test]
async fn what_a_server_says_in_the_middle_ends_the_upload() {
    let dir = tempfile::tempdir().unwrap();
    let path = local(&dir, "f", &content(3_000_000));
    let said = [
        (packet("Data", "Code=10\r\nMessage=what file", b""), "code 10 (no file open): what file"),
        (packet("Data", "Code=0", b""), "\"Data\" where no answer is due"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "something else than a reply"),
    ];
    for (said, told) in said {
        let faults = Faults { interrupt: Some((100_000, said)), ..Faults::default() };
        let server = FileServer::start(faults).await;
        let error = upload(&server, &path).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert_eq!(server.state().connections, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_senders_of_one_file_take_turns_and_spoil_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let whole = content(20_000_000);
    let path = local(&dir, "f", &whole);
    let server = FileServer::start(Faults::default()).await;
    let (one, other) = tokio::join!(upload(&server, &path), upload(&server, &path));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(server.file("f") == whole);
    assert_eq!(server.state().received, whole.len());
    assert!(one.reconnects + other.reconnects > 0, "{one:?} {other:?}");
}

#[tokio::test]
async fn a_name_that_belongs_to_another_file_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = local(&dir, "f", b"short");
    let server = FileServer::start(Faults::default()).await;
    server.put("f", b"something longer");
    let error = upload(&server, &path).await.unwrap_err();
    assert!(matches!(error, TransferError::LongerOnServer { stored: 16, size: 5, .. }), "{error}");
    assert!(error.to_string().contains("--replace"), "{error}");
    assert_eq!(server.file("f"), b"something longer");
    let send = UploadFile { replace: true, ..UploadFile::new(&path, "f") };
    Transfer::uploads(options(&server)).upload(send, &mut |_| {}).await.unwrap();
    assert_eq!(server.file("f"), b"short");
}

#[tokio::test]
async fn a_local_file_that_changes_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    type Change = fn(&Path);
    let changes: [Change; 3] = [
        |path| std::fs::write(path, content(1_000_001)).unwrap(),
        |path| std::fs::write(path, b"cut").unwrap(),
        |path| {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        },
    ];
    for change in changes {
        let path = local(&dir, "f", &content(1_000_000));
        let server = FileServer::start(Faults::default()).await;
        let mut changed = false;
        let mut observe = |event: Event<'_>| {
            if matches!(event, Event::Moved { .. }) && !std::mem::replace(&mut changed, true) {
                change(&path);
            }
        };
        let mut transfer = Transfer::uploads(options(&server));
        let error = transfer.upload(UploadFile::new(&path, "f"), &mut observe).await.unwrap_err();
        assert!(matches!(error, TransferError::Changed { .. }), "{error}");
        assert!(server.state().ended.is_empty());
    }
    let server = FileServer::start(Faults::default()).await;
    let error = upload(&server, dir.path()).await.unwrap_err();
    assert!(matches!(error, TransferError::NotAFile { .. }), "{error}");
    let error = upload(&server, &dir.path().join("missing")).await.unwrap_err();
    assert!(matches!(error, TransferError::Local { .. }), "{error}");
    assert_eq!(server.state().connections, 0);
}

#[tokio::test]
async fn retries_have_their_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let path = local(&dir, "f", b"data");
    // Bound and dropped: nobody listens there now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut nowhere = Options::new(&free.to_string(), "u", "p");
    nowhere.retry = Retry { failures: Some(3), pause: Duration::from_millis(1) };
    let mut pauses = 0;
    let mut observe = |event: Event<'_>| {
        assert!(matches!(event, Event::Waiting { .. }), "{event:?}");
        pauses += 1;
    };
    let mut transfer = Transfer::uploads(nowhere.clone());
    let error = transfer.upload(UploadFile::new(&path, "f"), &mut observe).await.unwrap_err();
    assert!(matches!(error, TransferError::GaveUp { failures: 4, .. }), "{error}");
    assert_eq!(pauses, 3);
    nowhere.server = "no-port".to_owned();
    let mut transfer = Transfer::uploads(nowhere);
    let error = transfer.upload(UploadFile::new(&path, "f"), &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, TransferError::Client(ClientError::Resolve { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_many_cuts() {
    let dir = tempfile::tempdir().unwrap();
    let whole = content(1_000_003);
    let faults = Faults { cut: Some((47_111, Cut::Unread)), ..Faults::default() };
    let server = FileServer::start(faults).await;
    server.put("f", &whole);
    let output = dir.path().join("out");
    let mut options = options(&server);
    options.packet = 5_000;
    let mut transfer = Transfer::downloads(options);
    let outcome = transfer.download(fetch(&output), &mut |_| {}).await.unwrap();
    assert!(std::fs::read(&output).unwrap() == whole);
    assert!(!part(&output).exists());
    let state = server.state();
    assert_eq!(state.connections, state.offsets.len());
    assert_eq!(outcome.reconnects as usize + 1, state.connections);
    // Of each lost connection, half a packet and what is compared again at most.
    let again = state.sent - whole.len();
    assert!(again <= (state.connections - 1) * (5_000 + 4_096), "{again}");
    assert!(state.offsets.is_sorted() && state.connections > 20);
}

#[tokio::test]
async fn a_download_continues_an_unfinished_file() {
    let dir = tempfile::tempdir().unwrap();
    let whole = content(100_000);
    let server = FileServer::start(Faults::default()).await;
    server.put("f", &whole);
    for held in [0, 1, 4_096, 60_000, 100_000] {
        let output = dir.path().join(held.to_string());
        std::fs::write(part(&output), &whole[..held]).unwrap();
        let outcome = download(&server, &output).await.unwrap();
        assert_eq!(outcome.resumed_from, held as u64);
        assert_eq!(outcome.moved as usize, whole.len() - held + held.min(4_096));
        assert!(std::fs::read(&output).unwrap() == whole, "{held}");
    }
    server.put("f", b"");
    let output = dir.path().join("empty");
    download(&server, &output).await.unwrap();
    assert_eq!(std::fs::read(&output).unwrap(), b"");
}

#[tokio::test]
async fn what_belongs_to_another_file_is_not_continued() {
    let dir = tempfile::tempdir().unwrap();
    let server = FileServer::start(Faults::default()).await;
    let whole = content(20_000);
    server.put("f", &whole);
    let output = dir.path().join("out");
    let longer = content(20_001);
    let much_longer = content(30_000);
    let mut other = whole[..10_000].to_vec();
    other[9_000] ^= 1;
    for held in [&longer, &much_longer, &other] {
        std::fs::write(part(&output), held).unwrap();
        let error = download(&server, &output).await.unwrap_err();
        assert!(matches!(error, TransferError::OtherFile { .. }), "{error}");
        assert!(std::fs::read(part(&output)).unwrap() == *held);
        assert!(!output.exists());
    }
}

#[tokio::test]
async fn a_file_that_changes_on_the_server_is_not_mixed() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    let faults = Faults { cut: Some((50_000, Cut::Unread)), ..Faults::default() };
    let server = FileServer::start(faults).await;
    server.put("f", &content(200_000));
    let own = server.clone();
    let mut observe = move |event: Event<'_>| {
        if matches!(event, Event::Waiting { .. }) {
            own.put("f", &content(300_000));
        }
    };
    let mut transfer = Transfer::downloads(options(&server));
    let error = transfer.download(fetch(&output), &mut observe).await.unwrap_err();
    assert!(matches!(error, TransferError::OtherFile { .. }), "{error}");
    assert!(error.to_string().contains("changed while"), "{error}");
    assert!(!output.exists());
}

#[tokio::test]
async fn a_download_replaces_nothing_unless_told_and_leaves_nothing_of_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let output = local(&dir, "out", b"mine");
    let server = FileServer::start(Faults::default()).await;
    server.put("f", b"theirs");
    let error = download(&server, &output).await.unwrap_err();
    assert!(matches!(error, TransferError::Exists { .. }), "{error}");
    assert_eq!(server.state().connections, 0);
    let forced = DownloadFile { force: true, ..fetch(&output) };
    Transfer::downloads(options(&server)).download(forced, &mut |_| {}).await.unwrap();
    assert_eq!(std::fs::read(&output).unwrap(), b"theirs");
    // One that appears while another is fetched is kept as well.
    std::fs::remove_file(&output).unwrap();
    let mut observe = |_: Event<'_>| std::fs::write(&output, b"new").unwrap();
    let mut transfer = Transfer::downloads(options(&server));
    let error = transfer.download(fetch(&output), &mut observe).await.unwrap_err();
    assert!(matches!(error, TransferError::Exists { .. }), "{error}");
    assert_eq!(std::fs::read(&output).unwrap(), b"new");
    assert_eq!(std::fs::read(part(&output)).unwrap(), b"theirs");

    let nowhere = dir.path().join("nowhere");
    let missing = DownloadFile { name: "missing", ..fetch(&nowhere) };
    let mut transfer = Transfer::downloads(options(&server));
    let error = transfer.download(missing, &mut |_| {}).await.unwrap_err();
    assert!(matches!(error, TransferError::Client(ClientError::Refused { code: 9, .. })));
    assert!(!part(&nowhere).exists() && !nowhere.exists());
}

#[tokio::test]
async fn an_unfinished_file_has_one_writer() {
    let dir = tempfile::tempdir().unwrap();
    let server = FileServer::start(Faults::default()).await;
    server.put("f", b"data");
    let output = dir.path().join("out");
    let held = std::fs::File::create(part(&output)).unwrap();
    held.lock().unwrap();
    let error = download(&server, &output).await.unwrap_err();
    assert!(matches!(error, TransferError::InUse { .. }), "{error}");
    drop(held);
    download(&server, &output).await.unwrap();
}

#[tokio::test]
async fn data_that_was_not_asked_for_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out");
    for bad in [vec![], content(30_000), content(100_001), content(2_000_000)] {
        let faults = Faults { bad_data: Some(bad), ..Faults::default() };
        let server = FileServer::start(faults).await;
        server.put("f", &content(100_000));
        let error = download(&server, &output).await.unwrap_err();
        let wrong = matches!(
            error,
            TransferError::Client(ClientError::Unexpected { .. } | ClientError::Protocol { .. })
        );
        assert!(wrong && !output.exists(), "{error}");
    }
}

#[tokio::test]
async fn lists_name_directories_and_files() {
    let server = FileServer::start(Faults::default()).await;
    server.put("b", b"12");
    server.put("a", b"");
    server.put("d/c", b"1");
    let addr = server.addr.to_string();
    let mut client = Client::connect(&addr, Flag::Download).await.unwrap();
    client.login("u", "p").await.unwrap();
    let names = |files: Vec<pulsegate::client::FileEntry>| -> Vec<_> {
        files.into_iter().map(|file| (file.name, file.size)).collect()
    };
    let files = names(client.files("").await.unwrap());
    assert_eq!(files, [("a".to_owned(), 0), ("b".to_owned(), 2)]);
    assert_eq!(names(client.files("d").await.unwrap()), [("c".to_owned(), 1)]);
    // Between two files the connection serves for other things; not in the middle of one.
    let mut download = client.download("", "b", 1, 100).await.unwrap();
    assert_eq!(download.next().await.unwrap(), Some(&b"2"[..]));
    assert_eq!(download.next().await.unwrap(), None);
    client.heartbeat().await.unwrap();
    drop(client.download("", "b", 0, 100).await.unwrap());
    assert!(matches!(client.heartbeat().await, Err(ClientError::GivenUp { .. })));
}

#[tokio::test]
async fn a_log_is_read_in_lines() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 9);
        for piece in ["one\r\ntw", "o\n", "\r\n\u{fffd}end"] {
            stream.write_all(piece.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        stream.write_all(&[b'x'; 40_000]).await.unwrap();
        drop(stream);
        // The next connection is closed as a server does that gives no log.
        listener.accept().await.unwrap();
    });
    let mut log = LogReader::connect(&addr, Timeouts::default()).await.unwrap();
    for line in ["one", "two", ""] {
        assert_eq!(log.line().await.unwrap(), line);
    }
    let mut long = String::new();
    let closed = loop {
        match log.line().await {
            Ok(piece) => {
                assert!(piece.len() <= 16 * 1024);
                long += &piece;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(long.len(), "\u{fffd}end".len() + 40_000);
    assert!(matches!(closed, ClientError::Closed { .. }), "{closed}");
    let mut log = LogReader::connect(&addr, Timeouts::default()).await.unwrap();
    let error = log.line().await.unwrap_err();
    assert!(matches!(error, ClientError::NoLog { .. }), "{error}");
}
