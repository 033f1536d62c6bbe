use std::io::{Read, Write};
use std::time::Duration;

use embassy_time::Instant;
use pulsegate_core::socket::Socket;

use super::{Conn, IoBuffers, TcpSocket, Turn};
use crate::clock::Clock;

/// A connection and its peer.
fn pair() -> (Conn, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    (Conn::new(mio::net::TcpStream::from_std(stream), Instant::from_ticks(0)), peer)
}

/// A turn that begins now.
fn turn(clock: Clock) -> Turn {
    Turn { now: clock.now(), late: false, clock }
}

/// One turn that pours until the kernel takes no more.
fn pour(conn: &mut Conn, io: &mut IoBuffers) -> usize {
    let mut socket = TcpSocket::begin_turn(conn, io, turn(Clock::new()));
    let (piece, mut all) = (vec![7; 64 * 1024], 0);
    loop {
        match socket.pour(&piece) {
            0 => break,
            sent => all += sent,
        }
    }
    socket.end_turn();
    all
}

/// A session that was asked again at once would be asked for as long as the reader does not read.
#[test]
fn a_connection_that_takes_no_more_says_so_until_there_is_news() {
    let (mut conn, mut peer) = pair();
    let mut io = IoBuffers::new(1 << 20);
    assert!(!conn.is_full());
    let sent = pour(&mut conn, &mut io);
    assert!(sent > 0 && conn.is_full() && !conn.is_blocked());
    // The reader reads, and the readiness queue would say so.
    peer.read_exact(&mut vec![0; sent]).unwrap();
    conn.wake(false);
    assert!(!conn.is_full());
    assert!(pour(&mut conn, &mut io) > 0);
}

/// A process that is stopped in the middle of a turn goes on with the time from before.
#[cfg(target_os = "linux")]
#[test]
fn a_turn_that_is_held_up_makes_nobody_older() {
    let (mut conn, mut peer) = pair();
    let mut io = IoBuffers::new(1 << 20);
    let clock = Clock::new();
    let turn = turn(clock);
    // More than the precision of the kernel's clock, which is taken off every age.
    std::thread::sleep(Duration::from_millis(50));
    let before = clock.now();
    peer.write_all(&[0]).unwrap();
    let mut socket = TcpSocket::begin_turn(&mut conn, &mut io, turn);
    assert_eq!(socket.rx(1).bytes, [0]);
    socket.consume(1);
    let received_at = socket.proof(turn.now).received_at.unwrap();
    assert!(received_at >= before, "{received_at} is before {before}");
    while socket.pour(&[0; 64 * 1024]) > 0 {}
    socket.end_turn();
    let end = clock.now();
    conn.restamp(turn.now, end);
    // A later turn is held up, too, and has written nothing.
    conn.restamp(end + embassy_time::Duration::from_ticks(1), Instant::MAX);
    // What a later turn finds owed has been so since then at the earliest.
    let mut socket = TcpSocket::begin_turn(&mut conn, &mut io, Turn { now: end, ..turn });
    assert_eq!(socket.proof(end).owed_since, Some(end));
    socket.end_turn();
}
