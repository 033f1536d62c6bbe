//! The log over a connection: what readers see, and what they cannot do to the server.

#[allow(dead_code)] // Each test uses its part.
mod command;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use command::device::Device;
use command::{PATIENCE, Server};
use pulsegate::server::{LogHub, Settings, start};
use pulsegate::users::UserDb;

const LOG_OUTPUT: u8 = 9;
const HEARTBEAT: &[u8] = b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active";

fn connect(address: SocketAddr, flag: u8) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[flag]).unwrap();
    stream
}

/// Whether the server ends a connection that has said this flag.
fn is_turned_away(address: SocketAddr, flag: u8) -> bool {
    let mut stream = connect(address, flag);
    matches!(stream.read(&mut [0]), Ok(0))
}

/// A reader that has certainly been taken in: it pressed a key and has its answer.
fn reader(address: SocketAddr) -> BufReader<TcpStream> {
    let mut stream = connect(address, LOG_OUTPUT);
    stream.write_all(b"?").unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while !line.starts_with("this is the server's log") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the server ended the connection");
    }
    reader
}

#[test]
fn a_plain_client_follows_the_log_until_it_presses_escape() {
    let server = Server::start(&["--idle-timeout", "300ms", "--tick", "20ms"]);
    let mut log = reader(server.address);
    // A quiet reader is no dead one.
    std::thread::sleep(Duration::from_millis(600));
    assert!(is_turned_away(server.address, b'Z'));
    let mut lines = Vec::new();
    while !lines.iter().any(|line: &String| line.contains("reason=\"bad-flag\"")) {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0);
        assert!(
            line.ends_with("\r\n") && line.chars().all(|c| !c.is_control() || "\r\n".contains(c))
        );
        lines.push(line);
    }
    assert!(
        lines.iter().any(|line| line.contains("WARN") && line.contains("flag=90")),
        "{lines:?}"
    );
    log.get_mut().write_all(&[27]).unwrap();
    let mut rest = Vec::new();
    log.read_to_end(&mut rest).unwrap();
    server.wait_for_log("reason=\"peer-closed\"", 1);
}

#[test]
fn whoever_is_not_to_read_the_log_is_turned_away() {
    for (args, is_open) in [
        (&["--listen", "0.0.0.0:0"][..], false),
        (&["--listen", "0.0.0.0:0", "--log-output", "all"], true),
        (&["--log-output", "off"], false),
        (&["--log-output", "loopback"], true),
    ] {
        let server = Server::start(args);
        let address = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
        if is_open {
            drop(reader(address));
        } else {
            assert!(is_turned_away(address, LOG_OUTPUT), "{args:?}");
        }
    }
}

/// Names are whatever a peer says.
#[test]
fn a_name_looks_like_nothing_else() {
    let name = "x\" remote=1.2.3.4:5 \u{1b}[2J";
    for (format, told) in [
        ("text", r#" user="x\" remote=1.2.3.4:5 \u{1b}[2J" failures=1"#),
        ("json", r#""user":"x\" remote=1.2.3.4:5 \u001b[2J","failures":1"#),
    ] {
        let server = Server::start(&["--log-format", format]);
        let mut device = Device::beating(server.address);
        assert_eq!(device.login(name, "guess").code, 7);
        let line = server.wait_for_log("login failed", 1).remove(0);
        assert!(line.contains(told), "{line}");
    }
}

/// They need no login and are never idle: they must not be able to fill the table.
#[test]
fn only_so_many_may_read_the_log_at_a_time() {
    let server = Server::start(&["--shards", "1"]);
    let mut readers: Vec<_> = (0..16).map(|_| reader(server.address)).collect();
    assert!(is_turned_away(server.address, LOG_OUTPUT));
    let leaver = readers.pop().unwrap();
    let remote = leaver.get_ref().local_addr().unwrap();
    drop(leaver);
    // With lines unread it is a reset.
    server.wait_for_close(remote);
    drop(reader(server.address));
}

/// Far more lines than the kernel's buffers and the ring hold together, to a reader that does not
/// read: nobody waits for it, and it is told exactly what it has lost.
#[test]
fn a_reader_that_does_not_read_loses_lines_and_holds_up_nobody() {
    const LINES: u64 = 300_000;
    let hub = LogHub::new();
    let settings = Settings {
        log: Some(hub.clone()),
        ..Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)), 10)
    };
    let server = start(settings, UserDb::in_memory([]).unwrap(), None).unwrap();
    assert!(!hub.is_read());
    let mut log = reader(server.address());
    assert!(hub.is_read());
    let mut device = connect(server.address(), 8);
    for n in 0..LINES {
        let line = format!("line {n} {}\n", "x".repeat(90));
        assert_eq!((&*hub).write(line.as_bytes()).unwrap(), line.len());
        if n % 1000 == 0 {
            device.write_all(HEARTBEAT).unwrap();
            device.read_exact(&mut [0; 42]).unwrap();
        }
    }
    let (mut next, mut lost) = (0, 0);
    while next < LINES {
        let mut line = String::new();
        assert!(log.read_line(&mut line).unwrap() > 0);
        if let Some(rest) = line.strip_prefix("... ") {
            let count: u64 = rest.split(' ').next().unwrap().parse().unwrap();
            lost += count;
            next += count;
        } else {
            assert!(line.starts_with(&format!("line {next} ")), "{line:?} is not line {next}");
            next += 1;
        }
    }
    assert!(lost > 0, "the kernel held all of it");
    drop(log);
    let start = Instant::now();
    while hub.is_read() {
        assert!(start.elapsed() < PATIENCE, "the reader has left and is not missed");
        std::thread::sleep(Duration::from_millis(10));
    }
    device.set_nonblocking(true).unwrap();
    assert_eq!(device.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.stop(Duration::from_millis(50)).unwrap();
}
