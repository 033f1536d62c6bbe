//! The loop body: takes frames in, serves sessions, judges those that are due, sends.

use core::net::{SocketAddr, SocketAddrV4};

use embassy_time::{Duration, Instant};
use smoltcp::iface::{Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp;
use smoltcp::wire::{IpAddress, IpEndpoint};

use super::pool::{Census, Misfit, Pool, PoolConfig, PoolSlot, Service, SlotState, State};
use super::socket::{Record, TcpSocket, Turn, end, fits};
use super::time::{instant, stack_instant};
use crate::frame::Limits;
use crate::server::{Address, CloseReason, JobId, Memory, Protocol, Refused, Server, Stale, Wants};
use crate::session::saturating;
use crate::table::SessionId;

/// An address type that can hold what smoltcp names. [`SocketAddrV4`] takes 6 bytes.
pub trait StackAddress: Address {
    /// The address of one end of a connection; `None` if this type cannot hold it.
    fn from_stack(endpoint: IpEndpoint) -> Option<Self>;
}

/// There are two in each session.
const _: () = assert!(size_of::<SocketAddrV4>() == 6);

impl StackAddress for SocketAddrV4 {
    fn from_stack(endpoint: IpEndpoint) -> Option<Self> {
        #[allow(unreachable_patterns)] // Only one where smoltcp is built for IPv4 alone.
        match endpoint.addr {
            IpAddress::Ipv4(address) => Some(Self::new(address, endpoint.port)),
            _ => None,
        }
    }
}

impl StackAddress for SocketAddr {
    fn from_stack(endpoint: IpEndpoint) -> Option<Self> {
        Some(Self::new(endpoint.addr.into(), endpoint.port))
    }
}

/// Polled later than this after everything had been taken in, the gateway takes everything in
/// before smoltcp's timers run.
const PAUSE: Duration = Duration::from_secs(1);

/// Settings of a gateway beside those of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Settings of the pool.
    pub pool: PoolConfig,
    /// The longest command with its header:
    /// [`Limits::longest_head`] of the protocol's limits.
    pub longest_head: usize,
    /// Most frames taken in by one poll.
    pub frames: u32,
    /// Most frames that the device holds. After so many without a pause, those that had arrived
    /// when a session's deadline passed have been taken in, and it is judged.
    pub backlog: u32,
    /// Bytes of one session that are served in one turn.
    pub budget: usize,
    /// Sessions judged by one poll.
    pub looks: u32,
    /// When to try again if the device has no room for a frame and does not say when it has.
    pub retry: Duration,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            pool: PoolConfig::default(),
            longest_head: Limits::SMALL.longest_head(),
            frames: 16,
            backlog: 64,
            budget: 1024,
            looks: 16,
            retry: Duration::from_millis(1),
        }
    }
}

/// A server whose sessions are smoltcp's sockets.
pub struct Gateway<'m, P: Protocol, M: Memory<P>> {
    config: GatewayConfig,
    server: Server<P, M>,
    pool: Pool<'m>,
    scratch: &'m mut [u8],
    /// The slot whose session had the first turn in the last round.
    first: usize,
    /// Frames taken in since the device had none.
    unbroken: u32,
    /// When everything that had arrived had been taken in.
    all_in_at: Instant,
    /// The device may hold more frames than this poll took in.
    more_frames: bool,
    /// When it was polled last, if smoltcp could send no more then.
    sent_all_at: Option<Instant>,
}

