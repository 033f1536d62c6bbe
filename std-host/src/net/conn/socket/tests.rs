use std::io::Read;

use embassy_time::Instant;
use pulsegate_core::socket::Socket;

use super::{Conn, IoBuffers, TcpSocket};

/// A connection and its peer.
fn pair() -> (Conn, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    (Conn::new(mio::net::TcpStream::from_std(stream), Instant::from_ticks(0)), peer)
}

/// One turn that pours until the kernel takes no more.
fn pour(conn: &mut Conn, io: &mut IoBuffers) -> usize {
    let mut socket = TcpSocket::begin_turn(conn, io, Instant::from_ticks(0), false);
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
fn what_a_turn_that_is_held_up_has_written_is_not_owed_since_before() {
    let (mut conn, _peer) = pair();
    let mut io = IoBuffers::new(1 << 20);
    let [began, end, later] = [0, 3, 6].map(Instant::from_secs);
    assert!(pour(&mut conn, &mut io) > 0);
    let mut socket = TcpSocket::begin_turn(&mut conn, &mut io, began, false);
    socket.proof(began);
    socket.end_turn();
    conn.restamp(began, end);
    // A later turn is held up, too, and has neither written nor asked.
    conn.restamp(Instant::from_secs(4), Instant::from_secs(5));
    assert_eq!(conn.acknowledged_at, end);
    for owed_since in [conn.owed_since, None] {
        conn.owed_since = owed_since;
        let mut socket = TcpSocket::begin_turn(&mut conn, &mut io, later, false);
        assert_eq!(socket.proof(later).owed_since, Some(end));
        socket.end_turn();
    }
}
