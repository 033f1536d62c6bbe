//! Everything together, and the clock.

use std::net::SocketAddrV4;

use embassy_time::{Duration, Instant};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp;

use crate::host::Host;
use crate::lan::{Faults, Lan};
use crate::site::{Setup, Site};
use crate::{HEARTBEAT, HEARTBEAT_REPLY};

/// How often the gateway may be polled while the clock stands still.
const MOST_POLLS: u32 = 5_000;

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conn {
    pub(crate) host: usize,
    pub(crate) socket: SocketHandle,
    /// The client's address.
    pub address: SocketAddrV4,
}

/// What a client has before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Got {
    /// Bytes, at least one.
    Bytes(Vec<u8>),
    /// Nothing so far.
    Nothing,
    /// The gateway has ended the connection in good order.
    Eof,
    /// The connection was reset, refused, or given up.
    Reset,
}

/// A gateway, clients, the LAN between them, and the time.
pub struct World {
    /// The time.
    pub now: Instant,
    /// The LAN.
    pub lan: Lan,
    /// The gateway.
    pub site: Site,
    /// The clients.
    pub hosts: Vec<Host>,
}

impl World {
    /// A gateway and so many clients.
    #[must_use]
    pub fn new(setup: Setup, clients: u8, faults: Faults, seed: u64) -> Self {
        let now = Instant::from_secs(1000);
        let lan = Lan::new(faults, seed);
        let site = Site::new(setup, &lan, now);
        let hosts = (0..clients).map(|number| Host::new(&lan, number + 10, now)).collect();
        Self { now, lan, site, hosts }
    }

    /// Adds a machine with the number as the last part of its address; returns its index.
    pub fn add_host(&mut self, number: u8) -> usize {
        self.hosts.push(Host::new(&self.lan, number, self.now));
        self.hosts.len() - 1
    }

    /// Does all there is to do at this moment.
    pub fn settle(&mut self) {
        for _ in 0..MOST_POLLS {
            self.lan.deliver(self.now);
            let mut busy = false;
            if self.site.is_ready(self.now) {
                self.site.poll(self.now);
                busy = true;
            }
            for host in &mut self.hosts {
                if host.is_ready(self.now) {
                    host.poll(self.now);
                    busy = true;
                }
            }
            if !busy {
                return;
            }
        }
        panic!("it spins at {}", self.now);
    }

    /// Does what there is to do, and moves the clock to the next event, or to `until`.
    pub fn step(&mut self, until: Instant) {
        self.settle();
        let hosts = self.hosts.iter().filter_map(Host::next);
        let next = hosts.chain(self.lan.next()).chain(self.site.next()).min();
        self.now = next.unwrap_or(until).max(self.now).min(until.max(self.now));
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        self.wait(time, |_| false);
    }

    /// Lets time pass until it is so, at most so much; says whether it is.
    pub fn wait(&mut self, most: Duration, is_so: impl Fn(&mut Self) -> bool) -> bool {
        let until = self.now + most;
        loop {
            self.settle();
            if is_so(self) {
                return true;
            }
            if self.now >= until {
                return false;
            }
            self.step(until);
        }
    }

    /// The gateway takes no more connections.
    pub fn stop_accepting(&mut self) {
        self.site.stop_accepting();
    }

    /// Begins to connect.
    pub fn connect(&mut self, host: usize) -> Conn {
        self.connect_with(host, 4096, 4096)
    }

    /// Begins to connect with buffers of these sizes.
    pub fn connect_with(&mut self, host: usize, receive: usize, send: usize) -> Conn {
        let (socket, port) = self.hosts[host].connect(receive, send);
        Conn { host, socket, address: SocketAddrV4::new(self.hosts[host].address, port) }
    }

    /// The client's socket.
    pub fn socket(&mut self, conn: Conn) -> &mut tcp::Socket<'static> {
        self.hosts[conn.host].socket(conn.socket)
    }

    /// Hands bytes to the client's stack; returns how many it took.
    pub fn send(&mut self, conn: Conn, bytes: &[u8]) -> usize {
        self.socket(conn).send_slice(bytes).unwrap_or(0)
    }

    /// Takes what the client's stack has.
    pub fn take(&mut self, conn: Conn, most: usize) -> Got {
        let socket = self.socket(conn);
        let mut bytes = vec![0; most.min(socket.recv_queue())];
        match socket.recv_slice(&mut bytes) {
            Ok(0) => Got::Nothing,
            Ok(len) => {
                bytes.truncate(len);
                Got::Bytes(bytes)
            }
            Err(tcp::RecvError::Finished) => Got::Eof,
            Err(tcp::RecvError::InvalidState) if socket.state() == tcp::State::SynSent => {
                Got::Nothing
            }
            Err(tcp::RecvError::InvalidState) => Got::Reset,
        }
    }

    /// Gives the connection up, as a program that ends: in good order, or by a reset if there is
    /// something unread.
    pub fn drop(&mut self, conn: Conn) {
        let socket = self.socket(conn);
        if socket.can_recv() {
            socket.abort();
        } else {
            socket.close();
        }
        self.hosts[conn.host].leave(conn.socket);
    }

    /// Loses the connection without a word, as a program's machine that is switched off.
    pub fn vanish(&mut self, conn: Conn) {
        self.hosts[conn.host].forget(conn.socket);
    }

    /// Waits for so many bytes; less if they do not come in time.
    pub fn collect(&mut self, conn: Conn, len: usize, most: Duration) -> Vec<u8> {
        let until = self.now + most;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            match self.take(conn, len - bytes.len()) {
                Got::Bytes(more) => bytes.extend(more),
                Got::Nothing if self.now < until => self.step(until),
                _ => break,
            }
        }
        bytes
    }

    /// Connects and says the flag of Control and a heartbeat; `None` if that did not come back.
    pub fn beating(&mut self, host: usize, most: Duration) -> Option<Conn> {
        let conn = self.connect(host);
        let up = self.wait(most, |world| world.socket(conn).state() != tcp::State::SynSent);
        if up && self.send(conn, b"\x08") == 1 && self.beat(conn, most) {
            return Some(conn);
        }
        self.drop(conn);
        None
    }

    /// Whether a heartbeat is answered in time.
    pub fn beat(&mut self, conn: Conn, most: Duration) -> bool {
        self.send(conn, HEARTBEAT);
        self.collect(conn, HEARTBEAT_REPLY.len(), most) == HEARTBEAT_REPLY
    }
}
