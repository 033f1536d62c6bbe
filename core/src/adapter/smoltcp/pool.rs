//! The pool of sockets: what each of them is for, and in which order they stand.

use core::fmt;

use embassy_time::{Duration, Instant};
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

use super::socket::{Record, Turn};
use super::time::stack_duration;
use crate::session::saturating;
use crate::table::SessionId;

/// smoltcp keeps a socket silent for this long after it has missed its neighbour's address. The
/// silence stays with the place in the set, so a place is not given to another connection before.
const NEIGHBOUR_SILENCE: Duration = Duration::from_secs(1);

/// Settings of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolConfig {
    /// The port to listen on.
    pub port: u16,
    /// How many sockets should always listen. While fewer do, handshakes that take longer than
    /// [`PoolConfig::hurried_handshake`] are given up.
    pub spare: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a handshake may take while few sockets listen.
    pub hurried_handshake: Duration,
    /// How long the last acknowledgements of a connection closed in good order may take.
    pub close: Duration,
    /// How long the reset of a connection may wait to be sent: for room in the device, or for the
    /// neighbour's hardware address, which one that is switched off never gives.
    pub abort: Duration,
    /// How often smoltcp asks an idle peer whether it is there. Together with
    /// [`PoolConfig::silence`] this finds a cut cable.
    pub keep_alive: Duration,
    /// How long a peer may send nothing at all, not even acknowledgements. Longer than
    /// [`PoolConfig::keep_alive`], or else those who have nothing to say are cut off.
    pub silence: Duration,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            port: 9999,
            spare: 2,
            handshake: Duration::from_secs(6),
            hurried_handshake: Duration::from_secs(1),
            close: Duration::from_secs(3),
            abort: Duration::from_secs(3),
            keep_alive: Duration::from_secs(15),
            silence: Duration::from_secs(40),
        }
    }
}

/// What a socket is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// Waits for a connection.
    Listening,
    /// A SYN has come, and its handshake is not complete.
    Handshake {
        /// When the SYN came.
        since: Instant,
    },
    /// Carries a session.
    Serving(SessionId),
    /// Its session has ended in good order; the last acknowledgements are under way.
    Closing {
        /// When it is reset.
        until: Instant,
    },
    /// Its connection has been reset, and the RST has not been sent yet.
    Aborting {
        /// When that is given up.
        until: Instant,
    },
    /// Its connection is gone; smoltcp may keep its place silent until then.
    Resting {
        /// When it listens again.
        until: Instant,
    },
    /// Listens no more.
    Idle,
}

/// A session's side of its socket.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) record: Record,
    pub(super) id: SessionId,
}

#[derive(Debug, Clone)]
pub(super) enum State {
    Listening,
    Handshake { since: Instant },
    Serving(Service),
    Closing { until: Instant },
    Aborting { until: Instant },
    Resting { until: Instant },
    Idle,
}

#[derive(Debug)]
struct Member {
    handle: SocketHandle,
    state: State,
}

/// Room for one socket of the pool. Lend an array of [`PoolSlot::EMPTY`] to the gateway.
#[derive(Debug)]
pub struct PoolSlot(Option<Member>);

impl PoolSlot {
    /// A slot without a socket.
    pub const EMPTY: PoolSlot = PoolSlot(None);
}

/// A microcontroller's memory is planned with this figure.
#[cfg(target_pointer_width = "32")]
const _: () = assert!(size_of::<PoolSlot>() == 40);

/// Why a socket was not taken into the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Misfit {
    /// No slot is left.
    NoSlot,
    /// The sockets of the pool must stand in the set in the order in which they are added.
    Order,
    /// Its buffers, or the gateway's scratch, do not hold the longest command or reply, or they are
    /// larger than 65,535 bytes.
    Buffers,
    /// It is open already, or the port is 0.
    Unable,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSlot => "the pool has no slot for the socket",
            Self::Order => "the socket stands in front of others of the pool",
            Self::Buffers => "the buffers of the socket or the scratch are too small or too large",
            Self::Unable => "the socket is open already or the port is 0",
        })
    }
}

