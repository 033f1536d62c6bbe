//! Upload, Download, RemoteStream and LogOutput over sockets in memory and a store in memory.

mod common;

use common::{TestServer, addr, at, login, packet, replies, request, server, store};
use proptest::collection::vec;
use proptest::prelude::*;
use pulsegate_core::protocol::{Access, IocpConfig};
use pulsegate_core::server::{CloseReason, Wants};
use pulsegate_core::socket::memory::MemorySocket;
use pulsegate_core::table::SessionId;

type Peer = MemorySocket<16384>;

const UPLOAD: u8 = 2;
const DOWNLOAD: u8 = 3;
const REMOTE_STREAM: u8 = 4;
const LOG_OUTPUT: u8 = 9;

fn gateway() -> TestServer {
    server(4, IocpConfig { remote_stream: Access::Login, ..IocpConfig::default() })
}

fn connect(server: &mut TestServer, flag: u8) -> (SessionId, Peer) {
    let id = server.accept(at(0), addr(9999), addr(40_000)).unwrap().id;
    let mut peer = Peer::new();
    peer.send(&[flag], at(0));
    (id, peer)
}

/// Drives until the server waits, and closes whose upload was taken over.
fn settle(server: &mut TestServer, id: SessionId, peer: &mut Peer) -> Result<(), CloseReason> {
    for _ in 0..10_000 {
        match server.drive(at(0), id, peer, 1000) {
            Wants::More => {}
            Wants::Nothing(reason) => return Err(reason),
            _ => return Ok(()),
        }
    }
    panic!("the session never comes to rest");
}

/// Sends packets on a session and gives the replies, without `[Response]`.
fn ask(
    server: &mut TestServer,
    session: &mut (SessionId, Peer),
    input: &[u8],
) -> Vec<(String, Vec<u8>)> {
    let (id, peer) = session;
    assert_eq!(peer.send(input, at(0)), input.len());
    let _ = settle(server, *id, peer);
    let found = replies(peer.output());
    let len = peer.output().len();
    peer.take(len, at(0));
    let strip = |(text, data): (String, Vec<u8>)| {
        (text.strip_prefix("[Response]\r\nCommand=").unwrap().to_owned(), data)
    };
    found.into_iter().map(strip).collect()
}

/// One request, one reply without data.
fn one(server: &mut TestServer, session: &mut (SessionId, Peer), lines: &str) -> String {
    let mut found = ask(server, session, &request(lines));
    let (text, data) = found.pop().expect("a reply");
    assert!(found.is_empty() && data.is_empty(), "{found:?}");
    text
}

fn logged_in(server: &mut TestServer, flag: u8) -> (SessionId, Peer) {
    let mut session = connect(server, flag);
    assert_eq!(ask(server, &mut session, &login("admin"))[0].0, "Login\r\nCode=0");
    session
}

fn upload(server: &mut TestServer, name: &str, data: &[u8]) {
    let mut session = logged_in(server, UPLOAD);
    let input = [
        request(&format!("Upload\r\nDirName=\r\nFileName={name}")),
        packet("[Request]\r\nCommand=Data", data),
        request(&format!("Eof\r\nFileSize={}", data.len())),
    ];
    let found = ask(server, &mut session, &input.concat());
    assert_eq!(found[1].0, "Eof\r\nCode=0");
    server.close(at(0), session.0, CloseReason::Kicked).unwrap();
    session.1.peer_finish();
    let _ = settle(server, session.0, &mut session.1);
}

