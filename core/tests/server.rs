//! Deadlines, eviction and stale handles, through the whole server.

mod common;

use common::{TestServer, addr, at, login, replies, request, server, verdict};
use embassy_time::{Duration, Instant};
use pulsegate_core::protocol::{IocpConfig, Reply};
use pulsegate_core::server::{CloseReason, Refused, Stale, Wants};
use pulsegate_core::socket::memory::MemorySocket;
use pulsegate_core::socket::{Proof, Socket};
use pulsegate_core::table::SessionId;

type Peer = MemorySocket<512>;

fn connect(server: &mut TestServer, now: Instant, flag: u8) -> (SessionId, Peer) {
    let id = server.accept(now, addr(9999), addr(40_000)).unwrap().id;
    let mut peer = Peer::new();
    if flag != 0 {
        say(server, now, id, &mut peer, &[flag]);
    }
    (id, peer)
}

fn say(server: &mut TestServer, now: Instant, id: SessionId, peer: &mut Peer, bytes: &[u8]) {
    assert_eq!(peer.send(bytes, now), bytes.len());
    while server.drive(now, id, peer, 4096) == Wants::More {}
}

/// Lets time pass to `until`, judging whenever the server asks for it; when and why it ended.
fn sleep(
    server: &mut TestServer,
    until: Instant,
    id: SessionId,
    peer: &mut Peer,
) -> Option<(Instant, CloseReason)> {
    while let Some(now) = server.poll_at().filter(|&now| now <= until) {
        let mut looks = 8;
        while let Some(due) = server.due(now, &mut looks) {
            assert_eq!(due, id);
            if let Wants::Nothing(reason) = server.judge(now, id, peer, 4096) {
                return Some((now, reason));
            }
        }
    }
    None
}

#[test]
fn silence_ends_a_session_exactly_on_time() {
    let mut server = server(1, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(1_000), 8);
    for second in [10, 50, 90] {
        say(&mut server, at(second * 1_000 + 33), id, &mut peer, &request("Active"));
        peer.take(512, at(second * 1_000 + 34));
        assert_eq!(sleep(&mut server, at(second * 1_000 + 40_000), id, &mut peer), None);
    }
    // The acknowledgement of the last reply was the last proof of life.
    let ended = sleep(&mut server, at(200_000), id, &mut peer);
    assert_eq!(ended, Some((at(150_100), CloseReason::Idle)));
    assert!(peer.is_aborted());
    assert_eq!(server.protocol().app().last_overdue, Some(Duration::from_millis(66)));
}

#[test]
fn a_flag_must_come_and_a_login_where_it_is_asked_for() {
    let config =
        IocpConfig { login_timeout: Some(Duration::from_secs(20)), ..IocpConfig::default() };
    let mut server = server(1, config);
    let (id, mut peer) = connect(&mut server, at(0), 0);
    let ended = sleep(&mut server, at(60_000), id, &mut peer);
    assert_eq!(ended, Some((at(6_000), CloseReason::NoFlag)));
    let (id, mut peer) = connect(&mut server, at(10_000), 8);
    let ended = sleep(&mut server, at(60_000), id, &mut peer);
    assert_eq!(ended, Some((at(30_000), CloseReason::NoLogin)));
    let (id, mut peer) = connect(&mut server, at(40_000), 8);
    say(&mut server, at(41_000), id, &mut peer, &login("meter"));
    assert_eq!(sleep(&mut server, at(90_000), id, &mut peer), None);
}

#[test]
fn bytes_that_wait_in_the_socket_save_their_session() {
    let mut server = server(1, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(0), 8);
    // They arrived in time; the server was stopped.
    peer.send(&request("Active"), at(59_000));
    assert_eq!(sleep(&mut server, at(118_900), id, &mut peer), None);
    assert_eq!(peer.take(512, at(118_900)), 42);
}

#[test]
fn what_is_written_is_no_proof_and_what_is_owed_needs_acknowledgement() {
    let mut server = server(1, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(0), 8);
    assert_eq!(sleep(&mut server, at(10_000), id, &mut peer), None);
    say(&mut server, at(10_000), id, &mut peer, &request("Active"));
    // It sends and sends, and never takes its reply.
    for (byte, second) in request("Active").iter().zip((15..70).step_by(5)) {
        assert_eq!(sleep(&mut server, at(second * 1_000), id, &mut peer), None);
        say(&mut server, at(second * 1_000), id, &mut peer, &[*byte]);
    }
    let ended = sleep(&mut server, at(200_000), id, &mut peer);
    assert_eq!(ended, Some((at(70_000), CloseReason::Idle)));
}

