//! The client list of a crowded server: exact, for several who ask at once.

#[allow(dead_code, reason = "each test binary uses a part of the shared module")]
mod command;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use command::device::{CONTROL, Device};
use command::{PATIENCE, Server};
use socket2::{Domain, Socket, Type};

const MOST: usize = 10_000;
const OPERATORS: usize = 4;

/// Raises the limit of descriptors, and says how many connections this process and a server with
/// the same limit can hold.
fn room() -> usize {
    let limit = pulsegate::descriptors::raise().unwrap_or(u64::MAX);
    // Beside the connections: listeners, queues, pipes, the operators.
    usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(150).min(MOST)
}

/// From one of several addresses: one alone may have too few ports left.
fn connect(server: SocketAddr, index: usize, receive_buffer: Option<usize>) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if let Some(size) = receive_buffer {
        socket.set_recv_buffer_size(size).unwrap();
    }
    let last = 2 + u8::try_from(index % 8).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect(&server.into()).unwrap();
    socket.into()
}

/// Asks for the list and checks its form.
fn list(operator: &mut Device) -> Vec<String> {
    let answer = operator.ask("GetClients", &[]);
    assert_eq!(answer.code, 0, "{}", answer.message);
    answer.items
}

/// Every row must belong to one of `expected`, and each of those have one row.
fn check(items: &[String], server: SocketAddr, expected: &HashSet<(SocketAddr, String, String)>) {
    let mut seen = HashSet::new();
    for item in items {
        let fields: Vec<_> = item.split('\t').collect();
        let [local, remote, flag, user, connected, active] = fields[..] else {
            panic!("row {item:?}");
        };
        assert_eq!(local, server.to_string(), "{item:?}");
        for time in [connected, active] {
            assert_eq!((time.len(), &time[10..11], &time[19..20]), (23, " ", "."), "{item:?}");
        }
        let row = (remote.parse().unwrap(), flag.to_owned(), user.to_owned());
        assert!(expected.contains(&row), "unexpected row {item:?}");
        assert!(seen.insert(row), "twice: {item:?}");
    }
    assert_eq!(seen.len(), expected.len());
}

/// Until all are admitted and their flags read, as the first list that is complete shows.
fn wait_until_there(operator: &mut Device, expected: &HashSet<(SocketAddr, String, String)>) {
    let start = Instant::now();
    let opened = expected.iter().filter(|(_, flag, _)| !flag.is_empty()).count();
    loop {
        let items = list(operator);
        let flags = items.iter().filter(|item| item.contains("\tControl\t")).count();
        if items.len() == expected.len() && flags == opened {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "{} of {}", items.len(), expected.len());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_list_is_exact_for_everybody_who_asks() {
    let count = room();
    let args = ["--shards", "2", "--flag-timeout", "10m", "--idle-timeout", "10m"];
    let server = Server::start(&[&args[..], &["--log", "warn"]].concat());
    let address = server.address;
    let mut expected = HashSet::new();
    let mut silent = Vec::with_capacity(count);
    for index in 0..count {
        let mut stream = connect(address, index, None);
        let flag = if index % 2 == 0 { "" } else { "Control" };
        if index % 2 == 1 {
            stream.write_all(&[CONTROL]).unwrap();
        }
        expected.insert((stream.local_addr().unwrap(), flag.to_owned(), String::new()));
        silent.push(stream);
    }
    let mut operators: Vec<_> =
        (0..OPERATORS).map(|_| Device::logged_in(address, "admin", "admin")).collect();
    for operator in &operators {
        expected.insert((operator.local(), "Control".into(), "admin".into()));
    }
    wait_until_there(&mut operators[0], &expected);

    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| {
        let expected = &expected;
        let asking = operators.iter_mut().map(|operator| {
            scope.spawn(move || {
                let mut slowest = Duration::ZERO;
                for _ in 0..3 {
                    let start = Instant::now();
                    let items = list(operator);
                    slowest = slowest.max(start.elapsed());
                    check(&items, address, expected);
                }
                slowest
            })
        });
        for asking in asking.collect::<Vec<_>>() {
            slowest = slowest.max(asking.join().unwrap());
        }
    });
    let start = Instant::now();
    let items = list(&mut operators[0]);
    let alone = start.elapsed();
    println!(
        "{} rows: {alone:?} for one who asks alone, at most {slowest:?} for each of {OPERATORS} at once",
        items.len()
    );

    leavers_hold_nobody_up(address, &mut operators, &expected);
    // They stay to the end of it.
    drop((silent, operators));
    server.stop();
}

/// Some leave with the list half read, some while they wait in the line.
fn leavers_hold_nobody_up(
    address: SocketAddr,
    operators: &mut [Device],
    expected: &HashSet<(SocketAddr, String, String)>,
) {
    let leaver = |index| {
        let mut device = Device::of(connect(address, index, Some(4096)));
        device.try_open().unwrap();
        assert_eq!(device.login("admin", "admin").code, 0);
        device
    };
    let mut reading = leaver(0);
    let mut waiting = [leaver(1), leaver(2)];
    reading.send("GetClients", &[]).unwrap();
    let mut start = [0; 1000];
    reading.stream.read_exact(&mut start).unwrap();
    for device in &mut waiting {
        device.send("GetClients", &[]).unwrap();
    }
    operators[0].send("GetClients", &[]).unwrap();
    drop(waiting);
    drop(reading);
    // Less than the 5 s after which one who takes nothing would be given up.
    let patience = Duration::from_secs(4);
    operators[0].stream.set_read_timeout(Some(patience)).unwrap();
    let answer = operators[0].receive().expect("the next one has its list");
    assert_eq!(answer.code, 0);
    wait_until_there(&mut operators[1], expected);
    for operator in operators {
        check(&list(operator), address, expected);
    }
}
