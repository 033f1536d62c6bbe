//! Peers that want to take the server down, starve others, or stay for nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pulsegate::clock::to_core;
use pulsegate::server::{Ended, Running, Settings, start};
use pulsegate::users::UserDb;
use pulsegate_conformance::pace::undisturbed;
use pulsegate_core::protocol::IocpConfig;
use pulsegate_core::server::CloseReason;

const HEARTBEAT: &[u8] = b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active";
const REPLY: &[u8] = b"\x26\0\0\0\x22\0\0\0[Response]\r\nCommand=Active\r\nCode=0";
const CONTROL: u8 = 8;
const THROUGHPUT: u8 = 5;

/// No honest answer takes this long here.
const PATIENCE: Duration = Duration::from_secs(20);

const NO_ROOM: usize = 0;

/// An echo of which the kernel and the server together hold only a part for one who does not read.
const TOO_MUCH: usize = 6 << 20;

/// The tests are over by then; nobody has to linger.
const GRACE: Duration = Duration::from_millis(50);

fn settings() -> Settings {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    Settings { tick: Duration::from_millis(20), ..Settings::new(listen, 4000) }
}

fn serve(settings: Settings) -> Running {
    start(settings, UserDb::in_memory([]).unwrap(), None).unwrap()
}

fn connect(server: &Running, flag: u8) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&[flag]).unwrap();
    stream
}

fn expect(stream: &mut TcpStream, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    stream.read_exact(&mut got).unwrap();
    assert!(got == bytes, "other bytes than were promised");
}

fn beat(stream: &mut TcpStream) {
    stream.write_all(HEARTBEAT).unwrap();
    expect(stream, REPLY);
}

/// A packet that is echoed, and its reply.
fn echo(len: usize) -> (Vec<u8>, Vec<u8>) {
    let data: Vec<u8> = (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761) as u8).collect();
    let packet = |text: &[u8]| {
        let mut packet = ((4 + text.len() + len) as u32).to_le_bytes().to_vec();
        packet.extend((text.len() as u32).to_le_bytes());
        packet.extend(text);
        packet.extend(&data);
        packet
    };
    let request = packet(b"[Request]\r\nCommand=CyclePacket\r\nCount=1");
    let reply = packet(b"[Response]\r\nCommand=CyclePacket\r\nCode=0\r\nCount=2");
    (request, reply)
}

/// Sends heartbeats until nothing has been taken for a while; reads nothing.
fn stuff(stream: &mut TcpStream) {
    let many = HEARTBEAT.repeat(1000);
    stream.set_write_timeout(Some(Duration::from_millis(60))).unwrap();
    loop {
        match stream.write(&many) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn is_gone(stream: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn pipelined_requests_are_answered_when_there_is_no_room_for_leftovers() {
    let server = serve(Settings { backlog_bytes: NO_ROOM, ..settings() });
    let mut device = connect(&server, CONTROL);
    let count = 20_000;
    let mut writer = device.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&HEARTBEAT.repeat(count)));
    for _ in 0..count {
        expect(&mut device, REPLY);
    }
    sender.join().unwrap().unwrap();
    server.stop(GRACE).unwrap();
}

#[test]
fn half_a_packet_and_a_fin_is_an_end_when_there_is_no_room_for_leftovers() {
    let server = serve(Settings { backlog_bytes: NO_ROOM, ..settings() });
    let mut device = connect(&server, CONTROL);
    device.write_all(&HEARTBEAT.repeat(2)[..50]).unwrap();
    device.shutdown(Shutdown::Write).unwrap();
    expect(&mut device, REPLY);
    assert_eq!(device.read(&mut [0; 8]).unwrap(), 0);
    server.stop(GRACE).unwrap();
}

#[test]
fn thousands_of_half_packets_are_completed_byte_by_byte() {
    for backlog_bytes in [NO_ROOM, 20_000, 64 << 20] {
        let server = serve(Settings { backlog_bytes, shards: 2, ..settings() });
        let mut devices: Vec<TcpStream> = (0..1500).map(|_| connect(&server, CONTROL)).collect();
        let cuts = [0, 3, 8, 9, 20, 32, 33];
        for cut in cuts.windows(2) {
            for device in &mut devices {
                device.write_all(&HEARTBEAT[cut[0]..cut[1]]).unwrap();
            }
        }
        for device in &mut devices {
            expect(device, REPLY);
        }
        server.stop(GRACE).unwrap();
    }
}

#[test]
fn one_who_always_has_more_gets_one_turn_like_everybody() {
    let server = serve(settings());
    let mut greedy = connect(&server, CONTROL);
    let mut reader = greedy.try_clone().unwrap();
    // Only the others' turns end it: were they never to come, the device's read would time out.
    let (stop, stopped) = channel::<()>();
    let sender = std::thread::spawn(move || {
        let many = HEARTBEAT.repeat(4000);
        while stopped.try_recv() == Err(TryRecvError::Empty) {
            greedy.write_all(&many).unwrap();
        }
        greedy.shutdown(Shutdown::Write).unwrap();
    });
    let drain = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while reader.read(&mut buffer).unwrap() > 0 {}
    });
    let mut device = connect(&server, CONTROL);
    for _ in 0..200 {
        beat(&mut device);
    }
    drop(stop);
    sender.join().unwrap();
    drain.join().unwrap();
    server.stop(GRACE).unwrap();
}

#[test]
fn who_sends_and_never_reads_is_closed_in_time() {
    let idle = Duration::from_secs(2);
    let ends = undisturbed(Duration::from_millis(300), || ends_of_those_who_never_read(idle));
    assert_eq!(ends.len(), 2, "both of them, and nobody else: {ends:?}");
    for ended in &ends {
        assert_eq!(ended.reason, CloseReason::Idle);
        assert!(ended.silence >= idle, "{ended:?}");
    }
}