#[test]
fn the_moment_that_counts() {
    let ms = |ms| Some(at(ms));
    let proof = |received_at, acknowledged_at, owed_since| {
        Proof { received_at, acknowledged_at, owed_since }.at()
    };
    assert_eq!(proof(None, None, None), None);
    assert_eq!(proof(ms(5), ms(9), None), ms(9));
    assert_eq!(proof(ms(9), ms(5), None), ms(9));
    // Heard before anything was owed: counts. After: only up to then.
    assert_eq!(proof(ms(9), ms(5), ms(20)), ms(9));
    assert_eq!(proof(ms(30), ms(5), ms(20)), ms(20));
    assert_eq!(proof(ms(30), ms(25), ms(20)), ms(25));
    assert_eq!(proof(None, None, ms(20)), None);
}

#[test]
fn the_clock_stands_still_while_the_application_thinks() {
    let mut server = server(1, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(0), 8);
    say(&mut server, at(10_000), id, &mut peer, &login("slow")[..9]);
    say(&mut server, at(20_000), id, &mut peer, &login("slow")[9..]);
    assert_eq!(sleep(&mut server, at(110_000), id, &mut peer), None);
    let (_, job) = server.protocol_mut().app_mut().questions.pop().unwrap();
    server.complete(at(110_000), id, job, Reply::Login(verdict("slow"))).unwrap();
    assert_eq!(server.drive(at(110_000), id, &mut peer, 4096), Wants::Input);
    // The reply is never acknowledged; 60 s from the answer on, for none had gone by before.
    let ended = sleep(&mut server, at(300_000), id, &mut peer);
    assert_eq!(ended, Some((at(170_000), CloseReason::Idle)));
}

#[test]
fn what_was_acknowledged_before_the_question_counts() {
    let mut server = server(1, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(0), 8);
    // The thirteenth reply finds no room, so the login behind it is read 50 s later.
    say(&mut server, at(0), id, &mut peer, &request("Active").repeat(12));
    say(&mut server, at(0), id, &mut peer, &[request("Active"), login("slow")].concat());
    assert_eq!(sleep(&mut server, at(50_000), id, &mut peer), None);
    assert_eq!(peer.take(512, at(50_000)), 504);
    assert_eq!(server.drive(at(50_000), id, &mut peer, 4096), Wants::App);
    let (_, job) = server.protocol_mut().app_mut().questions.pop().unwrap();
    server.complete(at(55_000), id, job, Reply::Login(verdict("slow"))).unwrap();
    assert_eq!(server.drive(at(55_000), id, &mut peer, 4096), Wants::Input);
    let ended = sleep(&mut server, at(300_000), id, &mut peer);
    assert_eq!(ended, Some((at(115_000), CloseReason::Idle)));
}

#[test]
fn an_application_that_never_answers_has_a_deadline_too() {
    let mut server = server(1, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(0), 8);
    say(&mut server, at(500), id, &mut peer, &login("slow"));
    let (_, job) = server.protocol_mut().app_mut().questions.pop().unwrap();
    let ended = sleep(&mut server, at(300_000), id, &mut peer);
    assert_eq!(ended, Some((at(120_500), CloseReason::AppTimeout)));
    assert_eq!(server.complete(at(120_501), id, job, Reply::Login(verdict("slow"))), Err(Stale));
}

#[test]
fn stale_handles_and_jobs_harm_nobody() {
    let mut server = server(1, IocpConfig::default());
    let (old, mut peer) = connect(&mut server, at(0), 8);
    say(&mut server, at(0), old, &mut peer, &login("slow"));
    let (_, job) = server.protocol_mut().app_mut().questions.pop().unwrap();
    peer.peer_reset();
    assert_eq!(server.drive(at(1), old, &mut peer, 99), Wants::Nothing(CloseReason::PeerReset));
    let (new, mut peer) = connect(&mut server, at(2), 8);
    assert_eq!(new.index(), old.index());
    say(&mut server, at(2), new, &mut peer, &login("slow"));
    assert_eq!(server.complete(at(3), old, job, Reply::Login(verdict("x"))), Err(Stale));
    assert_eq!(server.close(at(3), old, CloseReason::Kicked), Err(Stale));
    assert_eq!(server.drive(at(3), old, &mut peer, 99), Wants::Nothing(CloseReason::PeerClosed));
    assert_eq!(server.judge(at(3), old, &mut peer, 99), Wants::Nothing(CloseReason::PeerClosed));
    assert!(!peer.is_aborted() && server.sessions().get(new).is_some());
    // The right answer twice: the second time nobody waits for it.
    let (_, job) = server.protocol_mut().app_mut().questions.pop().unwrap();
    assert_eq!(server.complete(at(4), new, job, Reply::Login(verdict("x"))), Ok(()));
    assert_eq!(server.complete(at(4), new, job, Reply::Login(verdict("y"))), Err(Stale));
    let _ = server.drive(at(4), new, &mut peer, 4096);
    assert_eq!(server.sessions().get(new).unwrap().state().user().unwrap(), "x");
    // The answer to the last question is none to the next.
    peer.take(512, at(5));
    say(&mut server, at(5), new, &mut peer, &login("slow"));
    assert_eq!(server.complete(at(6), new, job, Reply::Login(verdict("y"))), Err(Stale));
    // Nor does a session that is being closed wait for it any longer.
    let (_, job) = server.protocol_mut().app_mut().questions.pop().unwrap();
    server.close(at(7), new, CloseReason::Kicked).unwrap();
    assert_eq!(server.complete(at(8), new, job, Reply::Login(verdict("y"))), Err(Stale));
}

