//! The IOCPDemo protocol, rule by rule, over sockets in memory.

mod common;

use common::{TestServer, addr, at, login, packet, replies, request, server};
use embassy_time::Instant;
use proptest::collection::vec;
use proptest::prelude::*;
use pulsegate_core::app::Login;
use pulsegate_core::protocol::{IocpConfig, Reply};
use pulsegate_core::server::{CloseReason, Wants};
use pulsegate_core::socket::memory::MemorySocket;
use pulsegate_core::table::SessionId;

type Peer = MemorySocket<16384>;

fn connect(server: &mut TestServer, now: Instant, flag: u8) -> (SessionId, Peer) {
    let id = server.accept(now, addr(9999), addr(40_000)).unwrap().id;
    let mut peer = Peer::new();
    if flag != 0 {
        peer.send(&[flag], now);
        assert_eq!(server.drive(now, id, &mut peer, 4096), Wants::Input);
    }
    (id, peer)
}

/// Drives until the server waits for something.
fn settle(server: &mut TestServer, now: Instant, id: SessionId, peer: &mut Peer) -> Wants {
    for _ in 0..10_000 {
        match server.drive(now, id, peer, 4096) {
            Wants::More => {}
            wants => return wants,
        }
    }
    panic!("the session never comes to rest");
}

/// Sends to a fresh session and gives what came back.
fn talk(flag: u8, input: &[u8]) -> (Vec<u8>, Wants) {
    let mut server = server(4, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(0), flag);
    assert_eq!(peer.send(input, at(0)), input.len());
    let wants = settle(&mut server, at(0), id, &mut peer);
    (peer.output().to_vec(), wants)
}

