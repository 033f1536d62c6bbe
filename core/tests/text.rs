//! Command texts, replies, digests, moments, the client list.

mod common;

use embassy_time::Instant;
use proptest::prelude::*;
use pulsegate_core::app::{Digest, List, Page};
use pulsegate_core::command::{Code, Command, FormatError, Kind, Printable, Reply, ReplyTooLong};
use pulsegate_core::frame::ByteOrder;
use pulsegate_core::roster::{Clock, FrozenRow, Roster, Row, most_text};
use pulsegate_core::server::{JobId, Server};
use pulsegate_core::table::SessionId;

#[test]
fn command_texts() {
    let text = b"\r\n[REQUEST]\r\nkey=a=b\r\nno pair\r\ncommand=Do\r\nITEM=1\r\nItem=2";
    let command = Command::parse(text).unwrap();
    assert_eq!((command.kind(), command.name()), (Kind::Request, Some("Do")));
    assert_eq!((command.get("KEY"), command.get("item")), (Some("a=b"), Some("1")));
    assert_eq!(command.pairs().count(), 4);
    assert_eq!(Command::parse(b"[Response]\r\nx").unwrap().kind(), Kind::Response);
    for (text, error) in [
        (&b"[Request]\r\n\xff"[..], FormatError::NotUtf8),
        (b"", FormatError::TooFewLines),
        (b"[Request]", FormatError::TooFewLines),
        (b"[Request]\r\n\r\n\r\n", FormatError::TooFewLines),
        (b"[Request]\nCommand=x", FormatError::TooFewLines),
        (b"Request\r\nCommand=x", FormatError::UnknownFirstLine),
    ] {
        assert_eq!(Command::parse(text).unwrap_err(), error);
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_stumble(text in any::<Vec<u8>>(), key in "\\PC*") {
        if let Ok(command) = Command::parse(&text) {
            let _ = (command.get(&key), command.name());
        }
    }

    #[test]
    fn a_reply_fits_or_says_so(
        len in 0usize..120,
        name in "\\PC{0,20}",
        message in "\\PC{0,60}",
        more in any::<usize>(),
    ) {
        let mut buf = vec![0xee; len];
        let whole = format!("[Response]\r\nCommand={name}\r\nCode=7\r\nMessage=");
        match Reply::failure(&mut buf, &name, Code::PASSWORD, &message).finish(0, ByteOrder::Little) {
            Ok(used) => {
                let text = std::str::from_utf8(&buf[8..used]).unwrap();
                let cut = text.strip_prefix(whole.as_str()).unwrap();
                prop_assert!(message.starts_with(cut));
                prop_assert!(cut == message || used + 4 > len, "cut without need");
            }
            Err(ReplyTooLong) => prop_assert!(8 + whole.len() > len),
        }
        let reply = Reply::new(&mut buf, &name, Code::OK).key("Count", i32::MIN);
        let whole = format!("[Response]\r\nCommand={name}\r\nCode=0\r\nCount=-2147483648");
        let fits = 8 + whole.len() <= len && more <= 10 * 1024 * 1024 - 4 - whole.len();
        let found = reply.finish_with(more, 0, ByteOrder::Big);
        prop_assert_eq!(found, if fits { Ok(8 + whole.len()) } else { Err(ReplyTooLong) });
    }
}

#[test]
fn text_from_peers_is_escaped_and_cut() {
    let shown = Printable("a\r\n\"\u{1b}[2J\u{202e}").to_string();
    assert!(shown.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{shown}");
    let shown = Printable(&"é".repeat(65)).to_string();
    assert_eq!((shown.chars().count(), shown.ends_with('…')), (65, true));
}

#[test]
fn digests_are_32_hex_digits_in_any_case() {
    let digest = Digest::from_hex("00fF10aBcd0000000000000000000001").unwrap();
    assert_eq!(digest.0, [0, 255, 16, 171, 205, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    for text in ["", "00", &"0".repeat(31), &"0".repeat(33), &"g".repeat(32), &"é".repeat(16)] {
        assert_eq!(Digest::from_hex(text), None);
    }
    assert!(!format!("{digest:?}").contains("255"));
}

#[test]
fn moments_as_dates() {
    let utc = |unix_ms: u64, at: Instant| {
        let mut text = String::new();
        Clock::Wall { unix_ms_at_zero: unix_ms }.write(&mut text, at).unwrap();
        text
    };
    for (seconds, expected) in [
        (0, "1970-01-01 00:00:00.000"),
        (68_169_600, "1972-02-29 00:00:00.000"),
        (68_255_999, "1972-02-29 23:59:59.000"),
        (68_256_000, "1972-03-01 00:00:00.000"),
        (946_684_799, "1999-12-31 23:59:59.000"),
        (951_782_400, "2000-02-29 00:00:00.000"),
        (951_868_800, "2000-03-01 00:00:00.000"),
        (978_220_800, "2000-12-31 00:00:00.000"),
        (1_709_164_800, "2024-02-29 00:00:00.000"),
        (4_107_542_399, "2100-02-28 23:59:59.000"),
        (4_107_542_400, "2100-03-01 00:00:00.000"),
        (253_402_300_799, "9999-12-31 23:59:59.000"),
    ] {
        assert_eq!(utc(seconds * 1000, Instant::MIN), expected);
        assert_eq!(utc(0, Instant::from_secs(seconds)), expected);
    }
    assert_eq!(utc(951_782_399_000, Instant::from_millis(1_007)), "2000-02-29 00:00:00.007");
    let _ = utc(u64::MAX, Instant::MAX);
    let mut text = String::new();
    Clock::SinceBoot.write(&mut text, Instant::from_millis(65_004)).unwrap();
    assert_eq!(text, "+65.004");
}

type Frozen = FrozenRow<u16, &'static str>;

fn freeze(
    roster: &mut Roster<'_, u16, &'static str>,
    id: u64,
    rows: u16,
    page: Page,
) -> Option<List> {
    let users = ["", "meter", "ünïcödé"];
    let mut rows = (0..rows).map(|n| Row {
        local: 9999,
        remote: n,
        flag: "Control",
        user: users.get(usize::from(n % 4)),
        connected_at: Instant::from_millis(u64::from(n) * 997),
        last_active: Instant::from_secs(u64::from(n)),
    });
    roster.freeze(SessionId::from_bits(id), job(), page, &mut rows, |user| user)
}

/// A question's number can only come from a server.
fn job() -> JobId {
    use common::{TestApp, memory};
    use pulsegate_core::protocol::{Iocp, IocpConfig};
    let mut server: Server<Iocp<TestApp>, _> = Server::new(
        pulsegate_core::server::Config::default(),
        Iocp::new(IocpConfig::default(), TestApp::new(1)),
        memory(1, 8, 384),
    );
    let now = Instant::from_secs(1);
    let id = server.accept(now, common::addr(1), common::addr(2)).unwrap().id;
    let mut peer = pulsegate_core::socket::memory::MemorySocket::<512>::new();
    peer.send(&[&[8][..], &common::login("slow")].concat(), now);
    let _ = server.drive(now, id, &mut peer, 512);
    server.protocol().app().questions[0].1
}

const ALL: Page = Page { offset: 0, limit: u32::MAX };

fn read(roster: &mut Roster<'_, u16, &'static str>, id: u64, pieces: &[usize]) -> String {
    let (mut text, mut pieces) = (Vec::new(), pieces.iter().cycle());
    loop {
        let mut buf = vec![0; *pieces.next().unwrap()];
        let len = roster.read(SessionId::from_bits(id), text.len(), &mut buf, |user| user);
        if len == 0 {
            return String::from_utf8(text).unwrap();
        }
        text.extend_from_slice(&buf[..len]);
    }
}

proptest! {
    #[test]
    fn a_frozen_list_is_the_same_in_any_pieces(
        rows in 0u16..12,
        offset in 0u32..14,
        limit in 0u32..14,
        pieces in prop::collection::vec(1usize..90, 1..10),
    ) {
        let mut places: Vec<Option<Frozen>> = vec![None; 12];
        let mut roster = Roster::new(&mut places, Clock::SinceBoot);
        let Some(List::Frozen(len)) = freeze(&mut roster, 1, rows, Page { offset, limit }) else {
            panic!("not frozen");
        };
        let whole = read(&mut roster, 1, &[10_000]);
        prop_assert_eq!(whole.len(), len as usize);
        let expected = u32::from(rows).saturating_sub(offset).min(limit);
        prop_assert_eq!(whole.matches("\r\nItem=9999\t").count(), expected as usize);
        roster.release(SessionId::from_bits(1));
        freeze(&mut roster, 2, rows, Page { offset, limit }).unwrap();
        prop_assert_eq!(read(&mut roster, 1, &[9]), "");
        prop_assert_eq!(read(&mut roster, 2, &pieces), whole);
    }
}

#[test]
fn those_who_wait_for_the_list_get_it_in_order() {
    let mut places: Vec<Option<Frozen>> = vec![None; 2];
    let mut roster = Roster::new(&mut places, Clock::SinceBoot);
    assert_eq!(freeze(&mut roster, 9, 3, ALL), Some(List::TooLong));
    assert!(matches!(freeze(&mut roster, 1, 2, ALL), Some(List::Frozen(_))));
    for id in 2..=5 {
        assert_eq!(freeze(&mut roster, id, 2, ALL), None);
    }
    assert!(matches!(freeze(&mut roster, 6, 2, ALL), Some(List::Failed(_))));
    // One of them has gone; another one comes, and stands last.
    roster.release(SessionId::from_bits(3));
    assert_eq!(freeze(&mut roster, 7, 2, ALL), None);
    let mut order = Vec::new();
    let mut reader = 1;
    loop {
        assert_eq!(roster.granted(), None);
        roster.release(SessionId::from_bits(reader));
        let Some((id, _)) = roster.granted() else { break };
        reader = id.to_bits();
        order.push(reader);
        freeze(&mut roster, reader, 1, ALL).unwrap();
    }
    assert_eq!(order, [2, 4, 5, 7]);
    // All who wait may be named at once.
    assert!(matches!(freeze(&mut roster, 1, 1, ALL), Some(List::Frozen(_))));
    assert_eq!((freeze(&mut roster, 2, 1, ALL), freeze(&mut roster, 3, 1, ALL)), (None, None));
    roster.release(SessionId::from_bits(1));
    let named = std::iter::from_fn(|| roster.granted()).map(|(id, _)| id.to_bits());
    assert_eq!(named.collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn a_list_leaves_room_for_its_head() {
    assert_eq!(most_text(100), 10 * 1024 * 1024 - 108);
    assert_eq!(most_text(usize::MAX), 0);
}