#[test]
fn a_full_table_evicts_the_oldest_that_has_proven_nothing() {
    let mut server = server(6, IocpConfig::default());
    let (beaten, mut peer) = connect(&mut server, at(0), 8);
    say(&mut server, at(0), beaten, &mut peer, &request("Active"));
    let (_echo, _) = connect(&mut server, at(1), 5);
    let (in_progress, mut slow) = connect(&mut server, at(2), 8);
    say(&mut server, at(2), in_progress, &mut slow, &login("slow"));
    let (control, _) = connect(&mut server, at(3), 8);
    let (silent, _) = connect(&mut server, at(4), 0);
    let (wrong, mut peer) = connect(&mut server, at(5), 8);
    say(&mut server, at(5), wrong, &mut peer, &login("stranger"));

    for victim in [control, silent, wrong] {
        let admission = server.accept(at(9), addr(1), addr(2)).unwrap();
        assert_eq!(admission.evicted, Some(victim));
        let mut peer = Peer::new();
        say(&mut server, at(9), admission.id, &mut peer, b"\x05");
    }
    assert_eq!(server.accept(at(10), addr(1), addr(2)), Err(Refused::Full));
    assert_eq!(server.counters().closed(CloseReason::Evicted), 3);
    // A login that has failed later on has proven nothing again.
    let (_, job) = server.protocol_mut().app_mut().questions.pop().unwrap();
    server.complete(at(11), in_progress, job, Reply::Login(verdict("stranger"))).unwrap();
    assert_eq!(server.accept(at(11), addr(1), addr(2)), Err(Refused::Full));
    assert_eq!(server.drive(at(11), in_progress, &mut slow, 4096), Wants::Input);
    assert_eq!(server.accept(at(12), addr(1), addr(2)).unwrap().evicted, Some(in_progress));
    server.stop_accepting();
    assert_eq!(server.accept(at(13), addr(1), addr(2)), Err(Refused::Stopping));
}

#[test]
fn an_orderly_end_discards_for_a_while_and_then_resets() {
    let mut server = server(1, IocpConfig::default());
    let (id, mut peer) = connect(&mut server, at(0), 8);
    say(&mut server, at(0), id, &mut peer, b"\x03\0\0\0\0\0\0\0");
    assert!(peer.is_finished() && replies(peer.output()).len() == 1);
    say(&mut server, at(1_900), id, &mut peer, &[0; 400]);
    assert!(!peer.is_aborted());
    let ended = sleep(&mut server, at(9_000), id, &mut peer);
    assert_eq!(ended, Some((at(2_000), CloseReason::BadPacket)));

    let (id, mut peer) = connect(&mut server, at(10_000), 8);
    say(&mut server, at(10_000), id, &mut peer, b"\x03\0\0\0\0\0\0\0");
    let mut discarded = 0;
    let reason = loop {
        discarded += peer.send(&[0; 512], at(10_001));
        if let Wants::Nothing(reason) = server.drive(at(10_001), id, &mut peer, 1) {
            break reason;
        }
    };
    assert_eq!((reason, discarded / 1024, peer.is_aborted()), (CloseReason::BadPacket, 64, true));
}

