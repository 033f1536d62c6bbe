//! The gateway and its stack.

use std::net::{Ipv4Addr, SocketAddrV4};

use embassy_time::{Duration, Instant};
use pulsegate_core::adapter::smoltcp::{Gateway, GatewayConfig, PoolSlot, stack_instant};
use pulsegate_core::app::List;
use pulsegate_core::frame::Limits;
use pulsegate_core::list::Head;
use pulsegate_core::protocol::{Iocp, IocpConfig, Reply};
use pulsegate_core::server::{CloseReason, Closed, Config, Parts, Server, Session};
use pulsegate_core::table::Slot;
use smoltcp::iface::{Config as IfaceConfig, Interface, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::{EthernetAddress, IpCidr};

use crate::app::Gatekeeper;
use crate::check;
use crate::lan::{Lan, Port};

/// The port that the gateway listens on.
pub const PORT: u16 = 9999;
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 1);
pub(crate) const HARDWARE: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
/// A device on the LAN that stands for the way out.
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 254);

type Protocol = Iocp<Gatekeeper>;
type Memory =
    Parts<Vec<Slot<Session<Protocol>>>, Vec<Head>, Vec<u8>, Vec<Option<Closed<Protocol>>>>;

/// How a gateway is built.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// How many sessions it has room for.
    pub sessions: usize,
    /// How many sockets it has.
    pub sockets: usize,
    /// Bytes of a receive buffer.
    pub receive: usize,
    /// Bytes of a send buffer, and of the longest reply.
    pub send: usize,
    /// Bytes of a file in its store.
    pub file: usize,
    /// Settings of the adapter.
    pub gateway: GatewayConfig,
    /// Settings of the server.
    pub server: Config,
    /// Settings of the protocol.
    pub protocol: IocpConfig,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            sessions: 8,
            sockets: 10,
            receive: 512,
            send: 384,
            file: 4096,
            gateway: GatewayConfig::default(),
            server: Config::default(),
            // Files are for those who ask for them.
            protocol: IocpConfig {
                limits: Limits::SMALL,
                upload_idle: None,
                download_idle: None,
                ..IocpConfig::default()
            },
        }
    }
}

/// The gateway on its port of the LAN.
pub struct Site {
    /// The gateway.
    pub gateway: Gateway<'static, Protocol, Memory>,
    /// Its cable.
    pub port: Port,
    /// How often it has been polled.
    pub polls: u64,
    /// It does not run, as under a debugger.
    pub stopped: bool,
    iface: Interface,
    sockets: SocketSet<'static>,
    setup: Setup,
    next: Option<Instant>,
}

impl Site {
    pub(crate) fn new(setup: Setup, lan: &Lan, now: Instant) -> Self {
        let mut port = lan.plug(HARDWARE);
        let mut config = IfaceConfig::new(HARDWARE.into());
        config.random_seed = 7;
        let mut iface = Interface::new(config, &mut port, stack_instant(now));
        iface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(ADDRESS.into(), 24)).expect("room for an address");
        });
        iface.routes_mut().add_default_ipv4_route(ROUTER).expect("room for a route");

        let rows = Vec::leak((0..setup.sessions).map(|_| None).collect());
        let app = Gatekeeper::new(rows, setup.server.tick, setup.file);
        let longest = setup.protocol.control_idle.max(Duration::from_secs(10));
        let ticks = longest.as_ticks() / setup.server.tick.as_ticks() + 4;
        let memory = Parts {
            slots: (0..setup.sessions).map(|_| Slot::EMPTY).collect(),
            wheel: vec![Head::EMPTY; ticks as usize],
            scratch: vec![0; setup.send],
            closes: (0..4).map(|_| None).collect(),
        };
        let server = Server::new(setup.server, Iocp::new(setup.protocol, app), memory);
        let slots = Vec::leak((0..setup.sockets).map(|_| PoolSlot::EMPTY).collect());
        let scratch = vec![0; setup.gateway.longest_head].leak();
        let mut gateway = Gateway::new(setup.gateway, server, slots, scratch);
        let mut sockets = SocketSet::new(Vec::new());
        for _ in 0..setup.sockets {
            let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
            let socket = tcp::Socket::new(buffer(setup.receive), buffer(setup.send));
            let handle = sockets.add(socket);
            gateway.add(&mut sockets, handle).expect("a socket that fits");
        }
        Self { gateway, port, polls: 0, stopped: false, iface, sockets, setup, next: Some(now) }
    }

    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        !self.stopped && (self.port.is_ready() || self.next.is_some_and(|at| at <= now))
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.next.filter(|_| !self.stopped)
    }

    pub(crate) fn poll(&mut self, now: Instant) {
        self.polls += 1;
        self.gateway.poll(now, &mut self.iface, &mut self.port, &mut self.sockets);
        while let Some((id, job)) = self.gateway.protocol_mut().app_mut().roster.granted() {
            // Whoever has gone in the meantime is told so and harms nobody.
            let _ = self.gateway.complete(now, id, job, Reply::List(List::Retry));
        }
        while let Some(id) = self.gateway.protocol_mut().app_mut().files.taken_over() {
            let _ = self.gateway.close(now, id, CloseReason::TakenOver);
        }
        for id in self.gateway.protocol_mut().app_mut().news() {
            self.gateway.wake(id);
        }
        check::pool(now, &self.setup, &self.gateway, &self.sockets);
        self.next = self.gateway.poll_at(now, &mut self.iface, &self.sockets);
    }

    pub(crate) fn stop_accepting(&mut self) {
        self.gateway.stop_accepting(&mut self.sockets);
    }

    /// The application.
    #[must_use]
    pub fn app(&self) -> &Gatekeeper {
        self.gateway.server().protocol().app()
    }

    /// How the connections stand in the stack's own terms.
    pub fn states(&self) -> impl Iterator<Item = tcp::State> {
        self.gateway.slots().map(|(handle, _)| self.sockets.get::<tcp::Socket<'_>>(handle).state())
    }

    /// Whether every socket listens and no session is left.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.gateway.census().listening == self.setup.sockets
            && self.gateway.server().sessions().is_empty()
    }

    /// Whether a session with this peer stands.
    #[must_use]
    pub fn serves(&self, peer: SocketAddrV4) -> bool {
        self.gateway.server().sessions().iter().any(|(_, session)| session.remote() == peer)
    }
}