#[test]
fn every_upload_command_gets_its_reply() {
    let mut server = gateway();
    let session = &mut connect(&mut server, UPLOAD);
    let cases = [
        ("Upload\r\nDirName=\r\nFileName=a", "Upload\r\nCode=8\r\nMessage="),
        ("Active", "Active\r\nCode=0"),
        ("Login\r\nUserName=admin\r\nPassword=21232f297a57a5a743894a0e4a801fc3", "Login\r\nCode=0"),
        ("Eof", "Eof\r\nCode=10"),
        ("CreateDir\r\nParentDir=\r\nDirName=pictures", "CreateDir\r\nCode=0"),
        ("CreateDir\r\nParentDir=\r\nDirName=pictures", "CreateDir\r\nCode=0"),
        ("CreateDir\r\nParentDir=none\r\nDirName=x", "CreateDir\r\nCode=33554433"),
        ("CreateDir\r\nDirName=x", "CreateDir\r\nCode=6"),
        ("CreateDir\r\nParentDir=\r\nDirName=", "CreateDir\r\nCode=6"),
        ("CreateDir\r\nParentDir=\r\nDirName=../x", "CreateDir\r\nCode=6"),
        ("Dir\r\nParentDir=", "Dir\r\nCode=0\r\nItem=pictures"),
        ("Dir\r\nParentDir=pictures", "Dir\r\nCode=0"),
        ("Dir\r\nParentDir=none", "Dir\r\nCode=33554433"),
        ("dIR", "dIR\r\nCode=6"),
        ("Upload\r\nDirName=none\r\nFileName=a", "Upload\r\nCode=33554433"),
        ("Upload\r\nDirName=pictures", "Upload\r\nCode=6"),
        ("Upload\r\nDirName=\r\nFileName=pictures", "Upload\r\nCode=6"),
        ("Upload\r\nDir=pictures\r\nFileName=a=b", "Upload\r\nCode=0\r\nFileSize=0"),
        ("DeleteFile\r\nDirName=pictures\r\nItem=a=b", "DeleteFile\r\nCode=11"),
        ("DeleteDir\r\nParentDir=\r\nDirName=pictures", "DeleteDir\r\nCode=33554435"),
        ("Eof\r\nFileSize=x", "Eof\r\nCode=6"),
        ("Eof\r\nFileSize=1", "Eof\r\nCode=33554440"),
        ("Eof", "Eof\r\nCode=10"),
        ("FileList\r\nDirName=pictures", "FileList\r\nCode=0\r\nItem=a=b\u{1}0"),
        ("DeleteFile\r\nDirName=\r\nItem=pictures", "DeleteFile\r\nCode=33554439"),
        ("DeleteFile\r\nDirName=pictures", "DeleteFile\r\nCode=6"),
        ("DeleteFile\r\nDirName=pictures\r\nItem=c\r\nItem=a=b", "DeleteFile\r\nCode=0"),
        ("FileList\r\nDirName=pictures", "FileList\r\nCode=0"),
        ("CreateDir\r\nParentDir=pictures\r\nDirName=raw", "CreateDir\r\nCode=0"),
        ("DeleteDir\r\nParentDir=\r\nDirName=pictures", "DeleteDir\r\nCode=0"),
        ("DeleteDir\r\nParentDir=\r\nDirName=pictures", "DeleteDir\r\nCode=33554435"),
        ("Dir\r\nParentDir=", "Dir\r\nCode=0"),
        ("GetClients", "GetClients\r\nCode=1"),
    ];
    for (asked, expected) in cases {
        let text = one(&mut server, session, asked);
        let whole = expected.contains("Item=") || expected.ends_with("Code=0");
        assert!(text == expected || !whole && text.starts_with(expected), "{asked:?}: {text:?}");
    }
}

#[test]
fn data_without_a_file_ends_the_connection_without_a_word() {
    let mut server = gateway();
    let mut session = logged_in(&mut server, UPLOAD);
    assert!(ask(&mut server, &mut session, &packet("[Request]\r\nCommand=Data", b"x")).is_empty());
    session.1.peer_finish();
    let wants = settle(&mut server, session.0, &mut session.1);
    assert_eq!(wants, Err(CloseReason::BadPacket));
}

#[test]
fn a_full_store_tells_at_the_end_and_keeps_what_it_has() {
    let mut server = gateway();
    let mut session = logged_in(&mut server, UPLOAD);
    let begin = request("Upload\r\nDirName=\r\nFileName=a");
    let data = packet("[Request]\r\nCommand=Data", &[7; 3000]);
    let input = [begin.clone(), data.clone(), data.clone(), data, request("Eof")].concat();
    let found = ask(&mut server, &mut session, &input);
    assert_eq!(found[1].0, "Eof\r\nCode=4\r\nMessage=no space left on the server");
    assert_eq!(ask(&mut server, &mut session, &begin)[0].0, "Upload\r\nCode=0\r\nFileSize=4096");
    assert_eq!(server.protocol().app().store.contents("a"), Some(&[7; 4096][..]));
}

