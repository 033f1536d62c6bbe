//! A client machine: a stack of its own on a port of its own.

use std::net::Ipv4Addr;

use embassy_time::{Duration, Instant};
use pulsegate_core::adapter::smoltcp::{instant, stack_duration, stack_instant};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpCidr};

use crate::lan::{Lan, Port};
use crate::site::{ADDRESS, PORT};

/// Ports of clients begin here.
const FIRST_PORT: u16 = 49152;

/// A client machine.
pub struct Host {
    /// Its cable.
    pub port: Port,
    /// Its address.
    pub address: Ipv4Addr,
    hardware: EthernetAddress,
    iface: Interface,
    sockets: SocketSet<'static>,
    /// Sockets that nobody holds any more; they leave when their connection is gone.
    orphans: Vec<SocketHandle>,
    next_port: u16,
    next: Option<Instant>,
    boots: u64,
}

impl Host {
    pub(crate) fn new(lan: &Lan, number: u8, now: Instant) -> Self {
        let hardware = EthernetAddress([2, 0, 0, 0, 1, number]);
        let address = Ipv4Addr::new(192, 168, 7, number);
        let mut port = lan.plug(hardware);
        let iface = boot(hardware, address, &mut port, 0, now);
        let sockets = SocketSet::new(Vec::new());
        Self {
            port,
            address,
            hardware,
            iface,
            sockets,
            orphans: Vec::new(),
            next_port: FIRST_PORT,
            next: None,
            boots: 0,
        }
    }

    /// Loses its power and comes back; it begins with the same ports again.
    pub fn reboot(&mut self, now: Instant) {
        self.boots += 1;
        self.port.clear();
        self.iface = boot(self.hardware, self.address, &mut self.port, self.boots, now);
        self.sockets = SocketSet::new(Vec::new());
        self.orphans.clear();
        self.next_port = FIRST_PORT;
        self.next = None;
    }

    /// Begins to connect; returns the socket and its port.
    pub(crate) fn connect(&mut self, receive: usize, send: usize) -> (SocketHandle, u16) {
        let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
        let mut socket = tcp::Socket::new(buffer(receive), buffer(send));
        socket.set_nagle_enabled(false);
        // Whoever drops a connection does not wait for ever for its end.
        socket.set_timeout(Some(stack_duration(Duration::from_secs(300))));
        let port = self.next_port;
        self.next_port = if port == u16::MAX { FIRST_PORT } else { port + 1 };
        socket
            .connect(self.iface.context(), (ADDRESS, PORT), (self.address, port))
            .expect("a fresh socket connects");
        self.touch();
        (self.sockets.add(socket), port)
    }

    /// The socket; the host is polled again.
    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.touch();
        self.sockets.get_mut(handle)
    }

    /// Leaves a socket to the stack.
    pub(crate) fn leave(&mut self, handle: SocketHandle) {
        self.orphans.push(handle);
        self.touch();
    }

    /// Forgets a connection without a word.
    pub(crate) fn forget(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
        self.touch();
    }

    fn touch(&mut self) {
        self.next = Some(Instant::MIN);
    }

    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        self.port.is_ready() || self.next.is_some_and(|at| at <= now)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    pub(crate) fn poll(&mut self, now: Instant) {
        let at = stack_instant(now);
        self.iface.poll(at, &mut self.port, &mut self.sockets);
        let sockets = &mut self.sockets;
        self.orphans.retain(|&handle| {
            let socket = sockets.get::<tcp::Socket<'_>>(handle);
            let gone = socket.remote_endpoint().is_none() || socket.state() == tcp::State::TimeWait;
            if gone {
                sockets.remove(handle);
            }
            !gone
        });
        self.next = self.iface.poll_at(at, &self.sockets).map(instant);
    }
}

fn boot(
    hardware: EthernetAddress,
    address: Ipv4Addr,
    port: &mut Port,
    boots: u64,
    now: Instant,
) -> Interface {
    let mut config = Config::new(hardware.into());
    config.random_seed = u64::from(hardware.0[5]) << 32 | boots;
    let mut iface = Interface::new(config, port, stack_instant(now));
    iface.update_ip_addrs(|addresses| {
        addresses.push(IpCidr::new(address.into(), 24)).expect("room for an address");
    });
    iface
}