impl core::error::Error for Misfit {}

/// How many sockets of the pool do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Census {
    /// Wait for connections.
    pub listening: usize,
    /// Are in a handshake.
    pub handshakes: usize,
    /// Carry sessions.
    pub serving: usize,
    /// Have lost their session and are not free yet.
    pub leaving: usize,
    /// Listen no more.
    pub idle: usize,
}

/// The sockets, connections first.
pub(super) struct Pool<'m> {
    pub(super) config: PoolConfig,
    slots: &'m mut [PoolSlot],
    len: usize,
    /// Slots in front that are neither listening nor idle.
    connected: usize,
    handshakes: usize,
    listens: bool,
}

impl<'m> Pool<'m> {
    pub(super) fn new(config: PoolConfig, slots: &'m mut [PoolSlot]) -> Self {
        slots.iter_mut().for_each(|slot| *slot = PoolSlot::EMPTY);
        Self { config, slots, len: 0, connected: 0, handshakes: 0, listens: true }
    }

    /// Takes a closed socket in and lets it listen.
    pub(super) fn add(
        &mut self,
        sockets: &mut SocketSet<'_>,
        handle: SocketHandle,
    ) -> Result<(), Misfit> {
        if self.last_handle().is_some_and(|last| last >= handle) {
            return Err(Misfit::Order);
        }
        let slot = self.slots.get_mut(self.len).ok_or(Misfit::NoSlot)?;
        let socket = sockets.get_mut::<tcp::Socket<'_>>(handle);
        socket.set_keep_alive(Some(stack_duration(self.config.keep_alive)));
        socket.set_timeout(Some(stack_duration(self.config.silence)));
        // Small replies are the rule here, and they do not wait for one another.
        socket.set_nagle_enabled(false);
        socket.listen(self.config.port).map_err(|_| Misfit::Unable)?;
        *slot = PoolSlot(Some(Member { handle, state: State::Listening }));
        self.len += 1;
        Ok(())
    }

    fn last_handle(&self) -> Option<SocketHandle> {
        self.handle(self.len.checked_sub(1)?)
    }

    pub(super) fn connected(&self) -> usize {
        self.connected
    }

    pub(super) fn handle(&self, index: usize) -> Option<SocketHandle> {
        Some(self.slots.get(index)?.0.as_ref()?.handle)
    }

    pub(super) fn state(&self, index: usize) -> Option<&State> {
        Some(&self.slots.get(index)?.0.as_ref()?.state)
    }