#[test]
fn a_download_comes_in_packets_and_commands_wait_for_its_end() {
    let mut server = gateway();
    let bytes: Vec<u8> = (0..100).collect();
    upload(&mut server, "a", &bytes);
    let mut session = logged_in(&mut server, DOWNLOAD);
    let get = |offset: u32, packet: u32| {
        let text = "Download\r\nDirName=\r\nFileName=a\r\nFileSize=";
        request(&format!("{text}{offset}\r\nPacketSize={packet}"))
    };
    let found = ask(&mut server, &mut session, &[get(10, 40), request("Active")].concat());
    let texts: Vec<_> = found.iter().map(|(text, data)| (text.as_str(), data.len())).collect();
    let expected = [
        ("Download\r\nCode=0", 0),
        ("SendFile\r\nCode=0\r\nFileSize=90", 0),
        ("Data\r\nCode=0", 40),
        ("Data\r\nCode=0", 40),
        ("Data\r\nCode=0", 10),
        ("Active\r\nCode=0", 0),
    ];
    assert_eq!(texts, expected);
    let sent: Vec<u8> = found.into_iter().flat_map(|(_, data)| data).collect();
    assert_eq!(sent, bytes[10..]);
    let end = ask(&mut server, &mut session, &get(100, 1));
    assert_eq!((end.len(), end[1].0.as_str()), (2, "SendFile\r\nCode=0\r\nFileSize=0"));
    for (input, code) in [
        (get(101, 1), 6),
        (get(0, 0), 6),
        (get(0, 1 << 20 | 1), 6),
        (request("Download\r\nDirName=\r\nFileName=b\r\nFileSize=0\r\nPacketSize=1"), 9),
        (request("Download\r\nDirName=\r\nFileName=a\r\nFileSize=0"), 6),
    ] {
        let found = ask(&mut server, &mut session, &input);
        assert!(found[0].0.starts_with(&format!("Download\r\nCode={code}")), "{found:?}");
    }
    assert_eq!(
        one(&mut server, &mut session, "FileList\r\nDirName="),
        "FileList\r\nCode=0\r\nItem=a\u{1}100"
    );
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_ends_in_a_reset() {
    let mut server = gateway();
    upload(&mut server, "a", &[1; 4000]);
    let (id, mut peer) = logged_in(&mut server, DOWNLOAD);
    let get = "Download\r\nDirName=\r\nFileName=a\r\nFileSize=0\r\nPacketSize=3000";
    peer.send(&request(get), at(0));
    assert_eq!(server.drive(at(0), id, &mut peer, 500), Wants::More);
    let mut other = logged_in(&mut server, REMOTE_STREAM);
    one(&mut server, &mut other, "OpenFile\r\nFileName=a\r\nMode=1");
    assert_eq!(one(&mut server, &mut other, "SetSize\r\nSize=10"), "SetSize\r\nCode=0");
    let wants = settle(&mut server, id, &mut peer);
    assert_eq!((wants, peer.is_aborted()), (Err(CloseReason::AppFailed), true));
}

/// A file's length has been announced: what ends before that must not look like the whole.
#[test]
fn a_download_that_is_ended_before_its_end_is_reset() {
    let get = request("Download\r\nDirName=\r\nFileName=a\r\nFileSize=0\r\nPacketSize=100");
    // Wherever it is when the server stops: after the reply, and in and between its packets.
    for more in 1..700 {
        let mut server = gateway();
        upload(&mut server, "a", &[1; 4000]);
        let (id, mut peer) = logged_in(&mut server, DOWNLOAD);
        peer.send(&get, at(0));
        let _ = server.drive(at(0), id, &mut peer, get.len() + more);
        server.close(at(0), id, CloseReason::Shutdown).unwrap();
        let ended = settle(&mut server, id, &mut peer);
        assert_eq!((ended, peer.is_aborted()), (Err(CloseReason::Shutdown), true), "{more}");
    }
}

#[test]
fn nobody_logs_in_over_an_open_file() {
    let mut server = gateway();
    let session = &mut logged_in(&mut server, REMOTE_STREAM);
    one(&mut server, session, "OpenFile\r\nFileName=a\r\nMode=1");
    let text = ask(&mut server, session, &login("meter"))[0].0.clone();
    assert!(text.starts_with("Login\r\nCode=11"), "{text}");
    one(&mut server, session, "CloseFile");
    assert_eq!(ask(&mut server, session, &login("meter"))[0].0, "Login\r\nCode=0");
}

#[test]
fn a_remote_file_is_read_written_and_moved_about_in() {
    let mut server = gateway();
    upload(&mut server, "a", b"0123456789");
    let session = &mut logged_in(&mut server, REMOTE_STREAM);
    let cases = [
        ("GetSize", "GetSize\r\nCode=10"),
        ("FileExists\r\nFileName=a", "FileExists\r\nCode=0"),
        ("FileExists\r\nFileName=b", "FileExists\r\nCode=9"),
        ("OpenFile\r\nFileName=b\r\nMode=0", "OpenFile\r\nCode=9"),
        ("OpenFile\r\nFileName=a\r\nMode=2", "OpenFile\r\nCode=6"),
        ("OpenFile\r\nFileName=a\r\nMode=0", "OpenFile\r\nCode=0"),
        ("SetSize\r\nSize=5", "SetSize\r\nCode=4"),
        ("OpenFile\r\nFileName=a\r\nMode=1", "OpenFile\r\nCode=0"),
        ("GetSize", "GetSize\r\nCode=0\r\nSize=10"),
        ("Seek\r\nOffset=-4\r\nSeekOrigin=2", "Seek\r\nCode=0\r\nOffset=6"),
        ("Seek\r\nOffset=-7\r\nSeekOrigin=1", "Seek\r\nCode=6"),
        ("Seek\r\nOffset=0\r\nSeekOrigin=3", "Seek\r\nCode=6"),
        ("GetPosition", "GetPosition\r\nCode=0\r\nPosition=6"),
        ("SetSize\r\nSize=+5", "SetSize\r\nCode=6"),
    ];
    for (asked, expected) in cases {
        let text = one(&mut server, session, asked);
        assert!(text.starts_with(expected), "{asked:?}: {text:?}");
    }
    let read = request("Read\r\nCount=3");
    let found = ask(&mut server, session, &read.repeat(3));
    let expected = [("3", &b"678"[..]), ("1", b"9"), ("0", b"")];
    for ((text, data), (count, bytes)) in found.iter().zip(expected) {
        assert_eq!(
            (text.as_str(), &data[..]),
            (&*format!("Read\r\nCode=0\r\nCount={count}"), bytes)
        );
    }
    assert_eq!(one(&mut server, session, "SetPosition\r\nPosition=12"), "SetPosition\r\nCode=0");
    let write = packet("[Request]\r\ncommand=wRiTE", b"xyz");
    assert_eq!(ask(&mut server, session, &write)[0].0, "wRiTE\r\nCode=0\r\nCount=3");
    let whole = Some(&b"0123456789\0\0xyz"[..]);
    assert_eq!(server.protocol().app().store.contents("a"), whole);
    assert_eq!(one(&mut server, session, "CloseFile"), "CloseFile\r\nCode=0");
    assert_eq!(
        ask(&mut server, session, &write)[0].0,
        "wRiTE\r\nCode=10\r\nMessage=no file is open"
    );
    assert_eq!(one(&mut server, session, "CloseFile").split("\r\n").nth(1), Some("Code=10"));
}

#[test]
fn whoever_goes_on_with_an_upload_takes_it_over() {
    let mut server = gateway();
    let mut old = logged_in(&mut server, UPLOAD);
    let begin = request("Upload\r\nDirName=\r\nFileName=a");
    // The signal is lost in the middle of a packet.
    let data = packet("[Request]\r\nCommand=Data", b"abcdef");
    ask(&mut server, &mut old, &[&begin[..], &data[..data.len() - 2]].concat());
    let mut new = logged_in(&mut server, UPLOAD);
    assert_eq!(ask(&mut server, &mut new, &begin)[0].0, "Upload\r\nCode=0\r\nFileSize=4");
    assert_eq!(server.protocol_mut().app_mut().store.taken_over(), Some(old.0));
    old.1.send(b"ef", at(0));
    let _ = settle(&mut server, old.0, &mut old.1);
    ask(&mut server, &mut new, &packet("[Request]\r\nCommand=Data", b"EF"));
    assert_eq!(server.protocol().app().store.contents("a"), Some(&b"abcdEF"[..]));
}

#[test]
fn the_log_is_followed_and_never_waited_for() {
    let mut server = gateway();
    let (id, mut peer) = connect(&mut server, LOG_OUTPUT);
    assert_eq!(settle(&mut server, id, &mut peer), Ok(()));
    server.protocol_mut().app_mut().log.push(format_args!("one"));
    assert_eq!(settle(&mut server, id, &mut peer), Ok(()));
    assert_eq!(peer.output(), b"one\r\n");
    // It has no timeout of its own, and a reader that takes nothing loses lines.
    assert_eq!(server.poll_at(), None);
    let mut full = MemorySocket::<200>::new();
    let late = server.accept(at(0), addr(9999), addr(2)).unwrap().id;
    full.send(&[LOG_OUTPUT], at(0));
    for n in 0..1000 {
        while server.drive(at(0), late, &mut full, 1000) == Wants::More {}
        server.protocol_mut().app_mut().log.push(format_args!("line {n}"));
    }
    assert_eq!(server.drive(at(0), late, &mut full, 1000), Wants::Output);
    full.take(200, at(0));
    let _ = server.drive(at(0), late, &mut full, 1000);
    let text = String::from_utf8(full.output().to_vec()).unwrap();
    assert!(text.starts_with("... 9") && text.contains(" lines lost\r\nline 9"), "{text}");
    full.take(200, at(0));
    full.send(b"?", at(0));
    let _ = server.drive(at(0), late, &mut full, 1000);
    assert!(full.output().starts_with(b"this is the server's log"));
    full.take(200, at(0));
    full.send(&[27], at(0));
    let _ = server.drive(at(0), late, &mut full, 1000);
    full.peer_finish();
    let wants = server.drive(at(0), late, &mut full, 1000);
    assert_eq!(wants, Wants::Nothing(CloseReason::PeerClosed));
    assert!(!full.is_aborted());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// A camera sends a picture over a link that breaks anywhere, in each of the ways in which
    /// links break; it always goes on where the server says.
    #[test]
    fn any_cuts_and_resumes_give_the_same_file(
        picture in vec(any::<u8>(), 0..3000),
        cuts in vec((1usize..900, 0u8..4, 1usize..200), 0..25),
        budget in 1usize..700,
    ) {
        let mut server = gateway();
        server.protocol_mut().app_mut().store = store(2, 4096, 64);
        let mut cuts = cuts.into_iter();
        let mut standing = Vec::new();
        loop {
            // The first to be dropped, as the table is small; the others stand, and are silent.
            while standing.len() > 2 {
                let (id, mut peer): (SessionId, Peer) = standing.remove(0);
                peer.peer_reset();
                let _ = server.drive(at(0), id, &mut peer, budget);
            }
            let mut session = logged_in(&mut server, UPLOAD);
            let begin = request("Upload\r\nDirName=\r\nFileName=p");
            let text = ask(&mut server, &mut session, &begin)[0].0.clone();
            let have: usize = text.strip_prefix("Upload\r\nCode=0\r\nFileSize=").unwrap().parse().unwrap();
            while let Some(id) = server.protocol_mut().app_mut().store.taken_over() {
                server.close(at(0), id, CloseReason::TakenOver).unwrap();
                let gone = standing.iter().position(|(other, _)| *other == id).unwrap();
                let (id, mut peer) = standing.remove(gone);
                peer.peer_reset();
                let _ = settle(&mut server, id, &mut peer);
            }
            let chunk = cuts.as_slice().first().map_or(500, |cut| cut.2);
            let mut stream: Vec<u8> = picture[have..]
                .chunks(chunk)
                .flat_map(|piece| packet("[Request]\r\nCommand=Data", piece))
                .collect();
            stream.extend(request(&format!("Eof\r\nFileSize={}", picture.len())));
            let Some((len, how, _)) = cuts.next() else {
                prop_assert_eq!(&ask(&mut server, &mut session, &stream)[0].0, "Eof\r\nCode=0");
                break;
            };
            let (id, mut peer) = session;
            peer.send(&stream[..len.min(stream.len())], at(0));
            match how {
                // It has not even been read.
                0 => standing.push((id, peer)),
                1 => {
                    let _ = settle(&mut server, id, &mut peer);
                    standing.push((id, peer));
                }
                2 => {
                    peer.peer_finish();
                    let _ = settle(&mut server, id, &mut peer);
                }
                _ => {
                    let _ = server.drive(at(0), id, &mut peer, budget);
                    peer.peer_reset();
                    let _ = settle(&mut server, id, &mut peer);
                }
            }
        }
        prop_assert_eq!(server.protocol().app().store.contents("p"), Some(&picture[..]));
    }
}