#[test]
fn a_reader_that_takes_its_list_slowly_gets_it_all() {
    let mut server = server(40, IocpConfig::default());
    for n in 0..30 {
        let id = server.accept(at(n), addr(1), addr(2)).unwrap().id;
        let mut peer = Peer::new();
        say(&mut server, at(n), id, &mut peer, b"\x08");
        server.close(at(n), id, CloseReason::Kicked).unwrap();
    }
    let (id, mut peer) = connect(&mut server, at(1_000), 8);
    say(&mut server, at(1_000), id, &mut peer, &[login("a"), request("GetClients")].concat());
    let (mut now, mut text) = (at(1_000), Vec::new());
    for _ in 0..10 {
        now += Duration::from_millis(4_500);
        text.extend_from_slice(peer.output().get(..400).unwrap_or(peer.output()));
        peer.take(400, now);
        assert!(!matches!(server.judge(now, id, &mut peer, 4096), Wants::Nothing(_)));
    }
    assert_eq!(replies(&text)[1].0.matches("\r\nItem=").count(), 31);
}

#[test]
fn a_reader_that_takes_nothing_of_its_list_is_reset() {
    let mut server = server(40, IocpConfig::default());
    for n in 0..30 {
        let id = server.accept(at(n), addr(1), addr(2)).unwrap().id;
        let mut peer = Peer::new();
        say(&mut server, at(n), id, &mut peer, b"\x08");
    }
    let (reader, mut peer) = connect(&mut server, at(1_000), 8);
    say(&mut server, at(1_000), reader, &mut peer, &[login("a"), request("GetClients")].concat());
    let (next, mut other) = connect(&mut server, at(1_000), 8);
    say(&mut server, at(1_000), next, &mut other, &[login("b"), request("GetClients")].concat());
    assert_eq!(server.protocol_mut().app_mut().roster.granted(), None);
    let ended = sleep(&mut server, at(20_000), reader, &mut peer);
    assert_eq!(ended, Some((at(6_000), CloseReason::SlowReader)));
    // The one who stood in line has its turn.
    let (id, job) = server.protocol_mut().app_mut().roster.granted().unwrap();
    assert_eq!(id, next);
    server.complete(at(6_000), id, job, Reply::List(pulsegate_core::app::List::Retry)).unwrap();
    let mut text = Vec::new();
    for _ in 0..100 {
        let _ = server.drive(at(6_000), id, &mut other, 100);
        text.extend_from_slice(other.output());
        other.take(512, at(6_000));
    }
    let found = replies(&text);
    assert_eq!(found[1].0.matches("\r\nItem=").count(), 31);
    assert_eq!(other.room(), 512);
}

#[test]
fn a_reader_has_its_time_from_when_it_last_took_something() {
    let mut server = server(40, IocpConfig::default());
    for n in 0..30 {
        let _ = connect(&mut server, at(n), 8);
    }
    let (reader, mut peer) = connect(&mut server, at(1_000), 8);
    say(&mut server, at(1_000), reader, &mut peer, &[login("a"), request("GetClients")].concat());
    assert_eq!(sleep(&mut server, at(4_000), reader, &mut peer), None);
    peer.take(100, at(4_000));
    assert_eq!(server.drive(at(4_000), reader, &mut peer, 4096), Wants::Output);
    // A turn in which nothing moves gives it no more time.
    assert_eq!(server.drive(at(8_000), reader, &mut peer, 4096), Wants::Output);
    let ended = sleep(&mut server, at(20_000), reader, &mut peer);
    assert_eq!(ended, Some((at(9_000), CloseReason::SlowReader)));
}

#[test]
fn a_longest_silence_is_kept_in_milliseconds() {
    let server_with = |control_idle| {
        let mut server = server(1, IocpConfig { control_idle, ..IocpConfig::default() });
        let (id, peer) = connect(&mut server, at(0), 8);
        (server, id, peer)
    };
    let (mut server, id, mut peer) = server_with(Duration::from_micros(1_500_001));
    let ended = sleep(&mut server, at(9_000), id, &mut peer);
    assert_eq!(ended, Some((at(1_600), CloseReason::Idle)));
    // Rounded up, not down.
    assert_eq!(server.protocol().app().last_overdue, Some(Duration::from_millis(99)));

    let day = 24 * 60 * 60;
    let (mut server, id, mut peer) = server_with(Duration::from_secs(49 * day));
    assert_eq!(server.judge(at(49 * day * 1_000 - 1), id, &mut peer, 1), Wants::Input);
    let wants = server.judge(at(49 * day * 1_000), id, &mut peer, 1);
    assert_eq!(wants, Wants::Nothing(CloseReason::Idle));

    for forever in [Duration::from_secs(50 * day), Duration::MAX] {
        let (server, ..) = server_with(forever);
        assert_eq!(server.poll_at(), None);
    }
}
