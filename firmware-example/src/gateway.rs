//! The gateway's loop: the core's gateway on the board's network device.

use embassy_futures::select::select;
use embassy_time::{Duration, Instant, Timer};
use pulsegate_core::adapter::smoltcp::{Gateway, GatewayConfig, PoolConfig, SlotState, stack_instant};
use pulsegate_core::frame::Limits;
use pulsegate_core::protocol::{Iocp, IocpConfig};
use pulsegate_core::server::{Config, Lent, Server};
use smoltcp::iface::{self, Interface, SocketSet};
use smoltcp::socket::tcp;
use smoltcp::wire::EthernetAddress;

use crate::address::Address;
use crate::application::Application;
use crate::board::{Network, Watchdog};
use crate::kept::LastRun;
use crate::log::{Log, tell};
use crate::memory::{Memory, Wire};
use crate::settings::{FLAG_TIMEOUT, IDLE_TIMEOUT, PORT, SESSIONS, SOCKETS};
use crate::stack;

/// The loop turns at least this often, and the watchdog is fed.
const TURN: Duration = Duration::from_secs(2);
/// A deadline that has passed by more than this has been forgotten.
const FORGOTTEN: Duration = Duration::from_secs(4);
/// How often the log says how things stand.
const REPORT: Duration = Duration::from_secs(30);
/// How long a reader of the log may acknowledge nothing. A living one is told how things stand, so that this ends those
/// alone who have stopped reading, and no session is without a deadline.
const LOG_IDLE: Duration = Duration::from_secs(90);
const _: () = assert!(LOG_IDLE.as_ticks() >= 2 * REPORT.as_ticks());

/// Everything that the loop turns around.
pub(crate) struct Station {
    network: Network,
    watchdog: Watchdog,
    iface: Interface,
    address: Address,
    sockets: SocketSet<'static>,
    gateway: Gateway<'static, Wire, Lent<'static, Wire>>,
    report_at: Instant,
}

impl Station {
    /// A station that listens, started after such a run.
    pub(crate) fn new(mut network: Network, watchdog: Watchdog, last: &'static LastRun, memory: Memory) -> Self {
        let mut config = iface::Config::new(EthernetAddress(network.address()).into());
        // It makes the stack's numbers hard to guess.
        config.random_seed = last.noise;
        let now = Instant::now();
        let mut iface = Interface::new(config, &mut network, stack_instant(now));
        let mut sockets = SocketSet::new(memory.storage);
        let protocol = IocpConfig {
            limits: Limits::SMALL,
            flag_timeout: FLAG_TIMEOUT,
            control_idle: IDLE_TIMEOUT,
            throughput_idle: Some(IDLE_TIMEOUT),
            log_idle: Some(LOG_IDLE),
            ..IocpConfig::default()
        };
        let protocol = Iocp::new(protocol, Application::new(memory.rows, Log::new(memory.log, last)));
        let server = Server::new(Config::default(), protocol, memory.server);
        let pool = PoolConfig { port: PORT, spare: (SOCKETS - SESSIONS).min(2), ..PoolConfig::default() };
        let config = GatewayConfig { pool, ..GatewayConfig::default() };
        let mut gateway = Gateway::new(config, server, memory.pool, memory.scratch);
        for (receive, transmit) in memory.receive.iter_mut().zip(memory.transmit) {
            let receive = tcp::SocketBuffer::new(&mut receive[..]);
            let handle = sockets.add(tcp::Socket::new(receive, tcp::SocketBuffer::new(&mut transmit[..])));
            if let Err(misfit) = gateway.add(&mut sockets, handle) {
                // gateway.toml asks for buffers that are too small; the next start says so in the log.
                panic!("{misfit}");
            }
        }
        let address = Address::start(&mut iface, &mut sockets);
        Self { network, watchdog, iface, address, sockets, gateway, report_at: now }
    }

    /// Turns for ever.
    pub(crate) async fn run(&mut self) -> ! {
        loop {
            let now = Instant::now();
            let next = self.turn(now);
            if self.is_healthy(now) {
                self.watchdog.feed();
            }
            if next > now {
                select(self.network.ready(), Timer::at(next)).await;
            } else {
                // There is more to do, and the other tasks have their turn too.
                embassy_futures::yield_now().await;
            }
        }
    }

    /// Does what there is to do, and says when to come back at the latest.
    fn turn(&mut self, now: Instant) -> Instant {
        self.gateway.poll(now, &mut self.iface, &mut self.network, &mut self.sockets);
        self.address.poll(&mut self.iface, &mut self.sockets);
        while let Some((id, job, answer)) = self.gateway.protocol_mut().app_mut().answered() {
            // Whoever has left meanwhile does not want it any more.
            let _ = self.gateway.complete(now, id, job, answer);
        }
        if now >= self.report_at {
            self.report_at = now + REPORT;
            self.report(now);
        }
        while let Some(reader) = self.log().next_to_wake() {
            self.gateway.wake(reader);
        }
        let next = self.gateway.poll_at(now, &mut self.iface, &self.sockets);
        next.unwrap_or(Instant::MAX).min(now + TURN)
    }

    /// Whether every slot has a deadline, and none has been forgotten. How many slots are taken is
    /// no matter: nobody outside can make this false.
    fn is_healthy(&mut self, now: Instant) -> bool {
        let server = self.gateway.server();
        let limit = now.checked_sub(FORGOTTEN).unwrap_or(Instant::MIN);
        let mut serving = 0;
        let in_time = self.gateway.slots().all(|(_, state)| match state {
            SlotState::Serving(id) => {
                serving += 1;
                server.sessions().get(id).is_some()
            }
            SlotState::Closing { until } | SlotState::Aborting { until } | SlotState::Resting { until } => {
                until >= limit
            }
            SlotState::Handshake { since } => since + PoolConfig::default().handshake >= limit,
            SlotState::Listening | SlotState::Idle => true,
        });
        let sessions = server.sessions().len();
        let swept = server.deadlines() == sessions && server.poll_at().is_none_or(|at| at >= limit);
        let healthy = in_time && serving == sessions && swept;
        if !healthy {
            let deadlines = server.deadlines();
            tell!(
                self.log(),
                now,
                error,
                "unhealthy: {} sessions, {} in sockets, {} with a deadline",
                sessions,
                serving,
                deadlines
            );
        }
        healthy
    }

    fn report(&mut self, now: Instant) {
        let census = self.gateway.census();
        let counters = self.gateway.server().counters();
        let (accepted, closed) = (counters.accepted, counters.closed_total());
        let (size, spare) = stack::size_and_spare();
        tell!(
            self.log(),
            now,
            info,
            "sockets: {} listening, {} in handshakes, {} serving, {} leaving; {} accepted, {} closed; stack {} bytes, {} never used",
            census.listening,
            census.handshakes,
            census.serving,
            census.leaving,
            accepted,
            closed,
            size,
            spare
        );
    }

    fn log(&mut self) -> &mut Log {
        &mut self.gateway.protocol_mut().app_mut().log
    }
}