/// Who is closed in the idle timeout and a little more, beside one who does as it should.
fn ends_of_those_who_never_read(idle: Duration) -> Vec<Ended> {
    let (sender, ends) = channel();
    let sender = Mutex::new(sender);
    let observer = move |ended: &Ended| {
        let _ = sender.lock().unwrap().send(ended.clone());
    };
    let core_idle = to_core(idle);
    let protocol = IocpConfig {
        control_idle: core_idle,
        throughput_idle: Some(core_idle),
        ..IocpConfig::default()
    };
    let settings = Settings { protocol, ..settings() };
    let server = start(settings, UserDb::in_memory([]).unwrap(), Some(Arc::new(observer))).unwrap();
    // One whose input the kernel takes no more, and one that can go on sending.
    let mut stuffed = connect(&server, CONTROL);
    stuff(&mut stuffed);
    let mut trickling = connect(&server, THROUGHPUT);
    trickling.write_all(&echo(TOO_MUCH).0).unwrap();
    trickling.set_nonblocking(true).unwrap();
    let mut device = connect(&server, CONTROL);
    let since = Instant::now();
    // The kernel's probes of a shut window are answered after 0.2, 0.6 and 1.4 s: answers that prove
    // nothing, and would keep both for half as long again.
    while since.elapsed() < idle + Duration::from_millis(900) {
        let _ = trickling.write(HEARTBEAT);
        beat(&mut device);
        std::thread::sleep(Duration::from_millis(20));
    }
    let ends = Receiver::try_iter(&ends).collect();
    server.stop(GRACE).unwrap();
    ends
}

#[test]
fn a_slow_reader_gets_every_byte_in_order() {
    for backlog_bytes in [NO_ROOM, 300_000, 64 << 20] {
        let server = serve(Settings { backlog_bytes, ..settings() });
        let mut device = connect(&server, THROUGHPUT);
        let (request, reply) = echo(10 * 1024 * 1024 - 200);
        let mut writer = device.try_clone().unwrap();
        let sender = std::thread::spawn(move || writer.write_all(&request));
        let mut got = Vec::new();
        let mut piece = vec![0; 150_000];
        while got.len() < reply.len() {
            let len = device.read(&mut piece).unwrap();
            assert!(len > 0);
            got.extend_from_slice(&piece[..len]);
            if got.len() % 7 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        assert!(got == reply, "bytes were lost, doubled or moved");
        sender.join().unwrap().unwrap();
        server.stop(GRACE).unwrap();
    }
}

#[test]
fn many_who_send_all_before_they_read_hold_up_nobody() {
    let server = serve(Settings { backlog_bytes: 3 << 20, ..settings() });
    let (request, reply) = echo(1 << 20);
    let mut device = connect(&server, CONTROL);
    std::thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let mut client = connect(&server, THROUGHPUT);
                client.write_all(&request).unwrap();
                expect(&mut client, &reply);
            });
        }
        for _ in 0..100 {
            beat(&mut device);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    server.stop(GRACE).unwrap();
}

#[test]
fn the_last_place_is_given_to_one_of_those_who_come_at_once() {
    let server = serve(Settings { shards: 4, max_sessions: 1, evict: false, ..settings() });
    for round in 0..150 {
        let mut taken = 0;
        std::thread::scope(|scope| {
            let tries: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        let mut stream = TcpStream::connect(server.address()).ok()?;
                        stream.set_read_timeout(Some(PATIENCE)).ok()?;
                        stream.write_all(&[CONTROL]).ok()?;
                        stream.write_all(HEARTBEAT).ok()?;
                        stream.read_exact(&mut [0; 42]).ok()?;
                        Some(stream)
                    })
                })
                .collect();
            let streams: Vec<_> = tries.into_iter().filter_map(|it| it.join().unwrap()).collect();
            taken = streams.len();
        });
        assert_eq!(taken, 1, "round {round}");
        // The place is free again when the server has seen the end.
        let until = Instant::now() + PATIENCE;
        while !server.snapshot().wait(PATIENCE).unwrap().is_empty() {
            assert!(Instant::now() < until);
        }
    }
    server.stop(GRACE).unwrap();
}

#[test]
fn connections_that_are_reset_at_once_leave_nothing() {
    let server = serve(Settings { shards: 2, max_sessions: 200, ..settings() });
    for round in 0..1500u32 {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        if round % 3 == 1 {
            let _ = stream.write_all(&[CONTROL]);
        }
        if round % 3 == 2 {
            let _ = stream.write_all(&[CONTROL]).and_then(|()| stream.write_all(HEARTBEAT));
        }
        // The kernel sends an RST for a socket that lingers for no time at all.
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    let mut device = connect(&server, CONTROL);
    beat(&mut device);
    let until = Instant::now() + PATIENCE;
    while server.snapshot().wait(PATIENCE).unwrap().len() > 1 {
        assert!(Instant::now() < until, "sessions of nobody");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(server.stats().accept_errors, 0);
    server.stop(GRACE).unwrap();
}

#[test]
fn who_does_not_take_its_last_reply_is_reset_at_the_end_of_the_grace() {
    let server = serve(settings());
    let mut stuck = connect(&server, THROUGHPUT);
    // More than the kernel holds for a reader, and all of it read by the server: no unread input
    // makes the kernel send the RST by itself.
    stuck.write_all(&echo(4_800_000).0).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let before = Instant::now();
    server.stop(Duration::from_millis(300)).unwrap();
    // For its reply the server would wait until the idle timeout.
    assert!(before.elapsed() < PATIENCE);
    assert!(is_gone(&mut stuck), "an orderly end would be a lie: replies are missing");
}