fn hex(text: &str) -> Vec<u8> {
    text.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn the_heartbeat_byte_by_byte() {
    let request = "1d 00 00 00 19 00 00 00 5b 52 65 71 75 65 73 74 5d 0d 0a 43 6f 6d 6d 61 6e 64 3d \
                   41 63 74 69 76 65";
    let reply = "26 00 00 00 22 00 00 00 5b 52 65 73 70 6f 6e 73 65 5d 0d 0a 43 6f 6d 6d 61 6e 64 3d \
                 41 63 74 69 76 65 0d 0a 43 6f 64 65 3d 30";
    assert_eq!(talk(8, &hex(request)), (hex(reply), Wants::Input));
    assert_eq!(talk(5, &hex(request)), (hex(reply), Wants::Input));
}

#[test]
fn the_echo_byte_by_byte() {
    let request = "2f 00 00 00 28 00 00 00 5b 52 65 71 75 65 73 74 5d 0d 0a 43 6f 6d 6d 61 6e 64 3d \
                   43 79 63 6c 65 50 61 63 6b 65 74 0d 0a 43 6f 75 6e 74 3d 34 31 00 ff 7f";
    let reply = "38 00 00 00 31 00 00 00 5b 52 65 73 70 6f 6e 73 65 5d 0d 0a 43 6f 6d 6d 61 6e 64 3d \
                 43 79 63 6c 65 50 61 63 6b 65 74 0d 0a 43 6f 64 65 3d 30 0d 0a 43 6f 75 6e 74 3d 34 \
                 32 00 ff 7f";
    assert_eq!(talk(5, &hex(request)), (hex(reply), Wants::Input));
}

/// One request, the flag it is sent under, how the reply begins, and whether the connection stays.
#[test]
fn every_request_gets_its_reply() {
    let long = "x".repeat(5000);
    let text = |text: &str| packet(text, b"");
    let utf8 = [&packet("[Request]\r\n__", b"")[..19], &[0xff, 0xfe]].concat();
    let cases: &[(u8, Vec<u8>, &str, bool)] = &[
        (8, request("aCtIvE"), "Command=aCtIvE\r\nCode=0", true),
        (
            8,
            text("\r\n[REQUEST]\r\n\r\nx=y\r\nCOMMAND=Active\r\n"),
            "Command=Active\r\nCode=0",
            true,
        ),
        (8, login("admin"), "Command=Login\r\nCode=0", true),
        (8, login("stranger"), "Command=Login\r\nCode=7\r\nMessage=", true),
        (8, login("banned"), "Command=Login\r\nCode=7\r\nMessage=not now", true),
        (8, request("Login\r\nUserName=admin"), "Command=Login\r\nCode=6", true),
        (8, request("GetClients"), "Command=GetClients\r\nCode=8\r\nMessage=", true),
        (8, request("Nonsense"), "Command=Nonsense\r\nCode=8", true),
        (8, text("[Request]\r\nCommand"), "Command=\r\nCode=5", true),
        (8, text("[Request]\r\nCommand="), "Command=\r\nCode=5", true),
        (8, text("[Request]"), "Command=\r\nCode=3", false),
        (8, text("[Request]\r\n\r\n"), "Command=\r\nCode=3", false),
        (8, text("[Demand]\r\nCommand=Active"), "Command=\r\nCode=3", false),
        (8, text(""), "Command=\r\nCode=3", false),
        (8, utf8, "Command=\r\nCode=3", false),
        (8, vec![3, 0, 0, 0, 0, 0, 0, 0], "Command=\r\nCode=2", false),
        (8, vec![4, 0, 0, 0, 1, 0, 0, 0], "Command=\r\nCode=2", false),
        (8, text(&long), "Command=\r\nCode=2", false),
        (
            8,
            vec![0, 0, 0, 29, 0, 0, 0, 25],
            "Command=\r\nCode=2\r\nMessage=lengths look big-endian",
            false,
        ),
        (
            5,
            request("CyclePacket\r\nCount=2147483647"),
            "Command=CyclePacket\r\nCode=0\r\nCount=-2147483648",
            true,
        ),
        (
            5,
            packet("[Request]\r\nCommand=CyclePacket\r\nCount=x", b"data"),
            "Command=CyclePacket\r\nCode=6",
            true,
        ),
        (5, request("Login"), "Command=Login\r\nCode=1", false),
    ];
    for (flag, input, expected, stays) in cases {
        let (output, wants) = talk(*flag, input);
        let found = replies(&output);
        let expected = format!("[Response]\r\n{expected}");
        assert!(found.len() == 1 && found[0].0.starts_with(&expected), "{found:?}, not {expected}");
        let ended = matches!(wants, Wants::Input) && *stays || !stays;
        assert!(ended, "{expected}: {wants:?}");
        if expected.contains("Code=6") && *flag == 5 {
            assert_eq!(found[0].1, b"data");
        }
    }
}

#[test]
fn a_response_is_never_taken_for_a_request() {
    let bytes = packet("[Response]\r\nCommand=Active\r\nSeq=4", b"data");
    assert_eq!(talk(8, &bytes), (vec![], Wants::Input));
}

#[test]
fn unknown_commands_and_flags_end_the_connection() {
    let config = IocpConfig {
        throughput_idle: None,
        upload_idle: None,
        download_idle: None,
        ..IocpConfig::default()
    };
    let mut server = server(4, config);
    server.protocol_mut().app_mut().shows_log = false;
    for flag in [0u8, 1, 2, 3, 4, 5, 9, 255] {
        let (id, mut peer) = connect(&mut server, at(0), 0);
        peer.send(&[flag], at(0));
        peer.peer_finish();
        let wants = settle(&mut server, at(0), id, &mut peer);
        assert_eq!((wants, peer.output()), (Wants::Nothing(CloseReason::BadFlag), &b""[..]));
    }
    let (id, mut peer) = connect(&mut server, at(0), 8);
    peer.send(&[login("admin"), request("Nonsense"), request("Active")].concat(), at(0));
    assert_eq!(settle(&mut server, at(0), id, &mut peer), Wants::Input);
    assert_eq!(replies(peer.output()).len(), 2);
    assert!(peer.is_finished() && !peer.is_aborted());
    peer.peer_finish();
    let wants = settle(&mut server, at(1), id, &mut peer);
    assert_eq!(wants, Wants::Nothing(CloseReason::UnknownCommand));
}

#[test]
fn three_wrong_passwords_end_the_connection() {
    let (output, _) = talk(8, &login("stranger").repeat(5));
    assert_eq!(replies(&output).len(), 3);
}

#[test]
fn a_half_closed_peer_gets_its_answers() {
    let mut server = server(1, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(0), 8);
    peer.send(&[login("slow"), request("Active")].concat(), at(0));
    peer.peer_finish();
    assert_eq!(settle(&mut server, at(0), id, &mut peer), Wants::App);
    let (_, job) = server.protocol_mut().app_mut().questions.pop().unwrap();
    server.complete(at(9), id, job, Reply::Login(Login::Accepted("slow".into()))).unwrap();
    let wants = settle(&mut server, at(9), id, &mut peer);
    assert_eq!(wants, Wants::Nothing(CloseReason::PeerClosed));
    assert_eq!(replies(peer.output()).len(), 2);
    assert!(!peer.is_aborted());
}

#[test]
fn a_promise_that_cannot_be_kept_ends_in_a_reset() {
    let whole = packet("[Request]\r\nCommand=CyclePacket\r\nCount=1", &[7; 100]);
    let mut server = server(2, IocpConfig::default());
    // The peer ends in the middle of its data.
    let (id, mut peer) = connect(&mut server, at(0), 5);
    peer.send(&whole[..whole.len() - 1], at(0));
    peer.peer_finish();
    let wants = settle(&mut server, at(0), id, &mut peer);
    assert_eq!((wants, peer.is_aborted()), (Wants::Nothing(CloseReason::PeerClosed), true));
    // The operator ends it there.
    let (id, mut peer) = connect(&mut server, at(0), 5);
    peer.send(&whole[..whole.len() - 1], at(0));
    assert_eq!(settle(&mut server, at(0), id, &mut peer), Wants::Input);
    server.close(at(1), id, CloseReason::Kicked).unwrap();
    let wants = settle(&mut server, at(1), id, &mut peer);
    assert_eq!((wants, peer.is_aborted()), (Wants::Nothing(CloseReason::Kicked), true));
}

#[test]
fn the_list_shows_every_connection() {
    let mut server = server(3, IocpConfig::default());
    let (_silent, _peer) = connect(&mut server, at(1_250), 0);
    let (id, mut peer) = connect(&mut server, at(2_000), 8);
    peer.send(&[login("admin"), request("GetClients")].concat(), at(3_007));
    assert_eq!(settle(&mut server, at(3_007), id, &mut peer), Wants::Input);
    assert_eq!(
        replies(peer.output())[1].0,
        "[Response]\r\nCommand=GetClients\r\nCode=0\
         \r\nItem=192.0.2.1:9999\t192.0.2.1:40000\t\t\t+1.250\t+1.250\
         \r\nItem=192.0.2.1:9999\t192.0.2.1:40000\tControl\tadmin\t+2.000\t+3.007"
    );
    peer.take(usize::MAX, at(3_007));
    peer.send(&request("GetClients\r\nOffset=1\r\nLimit=0"), at(4_000));
    assert_eq!(settle(&mut server, at(4_000), id, &mut peer), Wants::Input);
    assert_eq!(replies(peer.output())[0].0, "[Response]\r\nCommand=GetClients\r\nCode=0");
}

#[test]
fn many_lists_at_once_are_many_turns() {
    let mut server = server(1, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(0), 8);
    peer.send(&[login("admin"), request("GetClients\r\nLimit=0").repeat(100)].concat(), at(0));
    let mut turns = 0;
    while server.drive(at(0), id, &mut peer, usize::MAX) == Wants::More {
        turns += 1;
    }
    assert_eq!((turns, replies(peer.output()).len()), (100, 101));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// However the input is split and however slowly the output leaves: the same replies, each
    /// once, and each side effect once.
    #[test]
    fn nothing_is_lost_or_doubled_where_room_is_short(
        script in vec(0usize..8, 1..25),
        pieces in vec(1usize..120, 1..20),
        sips in vec(0usize..90, 1..20),
        budget in 1usize..300,
    ) {
        let kinds = [
            request("Active"),
            request("ACTIVE"),
            login("admin"),
            request("GetClients\r\nLimit=0"),
            packet("[Request]\r\nCommand", b"data to discard"),
            request("Login\r\nUserName=nobody"),
            login("slow"),
            packet("[Response]\r\nCommand=x", b"more"),
        ];
        let input: Vec<u8> = script.iter().flat_map(|&kind| kinds[kind].clone()).collect();
        let expected = {
            let (mut server, mut out) = (server(1, IocpConfig::default()), Vec::new());
            let (id, mut peer) = connect(&mut server, at(0), 8);
            peer.send(&input, at(0));
            while settle(&mut server, at(0), id, &mut peer) == Wants::App {
                answer(&mut server, id);
            }
            out.extend_from_slice(peer.output());
            (out, *server.protocol().work(), server.protocol().app().events.clone())
        };
        let mut server = server(1, IocpConfig::default());
        let id = server.accept(at(0), addr(1), addr(2)).unwrap().id;
        // Holds the longest command and the longest reply, and hardly more.
        let mut peer = MemorySocket::<400>::new();
        peer.send(&[8], at(0));
        let (mut to_come, mut out) = (&input[..], Vec::new());
        let (mut pieces, mut sips) = (pieces.iter().cycle(), sips.iter().cycle());
        for _ in 0..20_000 {
            if server.drive(at(0), id, &mut peer, budget) == Wants::App {
                answer(&mut server, id);
            }
            let sip = (*sips.next().unwrap()).min(peer.output().len());
            out.extend_from_slice(&peer.output()[..sip]);
            peer.take(sip, at(0));
            let sent = peer.send(&to_come[..to_come.len().min(*pieces.next().unwrap())], at(0));
            to_come = &to_come[sent..];
        }
        out.extend_from_slice(peer.output());
        let found = (out, *server.protocol().work(), server.protocol().app().events.clone());
        // A reader that never takes anything gets no more than fits, and is read no further.
        if sips.by_ref().take(20).any(|&sip| sip > 0) {
            prop_assert!(to_come.is_empty());
            prop_assert_eq!(found, expected);
        } else {
            prop_assert!(expected.0.starts_with(&found.0));
        }
    }
}

fn answer(server: &mut TestServer, id: SessionId) {
    for (asked, job) in std::mem::take(&mut server.protocol_mut().app_mut().questions) {
        assert_eq!(asked, id);
        server.complete(at(0), id, job, Reply::Login(Login::Wrong)).ok();
    }
}