impl<'m, P, M> Gateway<'m, P, M>
where
    P: Protocol<Address: StackAddress>,
    M: Memory<P>,
{
    /// A gateway without sockets, in lent memory: a slot per socket, and as many bytes of scratch
    /// as [`GatewayConfig::longest_head`]; more make an echo faster.
    pub fn new(
        config: GatewayConfig,
        server: Server<P, M>,
        slots: &'m mut [PoolSlot],
        scratch: &'m mut [u8],
    ) -> Self {
        let pool = Pool::new(config.pool, slots);
        Self {
            config,
            server,
            pool,
            scratch,
            first: 0,
            unbroken: 0,
            all_in_at: Instant::MIN,
            more_frames: true,
            sent_all_at: None,
        }
    }

    /// Takes a closed socket of the set into the pool; it listens from now on. The caller leaves it
    /// alone afterwards: the pool may exchange its sockets' places.
    ///
    /// # Errors
    /// [`Misfit`] says why it was not taken; it is unchanged then.
    pub fn add(&mut self, sockets: &mut SocketSet<'_>, handle: SocketHandle) -> Result<(), Misfit> {
        let (head, reply) = (self.config.longest_head, self.server.longest_reply());
        if !fits(sockets.get(handle), head, self.scratch.len(), reply) {
            return Err(Misfit::Buffers);
        }
        self.pool.add(sockets, handle)
    }

    /// Does what there is to do, within bounds: takes frames in, accepts connections, gives each
    /// session that can use it one turn, judges those that are due, sends, and lets sockets listen
    /// again. Call it when the device has a frame or room for one, and at [`Gateway::poll_at`];
    /// calling it at any other time is harmless.
    pub fn poll<D: Device + ?Sized>(
        &mut self,
        now: Instant,
        iface: &mut Interface,
        device: &mut D,
        sockets: &mut SocketSet<'_>,
    ) {
        let stamp = stack_instant(now);
        iface.poll_maintenance(stamp);
        let all_in = self.take_frames(now, iface, device, sockets);
        self.accept(now, sockets);
        self.serve(now, sockets);
        if all_in {
            self.all_in_at = now;
            self.judge(now, sockets);
        }
        // After a pause, smoltcp would give up those whose frames still wait in the device.
        if now.saturating_duration_since(self.all_in_at) < PAUSE {
            self.send(now, iface, device, sockets);
            self.pool.note_timeouts(sockets);
        }
        let settled =
            self.sent_all_at.is_some() && iface.poll_at(stamp, sockets).is_none_or(|at| at > stamp);
        self.pool.recycle(now, sockets, settled);
    }

    /// When to poll next, if nothing happens before; `None`: when something happens. Asked anew
    /// after every other call.
    pub fn poll_at(
        &self,
        now: Instant,
        iface: &mut Interface,
        sockets: &SocketSet<'_>,
    ) -> Option<Instant> {
        if self.more_frames || self.pool.wants_turns() {
            return Some(now);
        }
        let stack = iface.poll_at(stack_instant(now), sockets).map(|at| {
            let at = instant(at);
            match self.sent_all_at {
                // It was due then and could not be sent: the device has no room.
                Some(polled) if at <= polled => saturating(polled, self.config.retry),
                _ => at,
            }
        });
        let deadlines = [stack, self.server.poll_at(), self.pool.poll_at()];
        deadlines.into_iter().flatten().min()
    }

    /// How long to sleep before the next poll, if nothing happens before.
    pub fn poll_delay(
        &self,
        now: Instant,
        iface: &mut Interface,
        sockets: &SocketSet<'_>,
    ) -> Option<Duration> {
        let at = self.poll_at(now, iface, sockets)?;
        Some(at.saturating_duration_since(now))
    }

    /// The server.
    pub const fn server(&self) -> &Server<P, M> {
        &self.server
    }

    /// The protocol to change, and through it the application.
    pub const fn protocol_mut(&mut self) -> &mut P {
        self.server.protocol_mut()
    }

    /// The application answers a question; poll after this.
    ///
    /// # Errors
    /// [`Stale`] when the session has ended or does not wait for this answer; the answer is dropped.
    pub fn complete(
        &mut self,
        now: Instant,
        id: SessionId,
        job: JobId,
        answer: P::Answer,
    ) -> Result<(), Stale> {
        self.server.complete(now, id, job, answer)?;
        self.wake(id);
        Ok(())
    }

    /// Ends a session in good order; poll after this.
    ///
    /// # Errors
    /// [`Stale`] when it has ended already.
    pub fn close(&mut self, now: Instant, id: SessionId, reason: CloseReason) -> Result<(), Stale> {
        self.server.close(now, id, reason)?;
        self.wake(id);
        Ok(())
    }

    /// Accepts no more connections; they are refused with a reset. The sessions stay.
    pub fn stop_accepting(&mut self, sockets: &mut SocketSet<'_>) {
        self.server.stop_accepting();
        self.pool.stop_listening(sockets);
    }

    /// The pool's sockets and what they do, connections first.
    pub fn slots(&self) -> impl Iterator<Item = (SocketHandle, SlotState)> {
        self.pool.iter()
    }

    /// How many sockets do what.
    #[must_use]
    pub fn census(&self) -> Census {
        self.pool.census()
    }

    /// Gives a session a turn at the next poll, for news that its socket does not tell of: lines of
    /// a log that it reads. A stale id is ignored.
    pub fn wake(&mut self, id: SessionId) {
        if let Some(index) = self.pool.find(id) {
            self.pool.set_turn(index, Turn::Now);
        }
    }

    /// Says whether everything that had arrived by now has been taken in.
    fn take_frames<D: Device + ?Sized>(
        &mut self,
        now: Instant,
        iface: &mut Interface,
        device: &mut D,
        sockets: &mut SocketSet<'_>,
    ) -> bool {
        let stamp = stack_instant(now);
        self.more_frames = true;
        for _ in 0..self.config.frames {
            if iface.poll_ingress_single(stamp, device, sockets) == PollIngressSingleResult::None {
                self.more_frames = false;
                self.unbroken = 0;
                return true;
            }
            self.pool.note_frame(now, sockets);
            self.unbroken = self.unbroken.saturating_add(1);
        }
        let all_in = self.unbroken >= self.config.backlog;
        if all_in {
            self.unbroken = 0;
        }
        all_in
    }

    /// Makes sessions of the connections that have been established.
    fn accept(&mut self, now: Instant, sockets: &mut SocketSet<'_>) {
        for index in 0..self.pool.connected() {
            let Some((socket, State::Handshake { .. })) = self.pool.member(sockets, index) else {
                continue;
            };
            if socket.state() == tcp::State::SynReceived {
                continue;
            }
            let ends = (socket.local_endpoint(), socket.remote_endpoint());
            let admission = match ends {
                (Some(local), Some(remote)) if socket.is_open() => {
                    P::Address::from_stack(local).zip(P::Address::from_stack(remote))
                }
                // Over before it began.
                _ => None,
            }
            .ok_or(Refused::Full)
            .and_then(|(local, remote)| self.server.accept(now, local, remote));
            let Ok(admission) = admission else {
                self.pool.abort(now, sockets, index);
                continue;
            };
            let service = Service { record: Record::new(now), id: admission.id };
            self.pool.set_state(index, State::Serving(service));
            if let Some(index) = admission.evicted.and_then(|id| self.pool.find(id)) {
                self.pool.abort(now, sockets, index);
            }
        }
    }

    /// Gives each session one turn that can use it, another one first each time.
    fn serve(&mut self, now: Instant, sockets: &mut SocketSet<'_>) {
        let connected = self.pool.connected();
        self.first = (self.first + 1).checked_rem(connected).unwrap_or(0);
        for index in (self.first..connected).chain(0..self.first) {
            let Some((socket, State::Serving(service))) = self.pool.member(sockets, index) else {
                continue;
            };
            let moved = service.record.observe(now, socket);
            let end = end(socket.state());
            let ready = match service.record.turn {
                Turn::Now => true,
                Turn::Input => moved.received || service.record.end != end,
                Turn::Output => moved.received || moved.acknowledged || service.record.end != end,
            };
            if ready {
                service.record.end = end;
                let id = service.id;
                let mut socket =
                    TcpSocket::new(now, socket, &mut service.record, &mut *self.scratch);
                let wants = self.server.drive(now, id, &mut socket, self.config.budget);
                self.settle(now, sockets, index, wants);
            }
        }
    }

    /// Judges the sessions whose deadline has passed.
    fn judge(&mut self, now: Instant, sockets: &mut SocketSet<'_>) {
        let mut looks = self.config.looks;
        while let Some(id) = self.server.due(now, &mut looks) {
            let Some(index) = self.pool.find(id) else {
                continue;
            };
            let Some((socket, State::Serving(service))) = self.pool.member(sockets, index) else {
                continue;
            };
            let mut socket = TcpSocket::new(now, socket, &mut service.record, &mut *self.scratch);
            let wants = self.server.judge(now, id, &mut socket, self.config.budget);
            self.settle(now, sockets, index, wants);
        }
    }

    /// Notes what a session waits for after its turn, or that it has ended.
    fn settle(&mut self, now: Instant, sockets: &mut SocketSet<'_>, index: usize, wants: Wants) {
        let turn = match wants {
            Wants::More => Turn::Now,
            // The application's answer wakes the session.
            Wants::Input | Wants::App => Turn::Input,
            Wants::Output => Turn::Output,
            Wants::Nothing(_) => return self.pool.close(now, sockets, index),
        };
        self.pool.set_turn(index, turn);
    }

    fn send<D: Device + ?Sized>(
        &mut self,
        now: Instant,
        iface: &mut Interface,
        device: &mut D,
        sockets: &mut SocketSet<'_>,
    ) {
        // Each round sends one frame of each socket at most. What a round more would send goes out
        // with the next poll, which follows at once.
        const ROUNDS: u32 = 4;
        let stamp = stack_instant(now);
        self.sent_all_at = (0..ROUNDS)
            .any(|_| iface.poll_egress(stamp, device, sockets) == PollResult::None)
            .then_some(now);
    }
}
