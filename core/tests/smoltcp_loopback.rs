//! The core over smoltcp: both ends on one loopback interface, with a clock that a test moves.
#![allow(clippy::unwrap_used)] // Helpers of tests fail as tests do.

mod common;

use common::{TestApp, addr, packet, replies, request};
use embassy_time::{Duration, Instant};
use pulsegate_core::adapter::smoltcp::{Record, TcpSocket, fits, instant, stack_instant};
use pulsegate_core::frame::Limits;
use pulsegate_core::protocol::{Iocp, IocpConfig};
use pulsegate_core::server::{CloseReason, Config, Server, Wants};
use pulsegate_core::table::SessionId;
use smoltcp::iface::{Config as IfaceConfig, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Loopback, Medium};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

/// Bytes of each of the server's rings.
const RING: usize = 512;

/// A gateway with one socket, and one client.
struct Net {
    now: Instant,
    device: Loopback,
    iface: Interface,
    sockets: SocketSet<'static>,
    gateway: SocketHandle,
    client: SocketHandle,
    server: common::TestServer,
    session: Option<(SessionId, Record)>,
    scratch: [u8; 264],
    ended: Option<(Instant, CloseReason)>,
}

fn socket(ring: usize) -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; ring]);
    let mut socket = tcp::Socket::new(buffer(), buffer());
    socket.set_ack_delay(None);
    socket.set_nagle_enabled(false);
    socket
}

impl Net {
    /// Connects, and sends a flag.
    fn new(now: Instant, flag: u8) -> Self {
        let mut device = Loopback::new(Medium::Ethernet);
        let config = IfaceConfig::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
        let mut iface = Interface::new(config, &mut device, stack_instant(now));
        iface.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddress::v4(127, 0, 0, 1), 8)).unwrap()
        });
        let mut sockets = SocketSet::new(Vec::new());
        let gateway = sockets.add(socket(RING));
        let client = sockets.add(socket(RING));
        sockets.get_mut::<tcp::Socket>(gateway).listen(9999).unwrap();
        let to = (IpAddress::v4(127, 0, 0, 1), 9999);
        sockets.get_mut::<tcp::Socket>(client).connect(iface.context(), to, 50_000).unwrap();
        let config = IocpConfig { limits: Limits::SMALL, ..IocpConfig::default() };
        let server = Server::new(
            Config::default(),
            Iocp::new(config, TestApp::new(1)),
            common::memory(1, 640, 384),
        );
        let mut net = Self {
            now,
            device,
            iface,
            sockets,
            gateway,
            client,
            server,
            session: None,
            scratch: [0; 264],
            ended: None,
        };
        assert!(fits(net.sockets.get(gateway), &Limits::SMALL, &net.scratch, 384));
        net.turn();
        assert_eq!(net.send(&[flag]), 1);
        net.turn();
        net
    }

    fn client(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.client)
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        self.client().send_slice(bytes).unwrap()
    }

    fn receive(&mut self, into: &mut Vec<u8>) {
        let mut buf = [0; RING];
        while let Ok(len @ 1..) = self.client().recv_slice(&mut buf) {
            into.extend_from_slice(&buf[..len]);
        }
    }

    /// Lets the stack and the server do what there is to do at this moment.
    fn turn(&mut self) {
        for _ in 0..4 {
            self.iface.poll(stack_instant(self.now), &mut self.device, &mut self.sockets);
            let socket = self.sockets.get_mut::<tcp::Socket>(self.gateway);
            if self.session.is_none() && self.ended.is_none() && socket.is_active() {
                let id = self.server.accept(self.now, addr(9999), addr(50_000)).unwrap().id;
                self.session = Some((id, Record::new(self.now)));
            }
            let Some((id, record)) = &mut self.session else { continue };
            record.observe(self.now, socket);
            let mut socket = TcpSocket::new(self.now, socket, record, &mut self.scratch);
            let mut wants = self.server.drive(self.now, *id, &mut socket, RING);
            let mut looks = 4;
            while let Some(due) = self.server.due(self.now, &mut looks) {
                assert_eq!(due, *id);
                wants = self.server.judge(self.now, *id, &mut socket, RING);
            }
            if let Wants::Nothing(reason) = wants {
                self.ended = Some((self.now, reason));
                self.session = None;
            }
        }
    }

    /// Sleeps until the server or the stack has something to do, at most until `until`.
    fn sleep(&mut self, until: Instant) {
        let stack = self.iface.poll_at(stack_instant(self.now), &self.sockets).map(instant);
        let next = [stack, self.server.poll_at()].into_iter().flatten().min();
        self.now = next.map_or(until, |next| next.clamp(self.now, until));
        self.turn();
    }
}