    /// The socket and the state of a slot.
    pub(super) fn member<'p, 's, 'a>(
        &'p mut self,
        sockets: &'s mut SocketSet<'a>,
        index: usize,
    ) -> Option<(&'s mut tcp::Socket<'a>, &'p mut State)> {
        let member = self.slots.get_mut(index)?.0.as_mut()?;
        Some((sockets.get_mut(member.handle), &mut member.state))
    }

    pub(super) fn set_state(&mut self, index: usize, state: State) {
        let Some(Member { state: current, .. }) =
            self.slots.get_mut(index).and_then(|slot| slot.0.as_mut())
        else {
            return;
        };
        self.handshakes -= usize::from(matches!(current, State::Handshake { .. }));
        self.handshakes += usize::from(matches!(state, State::Handshake { .. }));
        *current = state;
    }

    /// Says when the session of a slot is driven next.
    pub(super) fn set_turn(&mut self, index: usize, turn: Turn) {
        if let Some(PoolSlot(Some(Member { state: State::Serving(service), .. }))) =
            self.slots.get_mut(index)
        {
            service.record.turn = turn;
        }
    }

    /// Which slot carries a session.
    pub(super) fn find(&self, id: SessionId) -> Option<usize> {
        (0..self.connected).find(
            |&index| matches!(self.state(index), Some(State::Serving(service)) if service.id == id),
        )
    }

    /// What the sockets do, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (SocketHandle, SlotState)> {
        self.slots.iter().filter_map(|slot| slot.0.as_ref()).map(|member| {
            let state = match member.state {
                State::Listening => SlotState::Listening,
                State::Handshake { since } => SlotState::Handshake { since },
                State::Serving(ref service) => SlotState::Serving(service.id),
                State::Closing { until } => SlotState::Closing { until },
                State::Aborting { until } => SlotState::Aborting { until },
                State::Resting { until } => SlotState::Resting { until },
                State::Idle => SlotState::Idle,
            };
            (member.handle, state)
        })
    }

    pub(super) fn census(&self) -> Census {
        let mut census = Census::default();
        for (_, state) in self.iter() {
            *match state {
                SlotState::Listening => &mut census.listening,
                SlotState::Handshake { .. } => &mut census.handshakes,
                SlotState::Serving(_) => &mut census.serving,
                SlotState::Closing { .. }
                | SlotState::Aborting { .. }
                | SlotState::Resting { .. } => &mut census.leaving,
                SlotState::Idle => &mut census.idle,
            } += 1;
        }
        census
    }

    /// Brings the pool's order up to date. Called after each frame, for the next one may be a SYN.
    pub(super) fn note_frame(&mut self, now: Instant, sockets: &mut SocketSet<'_>) {
        while self.connected < self.len
            && self.handle(self.connected).is_some_and(|handle| {
                matches!(self.state(self.connected), Some(State::Listening))
                    && sockets.get::<tcp::Socket<'_>>(handle).state() != tcp::State::Listen
            })
        {
            self.set_state(self.connected, State::Handshake { since: now });
            self.connected += 1;
        }
        let mut index = 0;
        while self.handshakes > 0 && index < self.connected {
            let withdrawn = match self.member(sockets, index) {
                // A reset has put it back, in front of connections perhaps.
                Some((socket, State::Handshake { .. })) => socket.is_listening(),
                _ => false,
            };
            if withdrawn {
                self.release(sockets, index);
            } else {
                index += 1;
            }
        }
    }

    /// How long the handshake of a slot may take as things stand.
    fn handshake_limit(&self) -> Duration {
        if self.len - self.connected < self.config.spare {
            self.config.hurried_handshake.min(self.config.handshake)
        } else {
            self.config.handshake
        }
    }

    /// When a slot's state has to end, if it has to.
    fn deadline(&self, index: usize) -> Option<Instant> {
        match *self.state(index)? {
            State::Handshake { since } => Some(saturating(since, self.handshake_limit())),
            State::Closing { until } | State::Aborting { until } | State::Resting { until } => {
                Some(until)
            }
            State::Serving(_) | State::Listening | State::Idle => None,
        }
    }

    /// When the first slot's state has to end.
    pub(super) fn poll_at(&self) -> Option<Instant> {
        (0..self.connected).filter_map(|index| self.deadline(index)).min()
    }

    /// Whether a session wants a turn without having to wait for anything.
    pub(super) fn wants_turns(&self) -> bool {
        (0..self.connected).any(|index| {
            matches!(self.state(index), Some(State::Serving(service)) if service.record.turn == Turn::Now)
        })
    }

    /// Resets the connection of a slot; the slot is free when the RST is out, or given up.
    pub(super) fn abort(&mut self, now: Instant, sockets: &mut SocketSet<'_>, index: usize) {
        if let Some((socket, _)) = self.member(sockets, index) {
            socket.abort();
            self.set_state(index, State::Aborting { until: saturating(now, self.config.abort) });
        }
    }

    /// smoltcp gives up on peers while it sends: their sessions are told in the next round.
    pub(super) fn note_timeouts(&mut self, sockets: &mut SocketSet<'_>) {
        for index in 0..self.connected {
            if let Some((socket, State::Serving(service))) = self.member(sockets, index)
                && socket.state() == tcp::State::Closed
            {
                service.record.turn = Turn::Now;
            }
        }
    }

    /// The session of a slot has ended, in whichever way its socket tells.
    pub(super) fn close(&mut self, now: Instant, sockets: &mut SocketSet<'_>, index: usize) {
        match self.member(sockets, index) {
            Some((socket, _)) if socket.state() != tcp::State::Closed => {
                self.set_state(index, State::Closing { until: saturating(now, self.config.close) });
            }
            _ => self.abort(now, sockets, index),
        }
    }

    /// Ends what has taken too long, and lets sockets listen again whose connection is gone. Called
    /// after sending; `settled` says that nothing waits to be sent.
    pub(super) fn recycle(&mut self, now: Instant, sockets: &mut SocketSet<'_>, settled: bool) {
        let mut index = 0;
        while index < self.connected {
            let due = self.deadline(index).is_some_and(|at| at <= now);
            let Some((socket, state)) = self.member(sockets, index) else {
                return;
            };
            let gone = socket.remote_endpoint().is_none();
            match *state {
                State::Handshake { .. } if due => {
                    socket.abort();
                    // Nobody may be there to hear of it, so it is not waited for as long.
                    let patience = self.config.abort.min(self.config.hurried_handshake);
                    self.set_state(index, State::Aborting { until: saturating(now, patience) });
                }
                State::Aborting { .. } | State::Closing { .. } if gone => {
                    self.release(sockets, index);
                    continue;
                }
                // Nobody waits for the last acknowledgement: a peer that has lost it is answered
                // with a reset when it repeats its FIN.
                State::Closing { .. } if socket.state() == tcp::State::TimeWait && settled => {
                    self.release(sockets, index);
                    continue;
                }
                State::Closing { .. } if due || socket.state() == tcp::State::Closed => {
                    self.abort(now, sockets, index);
                }
                State::Aborting { .. } if due => {
                    // Forgets the connection without a word.
                    self.forget(sockets, index);
                    let until = saturating(now, NEIGHBOUR_SILENCE);
                    self.set_state(index, State::Resting { until });
                }
                State::Resting { .. } if due => {
                    self.release(sockets, index);
                    continue;
                }
                _ => {}
            }
            index += 1;
        }
    }

    /// Closes a socket without a word; it has no connection afterwards.
    fn forget(&mut self, sockets: &mut SocketSet<'_>, index: usize) {
        let port = self.config.port;
        if let Some((socket, _)) = self.member(sockets, index) {
            socket.abort();
            // Listening clears what is left of the connection, the pending reset too. The port is
            // not 0 and the socket not open.
            let _ = socket.listen(port);
            socket.close();
        }
    }

    /// Lets the socket of a slot listen again, behind the last connection.
    fn release(&mut self, sockets: &mut SocketSet<'_>, index: usize) {
        self.forget(sockets, index);
        self.set_state(index, State::Idle);
        self.connected = self.connected.saturating_sub(1);
        let last = self.connected;
        if let (Some(here), Some(there)) = (self.handle(index), self.handle(last))
            && here != there
        {
            let mut both = sockets.iter_mut().filter(|(handle, _)| [here, there].contains(handle));
            if let (Some((_, one)), Some((_, other))) = (both.next(), both.next()) {
                core::mem::swap(one, other);
                self.swap_states(index, last);
            }
        }
        let (listens, port) = (self.listens, self.config.port);
        if let Some((socket, state)) = self.member(sockets, last)
            && listens
            && socket.listen(port).is_ok()
        {
            *state = State::Listening;
        }
    }

    fn swap_states(&mut self, one: usize, other: usize) {
        if let Ok([PoolSlot(Some(one)), PoolSlot(Some(other))]) =
            self.slots.get_disjoint_mut([one, other])
        {
            core::mem::swap(&mut one.state, &mut other.state);
        }
    }

    /// Listens no more.
    pub(super) fn stop_listening(&mut self, sockets: &mut SocketSet<'_>) {
        self.listens = false;
        for index in self.connected..self.len {
            if let Some((socket, state)) = self.member(sockets, index) {
                socket.close();
                *state = State::Idle;
            }
        }
    }
}