#[test]
fn heartbeats_wrap_around_the_ring_at_every_offset() {
    let mut net = Net::new(Instant::from_secs(1), 8);
    let mut received = Vec::new();
    let mut beats = 0;
    // Responses get no reply: they move the ring's start to every offset.
    for filler in 0..40 {
        let filler = packet(&format!("[Response]\r\nx={}", "y".repeat(filler)), b"");
        for _ in 0..14 {
            let both = [&filler[..], &request("Active")].concat();
            assert_eq!(net.send(&both), both.len());
            net.turn();
            net.receive(&mut received);
            net.turn();
            beats += 1;
        }
    }
    assert_eq!(replies(&received).len(), beats);
    assert_eq!(net.server.protocol().work().heartbeats, beats as u64);
}

#[test]
fn data_of_64_kib_passes_through_rings_of_512_bytes() {
    let data: Vec<u8> = (0..64 * 1024u32).map(|n| (n * 7 + n / 251) as u8).collect();
    let mut net = Net::new(Instant::from_secs(1), 5);
    for count in [1, 2] {
        let command = format!("[Request]\r\nCommand=CyclePacket\r\nCount={count}");
        let packet = packet(&command, &data);
        let (mut to_send, mut received) = (&packet[..], Vec::new());
        let deadline = net.now + Duration::from_secs(30);
        while received.len() < 8 + 48 + data.len() {
            assert!(net.now < deadline && net.ended.is_none(), "{:?}", net.ended);
            let before = received.len();
            let sent = net.client().send_slice(to_send).unwrap();
            to_send = &to_send[sent..];
            net.turn();
            net.receive(&mut received);
            net.turn();
            // Where both rings are full, the stack probes the window later.
            if sent == 0 && received.len() == before {
                net.sleep(deadline);
            }
        }
        let found = replies(&received);
        assert_eq!(found.len(), 1);
        assert!(found[0].0.ends_with(&format!("Count={}", count + 1)));
        assert!(found[0].1 == data);
    }
    assert_eq!(net.server.protocol().work().echoed, 128 * 1024);
}

#[test]
fn an_idle_client_is_swept_exactly_on_time() {
    for offset in [0, 1, 37_123, 99_999] {
        let start = Instant::from_micros(5_000_000 + offset);
        let mut net = Net::new(start, 8);
        net.now += Duration::from_secs(20);
        net.send(&request("Active"));
        net.turn();
        net.receive(&mut Vec::new());
        net.turn();
        // Part of a packet is a proof of life, too, and gets no reply that could be acknowledged.
        net.now += Duration::from_secs(10);
        net.send(&request("Active")[..7]);
        net.turn();
        let due = net.now + Duration::from_secs(60);
        let until = due + Duration::from_secs(60);
        while net.ended.is_none() && net.now < until {
            net.sleep(until);
        }
        let (ended, reason) = net.ended.expect("swept");
        assert_eq!(reason, CloseReason::Idle);
        assert!(ended >= due && ended < due + Duration::from_millis(100), "{due} {ended}");
        net.turn();
        assert_eq!(net.client().state(), tcp::State::Closed, "the reset has reached the client");
    }
}

#[test]
fn a_client_that_never_reads_is_swept_by_its_missing_acknowledgements() {
    let mut net = Net::new(Instant::from_secs(1), 8);
    // Its window and the server's ring fill up; from then on nothing moves.
    let mut last_moved = net.now;
    let until = net.now + Duration::from_secs(600);
    while net.ended.is_none() && net.now < until {
        net.now += Duration::from_secs(1);
        let before =
            net.session.as_ref().map(|(id, _)| net.server.sessions().get(*id).unwrap().bytes());
        if net.client().may_send() {
            net.send(b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active");
        }
        net.turn();
        let after =
            net.session.as_ref().map(|(id, _)| net.server.sessions().get(*id).unwrap().bytes());
        if before.map(|bytes| bytes.1) != after.map(|bytes| bytes.1) && after.is_some() {
            last_moved = net.now;
        }
    }
    let (ended, reason) = net.ended.expect("swept");
    assert_eq!(reason, CloseReason::Idle);
    assert!(ended <= last_moved + Duration::from_secs(61), "{last_moved} {ended}");
}

#[test]
fn an_orderly_end_reaches_the_client_with_its_reply() {
    let mut net = Net::new(Instant::from_secs(1), 8);
    net.send(b"\x03\0\0\0\0\0\0\0");
    net.turn();
    let mut received = Vec::new();
    net.receive(&mut received);
    assert!(replies(&received)[0].0.contains("Code=2"));
    assert_eq!(net.client().state(), tcp::State::CloseWait);
    net.client().close();
    net.turn();
    assert_eq!(net.ended.map(|(_, reason)| reason), Some(CloseReason::BadPacket));
}
